//! Decompression of messages that no compressor wrote.

use flate2::{Decompress, FlushDecompress, Status};
use longwire_deflate::{Direction, InflateError, Inflater, Pool, Progress, WindowBits};

use crate::input::{Input, pieces};

#[path = "../../../crates/longwire-deflate/tests/naive/mod.rs"]
#[allow(dead_code, reason = "the tests that it is made for use more of it")]
pub(crate) mod naive;

/// Decompresses up to four messages, with a limit, in any split.
///
/// - Every split and every way to take the output gives the same.
/// - A message is read as a reader that works bit by bit reads it, and as zlib does.
/// - The limit is exact: a message of `room` bytes is read, and one of more is refused with `room` bytes at most.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let (way, options) = (input.byte(), input.byte());
    let context_takeover = options & 1 == 0;
    let direction = Direction { window_bits: WindowBits::MAX, context_takeover };
    let pool = Pool::default();
    let (mut whole, mut split) = (Inflater::new(&pool, direction), Inflater::new(&pool, direction));
    let mut reader = naive::Reader::new(15);
    for _ in 0..4 {
        let wire = if options & 2 == 0 { input.rest() } else { input.chunk() };
        if wire.is_empty() {
            return;
        }
        let read = read(&mut whole, wire, 0, ROOM, usize::MAX);
        assert_eq!(self::read(&mut split, wire, way, ROOM, 1 + usize::from(way) * 16), read, "{wire:02x?}");
        if read == Err(InflateError::TooManyFinals) || matches!(read, Err(InflateError::TooBig { .. })) {
            return;
        }
        if !context_takeover {
            reader.forget();
        }
        let expected = reader.message(wire, context_takeover);
        assert_eq!(
            read.as_ref().map_err(|_| naive::Malformed),
            expected.as_ref().map_err(|_| naive::Malformed),
            "{wire:02x?}"
        );
        let Ok(plain) = read else { return };
        check_limit(&pool, direction, &reader.plain[..reader.plain.len() - plain.len()], wire, &plain, way);
        if let (true, Some(zlib)) = (reader.plain.len() == plain.len(), with_zlib(wire)) {
            assert!(plain.starts_with(&zlib), "zlib reads {wire:02x?} as {zlib:02x?}");
        }
        if options & 4 != 0 {
            split.park();
            assert!(split.is_parked());
        }
    }
}

/// The limit on a message: enough for what some kilobytes can become in a fuzzer's time.
const ROOM: usize = 1 << 17;

/// Decompresses one message.
fn read(
    inflater: &mut Inflater,
    wire: &[u8],
    way: u8,
    room: usize,
    step: usize,
) -> Result<Vec<u8>, InflateError> {
    let mut plain = Vec::new();
    for mut piece in pieces(wire, way) {
        loop {
            let (left, start) = (room - plain.len(), plain.len());
            let progress = inflater.inflate_some(&mut piece, &mut plain, left, step)?;
            assert!(
                plain.len() - start <= step.saturating_add(16 * 1024),
                "goes on for {}",
                plain.len() - start
            );
            if progress == Progress::NeedInput {
                break;
            }
        }
        assert!(piece.is_empty());
    }
    inflater.finish()?;
    assert!(plain.len() <= room);
    Ok(plain)
}

/// Checks that a message fits into a room of its size, and into none that is smaller.
fn check_limit(pool: &Pool, direction: Direction, before: &[u8], wire: &[u8], plain: &[u8], way: u8) {
    if !before.is_empty() && direction.context_takeover {
        return;
    }
    let read = |room| read(&mut Inflater::new(pool, direction), wire, way, room, usize::MAX);
    assert_eq!(read(plain.len()).as_deref(), Ok(plain), "exactly the room");
    if !plain.is_empty() {
        let room = plain.len() - 1;
        assert!(matches!(read(room), Err(InflateError::TooBig { .. })), "one byte more than {room}");
    }
}

/// Decompresses a message up to the end of its first stream with zlib; `None` if that finds an error.
fn with_zlib(wire: &[u8]) -> Option<Vec<u8>> {
    let whole = [wire, &[0x00, 0x00, 0xff, 0xff]].concat();
    let mut plain = Vec::with_capacity(ROOM);
    let status = Decompress::new(false).decompress_vec(&whole, &mut plain, FlushDecompress::Sync).ok()?;
    (status != Status::BufError).then_some(plain)
}
