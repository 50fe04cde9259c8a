//! Counters of one connection, and histograms over many.

pub(crate) mod histogram;
pub(crate) mod measurements;
pub(crate) mod stats;
