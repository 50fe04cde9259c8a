//! Connected WebSocket clients as a whole: registry, broadcast, slow-client policy and shutdown.
