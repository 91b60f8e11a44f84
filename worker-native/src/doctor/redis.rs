//! The checks of Redis put together: each server that takes jobs, what is around it, each task's queue.

use std::time::Duration;

use redis::{RedisError, RedisResult};

use super::finding::Finding;
use super::judge::{self, Setting};
use super::server::{self, Facts, Timing};
use super::{tasks, topology};
use crate::config::QueueConfig;
use crate::queue::RedisQueue;
use crate::queue::link::{Address, Dialer, Server};

/// How long a connection, or a command, may take.
const LIMIT: Duration = Duration::from_secs(2);

/// What makes a Redis lose jobs, and no more; none where no server can be reached.
///
/// # Errors
/// A server refuses the user or the password: waiting mends nothing.
pub(super) async fn essentials(config: &QueueConfig) -> RedisResult<Option<Vec<Finding>>> {
    let Ok((setting, dialer)) = prepare(config, 0) else { return Ok(None) };
    let mut findings = Vec::new();
    let (mut reached, mut looked_around) = (false, setting.kind != "cluster");
    let masters = match dialer.masters(LIMIT).await {
        Ok(masters) => masters,
        Err(error) if server::is_stranger(&error) => return Err(error),
        Err(_) => return Ok(None),
    };
    for server in masters {
        let asked = match server.connection {
            Ok(mut connection) => Facts::ask(&mut connection).await.map(|facts| (connection, facts)),
            Err(error) => Err(error),
        };
        let (mut connection, facts) = match asked {
            Ok(asked) => asked,
            Err(error) if server::is_stranger(&error) => return Err(error),
            Err(_) => continue,
        };
        reached = true;
        findings.extend(judge::facts(&facts, setting).into_iter().map(|finding| finding.at(&server.name)));
        if !looked_around {
            looked_around = true;
            findings.push(topology::cluster(&mut connection).await);
        }
    }
    Ok(reached.then_some(findings))
}

/// Every check there is.
pub(super) async fn look(config: &QueueConfig, names: &[String]) -> Vec<Finding> {
    let queue_bytes = config.max_bytes.saturating_mul(u64::try_from(names.len()).unwrap_or(u64::MAX));
    let (setting, dialer) = match prepare(config, queue_bytes) {
        Ok(prepared) => prepared,
        Err(error) => return vec![away(&error)],
    };
    let mut findings = match dialer.masters(LIMIT).await {
        Ok(servers) => look_at(servers, setting).await,
        Err(error) => vec![away(&error)],
    };
    if let Some((master, sentinels)) = dialer.sentinels(LIMIT).await {
        findings.extend(topology::sentinels(master, sentinels).await);
    }
    // Where there is no way at all, that was said once.
    let (Ok(queue), Ok(mut connection)) = (RedisQueue::open(config), dialer.dial().await) else { return findings };
    for task in names {
        let looked = tokio::time::timeout(LIMIT, tasks::look(task, &queue, &mut connection, config)).await;
        findings.extend(looked.unwrap_or_else(|_| {
            vec![
                Finding::unknown("queue", "it takes too long to look at", "look again when there is less to do")
                    .at(task),
            ]
        }));
    }
    findings
}

fn prepare(config: &QueueConfig, queue_bytes: u64) -> RedisResult<(Setting, Dialer)> {
    let address = Address::parse(&config.redis_url).map_err(|fault| {
        RedisError::from((redis::ErrorKind::InvalidClientConfig, "REDIS_URL cannot be used", fault.to_string()))
    })?;
    let setting = Setting { kind: address.kind(), timeout: config.command_timeout, queue_bytes };
    Ok((setting, Dialer::new(&address, LIMIT)?))
}

/// Where the queue is: `single`, `sentinel`, `cluster`; `file` where there is no Redis.
pub(super) fn kind(config: &QueueConfig) -> &'static str {
    if config.is_shared() {
        Address::parse(&config.redis_url).map_or("single", |address| address.kind())
    } else {
        "file"
    }
}

async fn look_at(servers: Vec<Server>, setting: Setting) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut looked_around = setting.kind != "cluster";
    for server in servers {
        let looked = match server.connection {
            Ok(mut connection) => {
                if !looked_around {
                    looked_around = true;
                    findings.push(topology::cluster(&mut connection).await);
                }
                look_closely(&mut connection, setting).await
            }
            Err(error) => Err(error),
        };
        let looked = looked.unwrap_or_else(|error| vec![away(&error)]);
        findings.extend(looked.into_iter().map(|finding| finding.at(&server.name)));
    }
    findings
}

async fn look_closely(
    connection: &mut redis::aio::MultiplexedConnection,
    setting: Setting,
) -> RedisResult<Vec<Finding>> {
    let facts = Facts::ask(connection).await?;
    let mut findings = vec![Finding::ok("reachable", "it answers")];
    findings.extend(judge::facts(&facts, setting));
    findings.extend(judge::timing(&Timing::ask(connection).await?, setting));
    Ok(findings)
}

fn away(error: &RedisError) -> Finding {
    let change = "start Redis; or let REDIS_URL name its host, port, password and kind (docs/configuration.md)";
    Finding::fault("reachable", format!("it cannot be reached: {error}"), change)
}
