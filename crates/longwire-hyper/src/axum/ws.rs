//! The API of `axum::extract::ws`: code written for that module needs a different import, and little else.
//!
//! ```
//! use axum::{Extension, Router, response::Response, routing::any};
//! use longwire_hyper::Mount;
//! use longwire_hyper::axum::ws::{WebSocket, WebSocketUpgrade}; // was: axum::extract::ws
//!
//! async fn upgrade(ws: WebSocketUpgrade) -> Response {
//!     ws.on_upgrade(handle_socket)
//! }
//!
//! async fn handle_socket(mut socket: WebSocket) {
//!     while let Some(Ok(message)) = socket.recv().await {
//!         if socket.send(message).await.is_err() {
//!             return;
//!         }
//!     }
//! }
//!
//! let app: Router = Router::new().route("/ws", any(upgrade)).layer(Extension(Mount::default()));
//! ```
//!
//! Differences:
//!
//! - The limits are those of the [`Mount`](crate::Mount), by default 16 MiB for messages and frames. Clients that
//!   are silent are pinged, and dropped if they do not answer.
//! - When the callback returns, the connection is closed with 1000 instead of being cut.
//! - The peer's close frame is answered and yielded as [`Message::Close`], as in axum; it is the last item,
//!   whatever its code.
//! - Subprotocols are `&str`, and errors are [`Error`]. There is no `set_selected_protocol`: `protocols` with one name
//!   selects it if the client offers it.
//! - An empty ping is sent with a payload of its own, with which its pong arrives.
//! - Buffer sizes cannot be chosen, and frames without a mask are not accepted.
//!
//! New code is shorter with [`super::WebSocketUpgrade`]: it has no control frames among its messages, and its
//! handlers can use `?`.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::str::Utf8Error;
use std::task::{Context, Poll, ready};

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::Response;
use bytes::Bytes;
use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use http::request::Parts;
use longwire_connection::Incoming;
pub use longwire_connection::{Error, Text as Utf8Bytes};

use super::WebSocketUpgradeRejection;
use crate::{Socket, UpgradeError};

/// The codes of close frames.
pub mod close_code {
    use longwire_connection::CloseCode as Code;

    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = Code::NORMAL.value();
    /// An endpoint is going away.
    pub const AWAY: u16 = Code::GOING_AWAY.value();
    /// The peer violated the protocol.
    pub const PROTOCOL: u16 = Code::PROTOCOL_ERROR.value();
    /// The peer sent a kind of data that is not accepted.
    pub const UNSUPPORTED: u16 = Code::UNSUPPORTED_DATA.value();
    /// No code was received. Never sent.
    pub const STATUS: u16 = Code::NO_STATUS_RECEIVED.value();
    /// No close frame was received. Never sent.
    pub const ABNORMAL: u16 = Code::ABNORMAL_CLOSURE.value();
    /// The data did not match the type of its message, such as text that is not UTF-8.
    pub const INVALID: u16 = Code::INVALID_PAYLOAD.value();
    /// A policy was violated.
    pub const POLICY: u16 = Code::POLICY_VIOLATION.value();
    /// A message was too big.
    pub const SIZE: u16 = Code::MESSAGE_TOO_BIG.value();
    /// The server did not agree to an extension that the client needs.
    pub const EXTENSION: u16 = Code::MANDATORY_EXTENSION.value();
    /// The server cannot fulfill the request.
    pub const ERROR: u16 = Code::INTERNAL_ERROR.value();
    /// The service is restarting.
    pub const RESTART: u16 = Code::SERVICE_RESTART.value();
    /// The server is overloaded.
    pub const AGAIN: u16 = Code::TRY_AGAIN_LATER.value();
}

/// The code of a close frame.
pub type CloseCode = u16;

/// The content of a close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// The close code.
    pub code: CloseCode,
    /// A human-readable reason, of at most 123 bytes.
    pub reason: Utf8Bytes,
}

impl From<CloseFrame> for longwire_connection::CloseFrame {
    fn from(frame: CloseFrame) -> Self {
        Self::new(frame.code.into(), frame.reason)
    }
}

impl From<longwire_connection::CloseFrame> for CloseFrame {
    fn from(frame: longwire_connection::CloseFrame) -> Self {
        Self { code: frame.code.value(), reason: frame.reason }
    }
}

/// A message or a control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(Utf8Bytes),
    /// Bytes.
    Binary(Bytes),
    /// A ping, of at most 125 bytes. A ping that is received has already been answered.
    Ping(Bytes),
    /// A pong, of at most 125 bytes.
    Pong(Bytes),
    /// The close frame. A close frame that is received has already been answered, and is the last item.
    Close(Option<CloseFrame>),
}

impl Message {
    /// Makes a text message.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::Text(text.into())
    }

    /// Makes a binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// Returns the payload; for a close frame, the reason.
    pub fn into_data(self) -> Bytes {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(frame) => frame.map(|frame| frame.reason.into_bytes()).unwrap_or_default(),
        }
    }

    /// Returns the payload as text; for a close frame, the reason.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] if the payload is not UTF-8.
    pub fn into_text(self) -> Result<Utf8Bytes, Utf8Error> {
        match self {
            Self::Text(text) => Ok(text),
            other => Utf8Bytes::try_from(other.into_data()),
        }
    }

    /// Returns the payload as text; for a close frame, the reason.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] if the payload is not UTF-8.
    pub fn to_text(&self) -> Result<&str, Utf8Error> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => std::str::from_utf8(bytes),
            Self::Close(frame) => Ok(frame.as_ref().map_or("", |frame| &frame.reason)),
        }
    }
}

