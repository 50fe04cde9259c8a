//! The WebSocket opening handshake, sans-IO: requests, responses and header grammars (RFC 6455 §4).
//!
//! Bytes go in and `http` types come out, and vice versa. The crate has no sockets, no clock and no source of
//! randomness: the caller provides deadlines and the 16 random bytes of a [`Key`].
//!
//! - [`server`]: [`RequestParser`] finds the request head in the peer's bytes, [`accept`] checks it and returns an
//!   [`Accepted`] with the 101 to send, or a [`Rejection`] with its status, headers and body.
//! - [`client`]: [`ClientHandshake`] builds the request, [`ResponseParser`] reads the response's head, and
//!   [`ClientHandshake::verify`] checks it.
//! - [`connect`]: the handshake over HTTP/2 and 3 (RFC 8441). [`accept`] takes both forms; [`ConnectHandshake`] is
//!   the client's side.
//! - [`WebSocketUri`], [`Authority`], [`Key`], [`Subprotocol`], [`ExtensionOffer`], [`OriginPolicy`]: the vocabulary,
//!   as types that cannot hold an invalid value.
//!
//! With the feature `deflate`, [`ServerOptions::deflate`] and [`ClientOptions::deflate`] negotiate
//! permessage-deflate (RFC 7692); both are off by default. No other extension is supported: a server declines
//! others by not naming them in its response, and a client refuses a response that selects one.
//!
//! ```
//! use longwire_handshake::{accept, encode_response, RequestParser, ServerOptions};
//!
//! let mut parser = RequestParser::default();
//! let sent = b"GET /chat HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
//!     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nfirst frame";
//!
//! let head = parser.handle_bytes(sent)?.expect("the head is complete");
//! assert_eq!(&head.read_ahead[..], b"first frame");
//!
//! let accepted = accept(&head.parts, &ServerOptions::default())?;
//! let response = encode_response(&accepted.response());
//! assert!(response.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
//! # Ok::<_, longwire_handshake::Rejection>(())
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod client;
pub mod connect;
pub mod credentials;
#[cfg(feature = "deflate")]
pub mod deflate;
pub mod extension;
pub mod head;
pub mod key;
pub mod origin;
pub mod rejection;
pub mod request;
pub mod server;
pub mod subprotocol;
pub mod uri;

mod asked;
mod checks;
mod encode;
mod field;
mod text;

pub use asked::{bearer, cookie};
pub use checks::{MAX_ADDED_HEADERS, is_reserved};
#[doc(inline)]
pub use client::{
    Agreement, ClientHandshake, ClientOptions, OptionsError, ResponseError, ResponseHead, ResponseParser,
};
#[doc(inline)]
pub use connect::{ConnectHandshake, WEBSOCKET};
#[doc(inline)]
pub use credentials::{InvalidLogin, Login};
pub use encode::{encode_refusal, encode_request, encode_response};
#[doc(inline)]
pub use extension::{ExtensionError, ExtensionOffer, ExtensionParam};
#[doc(inline)]
pub use head::{HeadError, HeadLimits};
#[doc(inline)]
pub use key::{AcceptKey, InvalidKey, Key};
#[doc(inline)]
pub use origin::{AllowedOrigins, InvalidOrigin, Origin, OriginPolicy};
#[doc(inline)]
pub use rejection::{AcceptedError, Rejection};
#[doc(inline)]
pub use request::RequestView;
#[doc(inline)]
pub use server::{Accepted, RequestHead, RequestParser, ServerOptions, accept};
#[doc(inline)]
pub use subprotocol::{InvalidSubprotocol, Subprotocol, SubprotocolError};
pub use text::PeerText;
#[doc(inline)]
pub use uri::{Authority, UriError, WebSocketUri};
