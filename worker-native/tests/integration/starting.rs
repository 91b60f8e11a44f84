//! What keeps the service from starting is said with the setting to change.

use std::process::Command;

use crate::support::{root, tool};

/// Runs `serve` with settings that cannot work; gives what it says.
fn refusal(settings: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infer-router"));
    command
        .arg("serve")
        .current_dir(root())
        .env("API_PORT", "0")
        .env("LOG_LEVEL", "error")
        .envs(settings.iter().copied());
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn wrong_settings_are_told_all_at_once() {
    let said = refusal(&[("API_PORT", "high"), ("QUEUE_THRESHOLD", "0"), ("ROUTING_POLICY", "psychic")]);
    for word in ["API_PORT=high", "QUEUE_THRESHOLD=0", "ROUTING_POLICY=psychic", "queue-threshold"] {
        assert!(said.contains(word), "{word} missing in: {said}");
    }
}

#[test]
fn a_missing_model_repository_and_runtime_say_what_to_do() {
    let said = refusal(&[("MODEL_DIR", "no/such/folder")]);
    assert!(said.contains("MODEL_DIR") && said.contains("no/such/folder"), "{said}");
    let said = refusal(&[("ORT_DYLIB_PATH", "no/such/lib.so")]);
    assert!(said.contains("ORT_DYLIB_PATH") && said.contains("script/bootstrap"), "{said}");
}

#[test]
fn a_model_that_was_changed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(root().join("models/pump-anomaly")).arg(dir.path()).status().unwrap();
    assert!(copied.success());
    let file = dir.path().join("pump-anomaly/lof/1/model.onnx");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&file, bytes).unwrap();
    // The models beside it could be served: what keeps the service from starting is that nothing is left.
    for other in ["autoencoder", "isolation_forest"] {
        std::fs::remove_dir_all(dir.path().join("pump-anomaly").join(other)).unwrap();
    }
    let said = refusal(&[("MODEL_DIR", dir.path().to_str().unwrap()), ("ORT_DYLIB_PATH", &tool("ORT_DYLIB_PATH"))]);
    assert!(said.contains("sha256") && said.contains("lof/1/model.onnx"), "{said}");
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = refusal(&[("API_PORT", &port)]);
    assert!(said.contains(&port) && said.contains("API_PORT"), "{said}");
}

#[test]
fn the_settings_can_be_printed_for_eyes_and_for_scripts() {
    let run = |json: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infer-router"));
        command.args(["serve", "--print-config"]).args(json.then_some("--json")).env("QUEUE_THRESHOLD", "7");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let settings: serde_json::Value = serde_json::from_str(&run(true)).unwrap();
    let threshold = settings.as_array().unwrap().iter().find(|setting| setting["name"] == "QUEUE_THRESHOLD").unwrap();
    assert_eq!((&threshold["value"], &threshold["origin"]), (&"7".into(), &"environment".into()));
    assert!(run(false).contains("QUEUE_THRESHOLD"));
}
