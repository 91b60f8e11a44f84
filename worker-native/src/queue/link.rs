//! The way to Redis that all commands of a process share, and its repair.
//!
//! Owns when to connect, and when a connection has turned bad. Two kinds of trouble are told apart. A broken
//! connection (closed, reset) is replaced by the next command. One that still answers, but not as it should (a master
//! that became a replica, a refused password, no answer in time), is used on while a new one is made behind it, at
//! most once a second: with sentinels that asks them for the master again, and a name is looked up again.
//!
//! A command takes as long as its connection allows and no longer, whatever has to be repaired meanwhile.

mod address;
mod dial;
mod servers;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::task::JoinSet;

pub(crate) use address::Address;
pub(crate) use dial::{Dialer, Raw};
pub(crate) use servers::Server;

use super::QueueError;

/// At most one repair in this time: commands under way fail by the hundred when a connection turns bad.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);
/// After a connection could not be made, commands are told so for this long before the next try.
const REDIAL_PAUSE: Duration = Duration::from_millis(100);

/// The way to Redis.
pub(super) struct Link {
    address: Address,
    timeout: Duration,
    connection: Connection,
}

/// A connection that is made when it is needed, and made again when it turned bad; a clone shares it.
#[derive(Clone)]
pub(super) struct Connection(Arc<Inner>);

struct Inner {
    dialer: Arc<Dialer>,
    /// How long a command may take.
    limit: Duration,
    slot: ArcSwap<Slot>,
    repair: Mutex<Repair>,
}

/// One connection, or the making of it: whoever needs it first makes it, the others wait with them.
struct Slot {
    dialing: Shared<BoxFuture<'static, Result<Raw, Failed>>>,
}

#[derive(Clone)]
struct Failed {
    at: Instant,
    error: RedisError,
}

/// The making of a connection that is to take the place of one that turned bad; one at a time.
struct Repair {
    task: JoinSet<()>,
    begun: Option<Instant>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("limit", &self.0.limit).finish_non_exhaustive()
    }
}

impl Link {
    /// Prepares the way; the first command connects.
    ///
    /// # Errors
    /// A URL that cannot be used; the words name `REDIS_URL` and its forms.
    pub(super) fn open(url: &str, timeout: Duration) -> RedisResult<Self> {
        let address = Address::parse(url).map_err(|fault| {
            RedisError::from((ErrorKind::InvalidClientConfig, "the queue has no Redis", fault.to_string()))
        })?;
        let connection = Connection::new(&address, timeout)?;
        Ok(Self { address, timeout, connection })
    }

    /// The connection for one command, or many.
    pub(super) fn get(&self) -> Connection {
        self.connection.clone()
    }

    /// A connection of its own for commands that wait up to `block`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn blocking(&self, block: Duration) -> RedisResult<Connection> {
        Connection::new(&self.address, block + self.timeout)
    }

    /// Ends what takes longer than one command may, as a command that got no answer.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = Result<T, QueueError>>) -> Result<T, QueueError> {
        let late = |_| Err(dial::timed_out("no answer", self.timeout).into());
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(late)
    }

    /// Is it a cluster, whose tasks lie on different servers?
    pub(super) fn is_cluster(&self) -> bool {
        self.connection.0.dialer.is_cluster()
    }
}

impl Connection {
    fn new(address: &Address, limit: Duration) -> RedisResult<Self> {
        let dialer = Arc::new(Dialer::new(address, limit)?);
        let slot = ArcSwap::from_pointee(Slot::new(&dialer));
        let repair = Mutex::new(Repair { task: JoinSet::new(), begun: None });
        Ok(Self(Arc::new(Inner { dialer, limit, slot, repair })))
    }

    /// Runs a command within the limit, and sees to the connection where it failed.
    async fn run<T, F>(&self, ask: impl FnOnce(Raw) -> F, refusal: fn(&T) -> Option<&str>) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut used = None;
        let asked = async {
            let (slot, raw) = self.0.connected().await?;
            used = Some(slot);
            ask(raw).await
        };
        let result = match tokio::time::timeout(self.0.limit, asked).await {
            Ok(result) => result,
            Err(_) => Err(dial::timed_out("no answer", self.0.limit)),
        };
        // What never had a connection says nothing about one.
        if let Some(slot) = used {
            let trouble = match &result {
                Ok(value) => refusal(value).filter(|code| is_turned(code)).map(|_| Trouble::Turned),
                Err(error) => trouble(error),
            };
            match trouble {
                // A cluster's connection goes on with the servers that are left.
                Some(Trouble::Broken) if !self.0.dialer.is_cluster() => drop(self.0.replace(&slot)),
                Some(Trouble::Broken | Trouble::Turned) => self.repair(&slot),
                None => {}
            }
        }
        result
    }

    /// Makes a new connection behind the one in use, which is used until then.
    fn repair(&self, bad: &Arc<Slot>) {
        let mut repair = self.0.repair.lock().unwrap_or_else(PoisonError::into_inner);
        while repair.task.try_join_next().is_some() {}
        let rested = repair.begun.is_none_or(|begun| begun.elapsed() >= REPAIR_PAUSE);
        if rested && repair.task.is_empty() {
            repair.begun = Some(Instant::now());
            // Weak: a connection that nobody uses any more needs no repair, and its task ends with it.
            repair.task.spawn(mend(Arc::downgrade(&self.0), Arc::clone(bad)));
        }
    }
}

