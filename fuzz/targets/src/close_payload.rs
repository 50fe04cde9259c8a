//! The payload of close frames.

use longwire_frame::close::{MAX_REASON_LEN, encode_close, parse_close};
use longwire_frame::{CloseCode, FrameError};

/// Reads the payload of a close frame, and writes it again.
///
/// - It is refused exactly if RFC 6455 §5.5.1 and §7.4 refuse it, and the code is judged before the reason.
/// - What was read can be written, as the same bytes.
/// - What was refused cannot be written either.
pub fn target(data: &[u8]) {
    let parsed = parse_close(data);
    match data {
        [] => assert_eq!(parsed, Ok(None)),
        [_] => assert_eq!(parsed, Err(FrameError::TruncatedCloseCode)),
        [high, low, reason @ ..] => {
            let value = u16::from_be_bytes([*high, *low]);
            let code = CloseCode::new(value);
            // §7.4.1 and §7.4.2, with the codes that were registered later.
            let is_allowed = matches!(value, 1000..=1003 | 1007..=1014 | 3000..=4999);
            assert_eq!(code.is_sendable(), is_allowed, "{value}");
            match std::str::from_utf8(reason) {
                _ if !is_allowed => assert_eq!(parsed, Err(FrameError::InvalidCloseCode { code })),
                Err(_) => assert_eq!(parsed, Err(FrameError::InvalidCloseReason)),
                Ok(reason) => assert_eq!(parsed, Ok(Some((code, reason)))),
            }
            let lossy = String::from_utf8_lossy(reason);
            match encode_close(code, &lossy) {
                Ok(written) => {
                    assert!(is_allowed && lossy.len() <= MAX_REASON_LEN);
                    assert_eq!(parse_close(&written), Ok(Some((code, &*lossy))));
                    assert!(parsed.is_err() || written == data);
                }
                Err(FrameError::InvalidCloseCode { .. }) => assert!(!is_allowed),
                Err(error) => {
                    let len = lossy.len();
                    assert_eq!(error, FrameError::CloseReasonTooLong { len });
                    assert!(is_allowed && len > 123);
                }
            }
        }
    }
}
