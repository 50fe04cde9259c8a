//! The payload of close frames (RFC 6455 §5.5.1).
//!
//! Owns how code and reason are laid out. Which codes may appear belongs to [`CloseCode`]; when a close frame is due,
//! and how it is answered, to `longwire-protocol`.
//!
//! ```text
//!  0        2                      ≤ 125
//! ┌────────┬────────────────────────┐
//! │  code  │  reason, UTF-8         │     or nothing at all
//! └────────┴────────────────────────┘
//! ```

use bytes::Bytes;

use crate::{CloseCode, FrameError};

/// The longest reason that fits in a close frame, in bytes: a control frame's 125 minus 2 for the code.
pub const MAX_REASON_LEN: usize = 123;

/// Reads the whole, unmasked payload of a close frame.
///
/// Returns `None` for an empty payload, which means [`CloseCode::NO_STATUS_RECEIVED`].
/// [`FrameHeader::parse`](crate::FrameHeader::parse) has already checked that the payload is at most 125 bytes.
///
/// # Errors
///
/// [`FrameError::TruncatedCloseCode`] for one byte, [`FrameError::InvalidCloseCode`] for a code that may not
/// be sent, [`FrameError::InvalidCloseReason`] for a reason that is not UTF-8; a bad code is reported before
/// a bad reason.
pub fn parse_close(payload: &[u8]) -> Result<Option<(CloseCode, &str)>, FrameError> {
    let Some((&code, reason)) = payload.split_first_chunk::<2>() else {
        // "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer" (RFC 6455
        // §5.5.1)
        return if payload.is_empty() { Ok(None) } else { Err(FrameError::TruncatedCloseCode) };
    };
    let code = CloseCode::new(u16::from_be_bytes(code));
    if !code.is_sendable() {
        return Err(FrameError::InvalidCloseCode { code });
    }
    let reason = std::str::from_utf8(reason).map_err(|_| FrameError::InvalidCloseReason)?;
    Ok(Some((code, reason)))
}

/// Encodes the payload of a close frame, unmasked.
///
/// A close frame without a code has an empty payload and needs no encoding.
///
/// # Errors
///
/// [`FrameError::InvalidCloseCode`] if the code [may not be sent](CloseCode::is_sendable), and
/// [`FrameError::CloseReasonTooLong`] if the reason is longer than [`MAX_REASON_LEN`] bytes. The reason is not
/// truncated: only the caller knows what may be left out.
pub fn encode_close(code: CloseCode, reason: &str) -> Result<Bytes, FrameError> {
    if !code.is_sendable() {
        return Err(FrameError::InvalidCloseCode { code });
    }
    if reason.len() > MAX_REASON_LEN {
        return Err(FrameError::CloseReasonTooLong { len: reason.len() });
    }
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.value().to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    Ok(payload.into())
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn knows_which_codes_may_stand_in_a_close_frame() {
        for (range, sendable) in [
            (0..=999, false),
            (1000..=1003, true),
            (1004..=1006, false),
            (1007..=1014, true),
            (1015..=2999, false),
            (3000..=4999, true),
            (5000..=u16::MAX, false),
        ] {
            for value in range {
                let code = CloseCode::new(value);
                let payload = value.to_be_bytes();
                assert_eq!(code.is_sendable(), sendable, "{value}");
                if sendable {
                    assert_eq!(parse_close(&payload), Ok(Some((code, ""))), "{value}");
                    assert_eq!(encode_close(code, "").as_deref(), Ok(&payload[..]), "{value}");
                } else {
                    let error = FrameError::InvalidCloseCode { code };
                    assert_eq!(parse_close(&payload), Err(error), "{value}");
                    assert_eq!(encode_close(code, ""), Err(error), "{value}");
                }
            }
        }
    }

    #[test]
    fn reads_code_and_reason() {
        for (case, payload, expected) in [
            ("empty", &hex!("")[..], Ok(None)),
            ("code alone", &hex!("03e8"), Ok(Some((CloseCode::NORMAL, "")))),
            ("code and reason", &hex!("03e9 627965"), Ok(Some((CloseCode::GOING_AWAY, "bye")))),
            ("private code", &hex!("1387 c3a9"), Ok(Some((CloseCode::new(4999), "é")))),
            ("one byte", &hex!("03"), Err((FrameError::TruncatedCloseCode, CloseCode::PROTOCOL_ERROR))),
            (
                "1005, which stands for no code",
                &hex!("03ed"),
                Err((
                    FrameError::InvalidCloseCode { code: CloseCode::NO_STATUS_RECEIVED },
                    CloseCode::PROTOCOL_ERROR,
                )),
            ),
            (
                "bad reason",
                &hex!("03e8 ff"),
                Err((FrameError::InvalidCloseReason, CloseCode::INVALID_PAYLOAD)),
            ),
            (
                "reason that ends inside a character",
                &hex!("03e8 61 e282"),
                Err((FrameError::InvalidCloseReason, CloseCode::INVALID_PAYLOAD)),
            ),
            (
                "bad code and bad reason",
                &hex!("0000 ff"),
                Err((FrameError::InvalidCloseCode { code: CloseCode::new(0) }, CloseCode::PROTOCOL_ERROR)),
            ),
        ] {
            let parsed = parse_close(payload).map_err(|error| (error, error.close_code()));
            assert_eq!(parsed, expected, "{case}");
        }
    }

    #[test]
    fn the_reason_has_123_bytes_of_room() {
        let longest = "é".repeat(61) + "!";
        assert_eq!(longest.len(), MAX_REASON_LEN);
        let payload = encode_close(CloseCode::NORMAL, &longest).expect("123 bytes fit");
        assert_eq!(payload.len(), 125);
        assert_eq!(parse_close(&payload), Ok(Some((CloseCode::NORMAL, &longest[..]))));

        let too_long = longest + "!";
        let error = FrameError::CloseReasonTooLong { len: 124 };
        assert_eq!(encode_close(CloseCode::NORMAL, &too_long), Err(error));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(value in 3000..5000_u16, reason in ".{0,30}") {
            let code = CloseCode::new(value);
            let payload = encode_close(code, &reason).expect("30 characters fit in 123 bytes");
            prop_assert_eq!(parse_close(&payload), Ok(Some((code, &reason[..]))));
        }
    }
}
