//! Looking after a queue that nobody harmed changes nothing in it.

use std::time::{Duration, Instant};

use worker_native::queue::{Priority, Retry, Tended};

use super::rig::{Backend, LONG, Rig, TASK, counted, depths, entry, of_class, of_tenant, passed};

pub(crate) async fn a_healthy_queue_is_left_alone<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    assert_eq!(rig.tend(TASK).await.unwrap(), Tended::default(), "an empty one");
    rig.accept_all(vec![entry(), entry(), of_tenant("a"), of_class(Priority::High), entry()]).await;
    let held = rig.claim(TASK, "c1", 4).await.unwrap();
    rig.release(TASK, "c1", std::slice::from_ref(&held[0].ticket)).await.unwrap();
    let retry = Retry { ticket: held[1].ticket.clone(), delay: LONG, charged: true, failures: vec![] };
    assert_eq!(rig.retry(TASK, "c1", vec![retry]).await.unwrap(), [true]);
    rig.done(&held[2]).await;
    let before = rig.numbers().await;
    let since = Instant::now();
    // Longer than the pause that all processes together make between two looks.
    while since.elapsed() < Duration::from_secs(5) {
        assert_eq!(rig.tend(TASK).await.unwrap(), Tended::default());
        assert_eq!(rig.numbers().await, before);
        passed(Duration::from_millis(500), Instant::now()).await;
    }
    assert_eq!(rig.renew(TASK, "c1", std::slice::from_ref(&held[3].ticket)).await.unwrap(), [true]);
    assert_eq!(rig.claim(TASK, "c1", 10).await.unwrap().len(), 2);
}

pub(crate) async fn a_consumer_may_leave_and_come_back<B: Backend>() {
    let rig = Rig::<B>::start(&[]).await;
    rig.leave(TASK, "never seen").await.unwrap();
    let (_, claimed) = rig.held_by("c1").await;
    rig.done(&claimed).await;
    rig.leave(TASK, "c1").await.unwrap();
    let (_, claimed) = rig.held_by("c1").await;
    rig.done(&claimed).await;
    assert_eq!(counted(&rig.numbers().await.depths), depths(&[]));
}
