//! What `REDIS_URL` may say: one server, the master that sentinels name, or a cluster.
//!
//! Owns the forms and what is wrong with a URL; it connects to nothing. No fault repeats the URL, which may hold a
//! password.

use std::path::PathBuf;

use redis::{ConnectionInfo, IntoConnectionInfo};

/// The forms, for a person who has to write one.
pub(crate) const FORMS: &str = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB (TLS), unix:///PATH, \
     redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB or redis+cluster://HOST:PORT,HOST:PORT \
     (with rediss+ for TLS); USER:PASSWORD@ goes before the first host";

const REDIS_PORT: u16 = 6_379;
const SENTINEL_PORT: u16 = 26_379;

/// Where Redis is.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// Which kind of Redis, and its servers.
    pub(super) servers: Servers,
    /// Files for TLS beyond the built-in roots.
    pub(super) tls: TlsFiles,
}

#[derive(Debug, Clone)]
pub(super) enum Servers {
    One(Box<ConnectionInfo>),
    Sentinel(Box<Sentinels>),
    Cluster(Vec<ConnectionInfo>),
}

#[derive(Debug, Clone)]
pub(super) struct Sentinels {
    /// The sentinels themselves.
    pub(super) sentinels: Vec<ConnectionInfo>,
    /// Name of the master they watch.
    pub(super) master: String,
    /// How to sign in at the master; its host is not used.
    pub(super) node: ConnectionInfo,
}

/// Names as in redis-py's URLs.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsFiles {
    /// `ssl_ca_certs`: trusted instead of the built-in roots.
    pub(super) roots: Option<PathBuf>,
    /// `ssl_certfile` and `ssl_keyfile`: our own certificate and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// Why a URL cannot be used, without the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("REDIS_URL {0}; it must be {FORMS}")]
pub(crate) struct UrlFault(String);

fn fault(text: impl Into<String>) -> UrlFault {
    UrlFault(text.into())
}

impl Address {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`UrlFault`] with the forms there are.
    pub(crate) fn parse(url: &str) -> Result<Self, UrlFault> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| fault("has no scheme"))?;
        let tls = scheme.starts_with("rediss") || scheme == "valkeys";
        if rest.contains('#') {
            return Err(fault("has a `#`, which means nothing here (in a password write %23)"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        match scheme {
            "redis" | "rediss" | "valkey" | "valkeys" => {
                let files = Query::read(query, tls, &["protocol"])?.tls;
                Ok(Self { servers: Servers::One(Box::new(info(url)?)), tls: files })
            }
            "unix" | "redis+unix" | "valkey+unix" => {
                Ok(Self { servers: Servers::One(Box::new(info(url)?)), tls: TlsFiles::default() })
            }
            "redis+sentinel" | "rediss+sentinel" => Self::sentinel(tls, place, query),
            "redis+cluster" | "rediss+cluster" => Self::cluster(tls, place, query),
            _ => Err(fault("has an unknown scheme")),
        }
    }

    fn sentinel(tls: bool, place: &str, query: &str) -> Result<Self, UrlFault> {
        let query = Query::read(query, tls, &["sentinel_username", "sentinel_password"])?;
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let (user, hosts) = user_and_hosts(authority);
        let (master, db) = path.split_once('/').unwrap_or((path, ""));
        if master.is_empty() {
            return Err(fault("names no master after the sentinels"));
        }
        let mut sentinels = Vec::new();
        for host in hosts {
            let mut sentinel = node(tls, "", host, SENTINEL_PORT, "")?;
            let mut settings = sentinel.redis_settings().clone();
            if let Some(name) = &query.sentinel_username {
                settings = settings.set_username(name);
            }
            if let Some(password) = &query.sentinel_password {
                settings = settings.set_password(password);
            }
            sentinel = sentinel.set_redis_settings(settings);
            sentinels.push(sentinel);
        }
        let node = node(tls, user, "master", REDIS_PORT, db)?;
        let master = master.to_owned();
        Ok(Self { servers: Servers::Sentinel(Box::new(Sentinels { sentinels, master, node })), tls: query.tls })
    }

    fn cluster(tls: bool, place: &str, query: &str) -> Result<Self, UrlFault> {
        let query = Query::read(query, tls, &[])?;
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        if !matches!(path, "" | "0") {
            return Err(fault("names a database, and a cluster has only number 0"));
        }
        let (user, hosts) = user_and_hosts(authority);
        let nodes = hosts.map(|host| node(tls, user, host, REDIS_PORT, "")).collect::<Result<_, _>>()?;
        Ok(Self { servers: Servers::Cluster(nodes), tls: query.tls })
    }

    /// The kind: `single`, `sentinel` or `cluster`.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.servers {
            Servers::One(_) => "single",
            Servers::Sentinel(_) => "sentinel",
            Servers::Cluster(_) => "cluster",
        }
    }
}

fn user_and_hosts(authority: &str) -> (&str, std::str::Split<'_, char>) {
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    (user, hosts.split(','))
}

fn node(tls: bool, user: &str, host: &str, port: u16, db: &str) -> Result<ConnectionInfo, UrlFault> {
    if host.is_empty() {
        return Err(fault("has an empty host"));
    }
    let scheme = if tls { "rediss" } else { "redis" };
    let at = if user.is_empty() { "" } else { "@" };
    // An IPv6 address has colons of its own, in brackets.
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    let port = if after.contains(':') { String::new() } else { format!(":{port}") };
    info(&format!("{scheme}://{user}{at}{host}{port}/{db}"))
}

/// One server, as the client library reads its URL: escapes, IPv6, database.
fn info(url: &str) -> Result<ConnectionInfo, UrlFault> {
    url.into_connection_info().map_err(|error| {
        // The library's own words have no part of the URL in them; its details may.
        fault(format!("cannot be read ({})", error.category()))
    })
}

