//! The bounds on the figures.

use std::{fmt, time::Duration};

use anyhow::{Result, ensure};

use crate::figures::Figures;

/// The figures of one window: a tenth of the run.
pub(crate) struct Window {
    pub(crate) figures: Figures,
    /// The median and the 99th percentile of the honest client's echoes.
    pub(crate) latency: [Duration; 2],
}

/// The number of windows of a run.
pub(crate) const WINDOWS: u32 = 10;

/// The heading of the windows.
pub(crate) const HEAD: &str =
    "| allocated | resident | descriptors | tasks | honest client: p50, p99 |\n|---:|---:|---:|---:|---:|";

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { live, resident, descriptors, tasks } = self.figures;
        let [p50, p99] = self.latency.map(|time| time.as_secs_f64() * 1e3);
        let (live, resident) = (live >> 10, resident >> 10);
        write!(f, "| {live} KiB | {resident} KiB | {descriptors} | {tasks} | {p50:.2}, {p99:.1} ms |")
    }
}

/// Checks a run: its windows, and the server before and after the clients.
pub(crate) fn check(windows: &[Window], before: Figures, after: Figures) -> Result<()> {
    let faults = faults(windows, before, after);
    ensure!(faults.is_empty(), "bounds are broken:\n  {}", faults.join("\n  "));
    Ok(())
}

fn faults(windows: &[Window], before: Figures, after: Figures) -> Vec<String> {
    let mut faults = Vec::new();
    // The first window is warm-up: the clients have just arrived.
    let [_, first, .., last] = windows else { return vec!["too few windows".to_owned()] };
    let [at_first, at_last] = [first, last].map(|window| window.figures.live);
    if at_last > at_first + at_first / 20 + FLOOR_UNDER_LOAD {
        faults.push(format!("memory grew under load from {} to {} KiB", at_first >> 10, at_last >> 10));
    }
    if after.live > before.live + before.live / 20 + FLOOR_WITHOUT_CLIENTS {
        faults.push(format!(
            "memory without clients grew from {} to {} KiB",
            before.live >> 10,
            after.live >> 10
        ));
    }
    if after.descriptors > before.descriptors {
        faults.push(format!("{} descriptors became {}", before.descriptors, after.descriptors));
    }
    if after.tasks > before.tasks {
        faults.push(format!("{} tasks became {}", before.tasks, after.tasks));
    }
    // The best of three, and a generous factor: beside builds, medians of 0.1 ms became 300 ms in single windows. A
    // server that gets slower does so in each of them.
    let [early, late] = [&windows[1..4], &windows[windows.len() - 3..]]
        .map(|three| three.iter().map(|window| window.latency[0]).min().unwrap_or_default());
    if late > early * 4 + Duration::from_millis(20) {
        faults.push(format!("the honest client's echoes took {early:?}, and later {late:?}"));
    }
    faults
}

/// Growth under load that is no fault, besides 5 %. In the first minute, the clients, which all arrived at the same
/// time, spread out, and more of them are slow: 3.4 MiB were measured in one minute.
const FLOOR_UNDER_LOAD: u64 = 4 << 20;

/// Growth without clients that is no fault, besides 5 %.
const FLOOR_WITHOUT_CLIENTS: u64 = 700 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Figures = Figures { live: 1 << 20, resident: 9 << 20, descriptors: 12, tasks: 4 };

    /// Returns the faults of a run whose last window and end differ from the rest.
    fn check(live: u64, milliseconds: u64, after: Figures) -> Vec<String> {
        let window = |live, milliseconds| Window {
            figures: Figures { live, ..QUIET },
            latency: [Duration::from_millis(milliseconds); 2],
        };
        let mut windows: Vec<_> = (0..7).map(|_| window(100 << 20, 2)).collect();
        windows.extend((0..3).map(|_| window(live, milliseconds)));
        faults(&windows, QUIET, after)
    }

    #[test]
    fn each_bound_is_kept_or_broken() {
        for (case, faults, expected) in [
            ("the same", check(100 << 20, 2, QUIET), ""),
            ("within the bounds", check(108 << 20, 28, Figures { live: 1700 << 10, ..QUIET }), ""),
            ("memory under load", check(110 << 20, 2, QUIET), "memory grew under load"),
            (
                "memory afterwards",
                check(100 << 20, 2, Figures { live: 1800 << 10, ..QUIET }),
                "without clients",
            ),
            (
                "a descriptor",
                check(100 << 20, 2, Figures { descriptors: 13, ..QUIET }),
                "12 descriptors became 13",
            ),
            ("a task", check(100 << 20, 2, Figures { tasks: 5, ..QUIET }), "4 tasks became 5"),
            ("slow", check(100 << 20, 29, QUIET), "honest client"),
        ] {
            assert_eq!(faults.len(), usize::from(!expected.is_empty()), "{case}: {faults:?}");
            assert!(faults.iter().all(|fault| fault.contains(expected)), "{case}: {faults:?}");
        }
    }
}
