//! What the operating system knows of this process: processor time and memory, on Linux.
//!
//! Read from `/proc/self`; elsewhere there is nothing to read and the numbers are absent.

use std::time::Duration;

/// One look at the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Time on processors since the start, in user and kernel mode, all threads.
    pub(super) cpu: Duration,
    /// Resident memory in bytes.
    pub(super) memory: u64,
}

/// Length of a clock tick in `/proc`: `USER_HZ` is 100 in the kernel's interface to programs (proc(5)), whatever its
/// own timer does.
const TICK: Duration = Duration::from_millis(10);

/// Looks at the process; none where the system does not tell.
pub(super) fn usage() -> Option<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(Usage { cpu: cpu(&stat)?, memory: memory(&status)? })
}

/// `utime` and `stime`, fields 14 and 15 of `/proc/self/stat` (proc_pid_stat(5)).
fn cpu(stat: &str) -> Option<Duration> {
    // The second field is the program's name in brackets, which may itself hold spaces and brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_ascii_whitespace().skip(11);
    let (user, kernel): (u32, u32) = (ticks.next()?.parse().ok()?, ticks.next()?.parse().ok()?);
    TICK.checked_mul(user.checked_add(kernel)?)
}

/// `VmRSS` of `/proc/self/status`, which unlike `statm` does not need the size of a page.
fn memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 9 0 0 0 150 25 3 4 20 0 1 0 5";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1_750)));
        assert_eq!(cpu("7 (a) R 1"), None);
        assert_eq!(memory("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(memory("Name:\tx\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells() {
        let usage = usage().unwrap();
        assert!((1 << 20..1 << 40).contains(&usage.memory), "{usage:?}");
    }
}
