//! One call of a sender on its way: the message, how far it is to be taken, and the name under which it waits.

use bytes::Bytes;
use longwire_protocol::{Compress, Message, Opcode};

use crate::sending::wakers::Ticket;

/// One message on its way into the queue, and from there to the transport.
pub(crate) struct Sending {
    /// What is not yet queued.
    pub(crate) item: Option<Item>,
    pub(crate) compress: Compress,
    /// The position that has to be flushed.
    pub(crate) until: u64,
    /// The name under which the call waits, once it has waited.
    pub(crate) ticket: Option<Ticket>,
}

/// What can be queued.
pub(crate) enum Item {
    Message(Message),
    Part(Bytes, bool),
    Begin(Opcode),
    /// Nothing: everything queued before is what has to be flushed.
    Mark,
}

impl Sending {
    pub(crate) fn new(item: Item) -> Self {
        Self { item: Some(item), compress: Compress::Auto, until: 0, ticket: None }
    }

    pub(crate) fn compress(mut self, compress: Compress) -> Self {
        self.compress = compress;
        self
    }

    /// Has the call wait under a ticket of its caller, who forgets it.
    pub(crate) fn ticket(mut self, ticket: Option<Ticket>) -> Self {
        self.ticket = ticket;
        self
    }
}

/// How far a sender wants to be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The message is in the queue.
    Queued,
    /// The message reaches the transport without any further call.
    Sent,
    /// The transport has taken the message, whoever polls meanwhile.
    Written,
}
