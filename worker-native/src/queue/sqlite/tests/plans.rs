//! What a statement costs must not depend on how many jobs there are: SQLite's own plan of each is read.

use super::*;

/// Runs through a table on purpose: small ones, those that go from one end until they have enough, and what is rare.
const MAY_SCAN: &[&str] =
    &["TASKS", "OLDEST_RESULTS", "ANSWERED_OLDEST", "ANSWERED_LAST", "PROBE_TIDY", "AUDIT", "RECOUNT"];
/// Sorts on purpose: only after somebody else wrote to the file.
const MAY_SORT: &[&str] = &["RECOUNT"];

#[test]
fn every_statement_finds_its_rows_by_a_key_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder.path().join("queue.sqlite"), &[]);
    drop(SqliteQueue::open(&config).unwrap());
    let file = rusqlite::Connection::open(&config.file).unwrap();
    let mut faults = Vec::new();
    for (name, statement) in sql::ALL {
        let mut plan = file.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        // Values decide nothing without statistics, and there are none.
        let values = vec![None::<i64>; plan.parameter_count()];
        let lines = plan.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        let lines: Vec<String> = lines.collect::<Result<_, _>>().unwrap();
        let scans = lines.iter().any(|line| line.starts_with("SCAN") && !line.contains("CONSTANT ROW"));
        let sorts = lines.iter().any(|line| line.contains("TEMP B-TREE"));
        if (scans && !MAY_SCAN.contains(name)) || (sorts && !MAY_SORT.contains(name)) {
            faults.push(format!("{name}: {lines:?}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test]
async fn jobs_are_found_by_the_index_that_was_made_for_them() {
    let bench = Bench::new(&[]);
    let expected = [
        ("FROM_FLOW", "job_waiting"),
        ("FLOW_HEAD", "job_waiting"),
        ("NEXT_FLOW", "job_waiting"),
        ("FROM_RETURNED", "job_returned"),
        ("FROM_OVERDUE", "job_due"),
        ("PROMOTABLE", "job_due"),
        ("EARLIEST_DELAYED", "job_due"),
        ("JOB_NAMED", "job_by_name"),
        ("LISTED", "COVERING INDEX result_listed"),
        ("EXPIRED_AWAITED", "result_awaited"),
        ("OUTBOX_DUE", "outbox_due"),
        ("ONCE_EXPIRED", "once_expires"),
        ("ANSWERED", "answered_by_id"),
        ("LABELLED_EXPIRED", "labelled_expires"),
        ("RETURNED_COUNT", "COVERING INDEX job_returned"),
        ("ORPHANS_BACK", "job_due"),
        ("AUDIT", "COVERING INDEX job_waiting"),
    ];
    let file = rusqlite::Connection::open(&bench.config.file).unwrap();
    for (name, index) in expected {
        let statement = sql::ALL.iter().find(|(known, _)| *known == name).unwrap().1;
        let mut plan = file.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let values = vec![None::<i64>; plan.parameter_count()];
        let lines = plan.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3)).unwrap();
        let plan = lines.collect::<Result<Vec<_>, _>>().unwrap().join("; ");
        assert!(plan.contains(index), "{name}: {plan}");
    }
}

#[tokio::test]
async fn what_a_statement_costs_does_not_grow_with_the_jobs() {
    let bench = Bench::new(&[]);
    // Some of each kind: waiting with a tenant and without, delayed, running, ended, dead.
    for round in 0..8 {
        let jobs = (0..250).map(|_| new_job(if round % 2 == 0 { of_tenant("t") } else { entry("fast") })).collect();
        bench.queue.enqueue(TASK, jobs).await.unwrap();
    }
    let jobs = bench.claim(1_000).await;
    let outcome = |number: usize| if number.is_multiple_of(2) { Outcome::Done } else { Outcome::Dead };
    let ended = jobs[..600].iter().enumerate().map(|(number, job)| settlement(job, outcome(number)));
    bench.queue.settle(TASK, ended.collect()).await.unwrap();
    let retry = |job: &Claimed| Retry {
        ticket: job.ticket.clone(),
        delay: Duration::from_millis(1),
        charged: true,
        failures: vec![],
    };
    bench.queue.retry(TASK, "c1", jobs[600..800].iter().map(retry).collect()).await.unwrap();

    let file = rusqlite::Connection::open(&bench.config.file).unwrap();
    let (job, task): (String, i64) = file
        .query_row("SELECT job_id, task FROM job WHERE state = 0 AND tenant = 't' LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let late = i64::MAX;
    let asked: Vec<(&str, Vec<&dyn rusqlite::ToSql>)> = vec![
        (sql::FLOW_HEAD, vec![&task, &1, &"t"]),
        (sql::NEXT_FLOW, vec![&task, &1, &""]),
        (sql::NEXT_FLOW, vec![&task, &1, &"t"]),
        (sql::FROM_FLOW, vec![&task, &1, &"t", &1]),
        (sql::FROM_FLOW, vec![&task, &1, &"nobody", &1]),
        (sql::FROM_RETURNED, vec![&task, &1]),
        (sql::RETURNED_COUNT, vec![&task]),
        (sql::FROM_OVERDUE, vec![&task, &late, &1]),
        (sql::FROM_OVERDUE, vec![&task, &0, &1]),
        (sql::PROMOTABLE, vec![&task, &late, &1]),
        (sql::PROMOTABLE, vec![&task, &0, &1]),
        (sql::EARLIEST_DELAYED, vec![&task]),
        (sql::JOB_NAMED, vec![&task, &job]),
        (sql::JOB, vec![&TASK, &job]),
        (sql::LISTED, vec![&TASK, &late, &1]),
        (sql::LISTED, vec![&TASK, &300, &1]),
        (sql::OLDEST_RESULTS, vec![&1]),
        (sql::EXPIRED_AWAITED, vec![&late, &1]),
        (sql::DEAD_KNOWN, vec![&task, &job, &0]),
        (sql::DEAD_LIST, vec![&TASK, &0, &1, &0]),
        (sql::DEAD_OLDEST, vec![&task, &1]),
        (sql::OUTBOX_DUE, vec![&task, &late, &1]),
        (sql::COUNTS, vec![&TASK]),
        (sql::COUNTS_LANES, vec![&TASK]),
    ];
    for (statement, values) in asked {
        let mut prepared = file.prepare(statement).unwrap();
        let mut rows = prepared.query(values.as_slice()).unwrap();
        while rows.next().unwrap().is_some() {}
        drop(rows);
        let steps = prepared.get_status(rusqlite::StatementStatus::VmStep);
        assert!(steps < 120, "{steps} steps for {statement}");
    }
}
