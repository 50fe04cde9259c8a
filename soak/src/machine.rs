//! The machine's own slowness: how late timers are in the runtime of the clients.
//!
//! The clients have about as much to do as the server. If other work keeps the processors busy, both wait for them; if
//! the server is slow for a reason of its own, the clients' timers are on time.

use std::time::{Duration, Instant};

use tokio::{sync::mpsc, time::sleep};

/// A repeated timer, which stops when this value is dropped.
pub(crate) struct Machine {
    samples: mpsc::UnboundedReceiver<Duration>,
}

impl Machine {
    /// Starts the timer in the runtime of the caller.
    pub(crate) fn start() -> Self {
        let (sender, samples) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let began = Instant::now();
                sleep(EVERY).await;
                if sender.send(began.elapsed().saturating_sub(EVERY)).is_err() {
                    break;
                }
            }
        });
        Self { samples }
    }

    /// Returns the median lateness since the last call, or [`Duration::MAX`] if the timer has not expired since then.
    pub(crate) fn take(&mut self) -> Duration {
        let mut samples = Vec::new();
        while let Ok(sample) = self.samples.try_recv() {
            samples.push(sample);
        }
        samples.sort_unstable();
        samples.get(samples.len() / 2).copied().unwrap_or(Duration::MAX)
    }
}

/// The duration of the timer: the honest client pauses as long between echoes.
const EVERY: Duration = Duration::from_millis(20);
