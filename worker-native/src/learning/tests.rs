use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::config::{Config, Source};
use crate::rollout::{Answered, Assignment};

const NOW: u64 = 1_700_000_000_000;

fn config(folder: &TempDir) -> Config {
    let file = folder.path().join("queue.sqlite").display().to_string();
    Config::read(Source::new([("QUEUE_FILE".to_owned(), file)].into(), None).unwrap()).unwrap()
}

fn known(name: &str, version: u32) -> Known {
    let answered = Answered {
        task: "pump".into(),
        model: "forest".into(),
        assignment: Assignment::outside(version),
        prediction: Some("normal".into()),
        propensity: None,
        first: None,
    };
    Known { answered, name: name.to_owned(), at: NOW, is_job: false }
}

async fn counted(learning: &Learning, queue: &dyn Queue, name: &str, correct: bool) -> Counting {
    learning.count(queue, &known(name, 1), Some(correct), NOW).await.unwrap()
}

fn labels(counting: &Counting) -> Option<u64> {
    match counting {
        Counting::Counted(belief, _) => Some(belief.labels()),
        Counting::Before | Counting::Busy => None,
    }
}

#[tokio::test]
async fn a_label_counts_once_in_all_processes_and_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let config = config(&folder);
    let queue = queue::open(&config.queue).unwrap();
    let (here, there) = (Learning::new(&config.learning), Learning::new(&config.learning));
    assert_eq!(labels(&counted(&here, &*queue, "a", true).await), Some(1));
    assert_eq!(counted(&there, &*queue, "a", false).await, Counting::Before);
    assert_eq!(labels(&counted(&there, &*queue, "b", false).await), Some(2), "it goes on from what the other knows");
    assert_eq!(labels(&counted(&here, &*queue, "c", true).await), Some(3));
    drop(queue);
    let (queue, later) = (queue::open(&config.queue).unwrap(), Learning::new(&config.learning));
    assert_eq!(counted(&later, &*queue, "b", false).await, Counting::Before);
    later.took("pump", &queue.beliefs("pump").await.unwrap());
    let belief = later.belief("pump", "forest", 1).unwrap().belief;
    assert_eq!((belief.labels(), belief.correct(), belief.last_label_ms()), (3, 2, Some(NOW)));
    assert_eq!(later.belief("pump", "forest", 2).map(|seen| seen.belief.labels()), None);
}

#[tokio::test]
async fn many_at_once_lose_none() {
    let folder = TempDir::new().unwrap();
    let config = config(&folder);
    let queue = queue::open(&config.queue).unwrap();
    let processes: Vec<_> = (0..4).map(|_| Arc::new(Learning::new(&config.learning))).collect();
    let mut callers = tokio::task::JoinSet::new();
    for i in 0..200 {
        let (queue, learning) = (Arc::clone(&queue), Arc::clone(&processes[i % 4]));
        // Each label comes twice, to two processes.
        callers.spawn(async move { counted(&learning, &*queue, &format!("a{}", i / 2), i % 4 < 2).await });
    }
    let all = callers.join_all().await;
    assert_eq!(all.iter().filter(|one| labels(one).is_some()).count(), 100, "{all:?}");
    processes[0].took("pump", &queue.beliefs("pump").await.unwrap());
    assert_eq!(processes[0].belief("pump", "forest", 1).unwrap().belief.labels(), 100);
}

#[tokio::test]
async fn the_order_of_labels_changes_nothing_of_what_is_believed() {
    let posterior = async |names: Vec<u64>| {
        let folder = TempDir::new().unwrap();
        let config = config(&folder);
        let (queue, learning) = (queue::open(&config.queue).unwrap(), Learning::new(&config.learning));
        for i in names {
            let known = Known { at: NOW - i * 60_000, ..known(&i.to_string(), 1) };
            learning.count(&*queue, &known, Some(i % 3 == 0), NOW).await.unwrap();
        }
        learning.posterior(("pump", "forest", 1), None, NOW + 60_000).unwrap()
    };
    let (one, two) = (posterior((0..30).collect()).await, posterior((0..30).rev().collect()).await);
    assert!((one.alpha - two.alpha).abs() < 1e-9 && (one.beta - two.beta).abs() < 1e-9, "{one:?} {two:?}");
}

#[tokio::test]
async fn a_belief_that_cannot_be_read_is_learned_anew() {
    let folder = TempDir::new().unwrap();
    let config = config(&folder);
    let (queue, learning) = (queue::open(&config.queue).unwrap(), Learning::new(&config.learning));
    counted(&learning, &*queue, "a", true).await;
    let (version, before) = queue.beliefs("pump").await.unwrap().remove(0);
    let poison = queue::Belief { head: json!({"v": 1, "labels": -3}).to_string(), tail: "\u{1F4A5}".to_owned() };
    let label =
        NewLabel { answer: "poison".to_owned(), remember: Duration::from_secs(9), version, before, after: poison };
    assert_eq!(queue.label("pump", &label).await.unwrap(), Labelled::Counted);
    let later = Learning::new(&config.learning);
    later.took("pump", &queue.beliefs("pump").await.unwrap());
    assert!(later.belief("pump", "forest", 1).unwrap().fault.is_some());
    assert_eq!(later.accuracy(("pump", "forest", 1), Some(0.75), NOW), Some(0.75));
    for learning in [&learning, &later] {
        let name = format!("{learning:p}");
        assert!(labels(&counted(learning, &*queue, &name, true).await).is_some());
    }
    later.took("pump", &queue.beliefs("pump").await.unwrap());
    let seen = later.belief("pump", "forest", 1).unwrap();
    assert_eq!((seen.belief.labels(), seen.fault), (2, None));
}
