//! URLs that are taken, and those with which others were tricked.

use std::time::Duration;

use super::*;
use crate::webhook::Secrets;

fn guard(allow_http: bool, allow_private: bool, hosts: &str) -> Guard {
    Guard::new(&WebhookConfig {
        secrets: Secrets::default(),
        allow_http,
        allow_private,
        allowed_hosts: HostPattern::parse_list(hosts).unwrap(),
        timeout: Duration::from_secs(1),
        concurrency: 1,
    })
}

#[test]
fn plain_https_urls_are_taken() {
    let taken = [
        "https://example.com",
        "https://example.com:8443/hooks/1?token=a%20b&x=1",
        "HTTPS://Example.COM./",
        "https://1.1.1.1/hook",
        "https://[2606:4700:4700::1111]:444/",
        "https://xn--bcher-kva.example.org/",
        "https://bücher.example.org/",
        "https://localhost.example.com/",
        "https://notlocalhost.net/",
    ];
    for url in taken {
        guard(false, false, "").check_url(url).unwrap_or_else(|fault| panic!("{url}: {fault}"));
    }
}

#[test]
fn urls_that_lead_inside_are_refused_and_told_why() {
    // With https and http open, so that it is the host that is judged.
    let refused = [
        // Loopback, in every notation that some reader takes.
        ("http://127.0.0.1/", "loopback"),
        ("http://127.0.0.1:6379/", "loopback"),
        ("http://127.0.0.1./", "loopback"),
        ("http://127.1/", "loopback"),
        ("http://127.0.1/", "loopback"),
        ("http://2130706433/", "loopback"),
        ("http://017700000001/", "loopback"),
        ("http://0177.0.0.1/", "loopback"),
        ("http://0x7f000001/", "loopback"),
        ("http://0x7f.0.0.1/", "loopback"),
        ("http://0X7F.1/", "loopback"),
        ("http://127.127.127.127/", "loopback"),
        ("http://①②⑦.⓪.⓪.①/", "loopback"),
        ("http://１２７.０.０.１/", "loopback"),
        ("http://127。0。0。1/", "loopback"),
        ("http://%31%32%37.0.0.1/", "loopback"),
        ("http://[::1]/", "loopback"),
        ("http://[0:0:0:0:0:0:0:1]:80/", "loopback"),
        ("http://[::ffff:127.0.0.1]/", "loopback"),
        ("http://[::ffff:7f00:1]/", "loopback"),
        ("http://[::127.0.0.1]/", "reserved"),
        ("http://[64:ff9b::127.0.0.1]/", "loopback"),
        ("http://[2002:7f00:1::]/", "6to4"),
        ("http://[2001:0:7f00:1::]/", "Teredo"),
        ("http://0/", "unspecified"),
        ("http://0.0.0.0/", "unspecified"),
        ("http://[::]/", "unspecified"),
        // Metadata of clouds.
        ("http://169.254.169.254/latest/meta-data/", "metadata"),
        ("http://2852039166/", "metadata"),
        ("http://0xa9fea9fe/", "metadata"),
        ("http://0251.0376.0251.0376/", "metadata"),
        ("http://[::ffff:a9fe:a9fe]/", "metadata"),
        ("http://[fd00:ec2::254]/", "metadata"),
        ("http://100.100.100.200/", "metadata"),
        ("http://metadata.google.internal/", "local network"),
        // Networks.
        ("http://10.0.0.1/", "private"),
        ("http://10.1/", "private"),
        ("http://172.16.0.1/", "private"),
        ("http://192.168.0.1/", "private"),
        ("http://3232235521/", "private"),
        ("http://100.64.0.1/", "carrier"),
        ("http://198.18.0.1/", "benchmarks"),
        ("http://192.0.2.1/", "documentation"),
        ("http://224.0.0.1/", "multicast"),
        ("http://255.255.255.255/", "reserved"),
        ("http://[fc00::1]/", "unique local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://[ff02::1]/", "multicast"),
        ("http://[2001:db8::1]/", "documentation"),
        // Names.
        ("http://localhost/", "local network"),
        ("http://LOCALHOST:80/", "local network"),
        ("http://localhost./", "local network"),
        ("http://%6cocalhost/", "local network"),
        ("http://ⓛocalhost/", "local network"),
        ("http://a.localhost/", "local network"),
        ("http://redis/", "local network"),
        ("http://redis:6379/", "local network"),
        ("http://db.corp/", "local network"),
        ("http://printer.local/", "local network"),
        ("http://router.home.arpa./", "local network"),
        // Readers that differ.
        ("http://example.com@127.0.0.1/", "user name"),
        ("http://127.0.0.1@example.com/", "user name"),
        ("http://user:secret@example.com/", "user name"),
        ("http://:secret@example.com/", "user name"),
        ("http://example.com\\@127.0.0.1/", "backslash"),
        ("http:\\\\127.0.0.1\\", "backslash"),
        ("http://127.0.0.1#@example.com/", "fragment"),
        ("http://example.com#x", "fragment"),
        ("http://127.0.0.1?@example.com/", "loopback"),
        ("http://exa\tmple.com/", "control"),
        ("http://example.com/\r\nx: y", "control"),
        ("http://127.0.0.1 .example.com/", "space"),
        (" http://example.com/", "space"),
        ("http://\u{200b}127.0.0.1/", "loopback"),
        ("http:127.0.0.1/", "two slashes"),
        ("http:///127.0.0.1/", "two slashes"),
        ("http:/example.com/", "two slashes"),
        // Not a URL that can be called.
        ("http://example.com:0/", "port 0"),
        ("http://example.com:65536/", "no absolute URL"),
        ("http://1.1.1.256/", "no absolute URL"),
        ("http://[fe80::1%25eth0]/", "no absolute URL"),
        ("http://[::1/", "no absolute URL"),
        ("http://", "no absolute URL"),
        ("http://./", "no host"),
        ("//example.com/", "no absolute URL"),
        ("/hook", "no absolute URL"),
        ("example.com", "no absolute URL"),
        ("", "no absolute URL"),
        ("file:///etc/passwd", "not file:"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "not gopher:"),
        ("ftp://example.com/", "not ftp:"),
        ("unix:/run/docker.sock", "not unix:"),
        ("data:text/plain,x", "not data:"),
    ];
    let guard = guard(true, false, "");
    for (url, word) in refused {
        let fault = guard.check_url(url).err().unwrap_or_else(|| panic!("{url} is taken"));
        assert!(fault.contains(word), "{url}: {fault}");
    }
    let long = |length: usize| format!("https://example.com/{}", "x".repeat(length - 20));
    assert!(guard.check_url(&long(MAX_URL)).is_ok());
    assert!(guard.check_url(&long(MAX_URL + 1)).unwrap_err().contains("2049 bytes"));
}

