//! The extractor for axum's handlers.
//!
//! **At a shutdown**, axum neither closes sockets nor waits for them: `axum::serve(..).with_graceful_shutdown(signal)` returns at once,
//! and the end of the process cuts them without a close frame. [`Mount::shutdown_after`] around the signal closes them with code 1001
//! first.
//!
//! It works with every extractor beside it, and over both versions of HTTP; the route is `any(handler)`, as a WebSocket over HTTP/2
//! is asked for with CONNECT.
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
use crate::{HandlerResult, Mount, Socket, Upgrade, UpgradeError};

/// Extracts a WebSocket from its request; the connection is had with [`on_upgrade`](Self::on_upgrade).
///
/// Sockets outlive axum's graceful shutdown, and the end of the process cuts them without a word: wrap its signal in
/// [`Mount::shutdown_after`].
///
/// The configuration and the hub are those of the [`Mount`] that the router has as an `axum::Extension`. Without one they are the
/// defaults, with a hub for each client alone: enough for sockets that know nothing of each other, but nobody can close
/// them all. [`FromState`] takes the mount from the router's state.
///
/// An `Option<WebSocketUpgrade>` is `None` for a request that asks for no WebSocket, so that one path can serve both.
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
        Ok(Self { upgrade, failed: Box::new(|error| debug!(%error, "an upgrade failed")) })
    }

    fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.upgrade.config);
        self
    }

    /// Selects the first of these subprotocols that the client offers, or none. Default: as
    /// [`ServerOptions::subprotocols`](crate::ServerOptions::subprotocols) of the mount.
    pub fn protocols<I>(mut self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let protocols: Vec<_> = protocols.into_iter().collect();
        self.upgrade.accepted.negotiate_subprotocol(protocols.iter().map(AsRef::as_ref));
        self
    }

    /// The subprotocol that was selected.
    pub fn selected_protocol(&self) -> Option<&str> {
        self.upgrade.subprotocol()
    }

    /// The subprotocols that the client offers, in its order of preference.
    pub fn requested_protocols(&self) -> impl Iterator<Item = &str> {
        self.upgrade.accepted.offered_subprotocols().iter().map(crate::Subprotocol::as_str)
    }

    /// Sets how long a received message may be, in bytes. Default: 16 MiB, unless the mount says otherwise.
    pub fn max_message_size(self, max: usize) -> Self {
        self.config(|config| config.limits.max_message = Some(max))
    }

    /// Sets how long a received frame may be, in bytes. Default: 16 MiB, unless the mount says otherwise.
    pub fn max_frame_size(self, max: usize) -> Self {
        self.config(|config| config.limits.max_frame = Some(max))
    }

    /// Sets the client's address, for the hub: that of `axum::extract::ConnectInfo`. Default: that of the connection, where it
    /// is TCP.
    pub fn peer_addr(mut self, peer_addr: impl Into<Option<SocketAddr>>) -> Self {
        self.upgrade = self.upgrade.peer_addr(peer_addr);
        self
    }

    /// Sets what is done if the connection cannot be had. Default: it is logged with `tracing`, at level debug.
    pub fn on_failed_upgrade(mut self, failed: impl FnOnce(UpgradeError) + Send + 'static) -> Self {
        self.failed = Box::new(failed);
        self
    }

    /// Runs `handler` on the socket, in a task of its own, and makes the response, which has to be returned.
    ///
    /// What the handler sends between two yields leaves in one write. When it returns, the connection is closed: see
    /// [`HandlerResult`]. If there are as many clients from [`peer_addr`](Self::peer_addr) as there may be, the response is a 503.
    pub fn on_upgrade<H, Fut>(mut self, handler: H) -> Response
    where
        H: FnOnce(Socket) -> Fut + Send + 'static,
        Fut: Future<Output = HandlerResult> + Send + 'static,
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
        let mount = parts.extensions.get::<Mount>().cloned().unwrap_or_default();
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

/// Extracts a [`WebSocketUpgrade`] with the [`Mount`] of the router's state.
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

/// Why a request is no WebSocket's; as a response it has the status that the standalone server would answer with.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct WebSocketUpgradeRejection(pub Rejection);

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
