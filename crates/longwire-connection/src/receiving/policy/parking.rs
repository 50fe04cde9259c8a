//! When a connection that compresses gives its contexts back: after a time without a message either way.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

pub(crate) struct Parking {
    idle: Duration,
    /// While contexts are kept: when to look whether they are used.
    sleep: Option<Pin<Box<Sleep>>>,
    /// How many messages had gone through the connection at the last look.
    messages: u64,
}

impl Parking {
    pub(crate) fn new(idle: Duration) -> Self {
        Self { idle, sleep: None, messages: 0 }
    }

    /// Whether it is time to give contexts back, if any are `kept`; else sees to it that the task is woken then. `messages`
    /// is how many there were so far.
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
