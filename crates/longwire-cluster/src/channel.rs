//! The channels of a broker that the nodes of a cluster use, and their names.

use std::fmt::{self, Write as _};
use std::sync::Arc;

/// The identity of one run of a node: random, and new each time that a node starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u64);

impl NodeId {
    /// Makes a random identity.
    pub(crate) fn random() -> Self {
        // Without random bytes from the operating system, no TLS and no masking key would work either.
        Self(getrandom::u64().expect("the operating system has random bytes"))
    }
}

/// As 16 hexadecimal digits.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A channel of the broker: what is published on it reaches the nodes that have subscribed to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Messages for every client. Each node subscribes to it.
    All,
    /// News that nodes send each other. Each node subscribes to it.
    Control,
    /// News for one node alone.
    Node(NodeId),
    /// Messages for a room. Nodes with a member of the room subscribe to it.
    Room(Arc<str>),
    /// Messages for the clients with a key. Nodes with such a client subscribe to it.
    Key(Arc<str>),
}

impl Channel {
    /// Returns the name of the channel: `prefix`, a dot, and what distinguishes the channel.
    ///
    /// It consists of letters, digits, `-`, `_`, `=` and dots: bytes of a room's name other than these, and `=` and the
    /// dot, become `=` and two hexadecimal digits; an empty name becomes `=`. Different channels have different names.
    /// With the longest name of a room, it has 3074 bytes more than the prefix.
    ///
    /// # Examples
    ///
    /// ```
    /// # use longwire_cluster::Channel;
    /// assert_eq!(Channel::All.subject("app"), "app.all");
    /// assert_eq!(Channel::Room("tea room".into()).subject("app"), "app.r.tea=20room");
    /// ```
    pub fn subject(&self, prefix: &str) -> String {
        match self {
            Self::All => format!("{prefix}.all"),
            Self::Control => format!("{prefix}.control"),
            Self::Node(id) => format!("{prefix}.n.{id}"),
            Self::Room(name) => escaped(format!("{prefix}.r."), name),
            Self::Key(name) => escaped(format!("{prefix}.k."), name),
        }
    }

    /// Returns the bytes of memory that a name takes.
    pub(crate) fn cost(&self) -> usize {
        match self {
            Self::Room(name) | Self::Key(name) => name.len(),
            Self::All | Self::Control | Self::Node(_) => 0,
        }
    }

    /// Returns whether it carries messages for clients.
    pub(crate) fn is_for_clients(&self) -> bool {
        matches!(self, Self::All | Self::Room(_) | Self::Key(_))
    }

    /// Returns the room, if it is a room's channel.
    pub(crate) fn room(&self) -> Option<&Arc<str>> {
        match self {
            Self::Room(room) => Some(room),
            _ => None,
        }
    }
}

fn escaped(mut subject: String, name: &str) -> String {
    if name.is_empty() {
        subject.push('=');
    }
    for &byte in name.as_bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            subject.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(subject, "={byte:02X}");
        }
    }
    subject
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subjects_are_plain() {
        let room = |name: &str| Channel::Room(name.into()).subject("longwire");
        assert_eq!(room("lobby"), "longwire.r.lobby");
        assert_eq!(room("a.b*c>d e"), "longwire.r.a=2Eb=2Ac=3Ed=20e");
        assert_eq!(room("café"), "longwire.r.caf=C3=A9");
        assert_eq!(room(""), "longwire.r.=");
        assert_eq!(room("="), "longwire.r.=3D");
        assert_eq!(Channel::Key("7".into()).subject("x"), "x.k.7");
        assert_eq!(Channel::Node(NodeId(10)).subject("x"), "x.n.000000000000000a");
    }

    proptest! {
        #[test]
        fn different_rooms_have_different_subjects(one in ".{0,6}", other in ".{0,6}") {
            let subject = |name: &str| Channel::Room(name.into()).subject("x");
            prop_assert_eq!(one == other, subject(&one) == subject(&other));
            prop_assert!(subject(&one).len() <= 4 + 1 + 3 * one.len());
        }
    }
}
