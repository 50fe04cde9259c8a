//! The end of connections: the outcome, the closing of a connection that no task holds, and the end of a handler.

pub(crate) mod drive;
pub(crate) mod end;
pub(crate) mod heir;
pub(crate) mod leave;
