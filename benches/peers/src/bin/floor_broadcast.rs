//! The least that a broadcast on tokio can do: the messages of one read are framed once and written to every other
//! client from the publisher's task; what a socket does not take waits for its client's own task, in one piece.
//!
//! One thread, so that the clients are a list of the thread. No slow client is ever left behind.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::ErrorKind,
    pin::Pin,
    process::ExitCode,
    task::{Context, Poll, Waker, ready},
};

use longwire_bench_peers::{
    BoxError,
    floor::{BUFFER, BUFFERS, answer},
    serve,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

fn main() -> ExitCode {
    serve(|stream, options| {
        assert_eq!(options.threads, 1, "the clients are a list of one thread");
        client(stream)
    })
}

thread_local! {
    /// The clients; the places of those that have ended stay empty.
    static CLIENTS: RefCell<Vec<Option<Client>>> = const { RefCell::new(Vec::new()) };
}

struct Client {
    stream: OwnedWriteHalf,
    /// The frames that its socket did not take.
    unsent: Vec<u8>,
    /// Its task, which waits for messages.
    task: Option<Waker>,
}

async fn client(stream: TcpStream) -> Result<(), BoxError> {
    let (mut stream, writer) = stream.into_split();
    let id = CLIENTS.with_borrow_mut(|clients| {
        clients.push(Some(Client { stream: writer, unsent: Vec::new(), task: None }));
        clients.len() - 1
    });
    let mut held = Vec::new();
    let outcome = poll_fn(|cx| poll(id, &mut stream, &mut held, cx)).await;
    CLIENTS.with_borrow_mut(|clients| clients[id] = None);
    outcome
}

/// Writes what waits for this client, and broadcasts what it sends.
fn poll(
    id: usize,
    stream: &mut OwnedReadHalf,
    held: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), BoxError>> {
    CLIENTS.with_borrow_mut(|clients| match &mut clients[id] {
        Some(client) => client.write_unsent(cx),
        None => Ok(()),
    })?;
    loop {
        let ended = ready!(BUFFERS.with_borrow_mut(|buf| {
            let (at, len) = (held.len(), buf.len());
            if len < at + BUFFER {
                // A large message: the buffer grows, and stays so.
                buf.resize(at + BUFFER, 0);
            }
            let mut read = ReadBuf::new(&mut buf[at..]);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
            let len = at + read.filled().len();
            if len == at {
                return Poll::Ready(Ok::<_, BoxError>(true));
            }
            buf[..at].copy_from_slice(held);
            held.clear();
            let turn = answer(&mut buf[..len]);
            held.extend_from_slice(&buf[turn.taken..len]);
            let frames = &buf[turn.answers];
            if !frames.is_empty() {
                CLIENTS.with_borrow_mut(|clients| broadcast(clients, id, frames));
            }
            Poll::Ready(Ok(turn.closes))
        }))?;
        if ended {
            return Poll::Ready(Ok(()));
        }
    }
}

fn broadcast(clients: &mut [Option<Client>], from: usize, frames: &[u8]) {
    for (id, client) in clients.iter_mut().enumerate() {
        if id != from
            && let Some(client) = client
        {
            client.send(frames);
        }
    }
}

impl Client {
    fn send(&mut self, frames: &[u8]) {
        let sent = if self.unsent.is_empty() {
            match self.stream.try_write(frames) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                // Its own task finds out that it has ended.
                Err(_) => frames.len(),
            }
        } else {
            0
        };
        // If it had some before, it waits for its socket.
        if sent < frames.len()
            && self.unsent.is_empty()
            && let Some(task) = self.task.take()
        {
            task.wake();
        }
        self.unsent.extend_from_slice(&frames[sent..]);
    }

    fn write_unsent(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        self.task.get_or_insert_with(|| cx.waker().clone());
        let mut sent = 0;
        while sent < self.unsent.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.unsent[sent..]) {
                Poll::Ready(len) => sent += len?,
                Poll::Pending => break,
            }
        }
        self.unsent.drain(..sent);
        if self.unsent.is_empty() && self.unsent.capacity() > 0 {
            self.unsent = Vec::new();
        }
        Ok(())
    }
}
