//! The WebSocket connection as a state machine, sans-IO: messages, fragments, closing and limits (RFC 6455 §5-§7).
