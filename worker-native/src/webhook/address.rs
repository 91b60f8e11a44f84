//! Which IP addresses a callback may go to.
//!
//! Owns the table of special addresses (IANA's registries for IPv4 and IPv6, and what clouds answer metadata on). IPv6
//! is judged the other way round: outside of what is given out to networks (2000::/3), nothing is called, save an
//! IPv4 address in one of its clothes that is public itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is to a caller from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Anyone's.
    Public,
    /// Inside a network; called where the operator says so.
    Private(&'static str),
    /// Never called.
    Never(&'static str),
}

const METADATA: Reach = Reach::Never("a cloud's metadata address");

/// Why a callback may not go to an address; `private` is `WEBHOOK_ALLOW_PRIVATE`.
pub(super) fn refusal(address: IpAddr, private: bool) -> Option<String> {
    let reach = match address {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    };
    match reach {
        Reach::Public => None,
        Reach::Private(_) if private => None,
        Reach::Private(what) => Some(format!("{address} is {what} (WEBHOOK_ALLOW_PRIVATE=true allows it)")),
        Reach::Never(what) => Some(format!("{address} is {what}")),
    }
}

const fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        // Of Alibaba, Oracle, Azure: they lie in ranges that are called otherwise.
        [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] | [169, 254, 169, 254] => METADATA,
        [0, ..] => Reach::Never("an unspecified address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Reach::Private("a private address"),
        [100, 64..=127, ..] => Reach::Private("an address shared behind a carrier's NAT"),
        [127, ..] => Reach::Private("a loopback address"),
        [169, 254, ..] => Reach::Never("a link-local address"),
        [192, 0, 0, _] => Reach::Never("an address reserved for protocols"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Reach::Never("an address for documentation"),
        [192, 88, 99, _] => Reach::Never("a 6to4 relay's address"),
        [198, 18..=19, ..] => Reach::Never("an address for benchmarks"),
        [224..=239, ..] => Reach::Never("a multicast address"),
        [240..=255, ..] => Reach::Never("a reserved address"),
        _ => Reach::Public,
    }
}

const fn reach_v6(address: Ipv6Addr) -> Reach {
    let [.., a, b, c, d] = address.octets();
    let inside = Ipv4Addr::new(a, b, c, d);
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Reach::Never("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private("a loopback address"),
        [0, 0, 0, 0, 0, 0xffff, _, _] => reach_v4(inside),
        // Behind a NAT64 all IPv4 hosts look like this; RFC 6052 forbids it for those that are not public.
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => match reach_v4(inside) {
            Reach::Public => Reach::Public,
            Reach::Private(what) | Reach::Never(what) => Reach::Never(what),
        },
        // Of AWS, Google and Scaleway.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254]
        | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254]
        | [0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x42] => METADATA,
        [0xfc00..=0xfdff, ..] => Reach::Private("a unique local address"),
        [0xfe80..=0xfebf, ..] => Reach::Never("a link-local address"),
        [0xfec0..=0xfeff, ..] => Reach::Never("a site-local address"),
        [0xff00..=0xffff, ..] => Reach::Never("a multicast address"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Reach::Never("an address for documentation"),
        // Tunnels: an IPv4 address is in them, and their relay would call it.
        [0x2001, 0, ..] => Reach::Never("a Teredo address"),
        [0x2002, ..] => Reach::Never("a 6to4 address"),
        [0x2001, 0..=0x01ff, ..] => Reach::Never("an address reserved for protocols"),
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Never("a reserved address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: &str, private: bool) -> Option<String> {
        refusal(address.parse().unwrap(), private)
    }

    #[test]
    fn public_addresses_are_called() {
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:200::1",
            "2400:cb00::1",
            "3ffe:ffff::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ];
        for address in public {
            assert_eq!(told(address, false), None, "{address}");
        }
    }

    #[test]
    fn special_addresses_are_not() {
        // The address, what it is called, and whether an operator can allow it.
        let special = [
            ("0.0.0.0", "unspecified", false),
            ("0.255.255.255", "unspecified", false),
            ("10.0.0.1", "private", true),
            ("100.64.0.1", "carrier", true),
            ("100.127.255.255", "carrier", true),
            ("100.100.100.200", "metadata", false),
            ("127.0.0.1", "loopback", true),
            ("127.255.255.254", "loopback", true),
            ("168.63.129.16", "metadata", false),
            ("169.254.0.1", "link-local", false),
            ("169.254.169.254", "metadata", false),
            ("172.16.0.1", "private", true),
            ("172.31.255.255", "private", true),
            ("192.0.0.8", "protocols", false),
            ("192.0.0.192", "metadata", false),
            ("192.0.2.1", "documentation", false),
            ("192.88.99.1", "6to4", false),
            ("192.168.1.1", "private", true),
            ("198.18.0.1", "benchmarks", false),
            ("198.19.255.255", "benchmarks", false),
            ("198.51.100.7", "documentation", false),
            ("203.0.113.7", "documentation", false),
            ("224.0.0.1", "multicast", false),
            ("239.255.255.255", "multicast", false),
            ("240.0.0.1", "reserved", false),
            ("255.255.255.255", "reserved", false),
            ("::", "unspecified", false),
            ("::1", "loopback", true),
            ("::127.0.0.1", "reserved", false),
            ("::8.8.8.8", "reserved", false),
            ("::ffff:127.0.0.1", "loopback", true),
            ("::ffff:169.254.169.254", "metadata", false),
            ("::ffff:0:127.0.0.1", "reserved", false),
            ("64:ff9b::10.0.0.1", "private", false),
            ("64:ff9b::169.254.169.254", "metadata", false),
            ("64:ff9b:1::8.8.8.8", "reserved", false),
            ("100::1", "reserved", false),
            ("2001::7f00:1", "Teredo", false),
            ("2001:10::1", "protocols", false),
            ("2001:db8::1", "documentation", false),
            ("2002:7f00:1::", "6to4", false),
            ("3fff:fff::1", "documentation", false),
            ("4000::1", "reserved", false),
            ("5f00::1", "reserved", false),
            ("fc00::1", "unique local", true),
            ("fd00:ec2::254", "metadata", false),
            ("fd20:ce::254", "metadata", false),
            ("fd00:42::42", "metadata", false),
            ("fd12:3456::1", "unique local", true),
            ("fe80::1", "link-local", false),
            ("fec0::1", "site-local", false),
            ("ff02::1", "multicast", false),
        ];
        for (address, word, can_be_allowed) in special {
            let refusal = told(address, false).unwrap_or_else(|| panic!("{address} is called"));
            assert!(refusal.contains(word), "{refusal}");
            assert_eq!(refusal.contains("WEBHOOK_ALLOW_PRIVATE"), can_be_allowed, "{refusal}");
            assert_eq!(told(address, true).is_none(), can_be_allowed, "{address}");
        }
    }
}
