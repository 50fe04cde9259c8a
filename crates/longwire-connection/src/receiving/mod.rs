//! The receiving half: reads, decodes, enforces the policies on what a peer sends, and keeps the deadlines.

pub(crate) mod alarm;
mod control;
mod excess;
pub(crate) mod policy;
pub(crate) mod reader;
