//! The types that an application holds: the socket, its halves, and the readers and writers of messages in parts.

pub(crate) mod byte_stream;
pub(crate) mod halves;
#[cfg(feature = "json")]
mod json;
pub(crate) mod message_writer;
pub(crate) mod parts;
pub(crate) mod receiver;
pub(crate) mod reply;
pub(crate) mod sender;
pub(crate) mod sink;
pub(crate) mod socket;
mod stream;
