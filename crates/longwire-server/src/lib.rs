//! A WebSocket server for tokio.
