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

use anyhow::{Context, Result, anyhow, ensure};
use longwire::{Client, Message};
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
                let (mut ws, _) = Client::new(format!("ws://127.0.0.1:{port}/")).connect().await?;
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

    /// Returns the median and the 99th percentile since the last call.
    pub(crate) fn take(&self) -> Result<[Duration; 2]> {
        let mut samples = mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner));
        ensure!(!samples.is_empty(), "the honest client had no echo");
        samples.sort_unstable();
        Ok([50, 99].map(|percent| samples[(samples.len() - 1) * percent / 100]))
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

/// The limit for one echo.
const PATIENCE: Duration = Duration::from_secs(20);
