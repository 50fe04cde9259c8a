//! Leaving a connection that nobody holds any more: the close frame goes out and is not lost to a reset.
//!
//! A transport that is closed with unread bytes in it is reset, and a reset can overtake the close frame. So the sending
//! direction is ended first and the peer's bytes are read and dropped until its end, for a bounded time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use longwire_protocol::{CloseCode, CloseFrame, Event};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::Transport;
use crate::receiving::reader::{BUDGET, BYTES_A_TURN, Reader, poll_read};
use crate::sending::writer::Writer;

/// Leaves what a dropped socket was: to the task that drives it, else in the background.
pub(crate) fn leave_behind<T: Transport>(reader: Box<Reader<T>>) {
    // Those who count look when nobody receives any more.
    reader.shared.lock().messages_received = reader.messages;
    if reader.is_over() {
        reader.shared.lock().finish();
    } else if reader.shared.is_managed() {
        let shared = Arc::clone(&reader.shared);
        shared.lock().parked = Some(reader);
    } else {
        let code = if std::thread::panicking() { CloseCode::INTERNAL_ERROR } else { CloseCode::NORMAL };
        Leave::new(reader, CloseFrame::new(code, "")).in_background();
    }
}

/// The closing handshake and the end of a transport, for at most the close timeout.
pub(crate) struct Leave<T: Transport> {
    reader: Box<Reader<T>>,
}

impl<T: Transport> Leave<T> {
    pub(crate) fn new(mut reader: Box<Reader<T>>, frame: CloseFrame) -> Self {
        reader.begin_leave(Some(frame));
        Self { reader }
    }

    pub(crate) fn in_background(mut self) {
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(self)),
            // Without a runtime there is no waiting: what the transport takes at once has to do.
            Err(_) => drop(Pin::new(&mut self).poll_unwaited()),
        }
    }

    fn poll_unwaited(self: Pin<&mut Self>) -> Poll<()> {
        let mut cx = Context::from_waker(Waker::noop());
        self.reader.shared.poll_flush(&mut cx).map(drop)
    }
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
    /// One step of leaving: writes what is queued, ends the sending direction, and reads until the peer's end, so that
    /// the close frame is not lost to a reset (RFC 6455 §7.1.1).
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.poll_timers(cx).is_ready() {
                return Poll::Ready(());
            }
            let shared = Arc::clone(&self.shared);
            let mut writer = shared.lock();
            writer.set_owner(cx.waker());
            let mut is_shut = false;
            let written = match writer.poll_flush(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            // With both close frames exchanged, or none to come, this direction is over.
            if written && (self.inbound.is_ended() || self.eof) {
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
            if self.eof {
                return Poll::Pending;
            }
            match self.drain(&mut writer, cx) {
                Poll::Ready(()) => {}
                // "The server MUST close the underlying TCP connection immediately" (RFC 6455 §5.5.1): its peer has
                // nothing more to say, and what it said all the same was just read. A client waits for the server.
                Poll::Pending if is_shut && self.is_server && self.is_closed_by_peer() => {
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
            if self.budget == 0 {
                self.budget = BUDGET;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Reads and looks only for the peer's close frame.
    fn drain(&mut self, writer: &mut Writer<T>, cx: &mut Context<'_>) -> Poll<()> {
        if self.read.is_empty() {
            let polled = match &mut writer.io {
                Some(io) => ready!(poll_read(&mut self.read, io, cx)),
                None => Ok(0),
            };
            match polled {
                Ok(n) if n > 0 => self.spend(1 + n / BYTES_A_TURN),
                _ => {
                    self.eof = true;
                    return Poll::Ready(());
                }
            }
        }
        let mut input = self.read.bytes();
        while !input.is_empty() {
            match self.inbound.decode(&mut input) {
                Ok(Some(Event::Close(frame))) => self.ending.note_close(frame),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.read.release();
        Poll::Ready(())
    }

    fn is_closed_by_peer(&self) -> bool {
        self.ending.close_received().is_some()
    }

    /// Starts leaving: queues a close frame with this content unless one was sent or nobody is there to read it.
    fn begin_leave(&mut self, frame: Option<CloseFrame>) {
        let mut writer = self.shared.lock();
        if !self.eof && writer.check().is_ok() {
            // A frame that must not be sent is replaced by an empty one, which may.
            if writer.out.close(frame).is_err() {
                let _ = writer.out.close(None);
            }
            // Senders that wait for room have nothing to wait for.
            writer.wake_waiting();
        }
        drop(writer);
        self.inbound.set_parts(false);
        // Nobody is left to be told.
        let _ = self.ending.report();
        self.timers.closing(Instant::now().into_std(), self.close_timeout);
    }

    /// Whether there is nothing left to do before the transport is dropped.
    fn is_over(&self) -> bool {
        let writer = self.shared.lock();
        self.eof && (!writer.has_unwritten() || writer.failure().is_some())
    }
}
