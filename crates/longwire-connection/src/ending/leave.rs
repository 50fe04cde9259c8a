//! Leaving a connection that no task holds any more: the close frame is sent and not lost to a reset.
//!
//! A transport that is closed with unread bytes in it is reset, and a reset can overtake the close frame. The
//! sending direction is therefore ended first, and the peer's bytes are read and dropped until the peer's end, for
//! a bounded time.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use longwire_protocol::{CloseCode, CloseFrame, Event};
use tokio::runtime::Handle;
use tokio::task::coop;
use tracing::debug;

use crate::Transport;
use crate::ending::heir::{Estate, Heir, Leaving, Left};
use crate::receiving::reader::{BUDGET, BYTES_A_TURN, Reader, poll_read};
use crate::sending::shared::Shared;
use crate::sending::writer::Writer;

/// Leaves a dropped socket's receiving half to the task that drives it, or closes the connection in the background.
pub(crate) fn leave_behind<T: Transport>(mut reader: Box<Reader<T>>) {
    let shared = Arc::clone(&reader.shared);
    let panicked = std::thread::panicking();
    let mut writer = shared.lock();
    // The counts may be read after the last receive.
    writer.messages_received = reader.messages;
    if reader.is_over(&writer) {
        writer.finish();
        drop(writer);
        reader.abandon();
    } else if let Heir::Driver(driver) = &writer.heir {
        if !shared.is_corked() {
            // In its own turn, the driving task checks this afterward.
            let driver = driver.clone();
            writer.due().wakers.push(driver);
        }
        writer.heir = Heir::Left(Box::new(Left { estate: reader, panicked }));
    } else {
        drop(writer);
        in_background(&shared, reader.leave(closing(panicked)));
    }
}

/// Returns the close frame of a connection that no task holds any more.
pub(crate) fn closing(failed: bool) -> CloseFrame {
    CloseFrame::new(if failed { CloseCode::INTERNAL_ERROR } else { CloseCode::NORMAL }, "")
}

/// Continues the closing in a separate task or, without a runtime, as far as the transport allows at once.
pub(crate) fn in_background<T: Transport>(shared: &Shared<T>, leaving: Leaving) {
    // The task may never run: at the end of `main`, the runtime is about to be dropped. The calling task's
    // cooperative budget may also be spent.
    let flush = pin!(coop::unconstrained(poll_fn(|_| shared.lock().poll_flush(None))));
    let _ = flush.poll(&mut Context::from_waker(Waker::noop()));
    if let Ok(runtime) = Handle::try_current() {
        drop(runtime.spawn(leaving));
    }
}

impl<T: Transport> Estate for Reader<T> {
    fn leave(mut self: Box<Self>, frame: CloseFrame) -> Leaving {
        self.begin_leave(Some(frame));
        Box::pin(Leave { reader: self })
    }
}

/// The closing handshake and the end of a transport, for at most the close timeout.
struct Leave<T: Transport> {
    reader: Box<Reader<T>>,
}

impl<T: Transport> Future for Leave<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.reader.poll_leave(cx));
        Poll::Ready(())
    }
}

impl<T: Transport> Drop for Leave<T> {
    fn drop(&mut self) {
        self.reader.shared.lock().finish();
    }
}

