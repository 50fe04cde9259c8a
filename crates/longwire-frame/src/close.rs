//! Close codes and the payload of close frames (RFC 6455 §5.5.1, §7.4).
//!
//! Owns the rules for which codes may appear in a close frame and how code and reason are laid out. When a close frame
//! is due, and how it is answered, belongs to `longwire-protocol`.
//!
//! ```text
//!  0        2                      ≤ 125
//! ┌────────┬────────────────────────┐
//! │  code  │  reason, UTF-8         │     or nothing at all
//! └────────┴────────────────────────┘
//! ```

use std::fmt;

use bytes::Bytes;

use crate::FrameError;

/// The reason a connection is closed, as a number (RFC 6455 §7.4 and the IANA registry of WebSocket close codes).
///
/// Any number can be held; [`is_sendable`](Self::is_sendable) reports whether it may appear in a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the endpoint is going away: a server shuts down, or a browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer violated the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: the peer sent a type of data that this endpoint does not accept.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: the close frame carried no code. Never sent; APIs use it to represent the absence of a code.
    pub const NO_STATUS_RECEIVED: Self = Self(1005);
    /// 1006: the connection ended without a close frame. Never sent; APIs use it to represent that.
    pub const ABNORMAL_CLOSURE: Self = Self(1006);
    /// 1007: a message does not fit its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a message violates the endpoint's policy; used when no more specific code applies or may be disclosed.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message is too big to be processed.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the client needs an extension that the server did not agree to.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the endpoint encountered an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service is restarting; clients may reconnect after a random delay.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the service is overloaded; clients should come back later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got an invalid response from the server behind it.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 1015: the TLS handshake failed. Never sent; APIs use it to represent that failure.
    pub const TLS_HANDSHAKE: Self = Self(1015);

    /// Creates a close code with any value.
    #[inline]
    pub const fn new(value: u16) -> Self {
        Self(value)
    }

    /// Returns the number that represents this code on the wire.
    #[inline]
    pub const fn value(self) -> u16 {
        self.0
    }

    /// Returns whether this code may appear in a close frame, sent or received.
    ///
    /// These are 1000–1003, 1007–1014 and 3000–4999. Below 1000 no code is used; 1004 is reserved; 1005, 1006 and
    /// 1015 "MUST NOT be set as a status code in a Close control frame"; the rest of 1000–2999 is reserved for
    /// future versions of the protocol, and from 5000 on nothing is defined (RFC 6455 §7.4.1, §7.4.2). 1012–1014
    /// come from the IANA registry.
    #[inline]
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl From<u16> for CloseCode {
    #[inline]
    fn from(value: u16) -> Self {
        Self(value)
    }
}

