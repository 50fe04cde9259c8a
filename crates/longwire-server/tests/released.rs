//! Whatever clients do, the server frees their descriptors. This is a single test, because descriptors are per
//! process.

#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use longwire_server::{HandlerResult, Request, Socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use common::{REQUEST, bind, check_echo, frame, open, open_raw, start_with, tcp, text};

/// The ways in which a client misbehaves.
#[derive(Clone, Copy, Debug)]
enum Client {
    ConnectsAndLeaves,
    IsResetInItsRequest,
    IsResetInAFrame,
    IsResetWhileItIsWrittenTo,
    ClosesOneDirection,
    LeavesNoWord,
    DoesNotFinishClosing,
    BreaksTheProtocol,
}

impl Client {
    /// Misbehaves, and returns the open connection, if any.
    async fn misbehave(self, addr: std::net::SocketAddr) -> Option<TcpStream> {
        let mut stream = match self {
            Self::ConnectsAndLeaves | Self::IsResetInItsRequest => tcp(addr).await,
            _ => open_raw(addr).await,
        };
        match self {
            Self::ConnectsAndLeaves | Self::LeavesNoWord => return None,
            Self::IsResetInItsRequest => stream.write_all(&REQUEST.as_bytes()[..60]).await.unwrap(),
            Self::IsResetInAFrame => stream.write_all(&text("hello")[..7]).await.unwrap(),
            Self::IsResetWhileItIsWrittenTo => {
                stream.write_all(&text("flood")).await.unwrap();
                stream.read_exact(&mut [0; 10_000]).await.unwrap();
            }
            Self::ClosesOneDirection => {
                stream.write_all(&text("hello")).await.unwrap();
                stream.shutdown().await.unwrap();
                return Some(stream);
            }
            Self::DoesNotFinishClosing => {
                stream.write_all(&text("leave")).await.unwrap();
                return Some(stream);
            }
            Self::BreaksTheProtocol => {
                stream.write_all(&frame(0xf3, b"")).await.unwrap();
                return Some(stream);
            }
        }
        stream.set_zero_linger().unwrap();
        None
    }
}

async fn serve(mut ws: Socket, _: Request) -> HandlerResult {
    while let Some(message) = ws.recv().await? {
        match message.as_text() {
            Some("leave") => return Ok(()),
            Some("flood") => loop {
                ws.send(vec![0; 1 << 16]).await?;
            },
            _ => ws.send(message).await?,
        }
    }
    Ok(())
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn descriptors_come_back_whatever_clients_do() {
    let server = bind().await.configure(|config| {
        config.connection.close_timeout = Duration::from_millis(200);
        config.handshake_timeout = Duration::from_secs(1);
    });
    let server = start_with(server, serve);
    check_echo(&mut open(server.addr).await, "hello").await;
    let clients = [
        Client::ConnectsAndLeaves,
        Client::IsResetInItsRequest,
        Client::IsResetInAFrame,
        Client::IsResetWhileItIsWrittenTo,
        Client::ClosesOneDirection,
        Client::LeavesNoWord,
        Client::DoesNotFinishClosing,
        Client::BreaksTheProtocol,
    ];
    // The end of the first one may still be in progress.
    sleep(Duration::from_millis(500)).await;
    for client in clients {
        let before = descriptors();
        let mut left = Vec::new();
        for _ in 0..20 {
            left.extend(client.misbehave(server.addr).await);
        }
        // The ends that the test itself holds do not count.
        let begun = Instant::now();
        while descriptors() > before + left.len() {
            assert!(begun.elapsed() < Duration::from_secs(15), "{client:?}: {} of {before}", descriptors());
            sleep(Duration::from_millis(20)).await;
        }
        drop(left);
        assert!(server.handle.hub().is_empty(), "{client:?}");
        check_echo(&mut open(server.addr).await, "still here").await;
        sleep(Duration::from_millis(500)).await;
    }
}
