//! A WebSocket library for Rust and tokio: client and server, strict, safe and fast.
