//! The documented numbers.

use std::time::Duration;

use longwire_connection::{Keepalive, MemoryBudget};
use longwire_server::{ListenOptions, ServerConfig};

#[test]
fn defaults_are_the_documented_ones() {
    let config = ServerConfig::default();
    assert_eq!(config.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.max_handshakes, 1024);
    assert_eq!(config.connection.keepalive, Some(Keepalive::default()));
    assert_eq!(config.connection.memory.as_ref().map(MemoryBudget::limit), Some(1 << 30));
    assert_eq!((config.shutdown.code.value(), config.shutdown.deadline), (1001, Duration::from_secs(10)));
    #[cfg(feature = "deflate")]
    assert_eq!(config.handshake.deflate, None);
    assert_eq!(ListenOptions::default().backlog, 1024);
}
