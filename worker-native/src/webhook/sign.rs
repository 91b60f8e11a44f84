//! Signatures of Standard Webhooks: HMAC-SHA256 over id, time and body, once with each secret.
//!
//! Owns the form of a secret and of the three headers. It does not know what is signed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The names of the headers: id, time, signatures.
pub const SIGNATURE_HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

const PREFIX: &str = "whsec_";
/// The lengths of a secret, in bytes, that the standard takes.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
/// Each adds 48 bytes to every request.
const MOST: usize = 8;

/// The secrets in force; every message is signed with each, so that receivers can change from one to the next.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Hmac<Sha256>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Reads `whsec_<base64>`, several with spaces or commas between them.
    ///
    /// # Errors
    /// Which one is wrong, and how; never with a part of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = text.split([' ', ',', '\t', '\n', '\r']).filter(|word| !word.is_empty());
        let secrets = words.enumerate().map(|(index, word)| {
            let wrong = |how: String| format!("secret {} {how}", index + 1);
            let base64 = word.strip_prefix(PREFIX).ok_or_else(|| wrong(format!("must begin with {PREFIX}")))?;
            let key = STANDARD.decode(base64).map_err(|_| wrong(format!("must be base64 behind {PREFIX}")))?;
            if !LENGTHS.contains(&key.len()) {
                let (from, to) = LENGTHS.into_inner();
                return Err(wrong(format!("has {} bytes; it must have {from} to {to}", key.len())));
            }
            Hmac::new_from_slice(&key).map_err(|error| wrong(error.to_string()))
        });
        let secrets = secrets.collect::<Result<Vec<_>, String>>()?;
        if secrets.len() > MOST {
            return Err(format!("{} secrets are given; at most {MOST} are taken", secrets.len()));
        }
        Ok(Self(secrets))
    }

    /// Is there none?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `webhook-signature`: `v1,<base64>` for each secret, in their order.
    ///
    /// The parts are joined with full stops. An id may hold one only if no caller can choose it, else the same bytes
    /// could be read as another id and time; a job's id is made here, of a task of ours and a UUID.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let head = format!("{id}.{timestamp}.");
        let signatures = self.0.iter().map(|secret| {
            let mut mac = secret.clone();
            mac.update(head.as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        });
        signatures.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_published_vectors_come_out() {
        // From the tests of the reference libraries, for Rust and for JavaScript.
        let signature = Secrets::parse(SECRET).unwrap().sign(
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            br#"{"email":"test@example.com","username":"test_user"}"#,
        );
        assert_eq!(signature, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
        let signature = Secrets::parse(OTHER).unwrap().sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_secret_signs() {
        for between in [" ", ",", ", ", "\n"] {
            let both = Secrets::parse(&format!("{SECRET}{between}{OTHER}")).unwrap().sign("id", 1, b"body");
            let single = |secret| Secrets::parse(secret).unwrap().sign("id", 1, b"body");
            assert_eq!(both, format!("{} {}", single(SECRET), single(OTHER)));
        }
        assert!(Secrets::parse(" , ").unwrap().is_empty());
    }

    #[test]
    fn a_wrong_secret_is_told_by_its_place_and_never_shown() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        assert!(Secrets::parse(&of(24)).is_ok() && Secrets::parse(&of(64)).is_ok());
        let cases = [
            ("C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned(), "begin with whsec_"),
            ("whsec_hunter2!".to_owned(), "base64"),
            ("whsec_".to_owned(), "0 bytes"),
            (of(23), "23 bytes"),
            (of(65), "65 bytes"),
        ];
        for (wrong, word) in cases {
            let fault = Secrets::parse(&format!("{SECRET} {wrong}")).unwrap_err();
            assert!(fault.contains("secret 2") && fault.contains(word), "{fault}");
            assert!(!fault.contains("hunter2") && !fault.contains("C2FV"), "{fault}");
        }
        assert!(Secrets::parse(&[SECRET; 9].join(" ")).unwrap_err().contains("9 secrets"));
        assert_eq!(format!("{:?}", Secrets::parse(SECRET).unwrap()), "Secrets(1)");
    }
}
