//! The server as the system sees it: its memory and its descriptors, read from `/proc` (Linux only).
//!
//! Owns reading and sampling. The bounds on the figures are in `verdict`.

use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

/// The resources of a process at one time, or its maxima.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Resident bytes.
    pub(super) resident: u64,
    /// The most resident bytes since the process began.
    pub(super) peak: u64,
    /// Open descriptors.
    pub(super) descriptors: usize,
}

impl Usage {
    /// Reads the current figures of a process.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs_err::read_to_string(&path)?;
        let value = |name| kibibytes(&status, name).with_context(|| format!("{path} has no {name}"));
        let resident = value("VmRSS")? << 10;
        // Not every kernel reports it; then the samples must do.
        let peak = kibibytes(&status, "VmHWM").map_or(resident, |peak| peak << 10);
        Ok(Self { resident, peak, descriptors: descriptors(pid)? })
    }

    /// Returns the greater of each.
    fn most(self, other: Self) -> Self {
        Self {
            resident: self.resident.max(other.resident),
            peak: self.peak.max(other.peak),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}

/// Returns the number of open descriptors of a process.
pub(super) fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs_err::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Waits until a process has no more than `most` descriptors, and returns for how long; `None` if `limit` passes
/// first.
pub(super) fn until_descriptors(pid: u32, most: usize, limit: Duration) -> Result<Option<Duration>> {
    let began = Instant::now();
    loop {
        if descriptors(pid)? <= most {
            return Ok(Some(began.elapsed()));
        }
        if began.elapsed() > limit {
            return Ok(None);
        }
        thread::sleep(EVERY);
    }
}

/// A thread that samples a process and keeps the maxima.
pub(super) struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Usage>,
}

impl Sampler {
    /// Starts sampling.
    pub(super) fn start(pid: u32) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut most = Usage::default();
            loop {
                let last = stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
                // A process that has ended has no further figures; its end is detected elsewhere.
                most = Usage::of(pid).map_or(most, |usage| most.most(usage));
                if last {
                    return most;
                }
            }
        });
        Self { stop, thread }
    }

    /// Takes a last sample and returns the maxima.
    pub(super) fn finish(self) -> Result<Usage> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow!("the thread that samples the server panicked"))
    }
}

/// Returns the value of a line `Name:  123 kB`.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The time between samples. The kernel reports the exact peak of memory; descriptors open for less time may be
/// missed.
const EVERY: Duration = Duration::from_millis(25);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let status =
            "Name:\techo\nVmHWM:\t    2176 kB\nVmRSS:\t  12 kB\nVmRSSX:\t 9 kB\nThreads:\t3\nVmLck: x kB\n";
        for (name, value) in [
            ("VmHWM", Some(2176)),
            ("VmRSS", Some(12)),
            ("VmR", None),
            ("Threads", None),
            ("VmLck", None),
            ("VmSwap", None),
        ] {
            assert_eq!(kibibytes(status, name), value, "{name}");
        }
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(
            usage.resident > 0 && usage.peak >= usage.resident / 2 && usage.descriptors >= 3,
            "{usage:?}"
        );
        let most = Sampler::start(std::process::id()).finish().unwrap();
        assert!(most.descriptors > 0);
    }
}
