//! Whose turn it is: classes by age and handicap, a share for the lowest, equal turns for tenants.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use worker_native::queue::{Claimed, Entry, Outcome, Priority};

use super::rig::{Backend, Rig, TASK, entry, ids, of_class, of_tenant, passed, settlement};

fn class(claimed: &Claimed) -> Priority {
    claimed.entry.as_ref().unwrap().priority
}

fn tenant(claimed: &Claimed) -> String {
    claimed.entry.as_ref().unwrap().tenant.clone().unwrap_or_default()
}

/// Claims one after the other; what each one is.
async fn claims<B: Backend, T>(rig: &Rig<B>, count: usize, what: impl Fn(&Claimed) -> T) -> Vec<T> {
    let mut found = Vec::new();
    for _ in 0..count {
        found.push(what(&rig.take("c1").await));
    }
    found
}

pub(crate) async fn urgent_jobs_come_first<B: Backend>() {
    use Priority::{High, Low, Normal};
    let rig = Rig::<B>::start(&[]).await;
    for _ in 0..2 {
        rig.accept_all([Low, Normal, High].map(of_class).to_vec()).await;
    }
    assert_eq!(claims(&rig, 6, class).await, [High, High, Normal, Normal, Low, Low]);
    rig.accept_all([Low, Normal, High, Low, Normal, High].map(of_class).to_vec()).await;
    let claimed = rig.claim(TASK, "c1", 10).await.unwrap();
    assert_eq!(claimed.iter().map(class).collect::<Vec<_>>(), [High, High, Normal, Normal, Low, Low], "also at once");
}

pub(crate) async fn within_a_class_the_first_comes_first<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    let jobs: Vec<Entry> = (0..100).map(|i| Entry { lane: format!("lane{}", i % 3), ..entry() }).collect();
    for some in jobs.chunks(7) {
        rig.accept_all(some.to_vec()).await;
    }
    let mut order = Vec::new();
    for limit in [1, 5, 2, 30, 100] {
        let claimed = rig.claim(TASK, "c1", limit).await.unwrap();
        order.extend(ids(&claimed).into_iter().map(str::to_owned));
    }
    assert_eq!(order, jobs.into_iter().map(|job| job.job_id).collect::<Vec<_>>());
}

pub(crate) async fn an_old_job_goes_before_a_more_urgent_new_one<B: Backend>() {
    use Priority::{High, Low, Normal};
    // Low is behind by five steps, normal by one.
    let rig = Rig::<B>::start(&[("PRIORITY_STEP_MS", "40")]).await;
    rig.accept(of_class(Low)).await;
    passed(Duration::from_millis(240), Instant::now()).await;
    rig.accept(of_class(Normal)).await;
    passed(Duration::from_millis(80), Instant::now()).await;
    rig.accept(of_class(High)).await;
    assert_eq!(claims(&rig, 3, class).await, [Low, Normal, High]);
    let rig = Rig::<B>::start(&[("PRIORITY_STEP_MS", "0")]).await;
    for priority in [Low, High, Normal, Low] {
        rig.accept(of_class(priority)).await;
        passed(Duration::from_millis(3), Instant::now()).await;
    }
    assert_eq!(claims(&rig, 4, class).await, [Low, High, Normal, Low], "without a handicap by age alone");
}

pub(crate) async fn only_the_age_of_who_is_next_counts<B: Backend>() {
    use Priority::{High, Normal};
    let rig = Rig::<B>::start(&[("PRIORITY_STEP_MS", "200")]).await;
    rig.accept(of_class(Normal)).await;
    passed(Duration::from_millis(250), Instant::now()).await;
    rig.accept_all([Normal, Normal, High].map(of_class).to_vec()).await;
    // The old one has gone: those left are as new as the urgent one.
    assert_eq!(claims(&rig, 4, class).await, [Normal, High, Normal, Normal]);
}

