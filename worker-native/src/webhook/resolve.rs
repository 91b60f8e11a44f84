//! From a callback's host to the addresses that are called.
//!
//! The HTTP client asks here once for each connection and connects to nothing but the answer: no second look-up can
//! give another one (DNS rebinding). It does not ask for addresses written in place of a name; those are `guard`'s.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::refusal;

/// More addresses than this are not tried.
const MOST_ADDRESSES: usize = 16;

/// What turns a name into addresses; tests bring their own.
#[async_trait]
pub(super) trait Lookup: Send + Sync + fmt::Debug {
    /// All addresses of a host.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's own resolver.
#[derive(Debug)]
pub(super) struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Gives out only those addresses that may be called.
#[derive(Debug)]
pub(super) struct CallableOnly {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) allow_private: bool,
}

impl Resolve for CallableOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, allow_private) = (Arc::clone(&self.lookup), self.allow_private);
        Box::pin(async move {
            let host = name.as_str();
            let mut refused = None;
            let mut callable = Vec::new();
            for address in lookup.addresses(host).await? {
                match refusal(address, allow_private) {
                    // Port 0 stands for the URL's own.
                    None if callable.len() < MOST_ADDRESSES => callable.push(SocketAddr::new(address, 0)),
                    None => {}
                    Some(why) => refused = Some(why),
                }
            }
            if callable.is_empty() {
                let why = refused.map_or_else(|| "it has no address".to_owned(), |why| format!("{why}, not called"));
                return Err(format!("{host}: {why}").into());
            }
            Ok(Box::new(callable.into_iter()) as Addrs)
        })
    }
}
