//! When a connection that compresses gives its compressor back: after a time without a message sent.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::Transport;
use crate::writer::Writer;

pub(crate) struct Parking {
    idle: Duration,
    /// While a compressor is kept: when to look whether it is used.
    sleep: Option<Pin<Box<Sleep>>>,
    /// How many messages had been sent at the last look.
    messages: u64,
}

impl Parking {
    pub(crate) fn new(idle: Duration) -> Self {
        Self { idle, sleep: None, messages: 0 }
    }

    /// Gives the compressor back if it is time, else sees to it that the task is woken then; whether it did.
    pub(crate) fn poll<T: Transport>(&mut self, writer: &mut Writer<T>, cx: &mut Context<'_>) -> bool {
        if !writer.out.keeps_compressor() {
            self.sleep = None;
            return false;
        }
        loop {
            let sent = writer.messages;
            let Some(sleep) = &mut self.sleep else {
                self.messages = sent;
                self.sleep = Some(Box::pin(tokio::time::sleep(self.idle)));
                continue;
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            if sent == self.messages {
                writer.out.park();
                self.sleep = None;
                return true;
            }
            self.messages = sent;
            sleep.as_mut().reset(Instant::now() + self.idle);
        }
    }
}
