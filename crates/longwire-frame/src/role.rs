//! Roles: the end of the connection that this endpoint is (RFC 6455 §1.2).

use std::fmt;

/// The end of the connection that this endpoint is.
///
/// The frame layer knows one difference between the two: a client masks every frame it sends, and a server masks none
/// (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// We opened the connection: we mask what we send and receive unmasked frames.
    Client,
    /// We accepted the connection: we receive masked frames and mask nothing.
    Server,
}

impl Role {
    /// Returns the peer's role.
    #[inline]
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// Returns whether the frames that this role sends are masked (RFC 6455 §5.1).
    #[inline]
    pub const fn masks(self) -> bool {
        matches!(self, Self::Client)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_client_masks() {
        for (role, masks, peer, name) in
            [(Role::Client, true, Role::Server, "client"), (Role::Server, false, Role::Client, "server")]
        {
            assert_eq!(role.masks(), masks, "{name}");
            assert_eq!(role.peer(), peer, "{name}");
            assert_eq!(role.to_string(), name);
        }
    }
}
