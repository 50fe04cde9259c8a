//! The types that an application holds: the socket, its halves, and the forms of a message in parts.

pub(crate) mod byte_stream;
pub(crate) mod halves;
pub(crate) mod message_writer;
pub(crate) mod parts;
pub(crate) mod receiver;
pub(crate) mod sender;
pub(crate) mod socket;
mod stream;
