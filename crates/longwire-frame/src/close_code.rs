//! Close codes (RFC 6455 §7.4), and which of them may appear in a close frame.

use std::fmt;

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

    /// Returns the name of this code, as in the registry of IANA: `message too big` for 1009. `None` for a code without
    /// a name, such as those of applications.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NORMAL => "normal closure",
            Self::GOING_AWAY => "going away",
            Self::PROTOCOL_ERROR => "protocol error",
            Self::UNSUPPORTED_DATA => "unsupported data",
            Self::NO_STATUS_RECEIVED => "no status received",
            Self::ABNORMAL_CLOSURE => "abnormal closure",
            Self::INVALID_PAYLOAD => "invalid payload",
            Self::POLICY_VIOLATION => "policy violation",
            Self::MESSAGE_TOO_BIG => "message too big",
            Self::MANDATORY_EXTENSION => "mandatory extension",
            Self::INTERNAL_ERROR => "internal error",
            Self::SERVICE_RESTART => "service restart",
            Self::TRY_AGAIN_LATER => "try again later",
            Self::BAD_GATEWAY => "bad gateway",
            Self::TLS_HANDSHAKE => "TLS handshake",
            _ => return None,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_of_the_registry_have_a_name() {
        assert_eq!(CloseCode::MESSAGE_TOO_BIG.name(), Some("message too big"));
        for value in [0, 999, 1004, 1016, 2999, 3000, 4000, u16::MAX] {
            assert_eq!(CloseCode::new(value).name(), None, "{value}");
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
            assert_eq!(u16::from(code), value);
            assert_eq!(code.to_string(), value.to_string());
            assert!(code.name().is_some(), "{value}");
        }
    }
}
