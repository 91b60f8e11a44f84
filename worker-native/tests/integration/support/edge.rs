//! Real workerd with the wasm that ships.

use std::io::{BufRead, BufReader};
use std::path::Path;
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
        Self::start_config("edge/workerd/config.capnp".as_ref(), origin_port, settings)
    }

    /// The same with the build that has a route that panics.
    pub(crate) fn start_panicking(origin_port: u16) -> Self {
        let build = root().join("edge/build-panic");
        assert!(
            build.join("index_bg.wasm").is_file(),
            "edge/build-panic is missing: run script/build-edge --test-panic"
        );
        let config = std::fs::read_to_string(root().join("edge/workerd/config.capnp")).unwrap();
        // The runtime embeds only what lies beside the configuration or by a path from there.
        let path = build.join("config.capnp");
        std::fs::write(&path, config.replace("../build/", "../build-panic/")).unwrap();
        Self::start_config(&path, origin_port, &[])
    }

    fn start_config(config: &Path, origin_port: u16, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(tool("WORKERD_BIN"));
        command.arg("serve").arg(config).args(["--socket-addr=http=127.0.0.1:0", "--control-fd=1"]);
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
