//! `POST /predict` over HTTP: beside a bare axum handler, and beside other people's servers.
//!
//! All are given the same rows by the same generator over 32 connections on this machine, the same
//! model file, and no log of single requests, which the rivals do not write either; what the
//! service's own log costs is shown apart.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::EngineArgs;
use super::peers::{self, Peer};
use super::process::{Server, ask, free_port};
use super::report::Section;
use super::rows::{COUNT, Rows};
use super::service::{Persistence, Redis, Service};
use super::spread::{Spread, number};
use super::wrk::{Requests, Seen, post};

const TASK: &str = "pump-anomaly";
const MODEL: &str = "autoencoder";
const CONNECTIONS: usize = 32;
const JSON: &str = "Content-Type: application/json\r\n";
/// Rows for the cache: so few that all are kept.
const KEPT: usize = 1_000;
// Without the cache: rows that come round again would be answered from it.
const QUIET: [(&str, &str); 3] =
    [("ROUTING_POLICY", "always-accurate"), ("LOG_LEVEL", "warn"), ("CACHE_BACKEND", "off")];
const TALKING: [(&str, &str); 3] =
    [("ROUTING_POLICY", "always-accurate"), ("LOG_LEVEL", "info"), ("CACHE_BACKEND", "off")];
const CACHING: [(&str, &str); 3] =
    [("ROUTING_POLICY", "always-accurate"), ("LOG_LEVEL", "warn"), ("CACHE_BACKEND", "memory")];

/// Something to load, and what was seen of it.
struct Door {
    name: String,
    port: u16,
    requests: Requests,
    seen: Vec<Seen>,
}

impl Door {
    fn new(name: &str, port: u16, rows: &Rows, count: usize) -> anyhow::Result<Self> {
        let request = |index| post(port, "/predict", JSON, peers::reading(rows, index).as_bytes());
        let requests = Requests::write((0..count).map(request))?;
        Ok(Self { name: name.to_owned(), port, requests, seen: vec![] })
    }

    fn load(&mut self, seconds: u64) -> anyhow::Result<()> {
        self.seen.push(self.requests.load(self.port, CONNECTIONS, seconds)?);
        Ok(())
    }

    fn warm(&self, args: &EngineArgs) -> anyhow::Result<()> {
        self.requests.load(self.port, CONNECTIONS, args.setup.or_quick(2, 1)).map(drop)
    }

    fn column(&self, of: impl Fn(&Seen) -> f64) -> Spread {
        let mut spread = Spread::default();
        self.seen.iter().for_each(|seen| spread.push(of(seen)));
        spread
    }

    fn rate(&self) -> Spread {
        self.column(Seen::per_second)
    }

    fn p99(&self) -> Spread {
        self.column(|seen| seen.p99_us / 1e3)
    }

    fn faults(&self) -> u64 {
        self.seen.iter().map(|seen| seen.not_ok + seen.broken).sum()
    }

    fn row(&self, others: &[String]) -> Vec<String> {
        let p50 = self.column(|seen| seen.p50_us / 1e3);
        let mut row = vec![self.name.clone(), self.rate().show(0), p50.show(2), self.p99().show(2)];
        row.extend_from_slice(others);
        row
    }
}

pub(crate) fn measure(args: &EngineArgs) -> anyhow::Result<Section> {
    let mut section = Section::new("POST /predict over HTTP");
    let rows = Rows::like_samples(&args.setup.models.join(TASK), 3)?;
    let redis = Redis::start(&args.setup.redis, Persistence::Off)?;
    let service = Service::start(&args.setup, &redis, &args.setup.models, &QUIET, Stdio::null())?;
    let mut ours = Door::new("POST /predict", service.port, &rows, COUNT)?;
    let answer = ask(service.port, &ours.requests.first)?;
    anyhow::ensure!(answer.contains(MODEL), "the service does not answer by {MODEL}: {answer}");
    own_doors(args, &redis, &service, &mut ours, &rows, &mut section)?;
    let (Some(folder), Some(home)) = (&args.peers, &args.peers_home) else {
        section.note("No rival was measured: their folder is not there (script/bench --help says where it is sought).");
        return Ok(section);
    };
    let model = args.setup.models.join(TASK).join(MODEL).join("1/model.onnx");
    let mut table = Vec::new();
    for peer in peers::ALL.iter().filter(|peer| args.peer.is_empty() || args.peer.iter().any(|name| name == peer.name))
    {
        match against(args, *peer, &mut ours, (folder, home, &model), &rows, &mut section) {
            Ok(row) => table.push(row),
            Err(error) => section.note(format!("{} was not measured: {error:#}.", peer.title)),
        }
    }
    let turns = format!("{} turns of {} s", args.setup.or_quick(5, 2), seconds(args));
    section.table(
        format!("{CONNECTIONS} connections, rival and service in turn, {turns}; the service's own figures are of those turns:"),
        &["rival", "requests/s", "p50 ms", "p99 ms", "service requests/s", "service p99 ms", "times", "ready after s", "memory MiB"],
        table,
    );
    Ok(section)
}

const fn seconds(args: &EngineArgs) -> u64 {
    args.setup.or_quick(5, 1)
}

