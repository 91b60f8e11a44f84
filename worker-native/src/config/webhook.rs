//! The settings of callbacks; the struct they make is `crate::webhook`'s.

use super::source::Reader;
use super::{millis, to_usize};
use crate::webhook::{HostPattern, Secrets, WebhookConfig};

pub(super) fn read(read: &mut Reader) -> WebhookConfig {
    let secrets = read.secret(
        "WEBHOOK_SECRET",
        "",
        "signs callbacks: whsec_ and the base64 of 24 to 64 bytes, several with spaces or commas; without it no callbacks",
    );
    let secrets = Secrets::parse(&secrets).unwrap_or_else(|fault| {
        read.fault(&format!("WEBHOOK_SECRET: {fault}"));
        Secrets::default()
    });
    let hosts = read.text(
        "WEBHOOK_ALLOWED_HOSTS",
        "",
        "the only hosts callbacks may go to, with commas: hooks.example.com, *.example.com; none: any public host",
    );
    let allowed_hosts = HostPattern::parse_list(&hosts).unwrap_or_else(|fault| {
        read.fault(&format!("WEBHOOK_ALLOWED_HOSTS: {fault}"));
        vec![]
    });
    WebhookConfig {
        secrets,
        allowed_hosts,
        allow_http: read.flag("WEBHOOK_ALLOW_HTTP", false, "callbacks may go to http:// URLs, too"),
        allow_private: read.flag(
            "WEBHOOK_ALLOW_PRIVATE",
            false,
            "callbacks may go to private and loopback addresses, too; never to link-local or metadata ones",
        ),
        timeout: millis(read.number(
            "WEBHOOK_TIMEOUT_MS",
            15_000,
            100..=120_000,
            "how long one try of a callback may take",
        )),
        concurrency: to_usize(read.number("WEBHOOK_CONCURRENCY", 8, 1..=1_000, "callbacks sent at once")),
    }
}
