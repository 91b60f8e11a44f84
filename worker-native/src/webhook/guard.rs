//! Which URLs a callback may have.
//!
//! Owns the rules that a URL is held to before anything is looked up: scheme, credentials, port, host, and addresses
//! written in place of a host. What a name resolves to is `resolve`'s to judge, at each try.
//!
//! The text is read once, by the reader that the HTTP client uses too, and what it read is what is called: so an
//! address in an odd notation (octal, hexadecimal, short, other digits) is judged as the address that would be called.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use super::WebhookConfig;
use super::address::refusal;

/// Longer URLs are refused, in bytes.
const MAX_URL: usize = 2048;

/// Names, and ends of names, that only a local network knows.
const LOCAL_NAMES: [&str; 10] =
    ["localhost", "localdomain", "local", "internal", "intranet", "lan", "corp", "home", "private", "home.arpa"];

/// A host that callbacks may go to: itself, or, with `*.` before it, every name below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    below: bool,
    name: String,
}

impl HostPattern {
    /// Reads a comma-separated list of `host` and `*.host`.
    ///
    /// # Errors
    /// Which part is neither.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Self::parse).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        let fault = || format!("`{text}` is neither a host name, such as hooks.example.com, nor `*.` and one");
        let address = name.parse::<IpAddr>();
        if address.is_err() && name.contains([':', '/', '?', '#', '@', '\\', '*', ' ']) || below && address.is_ok() {
            return Err(fault());
        }
        // Through the reader of URLs, so that both sides are compared in one form: lower case, punycode, plain numbers.
        let host = if address.is_ok_and(|address| address.is_ipv6()) { format!("[{name}]") } else { name.to_owned() };
        let url = Url::parse(&format!("https://{host}/")).map_err(|_| fault())?;
        let host = host_of(&url).ok_or_else(fault)?;
        Ok(Self { below, name: host.to_owned() })
    }

    fn covers(&self, host: &str) -> bool {
        if self.below {
            host.strip_suffix(&self.name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.name
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

/// The rules for a callback's URL.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    allow_http: bool,
    allow_private: bool,
    hosts: Vec<HostPattern>,
}

impl Guard {
    pub(super) fn new(config: &WebhookConfig) -> Self {
        Self { allow_http: config.allow_http, allow_private: config.allow_private, hosts: config.allowed_hosts.clone() }
    }

    /// The URL as it will be called.
    ///
    /// # Errors
    /// The first rule that it breaks, in words for whoever handed it in.
    pub(super) fn check_url(&self, text: &str) -> Result<Url, String> {
        if text.len() > MAX_URL {
            return Err(format!("the URL has {} bytes; at most {MAX_URL} are taken", text.len()));
        }
        // Readers of URLs differ over these: some drop them, some turn them into others.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err("the URL holds a space, a control character or a backslash".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("that is no absolute URL: {error}"))?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            "http" => {
                return Err("the URL must begin with https:// (WEBHOOK_ALLOW_HTTP=true allows http://)".to_owned());
            }
            other => return Err(format!("the URL must begin with https://, not {other}:")),
        }
        // `https:host` and `https:///host` are read as if they were well written; others may read them otherwise.
        let rest = text.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://"));
        if rest.is_none_or(|rest| rest.starts_with('/')) {
            return Err(format!("the URL must have two slashes behind {}:", url.scheme()));
        }
        if has_user(&url) {
            return Err("the URL must not hold a user name or a password".to_owned());
        }
        if url.fragment().is_some() {
            return Err("the URL must not hold a fragment (#): it is never sent".to_owned());
        }
        if url.port() == Some(0) {
            return Err("port 0 cannot be called".to_owned());
        }
        let host = host_of(&url).ok_or("the URL names no host")?;
        let listed = self.hosts.iter().any(|pattern| pattern.covers(host));
        if !listed && !self.hosts.is_empty() {
            return Err(format!("callbacks may not go to {host}: WEBHOOK_ALLOWED_HOSTS does not name it"));
        }
        match host.parse() {
            Ok(address) => refusal(address, self.allow_private).map_or(Ok(()), Err)?,
            Err(_) if self.allow_private || listed => {}
            Err(_) if is_local_name(host) => {
                return Err(format!(
                    "{host} is a name of a local network (WEBHOOK_ALLOW_PRIVATE=true, or WEBHOOK_ALLOWED_HOSTS, allows it)"
                ));
            }
            Err(_) => {}
        }
        Ok(url)
    }
}

/// The host without what is around it: an address without brackets, a name without the root's full stop.
fn host_of(url: &Url) -> Option<&str> {
    let host = url.host_str()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    (!host.is_empty()).then_some(host)
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn is_local_name(host: &str) -> bool {
    let is_below = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !host.contains('.') || LOCAL_NAMES.into_iter().any(is_below)
}

#[cfg(test)]
mod tests;
