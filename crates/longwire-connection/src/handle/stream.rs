//! `Stream` and `Sink`, for the combinators of the futures crates.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use longwire_protocol::{CloseCode, Compress, Message};

use crate::handle::halves::Half;
use crate::{Error, Receiver, Transport, WebSocket};

/// Yields the messages; if the connection ends abnormally, the last item is the error.
impl<T: Transport> Stream for Receiver<T> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.reader_mut().poll_recv(cx).map(Result::transpose)
    }
}

impl<T: Transport> FusedStream for Receiver<T> {
    fn is_terminated(&self) -> bool {
        // The connection's state would not do: there may still be an error to yield.
        self.reader().ending.is_reported()
    }
}

/// Yields the messages; if the connection ends abnormally, the last item is the error.
impl<T: Transport> Stream for WebSocket<T> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let waker = self.enter(Half::Read, cx);
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(cx.waker()));
        let polled = self.poll_recv(&mut cx).map(Result::transpose);
        self.leave(Half::Read, polled)
    }
}

/// Sends messages. Closing sends a close frame with code 1000 and flushes, without waiting for the peer's. A
/// message fails with [`Error::QueueFull`] if another task has begun a message in parts since the sink was ready.
impl<T: Transport> Sink<Message> for WebSocket<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let waker = self.enter(Half::Write, cx);
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(cx.waker()));
        let polled = self.poll_room(&mut cx);
        self.leave(Half::Write, polled)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        // The next flush includes this message.
        self.flushing = 0;
        self.shared().lock().queue_message(message, Compress::Auto)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let waker = self.enter(Half::Write, cx);
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(cx.waker()));
        let polled = WebSocket::poll_flush(&mut self, &mut cx);
        self.leave(Half::Write, polled)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.start_close(CloseCode::NORMAL, "") {
            Ok(()) => self.flushing = 0,
            Err(Error::Closed) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        match ready!(Sink::poll_flush(self, cx)) {
            Err(Error::Closed) => Poll::Ready(Ok(())),
            flushed => Poll::Ready(flushed),
        }
    }
}
