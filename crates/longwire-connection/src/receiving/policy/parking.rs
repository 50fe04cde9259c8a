//! Parking: a connection that compresses gives its contexts back after a time without a message in either
//! direction.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

pub(crate) struct Parking {
    idle: Duration,
    /// The timer for the next check whether contexts are used; set while contexts are kept.
    sleep: Option<Pin<Box<Sleep>>>,
    /// The number of messages that the connection had transferred at the last check.
    messages: u64,
}

impl Parking {
    pub(crate) fn new(idle: Duration) -> Self {
        Self { idle, sleep: None, messages: 0 }
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
