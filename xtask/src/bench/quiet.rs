//! Whether the machine does something else.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

/// Returns the part of the processors' time that is idle at the moment.
pub(crate) fn idle() -> Result<f64> {
    let read = || fs_err::read_to_string("/proc/stat").context("needs Linux");
    let before = read()?;
    thread::sleep(SAMPLE);
    idle_between(&before, &read()?).context("/proc/stat has another form")
}

/// Waits until the machine is quiet, as it is some time after a build.
pub(crate) fn wait() -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let idle = idle()?;
        if idle >= QUIET {
            return Ok(());
        }
        let busy = (1.0 - idle) * 100.0;
        ensure!(
            Instant::now() < deadline,
            "other programs take {busy:.0} % of the processors: figures from a busy machine do not belong in the \
             documentation (`--output DIRECTORY` measures nevertheless, and writes elsewhere)"
        );
    }
}

/// Returns the idle part of the time between two states of `/proc/stat`.
fn idle_between(before: &str, after: &str) -> Option<f64> {
    let times = |text: &str| -> Option<(u64, u64)> {
        let words = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        // The eight kinds of time that exclude each other: idle is the fourth, and waiting for disks the fifth.
        let times: Vec<u64> = words.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        Some((times.get(3)? + times.get(4)?, times.iter().sum()))
    };
    let ((idle_before, before), (idle_after, after)) = (times(before)?, times(after)?);
    let (idle, all) = (idle_after.checked_sub(idle_before)?, after.checked_sub(before)?);
    #[allow(clippy::cast_precision_loss, reason = "a few hundred ticks")]
    (all > 0).then(|| idle as f64 / all as f64)
}

/// The idle part of the time from which a machine counts as quiet.
pub(crate) const QUIET: f64 = 0.95;

const SAMPLE: Duration = Duration::from_secs(1);

const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_the_fourth_and_the_fifth() {
        let before = "cpu  10 0 10 100 0 0 0 0 0 0\ncpu0 1\n";
        let after = "cpu  20 0 20 170 10 0 0 0 0 0\ncpu0 1\n";
        assert_eq!(idle_between(before, after), Some(0.8));
        assert_eq!(idle_between(before, before), None);
        assert_eq!(idle_between("", after), None);
    }
}
