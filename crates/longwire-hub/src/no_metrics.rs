//! The replacement for `metrics.rs` without the feature: nothing is reported.

use longwire_connection::CloseCode;

pub(crate) fn opened() {}

pub(crate) fn closed(_: CloseCode) {}

pub(crate) fn refused() {}

pub(crate) fn closed_slow() {}

pub(crate) fn dropped(_: u64) {}
