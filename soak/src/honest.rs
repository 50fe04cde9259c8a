//! The honest client: an echo every 20 ms, timed, in a thread and a runtime of its own.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use longwire::{Client, Config, Message};
use tokio::{
    runtime::Builder,
    time::{sleep, timeout},
};

/// A client that runs until it is stopped, or until an echo fails.
pub(crate) struct Honest {
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Duration>>>,
    thread: JoinHandle<Result<()>>,
}

impl Honest {
    /// Connects to the server at this port.
    pub(crate) fn start(port: u16) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, samples) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (stopped, taken) = (Arc::clone(&stop), Arc::clone(&samples));
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let client = Client::new(format!("ws://127.0.0.1:{port}/"));
                let client =
                    client.handshake_timeout(PATIENCE).config(Config::default().with_close_timeout(PATIENCE));
                let (mut ws, _) = client.connect().await?;
                let mut number = 0_u64;
                while !stopped.load(Ordering::Relaxed) {
                    number += 1;
                    let message = Message::binary(number.to_be_bytes().to_vec());
                    let began = Instant::now();
                    ws.send(message.clone()).await?;
                    // Broadcasts come between.
                    timeout(PATIENCE, async {
                        while ws.recv().await?.context("the server closed")? != message {}
                        anyhow::Ok(())
                    })
                    .await??;
                    taken.lock().unwrap_or_else(PoisonError::into_inner).push(began.elapsed());
                    sleep(EVERY).await;
                }
                anyhow::Ok(ws.close(1000, "").await?)
            })
        });
        Ok(Self { stop, samples, thread })
    }

    /// Returns the median and the 99th percentile since the last call. Without an echo, which a machine that stands
    /// still may explain, both are the limit for one.
    pub(crate) fn take(&self) -> [Duration; 2] {
        let mut samples = mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner));
        samples.sort_unstable();
        [50, 99].map(|percent| {
            let last = samples.len().saturating_sub(1);
            samples.get(last * percent / 100).copied().unwrap_or(PATIENCE)
        })
    }

    /// Returns whether it has stopped early; [`finish`](Self::finish) returns the reason.
    pub(crate) fn has_stopped(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops, and returns the reason for which it stopped early, if it did.
    pub(crate) fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join().map_err(|_| anyhow!("the honest client panicked"))?;
        ended.context("the honest client")
    }
}

/// The time from the end of an echo to the next.
const EVERY: Duration = Duration::from_millis(20);

/// The limit for the handshake, one echo, and the end.
const PATIENCE: Duration = Duration::from_secs(60);
