//! The checks that several roles or both forms of the handshake make.
//!
//! They know no role: [`server`](crate::server), [`client`](crate::client) and [`connect`](crate::connect) decide on
//! their order.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Scheme;
use http::{HeaderMap, Uri};

use crate::field::Field;
use crate::rejection::Rejection;

/// The most header fields that an application can add to a request or a response. A map of headers holds 24 576 and
/// panics at the next, and the handshake's own fields must fit as well.
pub const MAX_ADDED_HEADERS: usize = 16 * 1024;

pub(crate) fn check_target(uri: &Uri) -> Result<(), Rejection> {
    let scheme_is_known = uri.scheme().is_none_or(|scheme| {
        *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS || ["ws", "wss"].contains(&scheme.as_str())
    });
    if scheme_is_known && uri.path().starts_with('/') { Ok(()) } else { Err(Rejection::Target) }
}

/// A body would be in the place of the first frames, and two parties could disagree on where it ends.
pub(crate) fn check_no_body(headers: &HeaderMap) -> Result<(), Rejection> {
    let is_empty = headers.get_all(CONTENT_LENGTH).iter().all(|value| value == "0");
    if is_empty && !headers.contains_key(TRANSFER_ENCODING) { Ok(()) } else { Err(Rejection::Body) }
}

pub(crate) fn check_protocol_version(headers: &HeaderMap) -> Result<(), Rejection> {
    let Field::One(value) = Field::of(headers, &SEC_WEBSOCKET_VERSION) else {
        return Err(Rejection::MissingProtocolVersion);
    };
    // "values ... between 0 and 255", "Leading zeros are not allowed" (RFC 6455 §4.1 item 9, §4.3)
    match std::str::from_utf8(value.as_bytes()) {
        Ok("13") => Ok(()),
        Ok(text)
            if text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0')) =>
        {
            match text.parse() {
                Ok(version) => Err(Rejection::ProtocolVersion { version }),
                Err(_) => Err(Rejection::MissingProtocolVersion),
            }
        }
        _ => Err(Rejection::MissingProtocolVersion),
    }
}

/// Returns whether a header belongs to the handshake or to HTTP's framing, so an application cannot set it.
pub fn is_reserved(name: &HeaderName) -> bool {
    name.as_str().starts_with("sec-websocket-")
        || [CONNECTION, UPGRADE, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name)
}
