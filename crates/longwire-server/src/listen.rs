//! Taking in connections, whatever the system says about it.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpListener;
use tracing::{debug, warn};

use crate::Transport;

/// Where connections come from.
pub(crate) trait Listen: fmt::Debug + Send + Sync + 'static {
    /// Takes in the next connection, with the address at its other end. One task at a time may wait.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Transport, Option<SocketAddr>)>>;
}

impl Listen for TcpListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Transport, Option<SocketAddr>)>> {
        self.poll_accept(cx).map_ok(|(stream, peer_addr)| {
            // What is worth a write is worth sending: replies must not wait for acknowledgements. A socket that has gone
            // already cannot be told, and is found out by reading.
            let _ = stream.set_nodelay(true);
            (Transport::Tcp(stream), Some(peer_addr))
        })
    }
}

/// Waits for the next connection; an error is noted and survived.
///
/// # Cancel safety
///
/// No connection is lost if the future is dropped.
pub(crate) async fn next_connection(
    listener: &dyn Listen,
    pause: &mut Pause,
) -> (Transport, Option<SocketAddr>) {
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok(connection) => {
                pause.reset();
                return connection;
            }
            Err(error) if concerns_one_connection(&error) => {
                debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                // Usually the process or the system is out of descriptors or memory. The connection stays in the
                // listener's queue, so asking again at once would only burn the time that others need to leave.
                let pause = pause.next();
                warn!(%error, ?pause, "no connections can be accepted for now");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Whether an error of `accept` is one of the connection that it would have been: Linux passes those on (accept(2)).
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
    )
}

/// How long to pause after the next error: doubled with each in a row, from 10 ms to 1 s.
#[derive(Debug)]
pub(crate) struct Pause(Duration);

impl Pause {
    fn next(&mut self) -> Duration {
        let next = self.0;
        self.0 = (next * 2).min(LONGEST_PAUSE);
        next
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(10))
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(1);
