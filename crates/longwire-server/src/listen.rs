//! Taking in connections, whatever the system says about it.

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

use crate::Transport;

/// Where connections come from: a listener of tokio's, or one of your own.
pub trait Listen: fmt::Debug + Send + Sync + 'static {
    /// Takes in the next connection, with the address at its other end where there is one. One task at a time waits.
    ///
    /// # Errors
    ///
    /// Errors are survived: the server asks again, after a pause if the error is not about one connection alone.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Transport, Option<SocketAddr>)>>;

    /// The address that clients connect to, if it is one of TCP.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Adds to `listeners` a second descriptor of what this listens on, such that what waits to be accepted stays there when
    /// this is dropped.
    ///
    /// # Errors
    ///
    /// What the system says; [`Unsupported`](io::ErrorKind::Unsupported) by default.
    fn hand_over(&self, listeners: &mut Listeners) -> io::Result<()> {
        let _ = listeners;
        Err(io::ErrorKind::Unsupported.into())
    }
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
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Transport, Option<SocketAddr>)>> {
        self.poll_accept(cx).map_ok(|(stream, _)| (Transport::Unix(stream), None))
    }

    fn hand_over(&self, listeners: &mut Listeners) -> io::Result<()> {
        listeners.unix.push(std::os::fd::AsFd::as_fd(self).try_clone_to_owned()?.into());
        Ok(())
    }
}

/// What a server listened on; see [`ServerHandle::hand_over`](crate::ServerHandle::hand_over). The sockets do not block.
///
/// To get one to another process is the application's matter: a child inherits a descriptor, and a Unix socket carries it
/// to any process. There it becomes a listener of tokio's, and [`Server::from_listener`](crate::Server::from_listener) takes that.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Listeners {
    /// Those of TCP.
    pub tcp: Vec<std::net::TcpListener>,
    /// Those of Unix sockets, whose files stay.
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
    /// Who is asked first: each in turn, so that a busy one does not hide the others.
    first: AtomicUsize,
}

impl Several {
    pub(crate) fn new(listeners: Vec<Arc<dyn Listen>>) -> Self {
        Self { listeners, first: AtomicUsize::new(0) }
    }
}

impl Listen for Several {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Transport, Option<SocketAddr>)>> {
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

/// How a TCP listener is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// How many connections may wait to be accepted; the system may allow fewer. Default: 1024.
    pub backlog: u32,
    /// Whether other sockets may listen on the same address, among which the system shares out connections
    /// (`SO_REUSEPORT`): one for each worker. Default: no.
    pub reuse_port: bool,
    /// Whether a listener on an IPv6 address takes no IPv4 clients. Default: no, `[::]:8080` takes both.
    pub only_v6: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 1024, reuse_port: false, only_v6: false }
    }
}

impl ListenOptions {
    /// Listens on an address.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn listen(self, addr: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::from_std(self.listen_std(addr)?)
    }

    /// Listens on an address, outside of any runtime.
    pub(crate) fn listen_std(self, addr: SocketAddr) -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(self.only_v6)?;
        }
        // Connections of a server that was there before must not keep the port.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        #[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))))]
        socket.set_reuse_port(self.reuse_port)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(i32::try_from(self.backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
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
