//! What is counted: per connection, and over many connections together.

pub(crate) mod histogram;
pub(crate) mod measurements;
pub(crate) mod stats;
