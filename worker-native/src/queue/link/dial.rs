//! Making connections: to one server, to the master that sentinels name now, or to a cluster.
//!
//! Owns the client library's types; when to connect again is `super::Link`'s.

use std::fs;
use std::path::Path;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline,
    RedisError, RedisFuture, RedisResult, TlsCertificates, TlsMode, Value,
};
use tokio::sync::Mutex;

use super::address::{Address, Sentinels, Servers, TlsFiles};

/// How long one server may take to accept a connection and answer on it.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// How long all of it may take, names and sentinels asked included.
const DIAL_LIMIT: Duration = Duration::from_secs(5);

/// Knows how to connect; keeps its connections to the sentinels.
pub(crate) struct Dialer {
    pub(super) way: Way,
    config: AsyncConnectionConfig,
}

pub(super) enum Way {
    One(Box<Client>),
    Sentinel { finder: Box<Mutex<SentinelClient>>, sentinels: Vec<Client>, master: String },
    Cluster { client: Box<ClusterClient>, seeds: Vec<Client> },
}

/// A connection; a clone shares it.
#[derive(Clone)]
pub(crate) enum Raw {
    /// To one server.
    One(MultiplexedConnection),
    /// To all servers of a cluster.
    Cluster(ClusterConnection),
}

impl Dialer {
    /// Prepares; reads the files that the address names. `patience` is how long one node of a cluster may take to
    /// answer; everywhere else that is the caller's to bound.
    ///
    /// # Errors
    /// Files that cannot be read, addresses the client library refuses.
    pub(crate) fn new(address: &Address, patience: Duration) -> RedisResult<Self> {
        let certificates = certificates(&address.tls)?;
        let way = match &address.servers {
            Servers::One(info) => Way::One(Box::new(client(info, certificates.as_ref())?)),
            Servers::Sentinel(found) => Way::Sentinel {
                sentinels: clients(&found.sentinels, certificates.as_ref())?,
                master: found.master.clone(),
                finder: Box::new(Mutex::new(sentinel_client(found, certificates)?)),
            },
            Servers::Cluster(nodes) => Way::Cluster {
                seeds: clients(nodes, certificates.as_ref())?,
                client: Box::new(cluster_client(nodes, certificates, patience)?),
            },
        };
        // No limit for answers: whoever asks has one, and knows what it means when it is reached.
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_LIMIT)).set_response_timeout(None);
        Ok(Self { way, config })
    }

    /// A new connection; with sentinels to the master as they see it now.
    ///
    /// # Errors
    /// Whatever keeps it from being made, within five seconds.
    pub(crate) async fn dial(&self) -> RedisResult<Raw> {
        let dialed = tokio::time::timeout(DIAL_LIMIT, async {
            match &self.way {
                Way::One(client) => self.connect(client).await,
                Way::Sentinel { finder, .. } => {
                    let client = finder.lock().await.async_get_client().await?;
                    self.connect(&client).await
                }
                Way::Cluster { client, .. } => client.get_async_connection().await.map(Raw::Cluster),
            }
        });
        dialed.await.unwrap_or_else(|_| Err(timed_out("no connection", DIAL_LIMIT)))
    }

    async fn connect(&self, client: &Client) -> RedisResult<Raw> {
        client.get_multiplexed_async_connection_with_config(&self.config).await.map(Raw::One)
    }

    /// Is it a cluster, whose connection looks after its servers by itself?
    pub(super) const fn is_cluster(&self) -> bool {
        matches!(self.way, Way::Cluster { .. })
    }
}

/// The error of something that took too long.
pub(super) fn timed_out(what: &str, limit: Duration) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{what} within {} ms", limit.as_millis())).into()
}

fn client(info: &ConnectionInfo, certificates: Option<&TlsCertificates>) -> RedisResult<Client> {
    match certificates {
        Some(certificates) => Client::build_with_tls(info.clone(), certificates.clone()),
        None => Client::open(info.clone()),
    }
}

fn clients(infos: &[ConnectionInfo], certificates: Option<&TlsCertificates>) -> RedisResult<Vec<Client>> {
    infos.iter().map(|info| client(info, certificates)).collect()
}

fn sentinel_client(found: &Sentinels, certificates: Option<TlsCertificates>) -> RedisResult<SentinelClient> {
    let addresses = found.sentinels.iter().map(|sentinel| sentinel.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, &found.master, SentinelServerType::Master)?;
    let node = found.node.redis_settings();
    builder =
        builder.set_client_to_redis_db(node.db()).set_client_to_redis_tcp_settings(found.node.tcp_settings().clone());
    if let Some(name) = node.username() {
        builder = builder.set_client_to_redis_username(name);
    }
    if let Some(password) = node.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(sentinel) = found.sentinels.first().map(ConnectionInfo::redis_settings) {
        if let Some(name) = sentinel.username() {
            builder = builder.set_client_to_sentinel_username(name);
        }
        if let Some(password) = sentinel.password() {
            builder = builder.set_client_to_sentinel_password(password);
        }
    }
    if matches!(found.node.addr(), ConnectionAddr::TcpTls { .. }) {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
    }
    builder.build()
}

fn cluster_client(
    nodes: &[ConnectionInfo],
    certificates: Option<TlsCertificates>,
    patience: Duration,
) -> RedisResult<ClusterClient> {
    let mut builder = ClusterClientBuilder::new(nodes.iter().cloned())
        .connection_timeout(CONNECT_LIMIT)
        .response_timeout(patience)
        .overall_response_timeout(None)
        // Few and quick: callers answer 503, and consumers have a backoff of their own.
        .retries(4)
        .min_retry_wait(10)
        .max_retry_wait(200);
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    builder.build()
}

fn certificates(files: &TlsFiles) -> RedisResult<Option<TlsCertificates>> {
    let read = |path: &Path| {
        fs::read(path).map_err(|error| {
            let said = format!("{}: {error}", path.display());
            RedisError::from((ErrorKind::InvalidClientConfig, "a file that REDIS_URL names cannot be read", said))
        })
    };
    if files.roots.is_none() && files.identity.is_none() {
        return Ok(None);
    }
    let root_cert = files.roots.as_deref().map(read).transpose()?;
    let client_tls = match &files.identity {
        Some((certificate, key)) => Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? }),
        None => None,
    };
    Ok(Some(TlsCertificates { client_tls, root_cert }))
}

impl ConnectionLike for Raw {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(cmd),
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}
