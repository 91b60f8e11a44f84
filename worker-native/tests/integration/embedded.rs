//! The service alone, without a Redis: its queue is a file, and a kill loses nothing of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::native::Native;
use crate::support::readings::{body, get, normal, post, read, result_of};
use crate::support::until;

#[tokio::test]
async fn without_a_redis_the_queue_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("made/queue.sqlite");
    let native = Native::start("", &[("QUEUE_FILE", file.to_str().unwrap())]).await;
    assert_eq!(get(&native.url("/readyz")).await.0, 200);
    let (status, receipt) = read(post(&native.url("/data"), &body(&normal())).await).await;
    assert_eq!(status, 202, "{receipt}");
    assert_eq!(result_of(&native.url(""), &receipt).await["outcome"], "done");
    let statement = json!({"task": "pump-anomaly", "model": "accurate", "accuracy": 0.45});
    let (status, said) = read(post(&native.url("/feedback"), &statement).await).await;
    assert_eq!(status, 200, "{said}");
    let (exit, last) = native.terminate().await;
    assert!(exit.success() && last.contains("stopped"), "{last}");
    assert!(file.exists());
}

#[tokio::test]
async fn kills_of_the_only_process_lose_no_job_and_double_none() {
    const KILLS: usize = 3;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.sqlite");
    let settings = [("QUEUE_FILE", file.to_str().unwrap()), ("MAX_ATTEMPTS", "50")];
    let mut accepted: Vec<Value> = Vec::new();
    let mut native = Native::start("", &settings).await;
    for round in 0..=KILLS {
        // What is refused or cut off was not accepted; what was must be there afterwards.
        let url = native.url("/data");
        let sender = async {
            let mut receipts = Vec::new();
            let client = reqwest::Client::new();
            loop {
                let sent = client.post(&url).json(&body(&normal())).send().await;
                let Ok(response) = sent else { return receipts };
                if response.status() != 202 {
                    return receipts;
                }
                let Ok(receipt) = response.json::<Value>().await else { return receipts };
                receipts.push(receipt);
                if round == KILLS && receipts.len() >= 40 {
                    return receipts;
                }
            }
        };
        let killer = async {
            if round < KILLS {
                let results = native.url("/results?limit=1000");
                // Some have ended, others are on their way.
                until("some results", || async {
                    let listed = reqwest::get(&results).await.ok()?.json::<Value>().await.ok()?;
                    (listed["count"].as_u64()? as usize >= (round + 1) * 10).then_some(())
                })
                .await;
                native.process.kill();
            }
        };
        let (receipts, ()) = tokio::join!(sender, killer);
        accepted.extend(receipts);
        if round < KILLS {
            native = Native::start("", &settings).await;
        }
    }
    assert!(accepted.len() >= 40 + KILLS, "{}", accepted.len());
    let ids: BTreeMap<&str, &Value> =
        accepted.iter().map(|receipt| (receipt["job_id"].as_str().unwrap(), receipt)).collect();
    assert_eq!(ids.len(), accepted.len());
    for receipt in ids.values() {
        assert_eq!(result_of(&native.url(""), receipt).await["outcome"], "done");
    }
    // A job whose answer was cut off may be there as well; none is there twice.
    let (_, listed) = get(&native.url("/results?limit=1000")).await;
    let results = listed["results"].as_array().unwrap();
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    for result in results {
        *shown.entry(result["job_id"].as_str().unwrap()).or_default() += 1;
    }
    assert!(shown.values().all(|times| *times == 1));
    assert!(ids.keys().all(|id| shown.contains_key(id)), "{} of {}", shown.len(), ids.len());
    assert!(shown.len() <= ids.len() + KILLS, "{} of {}", shown.len(), ids.len());
}

#[tokio::test]
async fn a_second_process_on_the_file_is_told_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queue.sqlite");
    let native = Native::start("", &[("QUEUE_FILE", file.to_str().unwrap())]).await;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_infer-router"));
    command.arg("serve").current_dir(crate::support::root()).env_remove("REDIS_URL");
    command.env("QUEUE_FILE", &file).env("API_PORT", "0").env("API_HOST", "127.0.0.1").env("MODEL_DIR", "models");
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for word in ["QUEUE_FILE", "in use", "REDIS_URL", &native.process.id().to_string()] {
        assert!(told.contains(word), "{word} missing in: {told}");
    }
}
