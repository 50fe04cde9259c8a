//! Compression of messages, with every window.

use flate2::{Decompress, FlushDecompress};
use longwire_deflate::{Deflater, Direction, Inflater, Level, Pool, WindowBits};

use crate::inflate::naive;
use crate::input::{Input, pieces};

/// Compresses messages, whole or in parts, and puts the compressor away in between.
///
/// - Every message is read again by longwire, by zlib, and by a reader that refuses references beyond the agreed
///   window.
/// - Without context takeover, each message is read by a zlib that has seen nothing before.
/// - A message does not end with the four bytes that RFC 7692 §7.2.1 has the sender remove.
/// - What the deflater keeps between messages is no larger than the window.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let window_bits = input.choose(&[8, 9, 9, 10, 11, 12, 13, 14, 15]);
    let level = Level::new(1 + input.below(9)).expect("1 to 9");
    let context_takeover = input.byte() & 1 == 0;
    let window = WindowBits::new(window_bits).expect("8 to 15");
    let direction = Direction { window_bits: window, context_takeover };
    let pool = Pool::default();
    let Some(mut deflater) = Deflater::new(&pool, direction, level) else {
        assert_eq!(window_bits, 8, "zlib cannot write with this window");
        return;
    };
    let mut reader = Reader::new(&pool, direction);
    let mut total = 0;
    while !input.is_empty() && total < 100_000 {
        let operation = input.byte();
        let message = message(&mut input, operation);
        total += message.len() + 1;
        match operation & 0x0f {
            0 => deflater.park(),
            // The reader keeps what it has: the window may hold more than the writer refers to.
            1 => deflater.forget(),
            2 => {
                // A message for many, compressed by itself.
                let alone = Direction { context_takeover: false, ..direction };
                let mut wire = Vec::new();
                Deflater::new(&pool, alone, level).expect("as above").compress(&message, &mut wire);
                reader.check(&wire, &message);
                deflater.note(&message);
            }
            3..=5 => {
                let way = input.byte();
                let mut wire = Vec::new();
                for part in pieces(&message, way) {
                    deflater.compress_part(part, &mut wire);
                }
                deflater.compress(&[], &mut wire);
                reader.check(&wire, &message);
            }
            _ => {
                let mut wire = Vec::new();
                deflater.compress(&message, &mut wire);
                assert!(wire.len() <= message.len() + message.len() / 8 + 64, "grows to {}", wire.len());
                reader.check(&wire, &message);
            }
        }
        let kept = if context_takeover { window.size() } else { 0 };
        assert!(deflater.window_memory() <= kept.max(64) * 2, "keeps {} bytes", deflater.window_memory());
    }
}

/// Returns the next message; long ones repeat themselves at a distance near the size of a window.
fn message(input: &mut Input<'_>, operation: u8) -> Vec<u8> {
    match operation >> 4 & 3 {
        0 | 1 => input.chunk().to_vec(),
        2 => input.long(),
        _ => {
            let distance = (256 << input.below(8)) + usize::from(input.byte()) - 128;
            let (head, seed) = (input.chunk(), u32::from(input.byte()));
            let filler =
                (0..distance as u32).map(|at| (at.wrapping_mul(0x9e37_79b9 ^ seed << 8) >> 24) as u8);
            [head, &filler.collect::<Vec<_>>(), head].concat()
        }
    }
}

/// The readers of what was compressed.
struct Reader {
    inflater: Inflater,
    zlib: Decompress,
    /// zlib itself accepts a reference beyond its window to what it has just written.
    naive: naive::Reader,
    direction: Direction,
}

impl Reader {
    fn new(pool: &Pool, direction: Direction) -> Self {
        let naive = naive::Reader::new(direction.window_bits.get());
        Self { inflater: Inflater::new(pool, direction), zlib: zlib(direction), naive, direction }
    }

    fn check(&mut self, wire: &[u8], message: &[u8]) {
        assert!(!wire.is_empty() && !wire.ends_with(&[0x00, 0x00, 0xff, 0xff]), "ends with {wire:02x?}");
        let (mut input, mut plain) = (wire, Vec::new());
        self.inflater.inflate(&mut input, &mut plain, message.len()).expect("longwire reads it");
        self.inflater.finish().expect("longwire reads its end");
        assert!(plain == message, "longwire reads {} bytes for {}", plain.len(), message.len());

        if !self.direction.context_takeover {
            self.zlib = zlib(self.direction);
            self.naive.forget();
        }
        assert!(self.naive.message(wire, true).as_deref() == Ok(message), "a reference beyond the window");
        let whole = [wire, &[0x00, 0x00, 0xff, 0xff]].concat();
        let mut plain = Vec::with_capacity(message.len() + 1);
        let before = self.zlib.total_in();
        let read = self.zlib.decompress_vec(&whole, &mut plain, FlushDecompress::Sync);
        assert!(read.is_ok(), "zlib with a window of {} bits: {read:?}", self.direction.window_bits);
        assert_eq!(self.zlib.total_in() - before, whole.len() as u64);
        assert!(plain == message, "zlib reads {} bytes for {}", plain.len(), message.len());
    }
}

fn zlib(direction: Direction) -> Decompress {
    Decompress::new_with_window_bits(false, direction.window_bits.get())
}