#[test]
fn http_is_taken_only_where_it_is_allowed() {
    let fault = guard(false, false, "").check_url("http://example.com/").unwrap_err();
    assert!(fault.contains("WEBHOOK_ALLOW_HTTP"), "{fault}");
    assert!(guard(true, false, "").check_url("http://example.com/").is_ok());
}

#[test]
fn private_hosts_are_taken_only_where_they_are_allowed_and_metadata_never() {
    for url in ["https://10.1.2.3/", "https://[::1]/", "https://[fd12::1]/", "https://100.64.1.1/", "https://redis/"] {
        let fault = guard(false, false, "").check_url(url).unwrap_err();
        assert!(fault.contains("WEBHOOK_ALLOW_PRIVATE"), "{fault}");
        assert!(guard(false, true, "").check_url(url).is_ok(), "{url}");
    }
    for url in ["https://169.254.169.254/", "https://[fd00:ec2::254]/", "https://0.0.0.0/", "https://[fe80::1]/"] {
        assert!(
            guard(false, true, "169.254.169.254, fd00:ec2::254, 0.0.0.0, fe80::1").check_url(url).is_err(),
            "{url}"
        );
    }
}

#[test]
fn a_list_of_hosts_is_the_only_way_out() {
    let guard = guard(false, false, "Hooks.Example.com, *.partner.net,bücher.de,1.1.1.1,2606:4700:4700::1111, *.corp");
    let taken = [
        "https://hooks.example.com/",
        "https://HOOKS.example.com.:8443/x",
        "https://a.partner.net/",
        "https://a.b.partner.net/",
        "https://xn--bcher-kva.de/",
        "https://1.1.1.1/",
        "https://16843009/",
        "https://[2606:4700:4700:0:0::1111]/",
        "https://hooks.corp/",
    ];
    for url in taken {
        guard.check_url(url).unwrap_or_else(|fault| panic!("{url}: {fault}"));
    }
    let refused = [
        "https://example.com/",
        "https://x.hooks.example.com/",
        "https://hooks.example.com.evil.org/",
        "https://partner.net/",
        "https://.partner.net/",
        "https://evilpartner.net/",
        "https://1.1.1.2/",
    ];
    for url in refused {
        let fault = guard.check_url(url).err().unwrap_or_else(|| panic!("{url} is taken"));
        assert!(fault.contains("WEBHOOK_ALLOWED_HOSTS"), "{url}: {fault}");
    }
}

#[test]
fn a_list_of_hosts_is_checked() {
    assert_eq!(HostPattern::parse_list(" , ").unwrap(), []);
    let shown = HostPattern::parse_list("*.A.example, b.example.").unwrap();
    assert_eq!(shown.iter().map(ToString::to_string).collect::<Vec<_>>(), ["*.a.example", "b.example"]);
    let wrong = [
        "https://a.example",
        "a.example:443",
        "a.example/x",
        "a.example?x",
        "a.example#x",
        "u@a.example",
        "*",
        "*.",
        "*.*.example",
        "a.*.example",
        "*.1.1.1.1",
        "a b",
    ];
    for text in wrong {
        let fault = HostPattern::parse_list(&format!("ok.example,{text}")).unwrap_err();
        assert!(fault.contains(&format!("`{text}`")), "{text}: {fault}");
    }
}
