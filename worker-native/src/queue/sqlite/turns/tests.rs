use super::*;

const STEP: i64 = 10_000;

/// Waiting jobs as the file would hold them, and the order in which they are given out.
#[derive(Default)]
struct Model {
    turns: Turns,
    jobs: BTreeMap<(usize, String), Vec<Head>>,
    last: i64,
}

impl Model {
    fn add(&mut self, class: usize, tenant: &str, accepted: i64) -> i64 {
        self.last += 1;
        let head = Head { id: self.last, accepted };
        self.jobs.entry((class, tenant.to_owned())).or_default().push(head);
        self.turns.add(class, tenant, head);
        self.last
    }

    fn claim(&mut self, limit: usize) -> Vec<(usize, String, i64)> {
        let lowest = self.turns.any() && self.turns.begins_low();
        let mut given = Vec::new();
        while given.len() < limit {
            let Some(turn) = self.turns.next(STEP, lowest) else { break };
            let jobs = self.jobs.get_mut(&(turn.class, turn.tenant.to_string())).unwrap();
            let room = (limit - given.len()).min(usize::try_from(turn.at_most).unwrap_or(usize::MAX));
            let fit = jobs.iter().take(room).skip(1).take_while(|job| job.accepted <= turn.until).count() + 1;
            let taken: Vec<Head> = jobs.drain(..fit).collect();
            let next = jobs.first().copied();
            self.turns.served(turn.class, &turn.tenant, taken.len() as u64, next);
            given.extend(taken.iter().map(|job| (turn.class, turn.tenant.to_string(), job.id)));
        }
        given
    }

    fn tenants(&mut self, limit: usize) -> String {
        self.claim(limit).into_iter().map(|(_, tenant, _)| tenant).collect()
    }

    fn classes(&mut self, limit: usize) -> Vec<usize> {
        self.claim(limit).into_iter().map(|(class, ..)| class).collect()
    }
}

#[test]
fn within_a_tenant_first_come_first_served() {
    let mut model = Model::default();
    let ids: Vec<i64> = (0..5).map(|at| model.add(1, "", at)).collect();
    let given: Vec<i64> = model.claim(3).into_iter().chain(model.claim(9)).map(|(.., id)| id).collect();
    assert_eq!(given, ids);
    assert!(!model.turns.any());
}

#[test]
fn tenants_take_turns_however_much_one_of_them_hands_in() {
    let mut model = Model::default();
    for at in 0..100 {
        model.add(1, "a", at);
    }
    for at in 100..103 {
        model.add(1, "b", at);
    }
    model.add(1, "c", 103);
    assert_eq!(model.tenants(8), "abcababa");
}

#[test]
fn a_pause_earns_nothing_and_costs_nothing() {
    let mut model = Model::default();
    for at in 0..50 {
        model.add(1, "a", at);
    }
    assert_eq!(model.tenants(20).len(), 20);
    // It was never here while `a` was served, and gets no more than its turns from now on.
    for at in 50..60 {
        model.add(1, "b", at);
    }
    let next = model.tenants(10);
    assert_eq!(next.matches('b').count(), 5, "{next}");
    // Who has had its turn waits for the others, also when it has nothing in between.
    let mut model = Model::default();
    model.add(1, "a", 0);
    model.add(1, "b", 0);
    model.add(1, "b", 0);
    assert_eq!(model.tenants(1), "a");
    model.add(1, "a", 1);
    assert_eq!(model.tenants(3), "bab");
}

#[test]
fn classes_go_by_age_less_their_handicap() {
    let mut model = Model::default();
    model.add(2, "", 0);
    model.add(1, "", 0);
    model.add(0, "", 9_999);
    model.add(0, "", 10_001);
    model.add(1, "", 40_002);
    model.add(0, "", 50_000);
    model.add(0, "", 50_001);
    // Ranks: high 9,999; normal 10,000; high 10,001; low and high 50,000; high 50,001; normal 50,002.
    assert_eq!(model.classes(9), [0, 1, 0, 0, 2, 0, 1]);
}

#[test]
fn every_job_comes_first_at_last() {
    let mut model = Model::default();
    model.add(2, "", 0);
    let mut at = 0;
    let turn = (0..100).position(|_| {
        for _ in 0..4 {
            at += 1_000;
            model.add(0, "", at);
        }
        model.classes(3).contains(&2)
    });
    // 13 claims make 52,000 ms of newer urgent jobs.
    assert_eq!(turn, Some(16));
}

#[test]
fn one_claim_in_twenty_starts_with_the_lowest_class() {
    let mut model = Model::default();
    for at in 0..1_000 {
        model.add(0, "", at);
        model.add(1, "", at);
        model.add(2, "", at);
    }
    let first: Vec<usize> = (0..60).map(|_| model.classes(2)[0]).collect();
    let low: Vec<usize> = first.iter().enumerate().filter(|(_, class)| **class == 2).map(|(claim, _)| claim).collect();
    assert_eq!(low, [19, 39, 59]);
    assert!(first.iter().all(|class| *class != 1));
}

#[test]
fn a_head_that_goes_without_its_turn_gives_way() {
    let mut model = Model::default();
    let first = model.add(1, "a", 0);
    let second = model.add(1, "a", 1);
    assert!(model.turns.is_head(1, "a", first) && !model.turns.is_head(1, "a", second));
    model.turns.reset(1, "a", Some(Head { id: second, accepted: 1 }));
    assert!(model.turns.is_head(1, "a", second));
    // An older job that comes back, from a pause, goes before.
    model.turns.add(1, "a", Head { id: first, accepted: 0 });
    assert!(model.turns.is_head(1, "a", first));
    model.turns.reset(1, "a", None);
    assert!(!model.turns.any());
    assert!(model.turns.next(STEP, true).is_none());
}

#[test]
fn tenants_that_are_gone_are_forgotten() {
    let mut model = Model::default();
    for at in 0..3 {
        model.add(1, "steady", at);
    }
    for number in 0..(2 * MAX_RESTING) {
        model.add(1, &format!("t{number}"), 3);
        model.claim(1);
        assert!(model.turns.classes[1].resting.len() <= MAX_RESTING);
    }
    model.claim(10);
    assert!(model.turns.classes[1].resting.len() <= 1);
    assert!(model.turns.classes[1].flows.is_empty());
}
