//! The errors of this crate, and the close code due for each (RFC 6455 §7.4.1).

use thiserror::Error;

use crate::{CloseCode, Opcode};

/// The reason a frame is rejected: one that the peer sent, or one that the caller asked to build.
///
/// The rules of a frame are the same in both directions, and so are their errors. Variants marked
/// "(caller)" cannot come from the peer's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// RSV2 or RSV3 is set, which no extension known here defines (RFC 6455 §5.2). Close code 1002.
    #[error("a reserved bit is set: RSV2 and RSV3 must be 0")]
    ReservedBits,

    /// The opcode is one of 3–7 and 11–15, which are not defined (RFC 6455 §5.2). Close code 1002.
    #[error("opcode {opcode:#x} is reserved")]
    ReservedOpcode {
        /// The four bits seen.
        opcode: u8,
    },

    /// RSV1 is set on a frame that cannot begin a compressed message (RFC 7692 §6). Close code 1002.
    #[error("RSV1 is set on a {opcode} frame, only the first frame of a message may have it set")]
    UnexpectedRsv1 {
        /// A control opcode or [`Opcode::Continuation`].
        opcode: Opcode,
    },

    /// A control frame has FIN clear (RFC 6455 §5.5). Close code 1002.
    #[error("{opcode} frame is fragmented, control frames must have FIN set")]
    FragmentedControl {
        /// The control opcode seen.
        opcode: Opcode,
    },

    /// A client's frame is not masked (RFC 6455 §5.1). Close code 1002.
    #[error("frame from the client is not masked")]
    MissingMask,

    /// A server's frame is masked (RFC 6455 §5.1). Close code 1002.
    #[error("frame from the server is masked")]
    UnexpectedMask,

    /// A control frame is longer than 125 bytes (RFC 6455 §5.5). Close code 1002.
    ///
    /// The length itself is not reported: the frame is rejected before the extended length has to arrive.
    #[error("{opcode} frame is longer than the 125 bytes that a control frame may carry")]
    ControlTooLong {
        /// The control opcode seen.
        opcode: Opcode,
    },

    /// The payload length is not in its shortest form (RFC 6455 §5.2). Close code 1002.
    #[error("payload length is not encoded in the fewest bytes")]
    NonMinimalLength,

    /// The payload length is 2^63 or more (RFC 6455 §5.2). Close code 1002.
    ///
    /// This is a malformed header, not a large message: no endpoint, whatever its limits, may accept it. The code is
    /// therefore not 1009, which would suggest to the peer that a smaller message in the same form might pass.
    #[error("the most significant bit of the 64-bit payload length is set")]
    LengthTopBit,

    /// A close frame carries one byte, which is half a close code (RFC 6455 §5.5.1). Close code 1002.
    #[error("close frame carries 1 byte, a close code takes 2")]
    TruncatedCloseCode,

    /// The close code is not one that may appear in a close frame (RFC 6455 §7.4). Close code 1002.
    ///
    /// See [`CloseCode::is_sendable`].
    #[error("close code {code} may not be sent in a close frame")]
    InvalidCloseCode {
        /// The code seen or asked for.
        code: CloseCode,
    },

    /// The reason in a close frame is not UTF-8 (RFC 6455 §5.5.1, §8.1). Close code 1007.
    #[error("reason in the close frame is not valid UTF-8")]
    InvalidCloseReason,

    /// (caller) The reason does not fit in a close frame next to the code (RFC 6455 §5.5).
    #[error("close reason has {len} bytes, at most 123 are allowed")]
    CloseReasonTooLong {
        /// The length of the reason, in bytes.
        len: usize,
    },

    /// (caller) A data frame was requested with a control opcode (RFC 6455 §5.6).
    #[error("{opcode} is not the opcode of a data frame")]
    NotData {
        /// The control opcode given.
        opcode: Opcode,
    },

    /// (caller) A control frame was requested with a data opcode (RFC 6455 §5.5).
    #[error("{opcode} is not the opcode of a control frame")]
    NotControl {
        /// The data opcode given.
        opcode: Opcode,
    },
}

crate::debug_with_causes!(FrameError);

impl FrameError {
    /// Returns the close code with which to fail the connection when the peer's bytes caused this error.
    ///
    /// That is 1007 for a close reason that is not UTF-8 and 1002 for every other violation. Errors that only a caller
    /// can make never reach the wire; if the connection is given up because of one, 1011 is the honest code.
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::InvalidCloseReason => CloseCode::INVALID_PAYLOAD,
            Self::CloseReasonTooLong { .. } | Self::NotData { .. } | Self::NotControl { .. } => {
                CloseCode::INTERNAL_ERROR
            }
            Self::ReservedBits
            | Self::ReservedOpcode { .. }
            | Self::UnexpectedRsv1 { .. }
            | Self::FragmentedControl { .. }
            | Self::MissingMask
            | Self::UnexpectedMask
            | Self::ControlTooLong { .. }
            | Self::NonMinimalLength
            | Self::LengthTopBit
            | Self::TruncatedCloseCode
            | Self::InvalidCloseCode { .. } => CloseCode::PROTOCOL_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_not_blamed_for_the_caller() {
        for error in [
            FrameError::CloseReasonTooLong { len: 124 },
            FrameError::NotData { opcode: Opcode::Ping },
            FrameError::NotControl { opcode: Opcode::Text },
        ] {
            assert_eq!(error.close_code(), CloseCode::INTERNAL_ERROR, "{error}");
        }
    }
}
