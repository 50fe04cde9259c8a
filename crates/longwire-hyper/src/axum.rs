//! The extractor for axum's handlers.
//!
//! **At a shutdown**, axum neither closes sockets nor waits for them:
//! `axum::serve(..).with_graceful_shutdown(signal)` returns at once, and the end of the process cuts them without
//! a close frame. Wrap the signal in [`Mount::shutdown_after`] to close them with code 1001 first.
//!
//! The extractor works with every other extractor, and over both versions of HTTP. The route is `any(handler)`,
//! because a WebSocket over HTTP/2 is requested with CONNECT.
//!
//! ```
//! use axum::extract::{FromRef, State};
//! use axum::{Router, response::Response, routing::any};
//! use longwire_hyper::{Mount, axum::FromState};
//!
//! #[derive(Clone)]
//! struct App {
//!     mount: Mount,
//! }
//!
//! impl FromRef<App> for Mount {
//!     fn from_ref(app: &App) -> Mount {
//!         app.mount.clone()
//!     }
//! }
//!
//! async fn chat(FromState(ws): FromState, State(_app): State<App>) -> Response {
//!     ws.on_upgrade(|mut ws| async move {
//!         while let Some(message) = ws.recv().await? {
//!             ws.hub().broadcast_except(ws.id(), message);
//!         }
//!         Ok(())
//!     })
//! }
//!
//! let app: Router = Router::new().route("/chat", any(chat)).with_state(App { mount: Mount::default() });
//! ```

use std::fmt;
use std::net::SocketAddr;

use axum_core::body::Body;
use axum_core::extract::{FromRef, FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;
use longwire_connection::Config;
use longwire_handshake::Rejection;
use tracing::debug;

pub mod ws;

use crate::upgrade::upgrade_parts;
#[doc(inline)]
pub use crate::{HandlerOutput, HandlerResult, Mount, MountConfig, Socket};
use crate::{Upgrade, UpgradeError};

/// An extractor for WebSocket requests; [`on_upgrade`](Self::on_upgrade) takes over the connection.
///
/// Sockets outlive axum's graceful shutdown, and the end of the process cuts them without a close frame: wrap its
/// signal in [`Mount::shutdown_after`].
///
/// The configuration and the hub are those of the [`Mount`] that the router has as an `axum::Extension`.
///
/// **Without a mount**, each client has a hub of its own, a broadcast reaches nobody else, and no call can close all
/// sockets. This is enough for sockets that know nothing of each other. If a handler broadcasts or joins a room
/// nevertheless, this is reported with `tracing` as a warning, once for each client; a debug build without a
/// subscriber prints it once to standard error. [`FromState`] takes the mount from the router's state, and does not
/// compile without one.
///
/// An `Option<WebSocketUpgrade>` is `None` for a request that does not ask for a WebSocket, so that one
/// path can serve both.
///
/// # Examples
///
/// ```
/// use axum::{Extension, Router, response::Response, routing::any};
/// use longwire_hyper::{Mount, axum::WebSocketUpgrade};
///
/// async fn echo(ws: WebSocketUpgrade) -> Response {
///     ws.protocols(["echo.v2", "echo.v1"]).max_message_size(64 * 1024).on_upgrade(|mut ws| async move {
///         while let Some(message) = ws.recv().await? {
///             ws.send(message).await?;
///         }
///         Ok(())
///     })
/// }
///
/// let app: Router = Router::new().route("/echo", any(echo)).layer(Extension(Mount::default()));
/// ```
#[must_use = "the connection is had with `on_upgrade`"]
pub struct WebSocketUpgrade {
    upgrade: Upgrade,
    failed: Box<dyn FnOnce(UpgradeError) + Send>,
}

impl WebSocketUpgrade {
    fn new(parts: &mut Parts, mount: &Mount) -> Result<Self, WebSocketUpgradeRejection> {
        let (_, upgrade) = upgrade_parts::<()>(parts, mount).map_err(WebSocketUpgradeRejection)?;
        Ok(Self { upgrade, failed: Box::new(|error| debug!(?error, "an upgrade failed")) })
    }

    fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.upgrade.config);
        self
    }

    /// Selects the first of these subprotocols that the client offers, or none. Default: the mount's
    /// [`ServerOptions::subprotocols`](crate::ServerOptions::subprotocols).
    pub fn protocols<I>(mut self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let protocols: Vec<_> = protocols.into_iter().collect();
        self.upgrade.accepted.negotiate_subprotocol(protocols.iter().map(AsRef::as_ref));
        self
    }

    /// Returns the selected subprotocol.
    pub fn selected_protocol(&self) -> Option<&str> {
        self.upgrade.subprotocol()
    }

    /// Returns the subprotocols that the client offers, in its order of preference.
    pub fn requested_protocols(&self) -> impl Iterator<Item = &str> {
        self.upgrade.accepted.offered_subprotocols().iter().map(crate::Subprotocol::as_str)
    }

    /// Sets the maximum length of a received message, in bytes. Default: 16 MiB, unless the mount sets it.
    pub fn max_message_size(self, max: usize) -> Self {
        self.config(|config| config.limits.max_message = Some(max))
    }

    /// Sets the maximum length of a received frame, in bytes. Default: 16 MiB, unless the mount sets it.
    pub fn max_frame_size(self, max: usize) -> Self {
        self.config(|config| config.limits.max_frame = Some(max))
    }

    /// Sets the client's address for the hub, such as that of `axum::extract::ConnectInfo`. Default: the address
    /// of the connection, if it is TCP.
    pub fn peer_addr(mut self, peer_addr: impl Into<Option<SocketAddr>>) -> Self {
        self.upgrade = self.upgrade.peer_addr(peer_addr);
        self
    }

    /// Sets the function that is called if the upgrade fails. Default: the error is logged with `tracing`, at
    /// level debug.
    pub fn on_failed_upgrade(mut self, failed: impl FnOnce(UpgradeError) + Send + 'static) -> Self {
        self.failed = Box::new(failed);
        self
    }

    /// Runs `handler` on the socket, in a separate task, and returns the response, which must be returned to axum.
    ///
    /// Everything that the handler sends between two yields leaves in one write. When it returns, the connection
    /// is closed; see [`HandlerResult`]. If the limit on clients from [`peer_addr`](Self::peer_addr) is reached,
    /// the response is a 503.
    pub fn on_upgrade<H, Fut>(mut self, handler: H) -> Response
    where
        H: FnOnce(Socket) -> Fut + Send + 'static,
        Fut: Future<Output: HandlerOutput> + Send + 'static,
    {
        if let Err(error) = self.upgrade.check_address() {
            (self.failed)(error);
            return WebSocketUpgradeRejection(Rejection::Unavailable).into_response();
        }
        let response = self.upgrade.response::<Body>();
        drop(self.upgrade.spawn(handler, self.failed));
        response
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = WebSocketUpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let mount = parts.extensions.get::<Mount>().cloned().unwrap_or_else(Mount::for_one_client);
        Self::new(parts, &mount)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for WebSocketUpgrade {
    type Rejection = WebSocketUpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Self::Rejection> {
        optional(<Self as FromRequestParts<S>>::from_request_parts(parts, state).await)
    }
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upgrade.fmt(f)
    }
}

