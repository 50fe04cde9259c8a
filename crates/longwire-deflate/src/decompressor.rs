//! The backend of decompression, with the one check that `flate2` does not offer: whether a block has ended.

use zlib_rs::{Inflate, InflateFlush, Status};

use crate::WindowBits;

/// A decompressor of raw DEFLATE data.
pub(crate) struct Decompressor {
    inflate: Inflate,
}

/// The result of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stepped {
    /// Input taken.
    pub(crate) taken: usize,
    /// Output produced.
    pub(crate) made: usize,
    /// Set once a block with BFINAL has ended: nothing more is taken until the next reset.
    pub(crate) at_final: bool,
}

/// The data is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Decompressor {
    pub(crate) fn new() -> Self {
        // Any window: 32 KiB are allocated in any case, and data sent with a smaller window can be read.
        Self { inflate: Inflate::new(false, WindowBits::MAX.get()) }
    }

    /// Resets it to its initial state.
    pub(crate) fn reset(&mut self) {
        self.inflate.reset(false);
    }

    /// Adds bytes to the window, as if they had been decompressed.
    pub(crate) fn remember(&mut self, bytes: &[u8]) {
        self.inflate.set_dictionary(bytes).expect("raw inflate takes a dictionary at any time");
    }

    /// Decompresses into the spare capacity of `out`, filling it or part of it.
    pub(crate) fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Stepped, Malformed> {
        let start = out.len();
        out.resize(start + (out.capacity() - start).min(CHUNK), 0);
        let stepped = self.run(input, &mut out[start..], InflateFlush::SyncFlush);
        out.truncate(start + stepped.map_or(0, |stepped| stepped.made));
        stepped
    }

    /// Ends a message: `None` if it must not end here, otherwise whether it was the end of a block with BFINAL.
    ///
    /// "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload of the message" (RFC 7692 §7.2.2): they
    /// must complete an empty stored block, which may have BFINAL set. The decompressor is told to stop between blocks,
    /// and must do so after them, although there is more input. Then an empty block must fit, which it does only if
    /// that block ended on a byte boundary.
    pub(crate) fn end(&mut self) -> Option<bool> {
        // Space for the data of a block that continues.
        let mut nothing = [0; 16];
        let tail = self.run(&ENDING, &mut nothing, InflateFlush::Block).ok()?;
        if tail != (Stepped { taken: TAIL_LEN, made: 0, at_final: false }) {
            return None;
        }
        match self.run(&ENDING[TAIL_LEN..], &mut nothing, InflateFlush::Block).ok()? {
            Stepped { taken: 0, made: 0, at_final: true } => Some(true),
            Stepped { taken: EMPTY_LEN, made: 0, at_final: false } => Some(false),
            _ => None,
        }
    }

    /// Returns whether a block has ended on a byte boundary: then more empty blocks fit, and the decompressor stops
    /// after each.
    ///
    /// Only for payloads that end with the four bytes that complete an empty block. Any other payload is malformed
    /// after this.
    pub(crate) fn is_between_blocks(&mut self) -> bool {
        let empty = Ok(Stepped { taken: EMPTY_LEN, made: 0, at_final: false });
        let mut fits = || self.run(&ENDING[TAIL_LEN..], &mut [0; 16], InflateFlush::Block) == empty;
        // The second one is rejected if a leftover bit has turned the first into a block with BFINAL.
        fits() && fits()
    }

    fn run(&mut self, input: &[u8], out: &mut [u8], flush: InflateFlush) -> Result<Stepped, Malformed> {
        let before = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, out, flush).map_err(|_| Malformed)?;
        let gone = |after: u64, before: u64| usize::try_from(after - before).expect("at most what was given");
        Ok(Stepped {
            taken: gone(self.inflate.total_in(), before.0),
            made: gone(self.inflate.total_out(), before.1),
            at_final: status == Status::StreamEnd,
        })
    }
}

/// The bytes that a sender removes from the end of a message, followed by two empty stored blocks.
const ENDING: [u8; 14] = [0x00, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0xff, 0xff, 0x00, 0x00, 0x00, 0xff, 0xff];

const TAIL_LEN: usize = 4;

const EMPTY_LEN: usize = 5;

/// The amount of space prepared at once: it is cleared first, which is a small part of the cost of filling it.
const CHUNK: usize = 16 * 1024;
