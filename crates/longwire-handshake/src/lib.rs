//! The WebSocket opening handshake, sans-IO: requests, responses and header grammars (RFC 6455 §4).
