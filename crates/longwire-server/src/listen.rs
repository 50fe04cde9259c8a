//! Accepts connections and survives the errors of the operating system.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;
use tracing::{debug, warn};

use crate::ServerStream;

/// A source of connections: one of tokio's listeners, or your own.
pub trait Listen: fmt::Debug + Send + Sync + 'static {
    /// Accepts the next connection and returns it with the peer's address, if it has one. Only one task at a time
    /// waits.
    ///
    /// # Errors
    ///
    /// Errors do not end the server: it tries again, after a pause unless the error concerns only one connection.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(ServerStream, Option<SocketAddr>)>>;

    /// Returns the address that clients connect to, if it is a TCP address.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Adds a second descriptor of this listener to `listeners`, so that connections waiting to be accepted stay
    /// queued when this listener is dropped.
    ///
    /// # Errors
    ///
    /// The error of the operating system; [`Unsupported`](io::ErrorKind::Unsupported) by default.
    fn hand_over(&self, listeners: &mut Listeners) -> io::Result<()> {
        let _ = listeners;
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Listen for TcpListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(ServerStream, Option<SocketAddr>)>> {
        self.poll_accept(cx).map_ok(|(stream, peer_addr)| {
            // Replies must not wait for acknowledgments. If the socket is already closed, this fails, and reading
            // reports it.
            let _ = stream.set_nodelay(true);
            (ServerStream::Tcp(stream), Some(peer_addr))
        })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr().ok()
    }

    fn hand_over(&self, listeners: &mut Listeners) -> io::Result<()> {
        listeners.tcp.push(SockRef::from(self).try_clone()?.into());
        Ok(())
    }
}

#[cfg(unix)]
impl Listen for tokio::net::UnixListener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(ServerStream, Option<SocketAddr>)>> {
        self.poll_accept(cx).map_ok(|(stream, _)| (ServerStream::Unix(stream), None))
    }

    fn hand_over(&self, listeners: &mut Listeners) -> io::Result<()> {
        listeners.unix.push(std::os::fd::AsFd::as_fd(self).try_clone_to_owned()?.into());
        Ok(())
    }
}

/// The listeners of a server, for another server to continue with: see
/// [`ServerHandle::hand_over`](crate::ServerHandle::hand_over). The sockets are non-blocking.
///
/// In the same process, pass them to [`Server::from_listeners`](crate::Server::from_listeners). Passing them to another
/// process is up to the application: a child process can inherit a descriptor, and a message over a Unix socket can
/// carry one to any process. The other process converts the descriptor to one of the types below, and also uses
/// `from_listeners`; or it converts it to one of tokio's listeners, for
/// [`Server::from_listener`](crate::Server::from_listener) (TCP) or
/// [`Server::from_acceptor`](crate::Server::from_acceptor) (Unix sockets).
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Listeners {
    /// The TCP listeners.
    pub tcp: Vec<std::net::TcpListener>,
    /// The listeners on Unix sockets. Their files in the file system remain.
    #[cfg(unix)]
    pub unix: Vec<std::os::unix::net::UnixListener>,
}

impl Listeners {
    pub(crate) fn is_empty(&self) -> bool {
        #[cfg(unix)]
        if !self.unix.is_empty() {
            return false;
        }
        self.tcp.is_empty()
    }

    pub(crate) fn listen(self) -> io::Result<Vec<Arc<dyn Listen>>> {
        let mut all: Vec<Arc<dyn Listen>> = Vec::new();
        for listener in self.tcp {
            listener.set_nonblocking(true)?;
            all.push(Arc::new(TcpListener::from_std(listener)?));
        }
        #[cfg(unix)]
        for listener in self.unix {
            listener.set_nonblocking(true)?;
            all.push(Arc::new(tokio::net::UnixListener::from_std(listener)?));
        }
        Ok(all)
    }
}

/// Several listeners as one.
#[derive(Debug)]
pub(crate) struct Several {
    listeners: Vec<Arc<dyn Listen>>,
    /// The listener to poll first. It rotates, so that a busy listener does not hide the others.
    first: AtomicUsize,
}

impl Several {
    pub(crate) fn new(listeners: Vec<Arc<dyn Listen>>) -> Self {
        Self { listeners, first: AtomicUsize::new(0) }
    }
}

impl Listen for Several {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(ServerStream, Option<SocketAddr>)>> {
        let first = self.first.fetch_add(1, Ordering::Relaxed) % self.listeners.len().max(1);
        let (after, before) = self.listeners.split_at(first);
        for listener in before.iter().chain(after) {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.listeners.iter().find_map(|listener| listener.local_addr())
    }

