//! How connections end: the outcome, the closing of a connection that nobody holds, and the end of a handler.

pub(crate) mod drive;
pub(crate) mod end;
pub(crate) mod heir;
pub(crate) mod leave;
