//! Real workerd with the wasm that ships.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::{Process, root, tool};

#[derive(Debug)]
pub(crate) struct Edge {
    // Stops when dropped.
    _process: Process,
    port: u16,
}

impl Edge {
    /// Starts the edge on a free port, in front of an origin on this machine.
    pub(crate) fn start(origin_port: u16, settings: &[(&str, &str)]) -> Self {
        assert!(root().join("edge/build/index_bg.wasm").is_file(), "edge/build is missing: run script/build-edge");
        let mut command = Command::new(tool("WORKERD_BIN"));
        command.args(["serve", "edge/workerd/config.capnp", "--socket-addr=http=127.0.0.1:0", "--control-fd=1"]);
        command.arg(format!("--external-addr=origin=127.0.0.1:{origin_port}"));
        command.current_dir(root()).stdout(Stdio::piped()).stderr(Stdio::null()).envs(settings.iter().copied());
        let mut process = Process::start(&mut command);
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let line = lines.next().expect("workerd says where it listens").unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let port = u16::try_from(event["port"].as_u64().unwrap()).unwrap();
        // Its log goes on through the same pipe: a full pipe would stop it.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { _process: process, port }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}