pub(crate) async fn also_within_one_claim<B: Backend>() {
    use Priority::{High, Normal};
    for (limit, order) in [(2, &[Normal, High][..]), (10, &[Normal, High, Normal, Normal])] {
        let rig = Rig::<B>::start(&[("PRIORITY_STEP_MS", "200")]).await;
        rig.accept(of_class(Normal)).await;
        passed(Duration::from_millis(250), Instant::now()).await;
        rig.accept_all([Normal, Normal, High].map(of_class).to_vec()).await;
        let claimed = rig.claim(TASK, "c1", limit).await.unwrap();
        assert_eq!(claimed.iter().map(class).collect::<Vec<_>>(), order);
    }
}

pub(crate) async fn a_job_that_is_gone_has_no_age<B: Backend>() {
    use Priority::{High, Normal};
    let rig = Rig::<B>::start(&[("PRIORITY_STEP_MS", "200")]).await;
    let old = rig.accept(of_class(Normal)).await;
    passed(Duration::from_millis(250), Instant::now()).await;
    rig.accept_all([Normal, High].map(of_class).to_vec()).await;
    let result = super::rig::result(&old.job_id, Outcome::Cancelled, 1, "");
    rig.cancel(TASK, &old.job_id, &result).await.unwrap();
    assert_eq!(claims(&rig, 2, class).await, [High, Normal]);
    // The last of a line as well: what comes later is new.
    let old = rig.accept(of_class(Normal)).await;
    passed(Duration::from_millis(250), Instant::now()).await;
    let result = super::rig::result(&old.job_id, Outcome::Cancelled, 1, "");
    rig.cancel(TASK, &old.job_id, &result).await.unwrap();
    rig.accept_all([Normal, High].map(of_class).to_vec()).await;
    assert_eq!(claims(&rig, 2, class).await, [High, Normal]);
}

pub(crate) async fn the_oldest_job_of_all_tenants_counts<B: Backend>() {
    let rig = Rig::<B>::start(&[("PRIORITY_STEP_MS", "200")]).await;
    rig.accept(of_tenant("z-waits-long")).await;
    passed(Duration::from_millis(250), Instant::now()).await;
    rig.accept_all(vec![of_tenant("a-is-new"), of_class(Priority::High)]).await;
    // Whichever tenant's turn it is: the class has a job that is old enough.
    assert_eq!(class(&rig.take("c1").await), Priority::Normal);
    let left = rig.claim(TASK, "c1", 10).await.unwrap();
    assert_eq!(left.len(), 2);
}

/// How many of each class came out of so many claims, while all classes always have more.
async fn shares<B: Backend>(classes: &[Priority], count: usize, size: usize) -> BTreeMap<Priority, usize> {
    // However slow the machine is: here nothing waits for so long that its age counts.
    let rig = Rig::<B>::start(&[("PRIORITY_STEP_MS", "3600000")]).await;
    let mut found = BTreeMap::<Priority, usize>::new();
    let mut waiting: BTreeMap<Priority, usize> = classes.iter().map(|class| (*class, 0)).collect();
    for _ in 0..count {
        for (priority, waiting) in &mut waiting {
            if *waiting < size {
                let more = 500.max(size);
                rig.accept_all((0..more).map(|_| of_class(*priority)).collect()).await;
                *waiting += more;
            }
        }
        let claimed = rig.claim(TASK, "c1", size).await.unwrap();
        assert_eq!(claimed.len(), size);
        for priority in claimed.iter().map(class) {
            *found.entry(priority).or_default() += 1;
            *waiting.get_mut(&priority).unwrap() -= 1;
        }
        let settlements = claimed.iter().map(|one| settlement(&one.ticket, Outcome::Done)).collect();
        rig.settle(TASK, settlements).await.unwrap();
    }
    found
}

/// At least a twentieth, but for what is saved up between two turns; and not so much that urgent jobs wait for it.
fn is_fair(found: &BTreeMap<Priority, usize>, count: usize, size: usize) {
    let (low, total) = (found.get(&Priority::Low).copied().unwrap_or_default(), count * size);
    assert!((low + size) * 20 >= total, "{low} of {total} low: {found:?}");
    assert!(low * 10 <= total, "{low} of {total} low: {found:?}");
}

