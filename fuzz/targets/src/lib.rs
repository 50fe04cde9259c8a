//! The fuzz targets: functions of bytes, each of which panics if one of its properties does not hold.
//!
//! libFuzzer calls them from `fuzz/fuzz_targets`, and the tests of this crate call them with the corpus in
//! `fuzz/seeds`. A target takes what a peer or an application may do, and compares the outcome with a model, with
//! another implementation, or with another order of the same steps; that nothing panics or hangs is a property of all.

#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc, reason = "the documentation of a target says nothing else")]
#![allow(clippy::similar_names, reason = "a receiver and what it has received")]
#![allow(clippy::cast_possible_truncation, reason = "some bits of a number are as good as others")]

mod close_payload;
mod connection;
mod decoding;
mod deflate;
mod extensions;
mod frame_header;
mod header_model;
mod heads;
mod hub;
mod inbound;
mod inflate;
mod input;
mod outbound;
mod proxied;
mod uris;
mod utf8;
mod virtual_time;

pub use close_payload::target as close_payload;
pub use connection::target as connection;
pub use deflate::target as deflate;
pub use extensions::target as extensions;
pub use frame_header::target as frame_header;
pub use heads::{request_head, response_head};
pub use hub::target as hub;
pub use inbound::target as inbound;
pub use inflate::target as inflate;
pub use outbound::target as outbound;
pub use proxied::{forwarded, proxy_protocol};
pub use uris::target as uris;
pub use utf8::target as utf8;
