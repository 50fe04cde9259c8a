//! The bounds on the figures.

use std::{fmt, time::Duration};

use anyhow::{Result, ensure};

use crate::figures::Figures;

/// The figures of one window: a tenth of the run.
pub(crate) struct Window {
    pub(crate) figures: Figures,
    /// The median and the 99th percentile of the honest client's echoes.
    pub(crate) latency: [Duration; 2],
    /// The median lateness of the clients' timers.
    pub(crate) lateness: Duration,
}

/// The number of windows of a run.
pub(crate) const WINDOWS: u32 = 10;

/// The heading of the windows.
pub(crate) const HEAD: &str = "| allocated | resident | descriptors | tasks | honest client: p50, p99 | timers late: p50 |\n\
    |---:|---:|---:|---:|---:|---:|";

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { live, resident, descriptors, tasks } = self.figures;
        let [p50, p99, late] =
            [self.latency[0], self.latency[1], self.lateness].map(|time| time.as_secs_f64() * 1e3);
        let (live, resident) = (live >> 10, resident >> 10);
        write!(
            f,
            "| {live} KiB | {resident} KiB | {descriptors} | {tasks} | {p50:.2}, {p99:.1} ms | {late:.1} ms |"
        )
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
    // The first window is warm-up: the clients have just arrived. Of the others, three early ones are compared with
    // three late ones, by what is best for the server: on a busy machine, messages and echoes wait for a while, but a
    // server that leaks, or gets slower, does so in each window.
    if windows.len() < 7 {
        return vec!["too few windows".to_owned()];
    }
    let (early, late) = (&windows[1..4], &windows[windows.len() - 3..]);
    let most = early.iter().map(|window| window.figures.live).max().unwrap_or_default();
    let least = late.iter().map(|window| window.figures.live).min().unwrap_or_default();
    if least > most + most / 20 + FLOOR_UNDER_LOAD {
        faults.push(format!("memory grew under load from {} to {} KiB", most >> 10, least >> 10));
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
    let early = early.iter().map(|window| window.latency[0]).min().unwrap_or_default();
    let bound = |window: &Window| {
        (early * 4 + FLOOR_OF_ECHOES).saturating_add(window.lateness.saturating_mul(LATENESS))
    };
    if late.iter().all(|window| window.latency[0] > bound(window)) {
        let late = late.iter().map(|window| window.latency[0]).min().unwrap_or_default();
        faults.push(format!("the honest client's echoes took {early:?}, and later {late:?} or more"));
    }
    faults
}

/// Growth under load that is no fault, besides 5 %. In 18 runs of a minute, the late figure was below the early one.
const FLOOR_UNDER_LOAD: u64 = 4 << 20;

/// Growth without clients that is no fault, besides 5 %: what the threads and the tables keep for use again. Up to
/// 774 KiB were measured.
const FLOOR_WITHOUT_CLIENTS: u64 = 700 << 10;

/// The median of the honest client's echoes that is no fault, besides four times the earlier one.
const FLOOR_OF_ECHOES: Duration = Duration::from_millis(20);

/// The factor of the timers' lateness that an echo may take besides, because it waits for both processes several times.
/// With a thirtieth of the processors, medians of 2.6 s were measured beside timers that were 0.6 s late.
const LATENESS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Figures = Figures { live: 1 << 20, resident: 9 << 20, descriptors: 12, tasks: 4 };

    const AT_FIRST: Window = Window {
        figures: Figures { live: 100 << 20, ..QUIET },
        latency: [Duration::from_millis(2); 2],
        lateness: Duration::from_millis(1),
    };

    /// Returns the faults of a run whose late windows, and end, differ from the rest.
    fn check(windows: impl Fn(usize, &mut Window), after: Figures) -> Vec<String> {
        let mut run = [(); WINDOWS as usize].map(|()| AT_FIRST);
        let late = run.len() - 3;
        run[late..].iter_mut().enumerate().for_each(|(number, window)| windows(number, window));
        faults(&run, QUIET, after)
    }

    #[test]
    fn each_bound_is_kept_or_broken() {
        let same = |_: usize, _: &mut Window| {};
        let growing = |live: u64| move |_: usize, window: &mut Window| window.figures.live = live;
        let slow = |milliseconds, late| {
            move |_: usize, window: &mut Window| {
                window.latency[0] = Duration::from_millis(milliseconds);
                window.lateness = Duration::from_millis(late);
            }
        };
        for (case, faults, expected) in [
            ("the same", check(same, QUIET), ""),
            ("memory within the bound", check(growing(109 << 20), QUIET), ""),
            ("memory under load", check(growing(110 << 20), QUIET), "memory grew under load"),
            (
                "memory that comes and goes",
                check(|number, window| window.figures.live <<= number.min(1), QUIET),
                "",
            ),
            ("memory afterwards within the bound", check(same, Figures { live: 1700 << 10, ..QUIET }), ""),
            ("memory afterwards", check(same, Figures { live: 1800 << 10, ..QUIET }), "without clients"),
            ("a descriptor", check(same, Figures { descriptors: 13, ..QUIET }), "12 descriptors became 13"),
            ("a task", check(same, Figures { tasks: 5, ..QUIET }), "4 tasks became 5"),
            ("slower within the bound", check(slow(38, 1), QUIET), ""),
            ("slow", check(slow(39, 1), QUIET), "honest client"),
            ("slow on a slow machine", check(slow(428, 40), QUIET), ""),
            ("slower than the machine", check(slow(429, 40), QUIET), "honest client"),
            (
                "slow for some time",
                check(|number, window| window.latency[0] *= [1000, 1000, 1][number], QUIET),
                "",
            ),
        ] {
            assert_eq!(faults.len(), usize::from(!expected.is_empty()), "{case}: {faults:?}");
            assert!(faults.iter().all(|fault| fault.contains(expected)), "{case}: {faults:?}");
        }
    }
}
