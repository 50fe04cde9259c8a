//! Decompression of the messages in one direction (RFC 7692 §7.2.2).
//!
//! Owns how large a message may become, and what is kept of it for the next one. Recognizing compressed messages
//! belongs to the layer that reads frames.

use std::fmt;

use crate::{
    Direction, Pool,
    decompressor::{Decompressor, Malformed, Stepped},
    history::History,
};

/// Decompresses the messages that one end of a connection receives.
///
/// Takes a decompressor from its [`Pool`] when a message needs one, not earlier. It is given back after each message.
/// With context takeover the last window of plaintext is kept (at most 32 KiB), and so is the decompressor, as far as
/// the pool allows, until [`park`](Self::park).
///
/// Feed the payloads of a message's frames to [`inflate`](Self::inflate), split in any way, then call
/// [`finish`](Self::finish). After an error the connection must be failed, because later messages can refer to data
/// that was not read.
pub struct Inflater {
    pool: Pool,
    message: Option<InMessage>,
    /// Between messages with context takeover: a decompressor positioned at the end of `history`.
    context: Option<Box<Decompressor>>,
    /// Set while the pool counts this as a connection that keeps its decompressor.
    keeps: bool,
    history: History,
    direction: Direction,
}

/// A message in progress.
struct InMessage {
    context: Box<Decompressor>,
    /// Compressed bytes so far.
    taken: u64,
    /// Blocks with BFINAL so far.
    finals: u64,
    /// Set if the last byte taken ended a block with BFINAL.
    at_final: bool,
    /// The last four compressed bytes, the newest in the lowest bits.
    newest: u32,
}

/// The reason [`Inflater::inflate_spare`] has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// All input is consumed, and everything that it yields has been written.
    NeedInput,
    /// No space is left; more output may follow, even if no input is left.
    Full,
}

impl Inflater {
    /// The memory of a decompressor in bytes, which is held within a message and possibly until
    /// [`park`](Self::park).
    pub const CONTEXT_MEMORY: usize = 48 * 1024;

    /// Creates an inflater that allocates nothing until it is used.
    pub fn new(pool: &Pool, direction: Direction) -> Self {
        Self {
            pool: pool.clone(),
            message: None,
            context: None,
            keeps: false,
            history: History::default(),
            direction,
        }
    }

    /// Decompresses some of a message, and appends the result to `out`: at most `room` bytes.
    ///
    /// Takes all of `input`, which may be split anywhere. `out` grows with the output, by at most `room` bytes, so a
    /// message that is small on the wire and huge inside costs no more than `room` allows. Input that yields nothing is
    /// taken as well: a caller that limits the size of messages should count the compressed bytes too.
    ///
    /// # Errors
    ///
    /// [`InflateError::TooBig`] once there is one byte more, with `room` bytes appended; the other errors if the data
    /// cannot be decompressed. `input` is then the part that was not examined.
    pub fn inflate(&mut self, input: &mut &[u8], out: &mut Vec<u8>, room: usize) -> Result<(), InflateError> {
        self.inflate_some(input, out, room, usize::MAX).map(drop)
    }

    /// [`inflate`](Self::inflate), but stops once `out` has grown by `step` bytes, or up to 16 KiB more.
    ///
    /// For callers that must not work for long without a pause. [`Progress::Full`] means: call again with the remaining
    /// `input`, even if it is empty, until the result is [`Progress::NeedInput`].
    ///
    /// # Errors
    ///
    /// Those of [`inflate`](Self::inflate).
    pub fn inflate_some(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
        room: usize,
        step: usize,
    ) -> Result<Progress, InflateError> {
        let limit = out.len().saturating_add(room);
        let until = out.len().saturating_add(step);
        loop {
            if out.len() >= until {
                return Ok(Progress::Full);
            }
            let progress = if out.len() < out.capacity() {
                self.fill(input, out, until)?
            } else if out.len() < limit {
                grow(out, input.len(), limit);
                continue;
            } else {
                let mut one_more = Vec::with_capacity(1);
                let progress = self.inflate_spare(input, &mut one_more)?;
                if !one_more.is_empty() {
                    return Err(self.fail(InflateError::TooBig { room }));
                }
                progress
            };
            if out.len() > limit {
                out.truncate(limit);
                return Err(self.fail(InflateError::TooBig { room }));
            }
            if progress == Progress::NeedInput {
                return Ok(progress);
            }
        }
    }