#[derive(Default)]
struct Query {
    tls: TlsFiles,
    sentinel_username: Option<String>,
    sentinel_password: Option<String>,
}

impl Query {
    fn read(text: &str, tls: bool, allowed: &[&str]) -> Result<Self, UrlFault> {
        let mut query = Self::default();
        let (mut certificate, mut key) = (None, None);
        // Read as part of a URL, for its escapes.
        let Some(url) = redis::parse_redis_url(&format!("redis://host/?{text}")) else {
            return Err(fault("has a query that cannot be read"));
        };
        for (name, value) in url.query_pairs() {
            let value = value.into_owned();
            match &*name {
                "ssl_ca_certs" if tls => query.tls.roots = Some(value.into()),
                "ssl_certfile" if tls => certificate = Some(value.into()),
                "ssl_keyfile" if tls => key = Some(value.into()),
                "ssl_ca_certs" | "ssl_certfile" | "ssl_keyfile" => {
                    return Err(fault(format!("sets {name} without TLS (rediss)")));
                }
                "sentinel_username" if allowed.contains(&&*name) => query.sentinel_username = Some(value),
                "sentinel_password" if allowed.contains(&&*name) => query.sentinel_password = Some(value),
                other if allowed.contains(&other) => {}
                _ => {
                    let tls_names = if tls { "ssl_ca_certs, ssl_certfile, ssl_keyfile" } else { "" };
                    let known = [&allowed.join(", "), tls_names].iter().filter(|names| !names.is_empty()).fold(
                        String::new(),
                        |all, names| {
                            if all.is_empty() { (*names).to_string() } else { format!("{all}, {names}") }
                        },
                    );
                    let known = if known.is_empty() { "nothing".to_owned() } else { known };
                    return Err(fault(format!("has an unknown name after `?` (known here: {known})")));
                }
            }
        }
        query.tls.identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(fault("needs both ssl_certfile and ssl_keyfile")),
        };
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Address {
        Address::parse(url).unwrap_or_else(|fault| panic!("{url}: {fault}"))
    }

    fn hosts(nodes: &[ConnectionInfo]) -> Vec<String> {
        nodes.iter().map(|node| node.addr().to_string()).collect()
    }

    #[test]
    fn one_server_is_read_as_everywhere() {
        for url in
            ["redis://127.0.0.1", "rediss://u:p%40ss@redis.example:6380/2", "valkey://h", "unix:///run/redis.sock"]
        {
            assert_eq!(parse(url).kind(), "single", "{url}");
        }
        let address = parse("rediss://u:p%40ss@redis.example:6380/2?ssl_ca_certs=/etc/ca%20file.pem");
        let Servers::One(info) = &address.servers else { panic!("{address:?}") };
        assert_eq!(info.addr().to_string(), "redis.example:6380");
        assert_eq!((info.redis_settings().password(), info.redis_settings().db()), (Some("p@ss"), 2));
        assert_eq!(address.tls.roots, Some("/etc/ca file.pem".into()));
    }

    #[test]
    fn sentinels_and_the_master_have_passwords_of_their_own() {
        let url = "redis+sentinel://:p%2Cq@a:1,b,[::1]:3/main/4?sentinel_password=s%26t";
        let Servers::Sentinel(found) = parse(url).servers else { panic!() };
        assert_eq!(hosts(&found.sentinels), ["a:1", "b:26379", "::1:3"]);
        assert_eq!((found.master.as_str(), found.node.redis_settings().db()), ("main", 4));
        assert_eq!(found.node.redis_settings().password(), Some("p,q"));
        assert!(found.sentinels.iter().all(|one| one.redis_settings().password() == Some("s&t")));
    }

    #[test]
    fn a_cluster_has_many_hosts_and_one_password() {
        let Servers::Cluster(nodes) = parse("rediss+cluster://u:p@a,b:7001,[::1]/").servers else { panic!() };
        assert_eq!(hosts(&nodes), ["a:6379", "b:7001", "::1:6379"]);
        assert!(nodes.iter().all(|node| node.redis_settings().password() == Some("p")));
    }

    #[test]
    fn a_wrong_url_is_told_with_the_forms_and_without_itself() {
        for url in [
            "",
            "127.0.0.1:6379",
            "http://:hunter2@h",
            "redis://:hunter2@",
            "redis://:hunter2@h:99999",
            "redis://:hunter2@h/x",
            "redis://:hunter2@h?sentinel_password=hunter2",
            "redis://:hunter2@h#insecure",
            "redis+sentinel://:hunter2@a,b",
            "redis+sentinel://:hunter2@a,b/",
            "redis+sentinel://:hunter2@a,,b/main",
            "redis+sentinel://:hunter2@a/main?ssl_ca_certs=hunter2",
            "redis+cluster://:hunter2@a,b/3",
            "redis+cluster://:hunter2@",
            "rediss+cluster://:hunter2@a?ssl_certfile=hunter2",
        ] {
            let said = Address::parse(url).unwrap_err().to_string();
            assert!(said.contains("REDIS_URL") && said.contains("redis+sentinel://"), "{url}: {said}");
            assert!(!said.contains("hunter2"), "{url}: {said}");
        }
    }

    #[test]
    fn no_password_is_in_the_debug_text() {
        for url in [
            "redis://:hunter2@h",
            "redis+sentinel://:hunter2@a/m?sentinel_password=hunter2",
            "redis+cluster://:hunter2@a",
        ] {
            assert!(!format!("{:?}", parse(url)).contains("hunter2"), "{url}");
        }
    }
}
