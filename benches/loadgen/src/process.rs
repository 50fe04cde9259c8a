//! The kernel's figures for the server: CPU time, page faults and memory.

use std::fs;

use crate::Outcome;

/// Returns the CPU time of all threads of a process, user and kernel together, in nanoseconds.
pub(crate) fn cpu_nanoseconds(pid: u32) -> Outcome<u64> {
    let directory = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&directory).map_err(|error| format!("cannot read {directory}: {error}"))?;
    let mut total = 0;
    for task in tasks {
        let path =
            task.map_err(|error| format!("cannot read {directory}: {error}"))?.path().join("schedstat");
        // A thread may end in between.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        total += number(text.split_whitespace().next(), &path.to_string_lossy())?;
    }
    Ok(total)
}

/// Returns the part of the CPU time outside the kernel, in nanoseconds; counted in hundredths of a second.
pub(crate) fn user_nanoseconds(pid: u32) -> Outcome<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    // The program's name, in parentheses, may contain anything. After it, `utime` is the twelfth word (proc(5)).
    let words = text.rsplit_once(") ").map(|(_, words)| words);
    number(words.and_then(|words| words.split_whitespace().nth(11)), &path).map(|ticks| ticks * 10_000_000)
}

/// Returns the number of page faults that needed no input: mostly pages taken from the system and used for the first
/// time.
pub(crate) fn minor_faults(pid: u32) -> Outcome<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    // As above; `minflt` is the eighth word.
    let words = text.rsplit_once(") ").map(|(_, words)| words);
    number(words.and_then(|words| words.split_whitespace().nth(7)), &path)
}

/// The memory of a process in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// Resident.
    pub(crate) rss: u64,
    /// Resident, with each shared page divided among the processes that share it.
    pub(crate) pss: u64,
}

impl Memory {
    /// Reads the current figures of a process.
    pub(crate) fn of(pid: u32) -> Outcome<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            number(line.and_then(|rest| rest.split_whitespace().next()), &path).map(|kib| kib * 1024)
        };
        Ok(Self { rss: field("Rss:")?, pss: field("Pss:")? })
    }
}

/// Returns the memory of the machine that programs can still take, in bytes.
pub(crate) fn available_memory() -> Outcome<u64> {
    let path = "/proc/meminfo";
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    number(line.and_then(|rest| rest.split_whitespace().next()), path).map(|kib| kib * 1024)
}

fn number(word: Option<&str>, path: &str) -> Outcome<u64> {
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| format!("{path} does not hold the number it should"))
}
