//! The number of bytes that are read at once: no more than the send queue has room for the answers to them. The length
//! of these is estimated from the answers so far.

use crate::Transport;
use crate::sending::writer::Writer;

/// The numbers of bytes read and answered, which determine how much is read at once.
#[derive(Default)]
pub(super) struct Unanswered {
    /// The bytes that were read: with a cork those of the last while, without one those since the last send.
    pub(super) bytes: u64,
    /// The position at which the queue ended before the answers to these.
    end: u64,
}

impl Unanswered {
    /// Returns the number of bytes to read at once: the room that the queue has for their answers, plus
    /// [`READ_AHEAD`]. A handler that then waits in `send` has received nearly all of them, and a handler that
    /// keeps up gets many bytes at once.
    ///
    /// Returns only [`READ_AHEAD`] as long as fewer than [`LITTLE`] bytes were read. With a cork, it also does so
    /// if the answers were longer than what was read. Without a cork, where an answer waits until it is written, it
    /// does so unless [`UNANSWERED`] bytes were read without an answer.
    #[inline]
    pub(super) fn most_to_read<T: Transport>(&self, is_corked: bool, writer: &Writer<T>) -> usize {
        if self.bytes < LITTLE {
            return READ_AHEAD;
        }
        let answer = writer.out.queue().end() - self.end;
        let is_room_enough =
            if is_corked { answer <= self.bytes } else { answer == 0 && self.bytes >= UNANSWERED };
        if is_room_enough { READ_AHEAD.saturating_add(writer.room()) } else { READ_AHEAD }
    }

    /// Records a read, with the position at which the queue ends now.
    #[inline]
    pub(super) fn note_read(&mut self, n: usize, is_corked: bool, end: u64) {
        if !is_corked && self.end != end {
            *self = Self { bytes: 0, end };
        } else if is_corked && self.bytes >= WHILE {
            // One read may end within a message; only over several is an echo as long as what was read.
            let (bytes, answer) = (self.bytes / 2, end - self.end);
            // What is still to be answered is not forgotten: its answers are counted whole.
            let answer = match self.bytes.checked_sub(answer) {
                Some(ahead) => bytes.saturating_sub(ahead),
                None => answer / 2,
            };
            *self = Self { bytes, end: end - answer };
        }
        self.bytes += n as u64;
    }
}

/// The number of bytes read beyond the room for their answers. Together with the overhead that a queue counts for
/// its pieces, less than 16 KiB are left undecoded.
const READ_AHEAD: usize = 15 * 1024;

/// A read of fewer bytes is no sign that more than [`READ_AHEAD`] will arrive at once.
const LITTLE: u64 = 4096;

/// The number of bytes of which half are forgotten, together with the answers to them.
const WHILE: u64 = 256 * 1024;

/// After this many bytes without an answer, no answer is expected to the next.
const UNANSWERED: u64 = 64 * 1024;
