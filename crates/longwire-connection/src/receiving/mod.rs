//! The receiving half: reads, decodes, enforces the policies on incoming data, and watches the deadlines.

pub(crate) mod alarm;
mod control;
mod excess;
pub(crate) mod lend;
pub(crate) mod policy;
pub(crate) mod reader;
mod unanswered;
