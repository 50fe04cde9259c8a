//! The sending half, shared by all tasks of a connection: the queue, the transport, and the tasks that wait for
//! them.

pub(crate) mod cork;
pub(crate) mod due;
pub(crate) mod fan_out;
pub(crate) mod ping;
pub(crate) mod request;
pub(crate) mod shared;
mod waiting;
pub(crate) mod wakers;
pub(crate) mod writer;
