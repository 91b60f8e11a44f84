//! Rules for names that come from outside: request ids, sensor ids, job ids, task and model names.

/// Longest sensor id or request id taken, in bytes.
pub const MAX_ID_LEN: usize = 128;

/// Is this a usable sensor, request or job id: 1 to [`MAX_ID_LEN`] of `A-Z a-z 0-9 . _ : -`?
///
/// The alphabet keeps ids safe in headers, Redis keys, log lines and URLs without escaping.
#[must_use]
pub fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_ID_LEN
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-'))
}

/// Is this a usable task, model or tier name: 1 to 64 of `a-z A-Z 0-9 _ -`?
///
/// Narrower than [`is_id`]: `:` `,` `;` and `=` are separators of the snapshot's text.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::{is_id, is_name};

    #[test]
    fn ids_reject_what_would_need_escaping() {
        for good in ["sensor-01", "a", "0f:1.2_3"] {
            assert!(is_id(good), "{good}");
        }
        for bad in ["", "a b", "a/b", "a\n", "é", &"x".repeat(129)] {
            assert!(!is_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn names_are_narrower_than_ids() {
        assert!(is_name("hydraulic-valve"));
        assert!(!is_name("a:b"));
        assert!(!is_name("a=b"));
    }
}