/// An extractor for a [`WebSocketUpgrade`] with the [`Mount`] of the router's state.
#[derive(Debug)]
pub struct FromState(pub WebSocketUpgrade);

impl<S> FromRequestParts<S> for FromState
where
    S: Send + Sync,
    Mount: FromRef<S>,
{
    type Rejection = WebSocketUpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        WebSocketUpgrade::new(parts, &Mount::from_ref(state)).map(Self)
    }
}

impl<S> OptionalFromRequestParts<S> for FromState
where
    S: Send + Sync,
    Mount: FromRef<S>,
{
    type Rejection = WebSocketUpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Self::Rejection> {
        optional(<Self as FromRequestParts<S>>::from_request_parts(parts, state).await)
    }
}

/// The reason why a request is not upgraded. As a response, it has the same status as the standalone server's.
#[derive(thiserror::Error)]
#[error(transparent)]
pub struct WebSocketUpgradeRejection(pub Rejection);

longwire_connection::debug_with_causes!(WebSocketUpgradeRejection);

impl IntoResponse for WebSocketUpgradeRejection {
    fn into_response(self) -> Response {
        debug!(status = self.0.status().as_u16(), rejection = %self.0, "a handshake was refused");
        self.0.to_response().map(Body::from)
    }
}

fn optional<T>(
    extracted: Result<T, WebSocketUpgradeRejection>,
) -> Result<Option<T>, WebSocketUpgradeRejection> {
    match extracted {
        Ok(upgrade) => Ok(Some(upgrade)),
        Err(rejection) if rejection.0.is_plain_request() => Ok(None),
        Err(rejection) => Err(rejection),
    }
}
