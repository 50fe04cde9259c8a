//! From a hyper request to a socket.
//!
//! Owns the takeover of the connection. The rules for requests are in `longwire-handshake`.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use http::{Extensions, Request, Response, Version, request};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use longwire_connection::{Config, Deadline, Handover, WebSocket};
use longwire_handshake::{Accepted, Rejection, RequestView, Subprotocol, accept};
use longwire_hub::{ClientInfo, Handling, HubError, Reservation};
use tokio::task::JoinHandle;
use tracing::debug;

use crate::{HandlerOutput, Mount, Socket, UpgradedStream};

/// Checks a WebSocket request, over HTTP/1.1 or HTTP/2, and takes over its connection.
///
/// Return the response to hyper unchanged, except for header fields that the application adds: hyper hands over the
/// connection after the response is sent. The [`Upgrade`] owns the connection: dropping it closes the connection.
///
/// # Errors
///
/// The reason for the refusal, with the response to return: [`Rejection::to_response`]. The request is then
/// unchanged, so a request for a plain page ([`Rejection::is_plain_request`]) can be served.
/// [`Rejection::Unavailable`] if the hub is shutting down or full, [`Rejection::NoUpgrade`] if hyper was not set
/// up to hand over connections.
pub fn upgrade<B, R: Default>(
    request: &mut Request<B>,
    mount: &Mount,
) -> Result<(Response<R>, Upgrade), Rejection> {
    let accepted = judge(RequestView::from(&*request), request.extensions(), mount)?;
    let version = request.version();
    let upgrade = Upgrade::begin(request.extensions_mut(), accepted, version, mount)?;
    Ok((upgrade.response(), upgrade))
}

/// Does the same as [`upgrade`] for the head of a request that was taken apart.
///
/// # Errors
///
/// As for [`upgrade`].
pub fn upgrade_parts<R: Default>(
    parts: &mut request::Parts,
    mount: &Mount,
) -> Result<(Response<R>, Upgrade), Rejection> {
    let accepted = judge(RequestView::from(&*parts), &parts.extensions, mount)?;
    let version = parts.version;
    let upgrade = Upgrade::begin(&mut parts.extensions, accepted, version, mount)?;
    Ok((upgrade.response(), upgrade))
}

fn judge(
    request: RequestView<'_>,
    extensions: &Extensions,
    mount: &Mount,
) -> Result<(Accepted, Reservation), Rejection> {
    let protocol = extensions.get::<Protocol>().map(Protocol::as_str);
    let accepted = accept(request.protocol(protocol), &mount.config().handshake)?;
    // The address is not known until the connection is handed over.
    let reservation = mount.hub().reserve(None).map_err(|error| {
        debug!(%error, "a client was not admitted");
        Rejection::Unavailable
    })?;
    Ok((accepted, reservation))
}

/// A connection that becomes a WebSocket once the response is sent.
#[must_use = "dropped, it closes the connection: spawn a handler with `on_upgrade`, or await its `socket`"]
pub struct Upgrade {
    pending: OnUpgrade,
    pub(crate) accepted: Accepted,
    version: Version,
    mount: Mount,
    pub(crate) config: Config,
    info: ClientInfo,
    reservation: Reservation,
    /// `None` if it is beyond the range of the clock.
    deadline: Deadline,
}

impl Upgrade {
    fn begin(
        extensions: &mut Extensions,
        (accepted, reservation): (Accepted, Reservation),
        version: Version,
        mount: &Mount,
    ) -> Result<Self, Rejection> {
        let pending = extensions.remove::<OnUpgrade>().ok_or(Rejection::NoUpgrade)?;
        Ok(Self {
            pending,
            accepted,
            version,
            mount: mount.clone(),
            config: mount.config().connection.clone(),
            info: ClientInfo::default(),
            reservation,
            deadline: Deadline::after(mount.config().upgrade_timeout),
        })
    }

    pub(crate) fn response<R: Default>(&self) -> Response<R> {
        self.accepted.response().map(|()| R::default())
    }

    /// Returns the subprotocol that both sides will use.
    pub fn subprotocol(&self) -> Option<&str> {
        self.accepted.subprotocol().map(Subprotocol::as_str)
    }

    /// Returns the HTTP version of the request.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Sets the configuration of this connection. Default:
    /// [`MountConfig::connection`](crate::MountConfig::connection).
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets the peer's address, for the hub. Default: the address of the connection, if it is TCP.
    pub fn peer_addr(mut self, peer_addr: impl Into<Option<SocketAddr>>) -> Self {
        self.info = self.info.peer_addr(peer_addr);
        self
    }

