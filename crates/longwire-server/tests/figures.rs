//! The documented numbers.

use std::time::Duration;

use longwire_connection::{Keepalive, Limits, MemoryBudget};
use longwire_server::{HubConfig, ListenOptions, OriginPolicy, ServerConfig, TrustedProxies};

#[test]
fn defaults_are_the_documented_ones() {
    let config = ServerConfig::default();
    assert_eq!(config.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.max_handshakes, 1024);
    let nobody = TrustedProxies::default();
    assert_eq!((&config.trusted_proxies, &config.proxy_protocol), (&nobody, &nobody));
    let anybody = "192.0.2.1".parse().unwrap();
    assert!(!nobody.trusts(Some(anybody)) && !nobody.trusts(None));
    assert_eq!(config.handshake.origins, OriginPolicy::Any);
    assert_eq!((config.head.max_bytes, config.head.max_headers), (16 * 1024, 100));
    assert_eq!((config.head.max_line, config.head.max_target), (8 * 1024, 8 * 1024));
    assert_eq!(config.hub, HubConfig::default());
    assert_eq!(config.connection.limits, Limits::default());
    assert_eq!(config.connection.rate_limit, None);
    assert_eq!(config.connection.close_timeout, Duration::from_secs(5));
    assert_eq!(config.connection.keepalive, Some(Keepalive::default()));
    assert_eq!(config.connection.memory.as_ref().map(MemoryBudget::limit), Some(1 << 30));
    assert_eq!((config.shutdown.code.value(), config.shutdown.deadline), (1001, Duration::from_secs(10)));
    #[cfg(feature = "deflate")]
    assert_eq!(config.handshake.deflate, None);
    assert_eq!(ListenOptions::default().backlog, 1024);
}