impl From<CloseCode> for u16 {
    #[inline]
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The longest reason that fits in a close frame, in bytes: a control frame's 125 minus 2 for the code.
pub const MAX_REASON_LEN: usize = 123;

/// Reads the whole, unmasked payload of a close frame.
///
/// Returns `None` for an empty payload, which means [`CloseCode::NO_STATUS_RECEIVED`].
/// [`FrameHeader::parse`](crate::FrameHeader::parse) has already checked that the payload is at most 125 bytes.
///
/// # Errors
///
/// [`FrameError::TruncatedCloseCode`] for one byte, [`FrameError::InvalidCloseCode`] for a code that may not
/// be sent, [`FrameError::InvalidCloseReason`] for a reason that is not UTF-8; a bad code is reported before
/// a bad reason.
pub fn parse_close(payload: &[u8]) -> Result<Option<(CloseCode, &str)>, FrameError> {
    let Some((&code, reason)) = payload.split_first_chunk::<2>() else {
        // "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer" (RFC 6455
        // §5.5.1)
        return if payload.is_empty() { Ok(None) } else { Err(FrameError::TruncatedCloseCode) };
    };
    let code = CloseCode::new(u16::from_be_bytes(code));
    if !code.is_sendable() {
        return Err(FrameError::InvalidCloseCode { code });
    }
    let reason = std::str::from_utf8(reason).map_err(|_| FrameError::InvalidCloseReason)?;
    Ok(Some((code, reason)))
}

/// Encodes the payload of a close frame, unmasked.
///
/// A close frame without a code has an empty payload and needs no encoding.
///
/// # Errors
///
/// [`FrameError::InvalidCloseCode`] if the code [may not be sent](CloseCode::is_sendable), and
/// [`FrameError::CloseReasonTooLong`] if the reason is longer than [`MAX_REASON_LEN`] bytes. The reason is not
/// truncated: only the caller knows what may be left out.
pub fn encode_close(code: CloseCode, reason: &str) -> Result<Bytes, FrameError> {
    if !code.is_sendable() {
        return Err(FrameError::InvalidCloseCode { code });
    }
    if reason.len() > MAX_REASON_LEN {
        return Err(FrameError::CloseReasonTooLong { len: reason.len() });
    }
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.value().to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    Ok(payload.into())
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn knows_which_codes_may_stand_in_a_close_frame() {
        for (range, sendable) in [
            (0..=999, false),
            (1000..=1003, true),
            (1004..=1006, false),
            (1007..=1014, true),
            (1015..=2999, false),
            (3000..=4999, true),
            (5000..=u16::MAX, false),
        ] {
            for value in range {
                let code = CloseCode::new(value);
                let payload = value.to_be_bytes();
                assert_eq!(code.is_sendable(), sendable, "{value}");
                if sendable {
                    assert_eq!(parse_close(&payload), Ok(Some((code, ""))), "{value}");
                    assert_eq!(encode_close(code, "").as_deref(), Ok(&payload[..]), "{value}");
                } else {
                    let error = FrameError::InvalidCloseCode { code };
                    assert_eq!(parse_close(&payload), Err(error), "{value}");
                    assert_eq!(encode_close(code, ""), Err(error), "{value}");
                }
            }
        }
    }

    #[test]
    fn named_codes_have_the_numbers_of_the_registry() {
        for (code, value) in [
            (CloseCode::NORMAL, 1000),
            (CloseCode::GOING_AWAY, 1001),
            (CloseCode::PROTOCOL_ERROR, 1002),
            (CloseCode::UNSUPPORTED_DATA, 1003),
            (CloseCode::NO_STATUS_RECEIVED, 1005),
            (CloseCode::ABNORMAL_CLOSURE, 1006),
            (CloseCode::INVALID_PAYLOAD, 1007),
            (CloseCode::POLICY_VIOLATION, 1008),
            (CloseCode::MESSAGE_TOO_BIG, 1009),
            (CloseCode::MANDATORY_EXTENSION, 1010),
            (CloseCode::INTERNAL_ERROR, 1011),
            (CloseCode::SERVICE_RESTART, 1012),
            (CloseCode::TRY_AGAIN_LATER, 1013),
            (CloseCode::BAD_GATEWAY, 1014),
            (CloseCode::TLS_HANDSHAKE, 1015),
        ] {
            assert_eq!(code.value(), value);
            assert_eq!(code, CloseCode::from(value));
            assert_eq!(code.to_string(), value.to_string());
        }
    }

    #[test]
    fn reads_code_and_reason() {
        for (case, payload, expected) in [
            ("empty", &hex!("")[..], Ok(None)),
            ("code alone", &hex!("03e8"), Ok(Some((CloseCode::NORMAL, "")))),
            ("code and reason", &hex!("03e9 627965"), Ok(Some((CloseCode::GOING_AWAY, "bye")))),
            ("private code", &hex!("1387 c3a9"), Ok(Some((CloseCode::new(4999), "é")))),
            ("one byte", &hex!("03"), Err((FrameError::TruncatedCloseCode, CloseCode::PROTOCOL_ERROR))),
            (
                "1005, which stands for no code",
                &hex!("03ed"),
                Err((
                    FrameError::InvalidCloseCode { code: CloseCode::NO_STATUS_RECEIVED },
                    CloseCode::PROTOCOL_ERROR,
                )),
            ),
            (
                "bad reason",
                &hex!("03e8 ff"),
                Err((FrameError::InvalidCloseReason, CloseCode::INVALID_PAYLOAD)),
            ),
            (
                "reason that ends inside a character",
                &hex!("03e8 61 e282"),
                Err((FrameError::InvalidCloseReason, CloseCode::INVALID_PAYLOAD)),
            ),
            (
                "bad code and bad reason",
                &hex!("0000 ff"),
                Err((FrameError::InvalidCloseCode { code: CloseCode::new(0) }, CloseCode::PROTOCOL_ERROR)),
            ),
        ] {
            let parsed = parse_close(payload).map_err(|error| (error, error.close_code()));
            assert_eq!(parsed, expected, "{case}");
        }
    }

    #[test]
    fn the_reason_has_123_bytes_of_room() {
        let longest = "é".repeat(61) + "!";
        assert_eq!(longest.len(), MAX_REASON_LEN);
        let payload = encode_close(CloseCode::NORMAL, &longest).expect("123 bytes fit");
        assert_eq!(payload.len(), 125);
        assert_eq!(parse_close(&payload), Ok(Some((CloseCode::NORMAL, &longest[..]))));

        let too_long = longest + "!";
        let error = FrameError::CloseReasonTooLong { len: 124 };
        assert_eq!(encode_close(CloseCode::NORMAL, &too_long), Err(error));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(value in 3000..5000_u16, reason in ".{0,30}") {
            let code = CloseCode::new(value);
            let payload = encode_close(code, &reason).expect("30 characters fit in 123 bytes");
            prop_assert_eq!(parse_close(&payload), Ok(Some((code, &reason[..]))));
        }
    }
}