    /// Waits until the response is sent and returns the socket, registered with the mount's hub.
    ///
    /// Await it in a separate task: hyper sends the response after the service has returned it. To gather
    /// everything that a handler sends between two yields in one write, run it with
    /// [`Socket::run`](longwire_hub::Socket::run).
    ///
    /// # Errors
    ///
    /// An [`UpgradeError`] if the connection is not handed over or the hub does not admit the client.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection is closed.
    pub async fn socket(self) -> Result<Socket, UpgradeError> {
        let upgraded = self.deadline.run(self.pending).await;
        let late = |_| UpgradeError::Timeout { limit: self.mount.config().upgrade_timeout };
        let upgraded = upgraded.map_err(late)?.map_err(UpgradeError::NotHandedOver)?;
        let (io, read_ahead) = UpgradedStream::recover(upgraded, self.version, self.config.close_timeout);
        let subprotocol = self.accepted.subprotocol().map(|name| name.as_str().to_owned());
        let handover = Handover::server().read_ahead(read_ahead).subprotocol(subprotocol);
        #[cfg(feature = "deflate")]
        let handover = match (self.accepted.deflate(), &self.mount.config().handshake.deflate) {
            (Some(agreement), Some(options)) => handover.deflate(*agreement, options),
            _ => handover,
        };
        let info = match self.info.peer_addr {
            Some(_) => self.info,
            None => self.info.peer_addr(io.peer_addr()),
        };
        let ws = WebSocket::new(io, handover, &self.config);
        self.mount.hub().admit(ws, info.reservation(self.reservation)).map_err(UpgradeError::from)
    }

    /// Checks the limit on clients from one address, if the address is already known.
    #[cfg(feature = "axum")]
    pub(crate) fn check_address(&mut self) -> Result<(), UpgradeError> {
        self.info
            .peer_addr
            .map_or(Ok(()), |addr| self.reservation.set_peer_addr(addr))
            .map_err(UpgradeError::from)
    }

    /// Runs `handler` on the socket, in a separate task, once the response is sent.
    ///
    /// Everything that the handler sends between two yields leaves in one write. When it returns, the connection
    /// is closed; see [`HandlerResult`](crate::HandlerResult). [`Hub::shutdown`](longwire_hub::Hub::shutdown) closes
    /// it and waits for the handler. Aborting the task drops the handler and closes the connection.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    pub fn on_upgrade<H, Fut>(self, handler: H) -> JoinHandle<()>
    where
        H: FnOnce(Socket) -> Fut + Send + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        self.spawn(handler, |error| debug!(?error, "an upgrade failed"))
    }

    pub(crate) fn spawn<H, Fut>(
        self,
        handler: H,
        failed: impl FnOnce(UpgradeError) + Send + 'static,
    ) -> JoinHandle<()>
    where
        H: FnOnce(Socket) -> Fut + Send + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        // Boxed, and dropped with the handshake, so that its state is not part of the connection's task.
        let opening: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(self.socket());
        tokio::spawn(async move {
            match opening.await {
                Ok(socket) => {
                    socket.client().log_start();
                    let (client, ended) = socket.run_to_end(|socket| Handling::new(handler(socket))).await;
                    client.log_end(ended);
                }
                Err(error) => failed(error),
            }
        })
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade")
            .field("version", &self.version)
            .field("subprotocol", &self.subprotocol())
            .finish_non_exhaustive()
    }
}

/// The reason why an accepted request did not become a socket.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The connection ended before the response was sent, or a different response was sent.
    #[error("connection was not handed over")]
    NotHandedOver(#[source] hyper::Error),
    /// The response was not sent by the deadline.
    #[error("connection was not handed over within {limit:?}")]
    Timeout {
        /// [`MountConfig::upgrade_timeout`](crate::MountConfig::upgrade_timeout).
        limit: Duration,
    },
    /// The hub began to shut down meanwhile. The connection was closed with the shutdown's code.
    #[error("the hub is shutting down")]
    ShuttingDown,
    /// The hub has as many clients from this address as it allows. The connection was closed with code 1013, or
    /// the request was answered with status 503 if the address was known before the response was sent.
    #[error("the client was not admitted: {0}")]
    Refused(HubError),
}

longwire_connection::debug_with_causes!(UpgradeError);

impl From<HubError> for UpgradeError {
    fn from(error: HubError) -> Self {
        match error {
            HubError::ShuttingDown => Self::ShuttingDown,
            error => Self::Refused(error),
        }
    }
}