impl From<longwire_connection::Message> for Message {
    fn from(message: longwire_connection::Message) -> Self {
        match message {
            longwire_connection::Message::Text(text) => Self::Text(text),
            longwire_connection::Message::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Self::Binary(Bytes::copy_from_slice(bytes))
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}

impl From<Message> for Vec<u8> {
    fn from(message: Message) -> Self {
        message.into_data().into()
    }
}

/// The extractor: a [`super::WebSocketUpgrade`] for callbacks that get a [`WebSocket`] and return nothing.
///
/// The [`Mount`](crate::Mount) comes from an `axum::Extension`, as it does there.
#[derive(Debug)]
#[must_use = "the connection is had with `on_upgrade`"]
pub struct WebSocketUpgrade(super::WebSocketUpgrade);

impl WebSocketUpgrade {
    /// Sets the maximum length of a message, as [`max_message_size`](super::WebSocketUpgrade::max_message_size) does.
    pub fn max_message_size(self, max: usize) -> Self {
        Self(self.0.max_message_size(max))
    }

    /// Sets the maximum length of a frame, as [`max_frame_size`](super::WebSocketUpgrade::max_frame_size) does.
    pub fn max_frame_size(self, max: usize) -> Self {
        Self(self.0.max_frame_size(max))
    }

    /// Selects the first of these subprotocols that the client offers, or none.
    pub fn protocols<I>(self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Cow<'static, str>>,
    {
        Self(self.0.protocols(protocols.into_iter().map(Into::into)))
    }

    /// Returns the subprotocols that the client offers, in its order of preference.
    pub fn requested_protocols(&self) -> impl Iterator<Item = &str> {
        self.0.requested_protocols()
    }

    /// Returns the selected subprotocol.
    pub fn selected_protocol(&self) -> Option<&str> {
        self.0.selected_protocol()
    }

    /// Sets the function that is called if the upgrade fails. Default: the error is logged with `tracing`, at
    /// level debug.
    pub fn on_failed_upgrade(self, failed: impl FnOnce(UpgradeError) + Send + 'static) -> Self {
        Self(self.0.on_failed_upgrade(failed))
    }

    /// Runs the callback on the socket, in a separate task, and returns the response, which must be returned to axum.
    pub fn on_upgrade<C, Fut>(self, callback: C) -> Response
    where
        C: FnOnce(WebSocket) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.0.on_upgrade(|socket| {
            let running = callback(WebSocket { socket, ended: false });
            async {
                running.await;
                Ok(())
            }
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = WebSocketUpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        <super::WebSocketUpgrade as FromRequestParts<S>>::from_request_parts(parts, state).await.map(Self)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for WebSocketUpgrade {
    type Rejection = WebSocketUpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Self::Rejection> {
        super::optional(<Self as FromRequestParts<S>>::from_request_parts(parts, state).await)
    }
}

/// A connection that yields messages and control frames; the peer's close frame is the last item.
///
/// It is a `Stream` and a `Sink`, so `split` of `futures_util::StreamExt` works on it.
pub struct WebSocket {
    socket: Socket,
    ended: bool,
}

impl WebSocket {
    /// Receives the next message or control frame; returns `None` after the last one.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no message is lost.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Sends a message or a control frame.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a control frame that must not be sent, [`Error::Closed`] once a close frame was
    /// sent or received, [`Error::Io`] if the transport failed.
    ///
    /// # Cancel safety
    ///
    /// As for `send` of longwire's own `WebSocket`: if the future is dropped, the message is queued whole
    /// or not at all.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        match self.queue_control(message)? {
            Some(message) => self.socket.send(message).await,
            None => self.socket.flush().await,
        }
    }

    /// Returns the selected subprotocol.
    pub fn protocol(&self) -> Option<&str> {
        self.socket.subprotocol()
    }

    /// Returns the underlying socket, which is registered with the hub.
    pub fn get_ref(&self) -> &Socket {
        &self.socket
    }

    /// Returns the underlying socket.
    pub fn into_inner(self) -> Socket {
        self.socket
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = match ready!(self.socket.poll_next_event(cx)) {
            Ok(Some(Incoming::Message(message))) => return Poll::Ready(Some(Ok(message.into()))),
            Ok(Some(Incoming::Ping(payload))) => return Poll::Ready(Some(Ok(Message::Ping(payload)))),
            Ok(Some(Incoming::Pong(payload))) => return Poll::Ready(Some(Ok(Message::Pong(payload)))),
            ended => match (self.socket.close_received(), ended) {
                (Some(frame), _) => Some(Ok(Message::Close(frame.clone().on_wire().map(Into::into)))),
                (None, Err(error)) => Some(Err(error)),
                (None, Ok(_)) => None,
            },
        };
        self.ended = true;
        Poll::Ready(item)
    }

    /// Queues a control frame. Returns any other message, which may need to wait.
    fn queue_control(&mut self, message: Message) -> Result<Option<longwire_connection::Message>, Error> {
        match message {
            Message::Text(text) => return Ok(Some(text.into())),
            Message::Binary(bytes) => return Ok(Some(bytes.into())),
            // The pong arrives as an item.
            Message::Ping(payload) => drop(self.socket.ping_with(payload)?),
            Message::Pong(payload) => self.socket.pong(payload)?,
            Message::Close(frame) => self.socket.start_close_with(frame.map(Into::into))?,
        }
        Ok(None)
    }
}

impl Stream for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl FusedStream for WebSocket {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Sink<Message> for WebSocket {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut *self.socket).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        match self.queue_control(message)? {
            Some(message) => Pin::new(&mut *self.socket).start_send(message),
            None => Ok(()),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut *self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // axum's sink sends an empty close frame, the socket's would have code 1000.
        match self.socket.start_close_with(None) {
            Ok(()) | Err(Error::Closed) => Pin::new(&mut *self.socket).poll_close(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("ended", &self.ended).finish_non_exhaustive()
    }
}
