//! Counts the writes of a handler that publishes to a thousand members. It prints results and checks nothing:
//!
//! ```text
//! cargo test --profile checks -p longwire-hub --test fan_out -- --ignored --nocapture
//! ```
//!
//! `FAN_MEMBERS`, `FAN_DEPTH` (messages published in one turn) and `FAN_ROUNDS` change the numbers. Under callgrind,
//! the difference between two numbers of rounds yields the instructions for one delivery.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use longwire_connection::{Config, Error, Handover, Message, WebSocket};
use longwire_hub::{ClientInfo, Hub};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::{coop, yield_now};

thread_local! {
    static WRITES: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// A transport that takes everything. Like a socket of tokio, it uses up the cooperative budget of the task.
struct Sink;

impl AsyncRead for Sink {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(coop::poll_proceed(cx)).made_progress();
        let written = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        WRITES.set(WRITES.get() + 1);
        BYTES.set(BYTES.get() + written as u64);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

#[test]
#[ignore = "it measures"]
fn writes_for_each_delivery() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (members, depth) = (number("FAN_MEMBERS", 1000), number("FAN_DEPTH", 16));
    let rounds = number("FAN_ROUNDS", 20);
    runtime.block_on(async {
        let hub = Hub::default();
        let socket = || WebSocket::new(Sink, Handover::server(), &Config::default());
        for _ in 0..members {
            tokio::spawn(hub.run(socket(), ClientInfo::default(), |mut ws| async move {
                while ws.recv().await?.is_some() {}
                Ok::<_, Error>(())
            }));
        }
        yield_now().await;
        let publisher = hub.run(socket(), ClientInfo::default(), move |ws| async move {
            let frame_len = 127;
            for round in 1..=rounds {
                for _ in 0..depth {
                    let message = Message::text("x".repeat(125));
                    assert_eq!(ws.hub().broadcast_except(ws.id(), message).accepted as u64, members);
                }
                while BYTES.get() < round * depth * members * frame_len {
                    yield_now().await;
                }
            }
            Ok::<_, Error>(())
        });
        // In a task of its own, as a server runs it: `block_on` has no budget.
        tokio::select! {
            ended = tokio::spawn(publisher) => panic!("the peer answers no close frame: {ended:?}"),
            () = async {
                while BYTES.get() < rounds * depth * members * 127 {
                    yield_now().await;
                }
            } => {}
        }
        println!("{members} members, {depth} messages in each of {rounds} turns");
        let thousandths = WRITES.get() * 1000 / (rounds * members);
        println!("writes for each member and turn: {}.{:03}", thousandths / 1000, thousandths % 1000);
        // The members' tasks end with the runtime.
    });
}
