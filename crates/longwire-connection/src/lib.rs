//! A WebSocket over any tokio stream: buffers, timers, backpressure and concurrent senders.
