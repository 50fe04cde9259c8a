//! A WebSocket client for tokio.
