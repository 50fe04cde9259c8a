//! Control frames while no call receives: a call that waits for room, or a send that follows another, handles those
//! before the next message.
//!
//! "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response ... as soon as is practical"
//! (RFC 6455 §5.5.2). Messages are not consumed, so the peer feels back-pressure.

use std::task::{Context, Poll, ready};

use longwire_protocol::Event;

use crate::receiving::reader::{BUDGET, Reader, Step, poll_read};
use crate::{Error, Transport};

impl<T: Transport> Reader<T> {
    /// Does the work due while a call waits for something other than messages: handles the control frames before
    /// the next message, gives back the read buffer (many peers that accept nothing must not cost one each), and
    /// checks the deadlines.
    ///
    /// Ready when the call must check again, or with the error of a connection that was given up.
    pub(crate) fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let was_open = self.ending.is_open();
        self.poll_control(cx);
        self.count_memory(cx);
        #[cfg(feature = "deflate")]
        self.poll_parking(cx);
        if was_open && !self.ending.is_open() {
            return Poll::Ready(Ok(()));
        }
        let mut writer = self.shared.lock();
        if self.ending.is_open() {
            writer.set_owner(cx.waker());
        }
        let written = writer.written();
        let is_ending = writer.is_ending();
        drop(writer);
        if is_ending {
            self.alarm.note_closing(written);
        } else {
            self.alarm.note_written(written);
        }
        ready!(self.poll_alarm(cx));
        Poll::Ready(Err(self.ending.tell().unwrap_or(Error::Closed)))
    }

    /// Returns whether this is one of several sends in a row: no call receives then, and control frames may be
    /// waiting.
    #[inline]
    pub(crate) fn is_unheard(&mut self) -> bool {
        self.sends = self.sends.saturating_add(1);
        self.sends > 1
    }

    /// Handles the control frames before the next message, without waiting for any. Messages are not consumed: at
    /// most [`GLANCE`] bytes of them are read.
    #[cold]
    pub(crate) fn poll_control(&mut self, cx: &mut Context<'_>) {
        while self.ending.is_open() {
            if self.budget == 0 {
                self.budget = BUDGET;
                cx.waker().wake_by_ref();
                self.read.end_poll(&mut self.pace);
                self.write_pong();
                return;
            }
            match self.inbound.is_control_next(self.read.bytes()) {
                Some(false) => break,
                Some(true) if !self.read.is_empty() => {
                    if let Step::Event(Ok(event)) = self.decode(cx) {
                        self.note_handled(event);
                    }
                    continue;
                }
                Some(true) | None => {}
            }
            let mut writer = self.shared.lock();
            let Some(io) = writer.io.as_mut() else {
                drop(writer);
                self.handle_end(None);
                return;
            };
            let polled = poll_read(&mut self.read, io, (GLANCE, &mut self.pace), cx);
            if let Poll::Ready(Ok(n)) = &polled {
                writer.bytes_received += *n as u64;
            }
            drop(writer);
            match polled {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.alarm.heard();
                    self.spend(1);
                }
                Poll::Ready(Ok(_)) => self.handle_end(None),
                Poll::Ready(Err(error)) => self.handle_end(Some(error)),
                Poll::Pending => break,
            }
        }
        self.read.settle();
        self.write_pong();
    }

    /// Keeps a control frame for [`Receiver::next_event`](crate::Receiver::next_event). If there are too many, the
    /// oldest is dropped.
    fn note_handled(&mut self, event: Event) {
        let events = self.handled.get_or_insert_default();
        if events.len() == HANDLED {
            events.pop_front();
        }
        events.push_back(event);
    }
}

/// The maximum number of bytes read in search of control frames while messages are not received.
const GLANCE: usize = 4096;

/// The maximum number of control frames kept that were handled while a call waited.
const HANDLED: usize = 16;
