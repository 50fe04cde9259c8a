//! A message that is published, and the clients that it is for.

use longwire_connection::Message;

use crate::id::ClientId;

/// The clients that a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Every client.
    All,
    /// The clients in the room with this name.
    Room(&'a str),
    /// The clients with this key.
    Key(&'a str),
}

/// A message on its way between a hub and its link to other hubs.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code, reason = "without a link, nobody reads it"))]
pub struct Published<'a> {
    /// The clients that the message is for.
    pub target: Target<'a>,
    /// The key of a [latest value](crate::Hub::publish_latest).
    pub latest: Option<&'a str>,
    /// A client of the publishing hub that does not get the message.
    pub except: Option<ClientId>,
    /// The message.
    pub message: &'a Message,
}

impl<'a> Published<'a> {
    /// A message for all of these clients.
    pub fn new(target: Target<'a>, message: &'a Message) -> Self {
        Self { target, latest: None, except: None, message }
    }

    /// Excludes a client of the publishing hub.
    #[must_use]
    pub fn except(mut self, except: impl Into<Option<ClientId>>) -> Self {
        self.except = except.into();
        self
    }

    /// Makes the message the latest value of a key.
    #[must_use]
    pub fn latest(mut self, key: &'a str) -> Self {
        self.latest = Some(key);
        self
    }
}