    /// Decompresses as much as fits into the spare capacity of `out`, which does not grow.
    ///
    /// For messages that are passed on in parts. [`Progress::Full`] means: take the output, and call again with the
    /// remaining `input`, until the result is [`Progress::NeedInput`].
    ///
    /// # Errors
    ///
    /// Those of [`inflate`](Self::inflate) except [`InflateError::TooBig`].
    pub fn inflate_spare(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Progress, InflateError> {
        self.fill(input, out, usize::MAX)
    }

    /// Decompresses into the spare capacity of `out` until its length is `until`, or up to one step more.
    fn fill(&mut self, input: &mut &[u8], out: &mut Vec<u8>, until: usize) -> Result<Progress, InflateError> {
        if input.is_empty() && self.message.is_none() {
            return Ok(Progress::NeedInput);
        }
        loop {
            if out.len() >= out.capacity().min(until) {
                return Ok(Progress::Full);
            }
            let message = match &mut self.message {
                Some(message) => message,
                none => none.insert(match self.context.take() {
                    Some(context) => InMessage::new(context),
                    None => InMessage::begin(&self.pool, &self.history),
                }),
            };
            let start = out.len();
            let step = message.step(input, out);
            self.history.push(&out[start..], self.direction.kept());
            match step {
                Err(error) => return Err(self.fail(error)),
                Ok(Step::Final) => message.restart(&self.history),
                Ok(Step::Some) => {}
                // The space is not full: that was ruled out above.
                Ok(Step::Nothing) if input.is_empty() => return Ok(Progress::NeedInput),
                Ok(Step::Nothing) => return Err(self.fail(InflateError::Data)),
            }
        }
    }

    /// Ends a message.
    ///
    /// A message without any payload counts as an empty one. (It should have one byte, RFC 7692 §7.2.3.6, but its
    /// meaning is unambiguous.)
    ///
    /// # Errors
    ///
    /// [`InflateError::Truncated`] unless the payload ends where a sender may end it: with the first byte of an empty
    /// stored block, or with a block that has BFINAL set. The four bytes `00 00 ff ff` that complete the empty block
    /// are accepted too: a sender must remove them (RFC 7692 §7.2.1), but the message is the same.
    pub fn finish(&mut self) -> Result<(), InflateError> {
        let Some(mut message) = self.message.take() else {
            return Ok(());
        };
        match message.end() {
            End::Between => {
                self.keeps = self.keeps || (self.direction.context_takeover && self.pool.keep_decompressor());
                if self.keeps {
                    self.context = Some(message.context);
                } else {
                    self.pool.give_decompressor(message.context);
                }
            }
            End::Final => {
                self.pool.give_decompressor(message.context);
                self.keep_no_longer();
            }
            End::Within => return Err(self.fail(InflateError::Truncated)),
        }
        Ok(())
    }

    /// Gives the decompressor back to the pool and keeps only the window, in as many bytes as it holds: at most 32 KiB,
    /// none without context takeover.
    ///
    /// Intended for connections that have been idle. The next message takes a decompressor again and loads the window
    /// into it, which takes a microsecond. Within a message the decompressor stays.
    pub fn park(&mut self) {
        if let Some(context) = self.context.take() {
            self.pool.give_decompressor(context);
            self.keep_no_longer();
        }
        self.history.shrink();
    }

    /// Gives up an unfinished message, and gives back everything it holds. No message can follow.
    pub fn discard(&mut self) {
        let of_message = self.message.take().map(|message| message.context);
        if let Some(context) = of_message.or_else(|| self.context.take()) {
            self.pool.give_decompressor(context);
        }
        self.keep_no_longer();
        self.history.clear();
    }

    fn keep_no_longer(&mut self) {
        if std::mem::take(&mut self.keeps) {
            self.pool.keep_decompressor_no_longer();
        }
    }

    /// Returns whether no decompressor is held.
    pub fn is_parked(&self) -> bool {
        self.context.is_none() && self.message.is_none()
    }

    /// Returns the number of bytes kept for this inflater, not counting a decompressor.
    pub fn window_memory(&self) -> usize {
        self.history.allocated()
    }

    fn fail(&mut self, error: InflateError) -> InflateError {
        self.message = None;
        self.keep_no_longer();
        self.history.clear();
        error
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        self.discard();
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater")
            .field("direction", &self.direction)
            .field("within_message", &self.message.is_some())
            .field("window_memory", &self.window_memory())
            .finish_non_exhaustive()
    }
}

/// The result of one call of the backend.
enum Step {
    /// Input was taken or output was produced.
    Some,
    /// The same, and a block with BFINAL has ended.
    Final,
    /// Neither.
    Nothing,
}

/// The position at which the payload of a message has ended.
enum End {
    /// Between two blocks.
    Between,
    /// After a block that has BFINAL set: to continue, a decompressor must start anew.
    Final,
    /// Within a block.
    Within,
}

impl InMessage {
    fn new(context: Box<Decompressor>) -> Self {
        Self { context, taken: 0, finals: 0, at_final: false, newest: u32::MAX }
    }

