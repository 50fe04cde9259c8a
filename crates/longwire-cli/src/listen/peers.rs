//! Facts about clients that the parts of `listen` share.

use std::net::SocketAddr;
use std::time::Duration;

/// The longest time that a broadcast waits for a slow client, before that client is closed.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Used where an address is shown.
pub(super) fn peer(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "a Unix socket".to_owned(), |address| address.to_string())
}
