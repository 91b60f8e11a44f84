//! The servers behind an address, one by one: for whoever looks at each of them.
//!
//! Owns finding them; what to think of them is `doctor`'s. No job goes this way.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisError, RedisResult};

use super::dial::{Dialer, Way};

/// One server.
#[derive(Debug)]
pub(crate) struct Server {
    /// Host and port, or the path of its socket.
    pub(crate) name: String,
    /// The way to it, or why there is none.
    pub(crate) connection: RedisResult<MultiplexedConnection>,
}

impl Dialer {
    /// The servers that take jobs: the only one, the master that sentinels name, or the masters of a cluster.
    /// `limit` bounds each connection and each command on it.
    ///
    /// # Errors
    /// Nobody says which they are.
    pub(crate) async fn masters(&self, limit: Duration) -> RedisResult<Vec<Server>> {
        match &self.way {
            Way::One(client) => Ok(vec![Server::connect(client, limit).await]),
            Way::Sentinel { finder, .. } => {
                let client = finder.lock().await.async_get_client().await?;
                Ok(vec![Server::connect(&client, limit).await])
            }
            Way::Cluster { seeds, .. } => cluster_masters(seeds, limit).await,
        }
    }

    /// The sentinels, and the name of the master they watch; none where there are no sentinels.
    pub(crate) async fn sentinels(&self, limit: Duration) -> Option<(&str, Vec<Server>)> {
        let Way::Sentinel { sentinels, master, .. } = &self.way else { return None };
        let mut servers = Vec::with_capacity(sentinels.len());
        for sentinel in sentinels {
            servers.push(Server::connect(sentinel, limit).await);
        }
        Some((master, servers))
    }
}

impl Server {
    async fn connect(client: &Client, limit: Duration) -> Self {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
        Self {
            name: client.get_connection_info().addr().to_string(),
            connection: client.get_multiplexed_async_connection_with_config(&config).await,
        }
    }
}

async fn cluster_masters(seeds: &[Client], limit: Duration) -> RedisResult<Vec<Server>> {
    let mut last = RedisError::from((ErrorKind::InvalidClientConfig, "the cluster has no servers"));
    for seed in seeds {
        let found = match Server::connect(seed, limit).await.connection {
            Ok(mut connection) => redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await,
            Err(error) => Err(error),
        };
        match found.and_then(|value| masters_of(&value)) {
            Ok(found) => {
                let mut masters = Vec::with_capacity(found.len());
                for (host, port) in found {
                    masters.push(Server::connect(&at(seed, host, port)?, limit).await);
                }
                return Ok(masters);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The masters that `CLUSTER SLOTS` names, each once.
fn masters_of(value: &redis::Value) -> RedisResult<Vec<(Option<String>, u16)>> {
    let ranges: Vec<Vec<redis::Value>> = redis::from_redis_value_ref(value)?;
    let mut masters: Vec<(Option<String>, u16)> = Vec::new();
    for range in &ranges {
        let [_first, _last, master, ..] = range.as_slice() else { continue };
        let redis::Value::Array(facts) = master else { continue };
        let [host, port, ..] = facts.as_slice() else { continue };
        // A server that does not know its own name is where it was asked.
        let host: Option<String> = redis::from_redis_value_ref(host)?;
        let master = (host.filter(|host| !matches!(host.as_str(), "" | "?")), redis::from_redis_value_ref(port)?);
        if !masters.contains(&master) {
            masters.push(master);
        }
    }
    Ok(masters)
}

/// A server beside another: the same password, the same certificates.
fn at(seed: &Client, host: Option<String>, port: u16) -> RedisResult<Client> {
    let info = seed.get_connection_info().clone();
    let addr = match info.addr().clone() {
        ConnectionAddr::Tcp(own, _) => ConnectionAddr::Tcp(host.unwrap_or(own), port),
        ConnectionAddr::TcpTls { host: own, insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: host.unwrap_or(own), port, insecure, tls_params }
        }
        other => other,
    };
    Client::open(info.set_addr(addr))
}
