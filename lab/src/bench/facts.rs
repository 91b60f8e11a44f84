//! The machine and its processes, as Linux's /proc tells of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

/// What a figure is worth depends on this.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    commit: String,
    quick: bool,
    cores: usize,
    processor: String,
    memory_gib: u64,
    kernel: String,
    load_before: String,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Processes that wait to run, over 1, 5 and 15 minutes.
pub(crate) fn load_average() -> String {
    read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// What the cores did since the machine started, in clock ticks of all of them: proc_stat(5).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ticks {
    all: u64,
    stolen: u64,
}

impl Ticks {
    pub(crate) fn now() -> Self {
        Self::of(&read("/proc/stat"))
    }

    fn of(stat: &str) -> Self {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map(|text| text.parse().unwrap_or(0)).collect();
        Self { all: ticks.iter().sum(), stolen: ticks.get(7).copied().unwrap_or(0) }
    }

    /// Share of the time since then that the host gave to other machines, in percent.
    pub(crate) fn stolen_since(&self, then: Self) -> f64 {
        let all = self.all.saturating_sub(then.all).max(1);
        self.stolen.saturating_sub(then.stolen) as f64 * 100.0 / all as f64
    }
}

/// The number behind a label such as `VmRSS:`; in kB where the file says so.
fn labelled(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Machine {
    pub(crate) fn read(commit: &str, quick: bool) -> Self {
        let processors = read("/proc/cpuinfo");
        let name = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            commit: commit.to_owned(),
            quick,
            cores: cores(),
            processor: name.map_or("unknown", |(_, name)| name).to_owned(),
            memory_gib: labelled(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load_average(),
        }
    }

    pub(crate) fn text(&self) -> String {
        let quick = if self.quick { " --quick: these figures show that it runs, and are worth little." } else { "" };
        format!(
            "Commit {}, {} cores of {}, {} GiB, Linux {}, load average before {}.{quick}",
            self.commit, self.cores, self.processor, self.memory_gib, self.kernel, self.load_before
        )
    }
}

/// Memory of one process, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// All that is resident.
    pub(crate) rss: u64,
    /// Of it, what belongs to no file: heap and stacks.
    pub(crate) anonymous: u64,
}

/// Memory of a process; none where it is gone.
pub(crate) fn memory(pid: u32) -> Option<Memory> {
    let status = read(&format!("/proc/{pid}/status"));
    Some(Memory { rss: labelled(&status, "VmRSS:")?, anonymous: labelled(&status, "RssAnon:").unwrap_or(0) })
}

/// Resident KiB of many processes, pages that they share counted once (PSS).
pub(crate) fn proportional(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| labelled(&read(&format!("/proc/{pid}/smaps_rollup")), "Pss:")).sum()
}

/// A process and everything it has started that still runs, each with its start in clock ticks, which tells it from
/// a later one of the same number.
pub(crate) fn family(root: u32) -> Vec<(u32, u64)> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
            && let Some((parent, start)) = parent_and_start(&read(&format!("/proc/{pid}/stat")))
        {
            parents.insert(pid, (parent, start));
        }
    }
    let is_of_it = |pid: u32| {
        let line = std::iter::successors(Some(pid), |pid| parents.get(pid).map(|(parent, _)| *parent));
        line.take(64).any(|ancestor| ancestor == root)
    };
    parents.iter().filter(|(pid, _)| is_of_it(**pid)).map(|(pid, (_, start))| (*pid, *start)).collect()
}

/// Is it still the same process?
pub(crate) fn still_runs((pid, start): (u32, u64)) -> bool {
    let stat = read(&format!("/proc/{pid}/stat"));
    parent_and_start(&stat).is_some_and(|(_, now)| now == start) && !stat.contains(") Z ")
}

/// Microseconds of processor time that a process has used so far, by all its threads; what it started does not count.
/// It counts in hundredths of a second. Still there for one that has ended, until somebody waits for it.
pub(crate) fn cpu_us(pid: u32) -> u64 {
    cpu_ticks(&read(&format!("/proc/{pid}/stat"))).unwrap_or(0) * (1_000_000 / TICKS)
}

/// `USER_HZ`: what Linux tells its users, whatever it counts itself.
const TICKS: u64 = 100;

/// Fields 14 and 15 of proc_pid_stat(5).
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some(fields.nth(11)?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The kind of file system that a folder lies on; empty where that cannot be told.
pub(crate) fn file_system(folder: &Path) -> String {
    let mounts = read("/proc/mounts");
    let holds = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (Path::new(fields.next()?), fields.next()?);
        folder.starts_with(point).then(|| (point.components().count(), kind))
    });
    // Of two mounts on one point the later one is seen.
    holds.max_by_key(|(depth, _)| *depth).map_or_else(String::new, |(_, kind)| kind.to_owned())
}

/// Fields 4 and 22 of proc_pid_stat(5); the name in field 2 may hold blanks and brackets.
fn parent_and_start(stat: &str) -> Option<(u32, u64)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.nth(1)?.parse().ok()?, fields.nth(17)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_fields_are_found() {
        assert_eq!(labelled("VmPeak: 5 kB\nVmRSS:\t  123 kB\n", "VmRSS:"), Some(123));
        let stat = "42 (a) b) S 7 1 1 0 -1 4194304 1 0 0 0 2 3 0 0 20 0 4 0 5555 1000 50";
        assert_eq!(parent_and_start(stat), Some((7, 5555)));
        assert_eq!(cpu_ticks("42 (a) b) S 7 1 1 0 -1 4194304 1 0 0 0 20 3 90 90 20 0 4 0 5555 1000 50"), Some(23));
        assert!(!file_system(Path::new("/proc")).is_empty());
    }

    #[test]
    fn stolen_time_is_a_share() {
        let (then, now) = (Ticks::of("cpu  10 0 0 80 0 0 0 10 0 0\n"), Ticks::of("cpu  20 0 0 150 0 0 0 30 5 5\n"));
        assert!((now.stolen_since(then) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn a_process_is_of_its_own_family() {
        let own = std::process::id();
        let found = family(own);
        let own = found.iter().find(|(pid, _)| *pid == own).copied().unwrap();
        assert!(still_runs(own));
        assert!(!still_runs((own.0, own.1 + 1)));
    }
}
