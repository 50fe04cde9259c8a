//! The times at which changed certificate files are looked for.
//!
//! A handshake looks, not a timer: there is no task to start and to end, a server without clients does nothing, and
//! the first client after a long pause gets the certificate of now.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::warn;

use super::resolver::Resolver;

/// Looks for changed files, at most once per interval.
#[derive(Debug)]
pub(super) struct Reload {
    resolver: Arc<Resolver>,
    schedule: Schedule,
}

impl Reload {
    pub(super) fn new(resolver: Arc<Resolver>, every: Duration) -> Self {
        Self { resolver, schedule: Schedule { every, last: Mutex::default() } }
    }

    /// Reads the files if the interval has passed. Handshakes that begin meanwhile use the current certificates.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, reading continues on its thread.
    pub(super) async fn look(&self) {
        if !self.schedule.is_due() {
            return;
        }
        let resolver = Arc::clone(&self.resolver);
        let (done, is_done) = oneshot::channel();
        // A thread of its own: the end of a runtime waits for its blocking tasks, and a file system may not answer.
        let spawned = thread::Builder::new().name("certificates".into()).spawn(move || {
            resolver.reload_unless_busy();
            // The handshake may be gone.
            let _ = done.send(());
        });
        match spawned {
            // The thread ends without an answer only if it panics.
            Ok(_) => {
                let _ = is_done.await;
            }
            Err(error) => warn!(%error, "a thread to read the certificates cannot be started"),
        }
    }
}

#[derive(Debug)]
struct Schedule {
    every: Duration,
    /// The time of the last look; `None` before the first one.
    last: Mutex<Option<Instant>>,
}

impl Schedule {
    /// Returns whether it is time to look. If so, the next time is an interval from now.
    fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_due = last.is_none_or(|last| now.duration_since(last) >= self.every);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_handshake_looks_in_each_interval() {
        let schedule = Schedule { every: Duration::from_secs(60), last: Mutex::default() };
        for (pause, is_due) in
            [(0, true), (0, false), (59, false), (1, true), (59, false), (1000, true), (1, false)]
        {
            advance(Duration::from_secs(pause)).await;
            assert_eq!(schedule.is_due(), is_due, "after {pause} s");
        }
        let always = Schedule { every: Duration::ZERO, last: Mutex::default() };
        assert!(always.is_due() && always.is_due());
    }
}