    fn begin(pool: &Pool, history: &History) -> Self {
        let mut message = Self::new(pool.take_decompressor());
        message.remember(history);
        message
    }

    fn step(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Step, InflateError> {
        let Stepped { taken, made, at_final } =
            self.context.step(input, out).map_err(|Malformed| InflateError::Data)?;
        self.taken += taken as u64;
        let (read, rest) = input.split_at(taken);
        *input = rest;
        for byte in &read[taken.saturating_sub(4)..] {
            self.newest = self.newest << 8 | u32::from(*byte);
        }
        if taken > 0 {
            self.at_final = false;
        }
        if at_final {
            self.at_final = true;
            self.finals += 1;
            // Each restart costs as much as loading a window, which two bytes of input could otherwise request.
            if self.finals > FINALS + self.taken / BYTES_PER_FINAL {
                return Err(InflateError::TooManyFinals);
            }
            return Ok(Step::Final);
        }
        Ok(if taken > 0 || made > 0 { Step::Some } else { Step::Nothing })
    }

    /// Continues after a block with BFINAL.
    fn restart(&mut self, history: &History) {
        self.context.reset();
        self.remember(history);
    }

    fn remember(&mut self, history: &History) {
        for part in history.parts() {
            self.context.remember(part);
        }
    }

    /// Ends the message, and returns where its payload has ended.
    fn end(&mut self) -> End {
        // Laxer than the RFC, which has a sender append 0x00 (RFC 7692 §7.2.3.4): nothing can be missing after BFINAL.
        if self.at_final {
            return End::Final;
        }
        // Laxer than the RFC, which has a sender remove these four bytes (RFC 7692 §7.2.1): if they complete an empty
        // block, nothing can be missing after it. They cannot be the beginning of a block, so the other check is not
        // needed.
        if self.newest == KEPT_TAIL {
            return if self.context.is_between_blocks() { End::Between } else { End::Within };
        }
        match self.context.end() {
            // The payload may also end with the first byte of an empty stored block that has BFINAL set itself.
            Some(true) => End::Final,
            Some(false) => End::Between,
            None => End::Within,
        }
    }
}

/// Makes space for the output that `arriving` compressed bytes may yield, in proportion to the input so far; capacity
/// never exceeds `limit`.
fn grow(out: &mut Vec<u8>, arriving: usize, limit: usize) {
    let likely = arriving.saturating_mul(LIKELY_RATIO).max(SMALLEST_STEP);
    let wanted = out.len().saturating_add(likely).max(out.capacity().saturating_mul(2)).min(limit);
    out.reserve_exact(wanted - out.len());
}

/// Text and JSON shrink to a third or a fourth; data that shrinks further costs another step.
const LIKELY_RATIO: usize = 4;

const SMALLEST_STEP: usize = 256;

/// `00 00 ff ff`, as stored in [`InMessage::newest`].
const KEPT_TAIL: u32 = 0x0000_ffff;

/// The number of blocks with BFINAL that a message may have: each frame's payload may end with one.
const FINALS: u64 = 32;

/// The number of compressed bytes that allow one more.
const BYTES_PER_FINAL: u64 = 32;

/// A compressed message that cannot be read: the connection must be failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InflateError {
    /// The payload is not DEFLATE data, or refers to data before the beginning (RFC 1951 §3.2). Close code 1007.
    ///
    /// A reference that is longer than the agreed window allows is an error only if the data it refers to is gone.
    #[error("compressed data is malformed")]
    Data,
    /// The message ends within a block (RFC 7692 §7.2.1). Close code 1007.
    #[error("compressed message ends too early")]
    Truncated,
    /// The message has more blocks with BFINAL set than 32 plus one for each 32 compressed bytes. Close code 1008.
    #[error("compressed message has too many final blocks")]
    TooManyFinals,
    /// The message is longer than the room for it. Close code 1009.
    #[error("compressed data expands to more than the {room} bytes allowed")]
    TooBig {
        /// The number of bytes allowed.
        room: usize,
    },
}
