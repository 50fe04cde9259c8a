//! `Stream` and `Sink`, for the combinators of the futures crates.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use longwire_protocol::{CloseCode, Compress, Message, State};

use crate::{Error, Receiver, Transport, WebSocket};

/// Yields the messages; an abnormal end is the last item, an error.
impl<T: Transport> Stream for Receiver<T> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.reader_mut().poll_recv(cx).map(Result::transpose)
    }
}

impl<T: Transport> FusedStream for Receiver<T> {
    fn is_terminated(&self) -> bool {
        self.state() == State::Closed
    }
}

/// Yields the messages; an abnormal end is the last item, an error.
impl<T: Transport> Stream for WebSocket<T> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx).map(Result::transpose)
    }
}

/// Sends messages; closing sends a close frame with code 1000 and flushes, without waiting for the peer's.
impl<T: Transport> Sink<Message> for WebSocket<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let shared = self.shared();
        let ready = shared.lock().poll_room(cx);
        if ready.is_pending() {
            return self.poll_blocked(cx);
        }
        ready
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.shared().lock().queue_message(message, Compress::Auto)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        WebSocket::poll_flush(&mut self, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.start_close(CloseCode::NORMAL, "") {
            Ok(()) | Err(Error::Closed) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        match ready!(WebSocket::poll_flush(&mut self, cx)) {
            Err(Error::Closed) => Poll::Ready(Ok(())),
            flushed => Poll::Ready(flushed),
        }
    }
}
