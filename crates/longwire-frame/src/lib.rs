//! WebSocket frames, sans-IO: headers, masking, close codes and UTF-8 (RFC 6455 §5).