pub(crate) async fn the_lowest_class_gets_its_share_one_by_one<B: Backend>() {
    let found = shares::<B>(&[Priority::High, Priority::Low], 2_000, 1).await;
    is_fair(&found, 2_000, 1);
}

pub(crate) async fn the_lowest_class_gets_its_share_in_batches<B: Backend>() {
    let found = shares::<B>(&[Priority::High, Priority::Low], 200, 64).await;
    is_fair(&found, 200, 64);
}

pub(crate) async fn three_classes_all_get_their_share<B: Backend>() {
    for (count, size) in [(1_000, 1), (60, 64)] {
        let found = shares::<B>(&Priority::ALL, count, size).await;
        is_fair(&found, count, size);
        assert!(found[&Priority::High] * 10 >= count * size * 8, "urgent jobs are most: {found:?}");
    }
}

/// At which claim of one the last job of a tenant came out, of so many.
async fn out_after<B: Backend>(rig: &Rig<B>, name: &str, jobs: usize) -> usize {
    let mut left = jobs;
    for claim in 1.. {
        left -= usize::from(tenant(&rig.take("c1").await) == name);
        if left == 0 {
            return claim;
        }
    }
    0
}

pub(crate) async fn a_short_line_is_not_held_up_by_a_long_one<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    rig.accept_all((0..1_000).map(|_| of_tenant("long")).collect()).await;
    rig.accept_all((0..10).map(|_| of_tenant("short")).collect()).await;
    let after = out_after(&rig, "short", 10).await;
    assert!(after <= 21, "out after {after} claims");
    // By batches as well.
    rig.accept_all((0..10).map(|_| of_tenant("short")).collect()).await;
    let mut found = 0;
    for _ in 0..4 {
        let claimed = rig.claim(TASK, "c1", 8).await.unwrap();
        found += claimed.iter().filter(|one| tenant(one) == "short").count();
    }
    assert_eq!(found, 10);
}

pub(crate) async fn tenants_with_much_to_do_get_equal_turns<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    for (name, jobs) in [("a", 900), ("b", 300), ("c", 600)] {
        rig.accept_all((0..jobs).map(|_| of_tenant(name)).collect()).await;
    }
    for size in [1, 7, 64] {
        let mut turns = BTreeMap::<String, usize>::new();
        let mut total = 0;
        while total < 192 {
            let claimed = rig.claim(TASK, "c1", size).await.unwrap();
            total += claimed.len();
            for name in claimed.iter().map(tenant) {
                *turns.entry(name).or_default() += 1;
            }
        }
        let (least, most) = (turns.values().min().unwrap(), turns.values().max().unwrap());
        assert!(turns.len() == 3 && most - least <= size.div_ceil(3) + 1, "{turns:?} by {size}");
    }
}

pub(crate) async fn an_idle_tenant_saves_up_nothing<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    rig.accept_all((0..200).map(|_| of_tenant("busy")).collect()).await;
    rig.accept_all(vec![of_tenant("idle"), of_tenant("third")]).await;
    claims(&rig, 100, |_| ()).await;
    // It has had one turn in all that time; now it is one of two, no more and no less.
    rig.accept_all((0..50).map(|_| of_tenant("idle")).collect()).await;
    let next = claims(&rig, 40, tenant).await;
    let busy = next.iter().filter(|name| *name == "busy").count();
    assert!((18..=22).contains(&busy), "{next:?}");
    let in_a_row = next.chunk_by(|one, other| one == other).map(<[String]>::len).max();
    assert!(in_a_row <= Some(3), "{next:?}");
}

pub(crate) async fn jobs_of_nobody_take_turns_as_well<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    rig.accept_all((0..500).map(|_| entry()).collect()).await;
    rig.accept_all((0..10).map(|_| of_tenant("t")).collect()).await;
    let after = out_after(&rig, "t", 10).await;
    assert!(after <= 21, "out after {after} claims");
}
