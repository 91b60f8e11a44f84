//! A real Redis Cluster of three masters, each in a folder of its own.

use std::process::{Command, Stdio};

use super::redis::{answers, connect, free_port};
use super::{Process, tool, until};

const MASTERS: u16 = 3;
const SLOTS: u16 = 16_384;

/// The cluster; its processes end with it.
#[derive(Debug)]
pub(crate) struct RedisCluster {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    process: Process,
    port: u16,
    bus: u16,
    dir: tempfile::TempDir,
}

impl RedisCluster {
    /// Starts the masters, shares the slots out between them, and waits until all of them see all slots served.
    pub(crate) async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..MASTERS {
            nodes.push(Node::start().await);
        }
        let cluster = Self { nodes };
        for (index, node) in (0..MASTERS).zip(&cluster.nodes) {
            let of = |index: u16| u32::from(SLOTS) * u32::from(index) / u32::from(MASTERS);
            // Epochs of their own: masters that begin with the same one have to settle that first.
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]).await;
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &of(index).to_string(), &(of(index + 1) - 1).to_string()]).await;
        }
        let first = &cluster.nodes[0];
        for other in &cluster.nodes[1..] {
            first.ask(&["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string(), &other.bus.to_string()]).await;
        }
        cluster.is_whole().await;
        cluster
    }

    async fn is_whole(&self) {
        for node in &self.nodes {
            until("a cluster whose slots are all served", || async {
                let info = node.ask(&["CLUSTER", "INFO"]).await;
                let whole = ["cluster_state:ok", "cluster_known_nodes:3", "cluster_size:3"];
                whole.iter().all(|line| info.contains(line)).then_some(())
            })
            .await;
        }
    }

    /// Kills all masters without warning and starts them again on their append-only files.
    pub(crate) async fn crash_and_restart(&mut self) {
        for node in &mut self.nodes {
            node.process.kill();
        }
        for node in &mut self.nodes {
            node.process = spawn(node.port, node.bus, node.dir.path());
            assert!(answers(&mut node.process, node.port).await, "redis-server does not start again");
        }
        self.is_whole().await;
    }

    /// `REDIS_URL` with all masters.
    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Kills one master without warning, and waits until the others have noticed.
    pub(crate) async fn stop_one(&mut self) {
        self.nodes[2].process.kill();
        until("a cluster that misses a master", || async {
            self.nodes[0].ask(&["CLUSTER", "INFO"]).await.contains("cluster_state:fail").then_some(())
        })
        .await;
    }

    /// How many keys each master holds.
    pub(crate) async fn sizes(&self) -> Vec<u64> {
        let mut sizes = Vec::new();
        for node in &self.nodes {
            sizes.push(node.ask(&["DBSIZE"]).await.parse().unwrap());
        }
        sizes
    }

    /// `CONFIG SET` on the master that has a key's slot.
    pub(crate) async fn configure_master_of(&self, key: &str, name: &str, value: &str) {
        let slot = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]).await;
        for node in &self.nodes {
            if node.owns(&slot).await {
                node.ask(&["CONFIG", "SET", name, value]).await;
            }
        }
    }

    /// Moves the slot of a key from its master to the next one, key by key, as `redis-cli --cluster reshard` does.
    pub(crate) async fn move_slot_of(&self, key: &str) {
        let slot = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]).await;
        let mut from = 0;
        while !self.nodes[from].owns(&slot).await {
            from += 1;
        }
        let (source, target) = (&self.nodes[from], &self.nodes[(from + 1) % self.nodes.len()]);
        let (source_id, target_id) = (source.ask(&["CLUSTER", "MYID"]).await, target.ask(&["CLUSTER", "MYID"]).await);
        target.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await;
        source.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await;
        loop {
            let keys: Vec<String> = source.query(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).await;
            if keys.is_empty() {
                break;
            }
            for key in keys {
                let port = target.port.to_string();
                source.ask(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]).await;
            }
        }
        for node in [target, source] {
            node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await;
        }
    }
}

impl Node {
    async fn start() -> Self {
        // Between finding free ports and Redis taking them, another test may: then the next ones.
        for _ in 0..10 {
            let (port, bus) = (free_port(), free_port());
            let dir = tempfile::tempdir().unwrap();
            let mut node = Self { process: spawn(port, bus, dir.path()), port, bus, dir };
            if answers(&mut node.process, port).await {
                return node;
            }
        }
        panic!("redis-server does not start as a cluster's node")
    }

    async fn owns(&self, slot: &str) -> bool {
        let nodes = self.ask(&["CLUSTER", "NODES"]).await;
        let slot: u16 = slot.parse().unwrap();
        let own = nodes.lines().find(|line| line.contains("myself")).unwrap_or_default();
        own.split_whitespace().skip(8).any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
        })
    }

    async fn ask(&self, command: &[&str]) -> String {
        self.query(command).await
    }

    async fn query<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = connect(self.port).await;
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query_async(&mut connection).await.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }
}

fn spawn(port: u16, bus: u16, dir: &std::path::Path) -> Process {
    let mut command = Command::new(tool("REDIS_SERVER_BIN"));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--appendonly", "yes"]);
    command.args(["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()]);
    command.args(["--cluster-node-timeout", "2000", "--appendfsync", "always"]);
    Process::start(command.arg("--dir").arg(dir).stdout(Stdio::null()))
}
