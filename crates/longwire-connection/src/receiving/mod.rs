//! The receiving half: reads, decodes, enforces the policies on what a peer sends, and keeps the deadlines.

mod excess;
pub(crate) mod policy;
pub(crate) mod reader;