/// The service's doors and the bare handler, in turn.
fn own_doors(
    args: &EngineArgs,
    redis: &Redis,
    service: &Service,
    ours: &mut Door,
    rows: &Rows,
    section: &mut Section,
) -> anyhow::Result<()> {
    let log = tempfile::NamedTempFile::new()?;
    let talking = Service::start(&args.setup, redis, &args.setup.models, &TALKING, log.reopen()?.into())?;
    let caching = Service::start(&args.setup, redis, &args.setup.models, &CACHING, Stdio::null())?;
    let port = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    let mut bare = Server::start("the bare handler", command.args(["bench", "floor", "--port", &port.to_string()]))?;
    let mut doors = vec![
        Door::new("bare axum handler, same JSON", port, rows, COUNT)?,
        Door::new("POST /predict, a log line each", talking.port, rows, COUNT)?,
        Door::new(&format!("POST /predict, {KEPT} readings from the cache"), caching.port, rows, KEPT)?,
    ];
    bare.answers(port, &doors[0].requests.first, Instant::now(), Duration::from_secs(10))?;
    match tensor_door(service, rows) {
        Ok(door) => doors.push(door),
        Err(error) => section.note(format!("The Open Inference Protocol was not measured: {error:#}.")),
    }
    for door in doors.iter().chain([&*ours]) {
        door.warm(args)?;
    }
    for _ in 0..args.setup.or_quick(5, 2) {
        doors[0].load(seconds(args))?;
        ours.load(seconds(args))?;
        doors[1..].iter_mut().try_for_each(|door| door.load(seconds(args)))?;
    }
    let floor = doors[0].rate();
    let mut table = Vec::new();
    for door in std::iter::once(&doors[0]).chain([&*ours]).chain(&doors[1..]) {
        table.push(door.row(&[door.rate().over(&floor).show(2)]));
        section.keep(&door.name, &door.seen);
        if door.faults() > 0 {
            section.note(format!("{}: {} requests were not answered well.", door.name, door.faults()));
        }
    }
    let caption = format!(
        "{CONNECTIONS} connections, {TASK}.{MODEL}, {} turns of {} s:",
        args.setup.or_quick(5, 2),
        seconds(args)
    );
    section.table(caption, &["", "requests/s", "p50 ms", "p99 ms", "of the bare handler"], table);
    ours.seen.clear();
    Ok(())
}

/// The same rows by the Open Inference Protocol, in binary.
fn tensor_door(service: &Service, rows: &Rows) -> anyhow::Result<Door> {
    let path = format!("/v2/models/{TASK}.{MODEL}");
    let asked = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let answer = ask(service.port, asked.as_bytes())?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let model: Value = serde_json::from_str(body).context("this service does not speak it")?;
    let input = model["inputs"][0]["name"].as_str().context("this service does not speak it")?;
    let request = |index| {
        let head = json!({
            "inputs": [{
                "name": input, "shape": [1, rows.width], "datatype": "FP32",
                "parameters": { "binary_data_size": rows.width * 4 },
            }],
            "outputs": [{ "name": "score", "parameters": { "binary_data": true } }],
        })
        .to_string();
        let mut body = head.clone().into_bytes();
        body.extend(rows.row(index).iter().flat_map(|value| value.to_le_bytes()));
        let headers =
            format!("Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {}\r\n", head.len());
        post(service.port, &format!("{path}/infer"), &headers, &body)
    };
    let requests = Requests::write((0..COUNT).map(request))?;
    anyhow::ensure!(service.takes(&requests.first), "it refuses {}", String::from_utf8_lossy(&requests.first));
    Ok(Door { name: "POST /v2/models/…/infer, binary".to_owned(), port: service.port, requests, seen: vec![] })
}

/// One rival and the service in turn; gives the rival's row of the table.
fn against(
    args: &EngineArgs,
    peer: Peer,
    ours: &mut Door,
    (folder, home, model): (&Path, &Path, &Path),
    rows: &Rows,
    section: &mut Section,
) -> anyhow::Result<Vec<String>> {
    let up = peer.start(folder, home, model, rows)?;
    let mut theirs = Door { name: peer.title.to_owned(), port: up.port, requests: up.requests, seen: vec![] };
    theirs.warm(args)?;
    ours.seen.clear();
    for _ in 0..args.setup.or_quick(5, 2) {
        theirs.load(seconds(args))?;
        ours.load(seconds(args))?;
    }
    let (times, later) = (ours.rate().over(&theirs.rate()), theirs.p99().over(&ours.p99()));
    let memory = up.server.memory() >> 10;
    for door in [&theirs, &*ours] {
        if door.faults() > 0 {
            section.note(format!("{}: {} requests were not answered well.", door.name, door.faults()));
        }
    }
    section.goal(
        format!("at least {} times {} at {CONNECTIONS} connections", peer.promised, peer.title),
        format!("{} times", times.show(1)),
        times.median() >= peer.promised,
    );
    section.goal(
        format!("lower p99 than {}", peer.title),
        format!("{} and {} ms", number(ours.p99().median(), 2), number(theirs.p99().median(), 2)),
        later.median() > 1.0,
    );
    section.keep(
        peer.name,
        json!({
            "peer": theirs.seen, "service": ours.seen, "times": times,
            "ready_after_s": up.ready_after.as_secs_f64(), "memory_mib": memory,
        }),
    );
    let ready = number(up.ready_after.as_secs_f64(), 1);
    Ok(theirs.row(&[ours.rate().show(0), ours.p99().show(2), times.show(1), ready, memory.to_string()]))
}