    fn hand_over(&self, listeners: &mut Listeners) -> io::Result<()> {
        self.listeners.iter().try_for_each(|listener| listener.hand_over(listeners))
    }
}

/// The options of a TCP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// The maximum number of connections that may wait to be accepted. The system may allow fewer. Default: 1024.
    pub backlog: u32,
    /// Whether other sockets may listen on the same address (`SO_REUSEPORT`), such as one for each worker. The
    /// system distributes connections among them. Default: `false`.
    pub reuse_port: bool,
    /// Whether a listener on an IPv6 address accepts no IPv4 clients. Default: `false`, so `[::]:8080` accepts
    /// both.
    pub only_v6: bool,
    /// The size of each connection's send buffer in the kernel (`SO_SNDBUF`), in bytes. Linux doubles it, for its own
    /// bookkeeping. Default: the system's choice, which grows to some megabytes on a fast connection. A value ends
    /// that growth: a connection then sends at most this much in each round trip.
    pub send_buffer: Option<usize>,
    /// The bytes that may wait in the kernel before they are sent (`TCP_NOTSENT_LOWAT`; Linux, Android and Apple
    /// systems). Above it, messages wait in the server, where the policies for slow clients see them. Default: the
    /// system's choice, usually no limit. 16 to 64 KiB keeps values fresh that
    /// [`Hub::publish_latest`](crate::Hub::publish_latest) sends, and does not limit the speed.
    pub unsent_low_water: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 1024, reuse_port: false, only_v6: false, send_buffer: None, unsent_low_water: None }
    }
}

impl ListenOptions {
    /// Sets [`backlog`](Self::backlog).
    #[must_use]
    pub fn with_backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Sets [`reuse_port`](Self::reuse_port).
    #[must_use]
    pub fn with_reuse_port(mut self, reuse_port: bool) -> Self {
        self.reuse_port = reuse_port;
        self
    }

    /// Sets [`only_v6`](Self::only_v6).
    #[must_use]
    pub fn with_only_v6(mut self, only_v6: bool) -> Self {
        self.only_v6 = only_v6;
        self
    }

    /// Sets [`send_buffer`](Self::send_buffer).
    #[must_use]
    pub fn with_send_buffer(mut self, send_buffer: impl Into<Option<usize>>) -> Self {
        self.send_buffer = send_buffer.into();
        self
    }

    /// Sets [`unsent_low_water`](Self::unsent_low_water).
    #[must_use]
    pub fn with_unsent_low_water(mut self, unsent_low_water: impl Into<Option<u32>>) -> Self {
        self.unsent_low_water = unsent_low_water.into();
        self
    }
}

impl ListenOptions {
    /// Listens on an address.
    ///
    /// # Errors
    ///
    /// The error of the operating system.
    pub fn listen(self, addr: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::from_std(self.listen_std(addr)?)
    }

    /// Listens on an address, outside of any runtime.
    pub(crate) fn listen_std(self, addr: SocketAddr) -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(self.only_v6)?;
        }
        // Connections of a previous server must not keep the port in use.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))))]
        socket.set_reuse_port(self.reuse_port)?;
        // Accepted connections inherit both.
        if let Some(size) = self.send_buffer {
            socket.set_send_buffer_size(size)?;
        }
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        if let Some(limit) = self.unsent_low_water {
            socket.set_tcp_notsent_lowat(limit)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(i32::try_from(self.backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    }
}

/// Waits for the next connection. Errors are logged and do not end the wait.
///
/// # Cancel safety
///
/// No connection is lost if the future is dropped.
pub(crate) async fn next_connection(
    listener: &dyn Listen,
    pause: &mut Pause,
) -> (ServerStream, Option<SocketAddr>) {
    loop {
        // A listener of the application may answer at once each time, even with an error that lasts. The shutdown and
        // the clients need their turn.
        tokio::task::consume_budget().await;
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok(connection) => {
                pause.reset();
                return connection;
            }
            Err(error) if concerns_one_connection(&error) => {
                debug!(%error, "a connection was closed before it was accepted");
            }
            Err(error) => {
                // Usually the process or the system is out of descriptors or memory. The connection stays in the
                // listener's queue, so retrying at once would only take CPU time that other connections need to
                // end.
                let pause = pause.next();
                warn!(%error, ?pause, "cannot accept connections, pausing");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Returns whether an error of `accept` belongs to the connection being accepted: Linux passes those on
/// (accept(2)).
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

/// The pause after the next error: 10 ms at first, doubled for each consecutive error, at most 1 s.
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
