//! Model repositories that a test may change, and a caller that keeps its connections.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Client;
use serde_json::Value;

use super::native::Native;
use super::readings::read;
use super::redis::Redis;
use super::{root, until};

/// A repository in a folder of its own.
#[derive(Debug)]
pub(crate) struct Models(tempfile::TempDir);

impl Models {
    /// Copies of tasks of this repository.
    pub(crate) fn of(tasks: &[&str]) -> Self {
        let models = Self(tempfile::tempdir().unwrap());
        tasks.iter().for_each(|task| models.add(task));
        models
    }

    /// Adds a task of this repository, as somebody does who copies a folder.
    pub(crate) fn add(&self, task: &str) {
        let from = root().join("models").join(task);
        assert!(Command::new("cp").arg("-r").arg(from).arg(self.path()).status().unwrap().success());
    }

    /// A task `rig` of one number, whose model `looping` turns as often as the number says and gives it back: in
    /// versions 1 and 2, the same file.
    pub(crate) fn add_rig(&self, kind: &str, more: &str) {
        let dir = self.path().join("rig");
        let model = dir.join("looping");
        let file = fs::read(root().join("worker-native/tests/fixtures/looping.onnx")).unwrap();
        for version in ["1", "2"] {
            fs::create_dir_all(model.join(version)).unwrap();
            fs::write(model.join(version).join("model.onnx"), &file).unwrap();
        }
        let task = "name = \"rig\"\ntitle = \"A rig\"\ndescription = \"As long as you like.\"\n";
        let (task, output) = match kind {
            "tensor" => (format!("{task}kind = \"tensor\"\ntiers = []\n"), ""),
            kind => (
                format!(
                    "{task}kind = \"{kind}\"\ntiers = [\"fast\"]\n{TARGET}[[fields]]\nname = \"x\"\ntype = \"number\"\n"
                ),
                "[output]\nkind = \"value\"\nname = \"y\"\n",
            ),
        };
        fs::write(dir.join("task.toml"), task).unwrap();
        let tier = if output.is_empty() { "" } else { "tier = \"fast\"\n" };
        let sha256 = sha256_hex(&file);
        let text = format!(
            "name = \"looping\"\n{tier}default_version = 1\n{more}\n{output}\
             [versions.1]\nsha256 = \"{sha256}\"\n[versions.2]\nsha256 = \"{sha256}\"\n"
        );
        fs::write(model.join("model.toml"), text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn model(&self, task: &str, model: &str) -> PathBuf {
        self.path().join(task).join(model)
    }

    /// Changes a model.toml, whole or not at all, as an editor does it.
    pub(crate) fn edit(&self, task: &str, model: &str, change: impl FnOnce(String) -> String) {
        let path = self.model(task, model).join("model.toml");
        let text = change(fs::read_to_string(&path).unwrap());
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    /// Adds tables to a model.toml.
    pub(crate) fn append(&self, task: &str, model: &str, tables: &str) {
        self.edit(task, model, |text| format!("{text}\n{tables}\n"));
    }

    /// Puts a file in a version's place and says so in model.toml.
    pub(crate) fn replace_file(&self, task: &str, model: &str, version: u32, file: &Path) {
        let (to, bytes) = (self.model(task, model).join(format!("{version}/model.onnx")), fs::read(file).unwrap());
        let before = sha256_hex(&fs::read(&to).unwrap());
        fs::write(&to, &bytes).unwrap();
        self.edit(task, model, |text| text.replace(&before, &sha256_hex(&bytes)));
    }

    /// Starts the service on this repository.
    pub(crate) async fn serve(&self, redis: &Redis, settings: &[(&str, &str)]) -> Native {
        let dir = [("MODEL_DIR", self.path().to_str().unwrap())];
        let settings: Vec<_> = dir.into_iter().chain(settings.iter().copied()).collect();
        Native::start(&redis.url(), &settings).await
    }
}

const TARGET: &str = "[target]\nname = \"x\"\nunit = \"turns\"\ntolerance = 1.0\n";

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A caller of one service that keeps its connections, so that a thousand requests are no thousand handshakes.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    client: Client,
    base: String,
}

impl Caller {
    pub(crate) fn new(base: String) -> Self {
        Self { client: Client::new(), base }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        read(self.client.post(format!("{}{path}", self.base)).json(body).send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        read(self.client.get(format!("{}{path}", self.base)).send().await.unwrap()).await
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        self.client.get(format!("{}{path}", self.base)).send().await.unwrap().text().await.unwrap()
    }

    /// A model of `GET /models`.
    pub(crate) async fn model(&self, public_name: &str) -> Value {
        let (_, models) = self.get("/models").await;
        let models = models["models"].as_array().unwrap();
        models.iter().find(|model| model["public_name"] == public_name).cloned().unwrap_or_default()
    }

    /// A pool of `GET /pool/stats`.
    pub(crate) async fn pool(&self, model: &str, version: u32) -> Value {
        let (_, pools) = self.get("/pool/stats").await;
        let fits = |pool: &&Value| pool["model"] == model && pool["version"] == version;
        pools["pools"].as_array().unwrap().iter().find(fits).cloned().unwrap_or_default()
    }

    /// Waits until a pool is as wanted.
    pub(crate) async fn pool_when(&self, model: &str, version: u32, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(what, || async { Some(self.pool(model, version).await).filter(&is) }).await
    }
}
