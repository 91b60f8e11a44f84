//! Every statement of the queue's file: what is run often is here to be read side by side, and its plan is tested.
//!
//! Owns the numbers of states as well; no other file writes SQL on these tables.

/// Waits for its turn.
pub(super) const WAITING: i64 = 0;
/// Waits for another try.
pub(super) const DELAYED: i64 = 1;
/// Held by a consumer.
pub(super) const RUNNING: i64 = 2;
/// Handed back; goes before others.
pub(super) const RETURNED: i64 = 3;
/// Has its result.
pub(super) const ENDED: i64 = 4;

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(super) const $name: &str = $text;)*
        /// All of them by name, for the test that looks at their plans.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name),)*];
    };
}

// A statement that gives what a claim needs of jobs.
macro_rules! held {
    ($rest:literal) => {
        concat!(
            "SELECT id, job_id, class, tenant, lane, starts, accepted, deadline, failures, bytes, callback \
             FROM job WHERE ",
            $rest
        )
    };
}

statements! {
    // The writer's books.
    TASKS = "SELECT id, name, bytes, delayed, settled, lost, dead, unrun FROM task";
    TASK_NEW = "INSERT INTO task (name) VALUES (?1)";
    TASK_WRITE = "UPDATE task SET bytes = ?2, delayed = ?3, settled = ?4, lost = ?5, dead = ?6, unrun = ?7 WHERE id = ?1";
    LANES = "SELECT name, depth, running FROM lane WHERE task = ?1";
    LANE_WRITE = "INSERT INTO lane (task, name, depth, running) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (task, name) DO UPDATE SET depth = excluded.depth, running = excluded.running";
    TENANT = "SELECT jobs, bytes FROM tenant WHERE task = ?1 AND name = ?2";
    TENANT_WRITE = "INSERT INTO tenant (task, name, jobs, bytes) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (task, name) DO UPDATE SET jobs = excluded.jobs, bytes = excluded.bytes";
    TENANT_FORGET = "DELETE FROM tenant WHERE task = ?1 AND name = ?2";
    LEDGER = "SELECT next_job, clock FROM ledger WHERE one = 1";
    LEDGER_WRITE = "UPDATE ledger SET next_job = ?1, clock = ?2 WHERE one = 1";
    /// The next tenant of a class with waiting jobs, in the order of names, and its first job.
    NEXT_FLOW = "SELECT tenant, id, accepted FROM job \
        WHERE task = ?1 AND class = ?2 AND tenant > ?3 AND state = 0 ORDER BY tenant, id LIMIT 1";
    RETURNED_COUNT = "SELECT count(*) FROM job WHERE task = ?1 AND state = 3";
    EARLIEST_DELAYED = "SELECT due FROM job WHERE task = ?1 AND state = 1 AND due IS NOT NULL ORDER BY due LIMIT 1";

    // Hand-in.
    JOB_NEW = "INSERT INTO job (id, task, job_id, class, tenant, lane, state, starts, accepted, deadline, bytes, callback) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, ?7, ?8, ?9, ?10) ON CONFLICT (task, job_id) DO NOTHING";
    BODY_NEW = "INSERT INTO body (id, body) VALUES (?1, ?2)";
    JOB_KNOWN = "SELECT 1 FROM job WHERE task = ?1 AND job_id = ?2";
    ONCE = "SELECT fingerprint, status, body FROM once WHERE task = ?1 AND key = ?2 AND expires > ?3";
    ONCE_WRITE = "INSERT INTO once (task, key, fingerprint, status, body, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
        ON CONFLICT (task, key) DO UPDATE SET fingerprint = excluded.fingerprint, status = excluded.status, \
        body = excluded.body, expires = excluded.expires";
    ONCE_FORGET = "DELETE FROM once WHERE task = ?1 AND key = ?2";

    // Claims.
    PROMOTABLE = "SELECT id, class, tenant, accepted FROM job \
        WHERE task = ?1 AND state = 1 AND due <= ?2 ORDER BY due LIMIT ?3";
    PROMOTE = "UPDATE job SET state = 0, due = NULL WHERE id = ?1";
    FROM_RETURNED = held!("task = ?1 AND state = 3 ORDER BY id LIMIT ?2");
    FROM_FLOW = held!("task = ?1 AND class = ?2 AND tenant = ?3 AND state = 0 ORDER BY id LIMIT ?4");
    FROM_OVERDUE = held!("task = ?1 AND state = 2 AND due <= ?2 ORDER BY due LIMIT ?3");
    FLOW_HEAD = "SELECT id, accepted FROM job WHERE task = ?1 AND class = ?2 AND tenant = ?3 AND state = 0 ORDER BY id LIMIT 1";
    HOLD = "UPDATE job SET state = 2, starts = starts + 1, due = ?2, consumer = ?3 WHERE id = ?1";
    BODY = "SELECT body FROM body WHERE id = ?1";

    // What becomes of claimed jobs.
    RENEW = "UPDATE job SET due = ?4 WHERE id = ?1 AND task = ?2 AND state = 2 AND consumer = ?3";
    HELD_SINCE = "SELECT id, lane, starts, job_id FROM job \
        WHERE task = ?1 AND state = 2 AND due >= ?3 AND consumer = ?2";
    JOB_HELD = "SELECT lane, starts FROM job WHERE id = ?1 AND task = ?2 AND state = 2 AND consumer = ?3";
    PUT_ASIDE = "UPDATE job SET state = 1, due = ?2, starts = ?3, failures = ?4, consumer = NULL WHERE id = ?1";
    HAND_BACK = "UPDATE job SET state = 3, due = NULL, starts = ?2, consumer = NULL WHERE id = ?1";
    UNSETTLED = "SELECT job_id, class, tenant, lane, state, bytes, callback FROM job WHERE id = ?1 AND task = ?2 AND state < 4";
    JOB_NAMED = "SELECT id, state, result FROM job WHERE task = ?1 AND job_id = ?2";
    END = "UPDATE job SET state = 4, due = NULL, consumer = NULL, failures = NULL, result = ?2 WHERE id = ?1";
    RESULT_NEW = "INSERT INTO result (task, job, ended, finished, sensor, awaited, outcome, json) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    RESULT_OUTCOME = "SELECT outcome, ended, awaited FROM result WHERE seq = ?1";
    BODY_DROP = "DELETE FROM body WHERE id = ?1";
    JOB_DROP = "DELETE FROM job WHERE id = ?1";
    RESULT_DROP = "DELETE FROM result WHERE seq = ?1";

    // Dead letters.
    DEAD_NEW = "INSERT INTO dead (task, job_id, class, tenant, lane, bytes, callback, body, result, failures, died) \
        SELECT j.task, j.job_id, j.class, j.tenant, j.lane, j.bytes, j.callback, coalesce(b.body, x''), \
        ?2, ?3, ?4 FROM job j LEFT JOIN body b ON b.id = j.id WHERE j.id = ?1";
    DEAD_KNOWN = "SELECT seq FROM dead WHERE task = ?1 AND job_id = ?2 AND died > ?3";
    DEAD_OLDEST = "SELECT seq FROM dead WHERE task = ?1 ORDER BY seq LIMIT ?2";
    DEAD_EXPIRED = "SELECT seq, died FROM dead WHERE task = ?1 ORDER BY seq LIMIT ?2";
    DEAD_DROP = "DELETE FROM dead WHERE seq = ?1";
    DEAD_DROP_NAMED = "DELETE FROM dead WHERE task = ?1 AND job_id = ?2";
    DEAD_FACTS = "SELECT class, tenant, lane, bytes FROM dead WHERE seq = ?1";
    REQUEUE_JOB = "INSERT INTO job (id, task, job_id, class, tenant, lane, state, starts, accepted, bytes, callback) \
        SELECT ?2, task, job_id, class, tenant, lane, 0, 0, ?3, bytes, callback FROM dead WHERE seq = ?1";
    REQUEUE_BODY = "INSERT INTO body (id, body) SELECT ?2, body FROM dead WHERE seq = ?1";
    DEAD_LIST = "SELECT job_id, body, result, failures, died FROM dead \
        WHERE task = (SELECT id FROM task WHERE name = ?1) AND died > ?2 ORDER BY seq DESC LIMIT ?3 OFFSET ?4";
    DEAD_ONE = "SELECT job_id, body, result, failures, died FROM dead \
        WHERE task = (SELECT id FROM task WHERE name = ?1) AND job_id = ?3 AND died > ?2";

    // Callbacks.
    OUTBOX_NEW = "INSERT INTO outbox (task, job_id, url, attempt, due, ended) VALUES (?1, ?2, ?3, 0, ?4, ?4) \
        ON CONFLICT (task, job_id) DO UPDATE SET url = excluded.url, attempt = 0, due = excluded.due, ended = excluded.ended";
    OUTBOX_DUE = "SELECT id, job_id, url, attempt, ended FROM outbox WHERE task = ?1 AND due <= ?2 ORDER BY due LIMIT ?3";
    OUTBOX_TAKE = "UPDATE outbox SET due = ?2, attempt = attempt + 1 WHERE id = ?1";
    OUTBOX_LATER = "UPDATE outbox SET due = ?4 WHERE task = ?1 AND job_id = ?2 AND ended = ?3";
    OUTBOX_DROP = "DELETE FROM outbox WHERE task = ?1 AND job_id = ?2 AND ended = ?3";
    OUTBOX_FORGET = "DELETE FROM outbox WHERE task = ?1 AND job_id = ?2";
    NOTE = "UPDATE job SET note = ?3 WHERE task = ?1 AND job_id = ?2 AND state = 4";
    RESULT_NAMED = "SELECT r.json, r.ended, r.awaited FROM job j JOIN result r ON r.seq = j.result \
        WHERE j.task = ?1 AND j.job_id = ?2";

    // Facts and probes.
    FACTS = "SELECT field, value FROM fact WHERE task = (SELECT id FROM task WHERE name = ?1) AND name = ?2";
    FACT_SET = "INSERT INTO fact (task, name, field, value) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (task, name, field) DO UPDATE SET value = excluded.value";
    FACT_DROP = "DELETE FROM fact WHERE task = ?1 AND name = ?2 AND field = ?3";
    PROBE = "INSERT INTO probe (filler) VALUES (zeroblob(32768))";
    PROBE_TIDY = "DELETE FROM probe WHERE id < ?1";

    // Labels.
    ANSWERED_NEW = "INSERT INTO answered (task, id, at, record) VALUES (?1, ?2, ?3, ?4)";
    ANSWERED = "SELECT record FROM answered WHERE task = (SELECT id FROM task WHERE name = ?1) AND id = ?2 AND at > ?3 \
        ORDER BY seq DESC LIMIT 1";
    ANSWERED_OLDEST = "SELECT seq, at FROM answered ORDER BY seq LIMIT ?1";
    ANSWERED_LAST = "SELECT seq FROM answered ORDER BY seq DESC LIMIT 1";
    ANSWERED_DROP = "DELETE FROM answered WHERE seq <= ?1";
    LABELLED = "SELECT 1 FROM labelled WHERE task = ?1 AND answer = ?2 AND expires > ?3";
    LABELLED_NEW = "INSERT INTO labelled (task, answer, expires) VALUES (?1, ?2, ?3) \
        ON CONFLICT (task, answer) DO UPDATE SET expires = excluded.expires";
    LABELLED_EXPIRED = "DELETE FROM labelled WHERE id IN (SELECT id FROM labelled WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
    BELIEF = "SELECT head, tail FROM belief WHERE task = ?1 AND version = ?2";
    BELIEF_WRITE = "INSERT INTO belief (task, version, head, tail) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (task, version) DO UPDATE SET head = excluded.head, tail = excluded.tail";

    // Readers.
    BELIEFS = "SELECT version, head FROM belief WHERE task = (SELECT id FROM task WHERE name = ?1)";
    JOB = "SELECT j.state, j.starts, j.failures, j.accepted, j.note, r.outcome, r.json, r.ended, r.awaited \
        FROM job j LEFT JOIN result r ON r.seq = j.result \
        WHERE j.task = (SELECT id FROM task WHERE name = ?1) AND j.job_id = ?2";
    JOB_BODY = "SELECT b.body FROM job j JOIN body b ON b.id = j.id \
        WHERE j.task = (SELECT id FROM task WHERE name = ?1) AND j.job_id = ?2 AND j.state < 4";
    LISTED = "SELECT seq, finished, sensor, outcome FROM result \
        WHERE task = (SELECT id FROM task WHERE name = ?1) AND awaited = 0 AND seq < ?2 ORDER BY seq DESC LIMIT ?3";
    LISTED_ONE = "SELECT json, ended FROM result WHERE seq = ?1";
    COUNTS = "SELECT bytes, delayed, settled, lost, dead, unrun FROM task WHERE name = ?1";
    COUNTS_LANES = "SELECT l.name, l.depth, l.running FROM task t JOIN lane l ON l.task = t.id WHERE t.name = ?1";

    // Looking after it.
    EXPIRED_AWAITED = "SELECT seq, job FROM result WHERE awaited = 1 AND ended <= ?1 ORDER BY ended LIMIT ?2";
    OLDEST_RESULTS = "SELECT seq, job, ended, awaited FROM result ORDER BY seq LIMIT ?1";
    ONCE_EXPIRED = "DELETE FROM once WHERE id IN (SELECT id FROM once WHERE expires <= ?1 ORDER BY expires LIMIT ?2)";
    /// One moment for both: jobs as counted, and jobs as they are. Costs what they are many.
    AUDIT = "SELECT (SELECT coalesce(sum(depth), 0) FROM lane WHERE task = t.id), \
        (SELECT count(*) FROM job WHERE task = t.id AND state = 0) + \
        (SELECT count(*) FROM job WHERE task = t.id AND state = 3) + \
        (SELECT count(*) FROM job WHERE task = t.id AND state IN (1, 2) AND due IS NOT NULL) \
        FROM task t WHERE t.name = ?1";
    RECOUNT = "SELECT lane, tenant, state, count(*), sum(bytes) FROM job WHERE task = ?1 AND state < 4 GROUP BY lane, tenant, state";
    TENANTS_FORGET = "DELETE FROM tenant WHERE task = ?1";
    /// At start: nobody holds a job any more.
    ORPHANS_BACK = "UPDATE job SET state = 3, due = NULL, consumer = NULL WHERE task = ?1 AND state = 2 AND due IS NOT NULL";
}
