//! The setters of all configuration structs, which are named as an application names them.

#![cfg(all(
    feature = "axum",
    feature = "client",
    feature = "deflate",
    feature = "http2",
    feature = "server"
))]

use std::time::Duration;

use longwire::deflate::{Level, PoolOptions, WindowBits};
use longwire::handshake::{ClientOptions, HeadLimits, OriginPolicy, ServerOptions, Subprotocol};
use longwire::http2::ConnectOptions;
use longwire::hyper::MountConfig;
use longwire::reconnect::{Backoff, Jitter};
use longwire::server::{ListenOptions, TrustedProxies};
use longwire::{
    CloseCode, Config, DeflateOptions, Excess, HubConfig, Keepalive, Limits, Measurements, MemoryBudget,
    Rate, RateLimit, ServerConfig, Shutdown, SlowPolicy,
};

/// Checks that each setter changes its own field, from a value that differs, and no other.
macro_rules! check {
    ($($config:ident { $($field:ident, $with:ident: $value:expr;)* })*) => {$($({
        let value = $value;
        let changed = $config::default().$with(value.clone());
        let mut expected = $config::default();
        assert_ne!(format!("{:?}", expected), format!("{:?}", changed), stringify!($config::$with));
        expected.$field = value.into();
        assert_eq!(format!("{:?}", expected), format!("{:?}", changed), stringify!($config::$with));
    })*)*};
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn each_setter_sets_its_own_field() {
    let second = Duration::from_secs(1);
    let proxies = || TrustedProxies::hops(1);
    let bits = WindowBits::new(9).unwrap();
    let connection = || Config::default().with_send_queue(1);
    check! {
        Limits { max_message, with_max_message: 1; max_frame, with_max_frame: 1; max_fragments, with_max_fragments: 1; }
        Keepalive { interval, with_interval: second; timeout, with_timeout: second; }
        RateLimit {
            messages, with_messages: Rate::per_second(1);
            bytes, with_bytes: Rate::per_second(1);
            excess, with_excess: Excess::Drop;
        }
        Config {
            limits, with_limits: Limits::default().with_max_message(1);
            rate_limit, with_rate_limit: RateLimit::default();
            memory, with_memory: MemoryBudget::new(1);
            measurements, with_measurements: Measurements::default();
            keepalive, with_keepalive: Keepalive::default();
            auto_pong, with_auto_pong: false;
            close_timeout, with_close_timeout: second;
            send_queue, with_send_queue: 1;
            deflate_idle, with_deflate_idle: second;
        }
        DeflateOptions {
            level, with_level: Level::new(9).unwrap();
            threshold, with_threshold: 1;
            server_no_context_takeover, with_server_no_context_takeover: true;
            client_no_context_takeover, with_client_no_context_takeover: true;
            server_max_window_bits, with_server_max_window_bits: bits;
            client_max_window_bits, with_client_max_window_bits: bits;
            fallback, with_fallback: false;
        }
        PoolOptions {
            idle_compressors, with_idle_compressors: 1;
            idle_decompressors, with_idle_decompressors: 1;
            kept_compressors, with_kept_compressors: 1;
            kept_decompressors, with_kept_decompressors: 1;
        }
        HeadLimits {
            max_bytes, with_max_bytes: 1;
            max_headers, with_max_headers: 1;
            max_line, with_max_line: 1;
            max_target, with_max_target: 1;
        }
        ServerOptions {
            subprotocols, with_subprotocols: [Subprotocol::new("chat").unwrap()];
            origins, with_origins: OriginPolicy::only(["https://example.com"]).unwrap();
            path, with_path: "/".to_owned();
            deflate, with_deflate: DeflateOptions::default();
        }
        ClientOptions {
            headers, with_headers: http::HeaderMap::from_iter([(http::header::COOKIE, "a=b".parse().unwrap())]);
            origin, with_origin: http::HeaderValue::from_static("null");
            subprotocols, with_subprotocols: [Subprotocol::new("chat").unwrap()];
            deflate, with_deflate: DeflateOptions::default();
        }
        HubConfig {
            slow, with_slow: SlowPolicy::DropNewest;
            queue, with_queue: 1;
            leave_timeout, with_leave_timeout: second;
            max_clients, with_max_clients: 1;
            max_clients_per_address, with_max_clients_per_address: 1;
            max_rooms_per_client, with_max_rooms_per_client: 1;
        }
        Shutdown {
            code, with_code: CloseCode::SERVICE_RESTART;
            reason, with_reason: "later";
            deadline, with_deadline: second;
            spread, with_spread: second;
        }
        ServerConfig {
            connection, with_connection: connection();
            handshake, with_handshake: ServerOptions::default().with_path("/".to_owned());
            trusted_proxies, with_trusted_proxies: proxies();
            proxy_protocol, with_proxy_protocol: proxies();
            head, with_head: HeadLimits::default().with_max_line(1);
            handshake_timeout, with_handshake_timeout: second;
            max_handshakes, with_max_handshakes: 1;
            hub, with_hub: HubConfig::default().with_queue(1);
            shutdown, with_shutdown: Shutdown::default().with_spread(second);
        }
        ListenOptions { backlog, with_backlog: 1; reuse_port, with_reuse_port: true; only_v6, with_only_v6: true; }
        MountConfig {
            connection, with_connection: connection();
            handshake, with_handshake: ServerOptions::default().with_path("/".to_owned());
            hub, with_hub: HubConfig::default().with_queue(1);
            upgrade_timeout, with_upgrade_timeout: second;
        }
        ConnectOptions {
            handshake, with_handshake: ClientOptions::default();
            connection, with_connection: connection();
            handshake_timeout, with_handshake_timeout: second;
            max_refusal_body, with_max_refusal_body: 1;
        }
        Backoff {
            first, with_first: second;
            max, with_max: second;
            jitter, with_jitter: Jitter::Full;
            reset_after, with_reset_after: second;
            max_retry_after, with_max_retry_after: second;
        }
    }
}
