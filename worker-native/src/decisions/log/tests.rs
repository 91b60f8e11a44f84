use super::*;
use crate::routing::DecisionRecord;

fn case(request_id: &str) -> Case {
    Case {
        request_id: request_id.to_owned(),
        job_id: None,
        task: "t".to_owned(),
        at: 1,
        decision: DecisionRecord::default(),
        weighed: None,
        end: None,
    }
}

fn log(sample: f32) -> Log {
    Log::new(&DecisionsConfig { log: Some(PathBuf::from("x")), sample, max_bytes: 1 << 20 })
}

#[test]
fn lines_are_read_as_they_were_written() {
    let head = Head { version: VERSION, service: "s".to_owned(), at: 1, sample: 0.5 };
    let tier = Tier {
        tier: "fast".to_owned(),
        accuracy: Some(0.9),
        alpha_us: 1_000.0,
        beta_us: 800.0,
        sd_us: 0.0,
        cap: 8,
        measured: true,
    };
    let tiers = Tiers {
        task: "t".to_owned(),
        at: 1,
        policy: "slack-split".to_owned(),
        policy_version: 0,
        workers: 4,
        tiers: vec![tier],
    };
    for line in [Line::Log(head), Line::Tiers(tiers), Line::Case(Box::new(case("r")))] {
        let mut text = String::new();
        push(&mut text, &line);
        assert_eq!(text.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }
    let mut text = String::new();
    push(&mut text, &Line::Case(Box::new(case("r"))));
    assert!(text.starts_with(r#"{"kind":"case","request_id":"r""#), "{text}");
}

#[test]
fn a_sample_is_the_same_requests_everywhere() {
    let (one, other) = (log(0.25), log(0.25));
    let ids: Vec<String> = (0..4_000).map(|number| format!("r{number}")).collect();
    let taken = ids.iter().filter(|id| one.wants(id)).count();
    assert!((900..1_100).contains(&taken), "{taken}");
    assert!(ids.iter().all(|id| one.wants(id) == other.wants(id)));
    assert!(ids.iter().all(|id| log(1.0).wants(id) && !log(0.0).wants(id)));
    let none = Log::new(&DecisionsConfig { log: None, sample: 1.0, max_bytes: 1 << 20 });
    assert!(!none.wants("r"));
}

#[test]
fn what_comes_too_fast_is_dropped_and_counted() {
    let log = log(1.0);
    for number in 0..WAITING + 3 {
        log.write(Arc::new(case(&format!("r{number}"))));
    }
    assert_eq!(log.dropped.load(Ordering::Relaxed), 3);
}

#[test]
fn the_file_and_the_one_before_it_keep_to_their_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decisions.jsonl");
    let most = 1 << 20;
    let line = format!("{}\n", "x".repeat(9_999));
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).map_or(0, |data| data.len());
    let mut file = LogFile::open(path.clone(), most).unwrap();
    let mut fresh = 0;
    for _ in 0..200 {
        fresh += u32::from(file.is_fresh());
        let (next, written) = file.append(line.as_bytes());
        written.unwrap();
        file = next;
        assert!(size("decisions.jsonl") + size("decisions.jsonl.1") <= most);
    }
    assert!(fresh >= 4 && size("decisions.jsonl.1") > 0, "{fresh}");
    // Another process goes on where this one stopped, on a line of its own.
    std::fs::write(&path, "torn").unwrap();
    let (_, written) = LogFile::open(path.clone(), most).unwrap().append(b"{}\n");
    written.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "torn\n{}\n");
}

#[test]
fn a_file_that_cannot_be_written_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone/decisions.jsonl");
    assert!(LogFile::open(path.clone(), 1 << 20).is_err());
    std::fs::create_dir(folder.path().join("gone")).unwrap();
    let file = LogFile::open(path.clone(), 1 << 20).unwrap();
    let (mut file, written) = file.append(b"one\n");
    written.unwrap();
    assert!(!file.is_fresh());
    // Full, and the folder is gone: it cannot be moved aside.
    std::fs::remove_dir_all(folder.path().join("gone")).unwrap();
    loop {
        let (next, written) = file.append(&vec![b'x'; 200_000]);
        file = next;
        if written.is_err() {
            break;
        }
    }
    assert!(file.is_fresh());
    std::fs::create_dir(folder.path().join("gone")).unwrap();
    let (_, written) = file.append(b"two\n");
    written.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
}
