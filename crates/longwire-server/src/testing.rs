//! A server in memory, to test an application's handlers, routes and hooks without a network.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use longwire_connection::testing::{Pipe, duplex};
use tokio::sync::mpsc;

use crate::{Listen, Serve, Server, ServerHandle, ServerStream};

/// Starts a server in memory. `start` sets it up as it would a real one.
///
/// A request takes the whole path, from its bytes through the checks of the handshake, `authorize` and the routes to
/// the handler. A client has no address. The server ends when the returned value is dropped: its clients are closed as
/// by a shutdown.
///
/// # Panics
///
/// If called outside of a tokio runtime.
///
/// # Examples
///
/// ```
/// use longwire_client::Client;
/// use longwire_server::testing::serve;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = serve(|server| {
///     server.serve(|mut ws, request| async move {
///         Ok(ws.send(format!("hello, {}", request.query("name").unwrap_or_default())).await?)
///     })
/// });
///
/// let (mut ws, _) = Client::new("ws://test/?name=Ada").handshake_over(server.connect()).await?;
/// assert_eq!(ws.recv().await?, Some("hello, Ada".into()));
/// # Ok(())
/// # }
/// ```
pub fn serve(start: impl FnOnce(Server) -> Serve) -> InMemory {
    let (sender, receiver) = mpsc::unbounded_channel();
    let serve = start(Server::from_acceptor(Pipes { receiver: Mutex::new(receiver) }));
    let handle = serve.handle();
    drop(serve.spawn());
    InMemory { handle, pipes: sender }
}

/// A server in memory, made by [`serve`].
#[derive(Debug)]
pub struct InMemory {
    handle: ServerHandle,
    pipes: mpsc::UnboundedSender<Pipe>,
}

impl InMemory {
    /// Opens a connection and returns the client's end of it, for `Client::handshake_over`. It holds 64 KiB in each
    /// direction.
    pub fn connect(&self) -> Pipe {
        let (client, server) = duplex(64 * 1024);
        // A server that has ended drops the connection.
        let _ = self.pipes.send(server);
        client
    }

    /// Returns the server's handle: its hub, its counters, its shutdown.
    pub fn handle(&self) -> &ServerHandle {
        &self.handle
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        drop(self.handle.shutdown());
    }
}

/// The listener: connections come over a channel.
#[derive(Debug)]
struct Pipes {
    receiver: Mutex<mpsc::UnboundedReceiver<Pipe>>,
}

impl Listen for Pipes {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(ServerStream, Option<SocketAddr>)>> {
        // One task waits at a time, so the lock is free.
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        match receiver.poll_recv(cx) {
            Poll::Ready(Some(pipe)) => Poll::Ready(Ok((ServerStream::other(pipe), None))),
            // No connection can come any more.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
