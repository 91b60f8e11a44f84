//! The Open Inference Protocol, with Triton's own Python client and with bare sockets.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::native::Native;
use crate::support::redis::Redis;
use crate::support::{root, tool};

/// A repository of one `tensor` task with Triton's two example models.
pub(crate) fn repository() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let task = dir.path().join("examples");
    std::fs::create_dir(&task).unwrap();
    let text =
        "name = \"examples\"\ntitle = \"Examples\"\ndescription = \"Triton's.\"\nkind = \"tensor\"\ntiers = []\n";
    std::fs::write(task.join("task.toml"), text).unwrap();
    for model in ["simple", "simple_string"] {
        add_model(&task.join(model), model);
    }
    dir
}

fn add_model(dir: &Path, name: &str) {
    use sha2::Digest;
    let file = std::fs::read(root().join(format!("worker-native/tests/fixtures/{name}.onnx"))).unwrap();
    let sha256: String = sha2::Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::create_dir_all(dir.join("1")).unwrap();
    std::fs::write(dir.join("1/model.onnx"), file).unwrap();
    let text = format!("name = \"{name}\"\ndefault_version = 1\nmax_batch = 8\n[versions.1]\nsha256 = \"{sha256}\"\n");
    std::fs::write(dir.join("model.toml"), text).unwrap();
}

async fn start(settings: &[(&str, &str)]) -> (Redis, tempfile::TempDir, Native) {
    let (redis, models) = (Redis::start().await, repository());
    let dir = models.path().to_str().unwrap().to_owned();
    let settings: Vec<_> = [("MODEL_DIR", dir.as_str())].into_iter().chain(settings.iter().copied()).collect();
    let native = Native::start(&redis.url(), &settings).await;
    (redis, models, native)
}

fn python(native: &Native, arguments: &[&str]) {
    let script = root().join("worker-native/tests/python/triton_client.py");
    let mut command = Command::new(tool("TRITON_PYTHON"));
    command.arg(script).arg(format!("127.0.0.1:{}", native.port)).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; script/bootstrap tritonclient"));
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{error}");
    assert_eq!(out.lines().filter(|line| line.starts_with("PASS ")).count(), 8, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_works_as_it_does_with_triton() {
    let (_redis, _models, native) = start(&[("OIP_MODEL_CONTROL", "on"), ("OIP_SERVER_NAME", "triton")]).await;
    let names = ["--simple", "simple", "--string", "simple_string", "--server-name", "triton", "--control"];
    tokio::task::block_in_place(|| python(&native, &names));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_have_their_tasks_name_too_and_nobody_unloads_them_uninvited() {
    let (_redis, _models, native) = start(&[]).await;
    let names = ["--simple", "examples.simple", "--string", "examples.simple_string"];
    tokio::task::block_in_place(|| python(&native, &names));
}

/// Sends bytes as they are; gives status and body.
async fn raw(native: &Native, head: &str, chunks: &[&[u8]]) -> (u16, Value) {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", native.port)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    for chunk in chunks {
        stream.write_all(chunk).await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("cache-control: no-transform"), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_come_without_a_length_in_crumbs_or_not_at_all() {
    let (_redis, _models, native) = start(&[("OIP_MAX_BODY_BYTES", "4096"), ("OIP_BODIES_BYTES", "65536")]).await;
    // An old client names no length for its empty body.
    let head = "POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (status, index) = raw(&native, head, &[]).await;
    assert_eq!((status, index.as_array().map(Vec::len)), (200, Some(2)), "{index}");

    let input = |name: &str| json!({"name": name, "shape": [1, 16], "datatype": "INT32", "data": vec![3; 16]});
    let body = json!({"inputs": [input("INPUT0"), input("INPUT1")]}).to_string();
    let head =
        "POST /v2/models/simple/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut crumbs: Vec<u8> = body.bytes().flat_map(|byte| [b'1', b'\r', b'\n', byte, b'\r', b'\n']).collect();
    crumbs.extend(b"0\r\n\r\n");
    let (status, answer) = raw(&native, head, &[&crumbs]).await;
    assert_eq!((status, &answer["outputs"][0]["data"]), (200, &json!(vec![6; 16])), "{answer}");

    let head = "POST /v2/models/simple/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n";
    let (status, problem) = raw(&native, head, &[]).await;
    assert_eq!(status, 413);
    assert!(problem["error"].as_str().unwrap().contains("OIP_MAX_BODY_BYTES"), "{problem}");
}
