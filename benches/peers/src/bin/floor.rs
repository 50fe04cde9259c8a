//! The least that an echo on tokio can do: one read, everything that it brought answered with one write.
//!
//! A thread's buffer is lent for a poll. A connection owns memory only while it holds an incomplete message or unsent
//! bytes.

use std::{
    future::poll_fn,
    pin::Pin,
    process::ExitCode,
    task::{Context, Poll, ready},
};

use longwire_bench_peers::{
    BoxError,
    floor::{BUFFER, BUFFERS, Turn, answer},
    serve,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

fn main() -> ExitCode {
    serve(|stream, _| async move {
        let mut echo =
            Echo { stream, held: Vec::new(), large: None, unsent: Vec::new(), sent: 0, closes: false };
        poll_fn(|cx| echo.poll(cx)).await
    })
}

struct Echo {
    stream: TcpStream,
    /// The start of an incomplete message.
    held: Vec<u8>,
    /// Its length, if the thread's buffer cannot hold it.
    large: Option<usize>,
    /// Answers that the socket did not take.
    unsent: Vec<u8>,
    /// The number of these that it took since.
    sent: usize,
    closes: bool,
}

impl Echo {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            while self.sent < self.unsent.len() {
                let stream = Pin::new(&mut self.stream);
                self.sent += ready!(stream.poll_write(cx, &self.unsent[self.sent..]))?;
            }
            if self.closes {
                return Poll::Ready(Ok(()));
            }
            if self.sent > 0 {
                (self.unsent, self.sent) = (Vec::new(), 0);
            }
            let ended = match self.large {
                Some(whole) => ready!(self.poll_large(cx, whole))?,
                None => ready!(BUFFERS.with_borrow_mut(|buf| self.poll_small(cx, buf)))?,
            };
            if ended {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads into the thread's buffer, after what is held; returns whether the client has ended.
    fn poll_small(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<bool, BoxError>> {
        let held = self.held.len();
        let mut read = ReadBuf::new(&mut buf[held..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        let len = held + read.filled().len();
        if len == held {
            return Poll::Ready(Ok(true));
        }
        buf[..held].copy_from_slice(&self.held);
        let turn = answer(&mut buf[..len]);
        self.hold(&turn, &buf[turn.taken..len]);
        let answers = &buf[turn.answers];
        let sent = self.write(cx, answers)?;
        self.unsent.extend_from_slice(&answers[sent..]);
        Poll::Ready(Ok(false))
    }

    /// Reads the rest of a message that the thread's buffer cannot hold, and writes the answer from where it lies.
    fn poll_large(&mut self, cx: &mut Context<'_>, whole: usize) -> Poll<Result<bool, BoxError>> {
        let mut read = std::pin::pin!(self.stream.read_buf(&mut self.held));
        if ready!(read.as_mut().poll(cx))? == 0 {
            return Poll::Ready(Ok(true));
        }
        if self.held.len() >= whole {
            let mut message = std::mem::take(&mut self.held);
            let turn = answer(&mut message);
            self.hold(&turn, &message[turn.taken..]);
            let sent = self.write(cx, &message[turn.answers.clone()])?;
            message.truncate(turn.answers.end);
            (self.unsent, self.sent) = (message, turn.answers.start + sent);
        }
        Poll::Ready(Ok(false))
    }

    /// Keeps the bytes after the last complete message. Memory is taken only for bytes that have come, and then as much
    /// as their message needs.
    fn hold(&mut self, turn: &Turn, rest: &[u8]) {
        self.closes |= turn.closes;
        self.large = turn.incomplete.filter(|&whole| whole > BUFFER);
        self.held = Vec::with_capacity(self.large.unwrap_or(rest.len()));
        self.held.extend_from_slice(rest);
    }

    /// Writes answers, and returns how many bytes the socket took.
    fn write(&mut self, cx: &mut Context<'_>, answers: &[u8]) -> Result<usize, BoxError> {
        if answers.is_empty() {
            return Ok(0);
        }
        match Pin::new(&mut self.stream).poll_write(cx, answers) {
            Poll::Ready(sent) => Ok(sent?),
            Poll::Pending => Ok(0),
        }
    }
}