async fn mend(inner: Weak<Inner>, bad: Arc<Slot>) {
    let Some(dialer) = inner.upgrade().map(|inner| Arc::clone(&inner.dialer)) else { return };
    let new = Arc::new(Slot::new(&dialer));
    match new.dialing.clone().await {
        Ok(_) => {
            if let Some(inner) = inner.upgrade() {
                inner.slot.compare_and_swap(&bad, new);
            }
        }
        Err(failed) => tracing::debug!(error = %failed.error, "redis cannot be connected to again"),
    }
}

impl Inner {
    async fn connected(&self) -> RedisResult<(Arc<Slot>, Raw)> {
        let slot = self.slot.load_full();
        match slot.dialing.clone().await {
            Ok(raw) => Ok((slot, raw)),
            Err(failed) if failed.at.elapsed() < REDIAL_PAUSE => Err(failed.error),
            Err(_) => {
                let slot = self.replace(&slot);
                let raw = slot.dialing.clone().await.map_err(|failed| failed.error)?;
                Ok((slot, raw))
            }
        }
    }

    /// Puts a connection still to be made in the place of `old`, unless another has done so; gives what is there now.
    fn replace(&self, old: &Arc<Slot>) -> Arc<Slot> {
        let new = Arc::new(Slot::new(&self.dialer));
        let found = self.slot.compare_and_swap(old, Arc::clone(&new));
        if Arc::ptr_eq(&found, old) { new } else { Guard::into_inner(found) }
    }
}

impl Slot {
    fn new(dialer: &Arc<Dialer>) -> Self {
        let dialer = Arc::clone(dialer);
        let dialing = async move { dialer.dial().await.map_err(|error| Failed { at: Instant::now(), error }) };
        Self { dialing: dialing.boxed().shared() }
    }
}

/// What a failure says about the connection.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// It is gone.
    Broken,
    /// It will go on failing, though it still answers or seems to be there.
    Turned,
}

fn trouble(error: &RedisError) -> Option<Trouble> {
    if error.is_timeout() || error.kind() == ErrorKind::AuthenticationFailed || error.code().is_some_and(is_turned) {
        return Some(Trouble::Turned);
    }
    (error.is_io_error() || error.is_unrecoverable_error()).then_some(Trouble::Broken)
}

/// Does the server say that it is not the one to ask, or that we are not the one it answers?
fn is_turned(code: &str) -> bool {
    let codes = [
        "READONLY",
        "NOREPLICAS",
        "MASTERDOWN",
        "LOADING",
        "UNBLOCKED",
        "CLUSTERDOWN",
        "NOAUTH",
        "WRONGPASS",
        "NOPERM",
    ];
    codes.contains(&code)
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let ask = move |mut raw: Raw| async move { raw.req_packed_command(cmd).await };
        self.run(ask, |_| None).boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let ask = move |mut raw: Raw| async move { raw.req_packed_commands(pipeline, offset, count).await };
        // A command's refusal within a pipeline is a value, which the caller makes an error of.
        self.run(ask, |values| values.iter().find_map(refusal)).boxed()
    }

    fn get_db(&self) -> i64 {
        0
    }
}

fn refusal(value: &Value) -> Option<&str> {
    match value {
        Value::ServerError(error) => Some(error.code()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_is_gone_what_has_turned_and_what_concerns_one_command_are_told_apart() {
        let io = |kind: io::ErrorKind| trouble(&io::Error::from(kind).into());
        assert_eq!(io(io::ErrorKind::BrokenPipe), Some(Trouble::Broken));
        assert_eq!(io(io::ErrorKind::ConnectionRefused), Some(Trouble::Broken));
        assert_eq!(io(io::ErrorKind::TimedOut), Some(Trouble::Turned));
        let server = |text: &str| {
            let said = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
            trouble(&said.extract_error().unwrap_err())
        };
        for turned in ["READONLY You can't write", "MASTERDOWN Link", "LOADING Redis is", "NOAUTH x", "WRONGPASS x"] {
            assert_eq!(server(turned), Some(Trouble::Turned), "{turned}");
        }
        for passing in ["OOM command not allowed", "MISCONF x", "WRONGTYPE x", "NOSCRIPT x", "TRYAGAIN x", "ERR x"] {
            assert_eq!(server(passing), None, "{passing}");
        }
    }
}