impl<T: Transport> Reader<T> {
    /// Writes the queue, ends the sending direction, and reads until the peer's end, so that the close frame is not
    /// lost to a reset (RFC 6455 §7.1.1).
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.count_rest(cx);
            let shared = Arc::clone(&self.shared);
            let mut writer = shared.lock();
            writer.set_owner(cx.waker());
            let written = match writer.poll_flush_all(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            self.alarm.note_closing(writer.written());
            let mut is_shut = false;
            if written && self.may_shut() {
                let Some(io) = &mut writer.io else {
                    return Poll::Ready(());
                };
                match Pin::new(io).poll_shutdown(cx) {
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(())) if self.eof => return Poll::Ready(()),
                    Poll::Ready(Ok(())) => is_shut = true,
                    Poll::Pending => {}
                }
            }
            let read = self.poll_drain(&mut writer, cx);
            drop(writer);
            if read.is_ready() {
                // Decoded without the lock, because other threads may be about to send.
                self.look_for_close();
            } else if is_shut && self.is_server && self.is_closed_by_peer() {
                // "The server MUST close the underlying TCP connection immediately" (RFC 6455 §5.5.1): the peer has
                // nothing more to send, and anything that it sent anyway was just read.
                return Poll::Ready(());
            } else {
                return self.poll_alarm(cx);
            }
            if self.budget == 0 {
                self.budget = BUDGET;
                if self.alarm.is_due() && self.poll_alarm(cx).is_ready() {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Counts the rest of a message that was arriving, and drops it if the memory is needed elsewhere.
    fn count_rest(&mut self, cx: &Context<'_>) {
        if !self.may_hold(cx) {
            self.inbound.end();
            if let Some(holding) = &mut self.holding {
                holding.release();
            }
        }
    }

    /// Returns whether the sending direction is over: both close frames were exchanged, or none will arrive.
    fn may_shut(&self) -> bool {
        // "in most normal cases, the server closes the connection first" (RFC 6455 §7.1.1): a client whose close
        // frame was answered waits for that.
        self.eof || (self.inbound.is_ended() && (self.is_server || !self.is_closed_by_peer()))
    }

    /// Reads what the peer still sends. Ready after a read or at the end.
    fn poll_drain(&mut self, writer: &mut Writer<T>, cx: &mut Context<'_>) -> Poll<()> {
        if self.eof {
            return Poll::Pending;
        }
        if self.read.is_empty() {
            let polled = match &mut writer.io {
                Some(io) => ready!(poll_read(&mut self.read, io, (usize::MAX, &mut self.pace), cx)),
                None => Ok(0),
            };
            match polled {
                Ok(n) if n > 0 => self.spend(1 + n / BYTES_A_TURN),
                _ => self.eof = true,
            }
        }
        Poll::Ready(())
    }

    /// Decodes what was read, within the budget, and looks only for the peer's close frame.
    fn look_for_close(&mut self) {
        debug_assert!(!self.shared.is_locked_here(), "what is discarded is decoded without the lock");
        while !self.read.is_empty() && self.budget > 0 {
            let mut input = self.read.bytes();
            // Nothing is owed for bytes after a violation: they are dropped without being interpreted.
            if let Ok(Some(Event::Close(frame))) = self.inbound.decode(&mut input) {
                self.ending.note_close(frame);
            }
            let left = input.len();
            self.read.keep_last(left, &mut self.pace);
            let inflated = self.inbound.take_inflated();
            self.spend(1 + inflated / BYTES_A_TURN);
        }
    }

    pub(crate) fn is_closed_by_peer(&self) -> bool {
        self.ending.close_received().is_some()
    }

    /// Starts leaving: queues a close frame with this content, unless one was sent or the peer is gone.
    fn begin_leave(&mut self, frame: Option<CloseFrame>) {
        let mut writer = self.shared.lock();
        if !self.eof && writer.check().is_ok() {
            // A frame that must not be sent is replaced by an empty one, which may be sent.
            if writer.close(frame).is_err() {
                let _ = writer.close(None);
            }
        }
        drop(writer);
        // Parts are dropped as they arrive, because no caller waits for the message.
        self.inbound.set_parts(true);
        self.abandon();
        self.alarm.start_closing();
    }

    /// Ends without a caller that receives the outcome. An error that no caller has received is logged instead.
    fn abandon(&mut self) {
        if let Some(error) = self.ending.abandon() {
            debug!(?error, "a connection had failed before it was dropped");
        }
    }

    /// Returns whether nothing is left to do before the transport is dropped.
    fn is_over(&self, writer: &Writer<T>) -> bool {
        self.eof && (!writer.has_unwritten() || writer.failure().is_some())
    }
}
