//! A sender's call in progress: the message, the point at which the call completes, and the ticket under which it
//! waits.

use bytes::Bytes;
use longwire_protocol::{Compress, Message, MessageKind};

use crate::sending::wakers::Ticket;

/// One message on its way to the queue, and from there to the transport.
pub(crate) struct Sending {
    /// The item not yet queued.
    pub(crate) item: Option<Item>,
    pub(crate) compress: Compress,
    /// The end of the item in the queue, once it was queued: the position up to which the queue must be flushed.
    pub(crate) position: u64,
    /// The ticket under which the call waits, once it has waited.
    pub(crate) ticket: Option<Ticket>,
}

/// An item that can be queued.
pub(crate) enum Item {
    Message(Message),
    Part {
        data: Bytes,
        last: bool,
    },
    Begin(MessageKind),
    /// Nothing: marks the end of the queue as the position to flush.
    Mark,
}

impl Sending {
    pub(crate) fn new(item: Item) -> Self {
        Self { item: Some(item), compress: Compress::Auto, position: 0, ticket: None }
    }

    pub(crate) fn compress(mut self, compress: Compress) -> Self {
        self.compress = compress;
        self
    }

    /// Makes the call wait under a ticket of its caller, which must forget it afterward.
    pub(crate) fn ticket(mut self, ticket: Option<Ticket>) -> Self {
        self.ticket = ticket;
        self
    }
}

/// The point at which a call completes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The message is in the queue.
    Queued,
    /// The message will reach the transport without any further call.
    Sent,
    /// The transport has taken the message, whoever polls meanwhile.
    Written,
}

/// The handling of a prepared message that does not fit into the queue.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfFull {
    /// The message is refused.
    Refuse,
    /// The message is refused. Once it is queued, it may be dropped for a later one that is sent with `DropOldest`.
    RefuseDroppable,
    /// Older prepared messages are dropped if that makes enough room.
    DropOldest,
}
