//! Parking: a connection that compresses gives its contexts back after a time without a message in either
//! direction; and one connection of each pool frees the contexts that none needs any more.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use longwire_protocol::deflate::{Pool, Sweeper};
use tokio::time::{Instant, Sleep};

pub(crate) struct Parking {
    idle: Duration,
    /// The timer for the next check whether contexts are used; set while contexts are kept.
    sleep: Option<Pin<Box<Sleep>>>,
    /// The number of messages that the connection had transferred at the last check.
    messages: u64,
    pool: Pool,
    /// Set while this is the connection that sweeps the pool, with the timer for the next time.
    sweeping: Option<(Sweeper, Pin<Box<Sleep>>)>,
}

impl Parking {
    pub(crate) fn new(idle: Duration, pool: Pool) -> Self {
        Self { idle, sleep: None, messages: 0, pool, sweeping: None }
    }

    /// Frees the contexts of the pool that no connection has needed for [`SWEEP`], unless another connection does so.
    /// As long as there are idle ones, arranges for the task to be woken.
    pub(crate) fn poll_sweep(&mut self, cx: &mut Context<'_>) {
        if self.sweeping.is_none() {
            let Some(sweeper) = self.pool.sweeper() else { return };
            self.sweeping = Some((sweeper, Box::pin(tokio::time::sleep(SWEEP))));
        }
        while let Some((sweeper, sleep)) = &mut self.sweeping
            && sleep.as_mut().poll(cx).is_ready()
        {
            if sweeper.sweep() {
                sleep.as_mut().reset(Instant::now() + SWEEP);
            } else {
                self.sweeping = None;
            }
        }
    }

    /// Returns whether it is time to give contexts back. If any are `kept` and it is too early, arranges for the
    /// task to be woken. `messages` is the number of messages so far.
    pub(crate) fn poll(&mut self, kept: bool, messages: u64, cx: &mut Context<'_>) -> bool {
        if !kept {
            self.sleep = None;
            return false;
        }
        loop {
            let Some(sleep) = &mut self.sleep else {
                self.messages = messages;
                self.sleep = Some(Box::pin(tokio::time::sleep(self.idle)));
                continue;
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            if messages == self.messages {
                self.sleep = None;
                return true;
            }
            self.messages = messages;
            sleep.as_mut().reset(Instant::now() + self.idle);
        }
    }
}

/// The time after which a context that no connection has needed is freed: at most twice this after its last use, while
/// a connection of the pool is being polled.
const SWEEP: Duration = Duration::from_secs(2);
