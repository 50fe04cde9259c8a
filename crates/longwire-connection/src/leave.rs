//! Leaving a connection that nobody holds any more: the close frame goes out and is not lost to a reset.
//!
//! A transport that is closed with unread bytes in it is reset, and a reset can overtake the close frame. So the sending
//! direction is ended first and the peer's bytes are read and dropped until its end, for a bounded time.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use longwire_protocol::{CloseCode, CloseFrame};
use tokio::runtime::Handle;

use crate::Transport;
use crate::receiver::Reader;

/// Leaves what a dropped socket was: to the task that drives it, else in the background.
pub(crate) fn leave_behind<T: Transport>(reader: Box<Reader<T>>) {
    if reader.is_over() {
        reader.shared.lock().finish();
    } else if reader.shared.is_managed() {
        let shared = std::sync::Arc::clone(&reader.shared);
        shared.lock().parked = Some(reader);
    } else {
        let code = if std::thread::panicking() { CloseCode::INTERNAL_ERROR } else { CloseCode::NORMAL };
        let mut leave = Leave::new(reader, CloseFrame::new(code, ""));
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(leave)),
            // Without a runtime there is no waiting: what the transport takes at once has to do.
            Err(_) => drop(Pin::new(&mut leave).poll_unwaited()),
        }
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
