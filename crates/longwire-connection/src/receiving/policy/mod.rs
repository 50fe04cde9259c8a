//! Policies on what a peer sends. A policy answers a question; the reader acts on the answer.

pub(crate) mod memory;
#[cfg(feature = "deflate")]
pub(crate) mod parking;
pub(crate) mod rate;
