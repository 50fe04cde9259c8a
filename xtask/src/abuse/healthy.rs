//! The honest client: a small echo every 20 ms, timed, while others attack.
//!
//! It owns its thread and its connection, and shares neither.

use std::{
    net::SocketAddr,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::{peer::Peer, verdict::Latencies};

/// A client that runs until it is stopped, or until an echo fails.
pub(super) struct Healthy {
    stop: Sender<()>,
    thread: JoinHandle<(Vec<Duration>, Result<()>)>,
}

impl Healthy {
    /// Connects, and begins once the first echo has arrived.
    pub(super) fn start(addr: SocketAddr) -> Result<Self> {
        let mut peer = Peer::open(addr)?;
        peer.echo(b"warm")?;
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut samples = Vec::new();
            let mut number = 0_u64;
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                number += 1;
                peer.set_limit(PATIENCE);
                let began = Instant::now();
                let echoed = peer.echo(&number.to_be_bytes().repeat(4));
                samples.push(began.elapsed());
                if let Err(reason) = echoed {
                    return (samples, Err(reason));
                }
            }
            (samples, Ok(()))
        });
        Ok(Self { stop, thread })
    }

    /// Stops, and returns its latencies and the reason it stopped early, if it did.
    pub(super) fn finish(self) -> (Latencies, Result<()>) {
        drop(self.stop);
        let (samples, outcome) = self
            .thread
            .join()
            .unwrap_or_else(|_| (Vec::new(), Err(anyhow!("the honest client's thread panicked"))));
        (Latencies::new(samples), outcome)
    }
}

/// The time from the end of an echo to the next.
const EVERY: Duration = Duration::from_millis(20);

/// The limit for one echo. More than any bound, so that a slow echo is measured and not cut off.
const PATIENCE: Duration = Duration::from_secs(5);
