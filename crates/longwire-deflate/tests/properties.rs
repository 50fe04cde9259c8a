//! Properties that hold for all messages, splits, points of parking and parameters.

mod naive;

use longwire_deflate::{Deflater, Direction, InflateError, Inflater, Level, Pool, WindowBits};
use proptest::{collection::vec, prelude::*};

/// An action at the sending end of a connection.
#[derive(Clone, Debug)]
enum Step {
    Message(Vec<Vec<u8>>),
    Park,
    /// A message that a different deflater compressed for many connections, recorded with `note`.
    Noted(Vec<u8>),
    /// The same, except that the deflater starts over.
    Forgotten(Vec<u8>),
    /// A message that is compressed but not sent.
    Discarded(Vec<u8>),
}

/// Bytes that repeat each other over short and long distances.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let noise = |seed: u64, len: usize| -> Vec<u8> {
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        (0..len)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                x.to_le_bytes()[3]
            })
            .collect()
    };
    let run = prop_oneof![
        3 => vec(any::<u8>(), 0..40),
        3 => (any::<u8>(), 1usize..700).prop_map(|(byte, len)| vec![byte; len]),
        4 => (0u64..4, 1usize..400).prop_map(move |(seed, len)| noise(seed, len)),
        1 => (0u64..4, 1usize..20_000).prop_map(move |(seed, len)| noise(seed, len)),
    ];
    vec(run, 0..5).prop_map(|runs| runs.concat())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => vec(text(), 1..4).prop_map(Step::Message),
        3 => Just(Step::Park),
        1 => text().prop_map(Step::Noted),
        1 => text().prop_map(Step::Forgotten),
        1 => text().prop_map(Step::Discarded),
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    (9u8..=15, prop::bool::weighted(0.75)).prop_map(|(bits, context_takeover)| Direction {
        window_bits: WindowBits::new(bits).unwrap(),
        context_takeover,
    })
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(1), Just(3), Just(6), Just(9)].prop_map(|level| Level::new(level).unwrap())
}

/// Cuts bytes at lengths taken from `cuts`, which is repeated; some pieces are empty.
fn split<'a>(mut bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &cut in cuts.iter().cycle() {
        let (piece, rest) = bytes.split_at(cut.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
        if bytes.is_empty() {
            break;
        }
    }
    pieces
}

/// Decompresses a message that arrives in pieces.
fn inflate(inflater: &mut Inflater, pieces: &[&[u8]], room: usize) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        let left = room - out.len();
        inflater.inflate(&mut input, &mut out, left)?;
        assert!(input.is_empty() && out.capacity() <= room.max(8));
    }
    inflater.finish()?;
    Ok(out)
}

/// Does the same into a buffer of `space` bytes that is emptied when it is full.
fn inflate_spare(inflater: &mut Inflater, pieces: &[&[u8]], space: usize) -> Result<Vec<u8>, InflateError> {
    let mut all = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            let mut out = Vec::with_capacity(space);
            let progress = inflater.inflate_spare(&mut input, &mut out)?;
            all.append(&mut out);
            if progress == longwire_deflate::Progress::NeedInput {
                break;
            }
        }
        assert!(input.is_empty());
    }
    inflater.finish()?;
    Ok(all)
}

/// Does the same in steps of about `step` bytes.
fn inflate_some(
    inflater: &mut Inflater,
    pieces: &[&[u8]],
    room: usize,
    step: usize,
) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            let before = out.len();
            let progress = inflater.inflate_some(&mut input, &mut out, room - before, step)?;
            assert!(out.len() - before < step + (16 << 10), "{} bytes", out.len() - before);
            if progress == longwire_deflate::Progress::NeedInput {
                break;
            }
            assert!(out.len() - before >= step);
        }
        assert!(input.is_empty());
    }
    inflater.finish()?;
    Ok(out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_sent_is_what_is_read(
        direction in direction(),
        level in level(),
        steps in vec(step(), 1..12),
        cuts in vec(0usize..300, 1..6).prop_filter("some progress", |cuts| cuts.iter().any(|&cut| cut > 0)),
        space in 1usize..5000,
        pace in prop_oneof![1usize..300, 1usize..30_000],
    ) {
        let pool = Pool::default();
        let mut deflater = Deflater::new(&pool, direction, level).unwrap();
        let mut whole = Inflater::new(&pool, direction);
        let mut in_pieces = Inflater::new(&pool, direction);
        let mut by_spare = Inflater::new(&pool, direction);
        let mut in_steps = Inflater::new(&pool, direction);
        let mut naive = naive::Reader::new(direction.window_bits.get());
        for step in steps {
            let mut wire = Vec::new();
            let said = match step {
                Step::Park => {
                    deflater.park();
                    whole.park();
                    prop_assert!(deflater.is_parked());
                    let kept = if direction.context_takeover { direction.window_bits.size() } else { 0 };
                    prop_assert!(deflater.window_memory() <= kept && whole.window_memory() <= kept);
                    continue;
                }
                Step::Message(parts) => {
                    let (last, first) = parts.split_last().unwrap();
                    for part in first {
                        deflater.compress_part(part, &mut wire);
                        deflater.park();
                    }
                    deflater.compress(last, &mut wire);
                    parts.concat()
                }
                Step::Noted(said) => {
                    let alone = Direction { context_takeover: false, ..direction };
                    Deflater::new(&pool, alone, level).unwrap().compress(&said, &mut wire);
                    deflater.note(&said);
                    said
                }
                Step::Forgotten(said) => {
                    let alone = Direction { context_takeover: false, ..direction };
                    Deflater::new(&pool, alone, level).unwrap().compress(&said, &mut wire);
                    deflater.forget();
                    said
                }
                Step::Discarded(said) => {
                    deflater.compress(&said, &mut wire);
                    deflater.forget();
                    continue;
                }
            };
            if !direction.context_takeover {
                naive.forget();
                prop_assert!(deflater.is_parked() && deflater.window_memory() == 0);
            }
            let worst = said.len() + said.len() / 8 + 100;
            prop_assert!(wire.len() <= worst, "{} bytes for {}", wire.len(), said.len());
            prop_assert!(naive.message(&wire, true).as_ref() == Ok(&said), "naive");
            prop_assert!(inflate(&mut whole, &[&wire], said.len()).as_ref() == Ok(&said), "whole");
            let pieces = split(&wire, &cuts);
            prop_assert!(inflate(&mut in_pieces, &pieces, said.len()).as_ref() == Ok(&said), "in pieces");
            let stepped = inflate_some(&mut in_steps, &pieces, said.len(), pace);
            prop_assert!(stepped.as_ref() == Ok(&said), "in steps");
            prop_assert!(inflate_spare(&mut by_spare, &pieces, space).as_ref() == Ok(&said), "by spare");
        }
    }

    /// Bytes that no compressor wrote: the backend reads them as RFC 1951 demands, and every split yields the same.
    #[test]
    fn garbage_is_read_as_the_naive_reader_does(
        start in text(),
        garbage in prop_oneof![
            vec(any::<u8>(), 0..80),
            // Fixed codes, which seldom fail at once, and stored blocks.
            vec(any::<u8>(), 0..80).prop_map(|mut bytes| { bytes.insert(0, 0x62); bytes }),
            vec(prop_oneof![Just(0u8), Just(1), Just(3), Just(0xff), Just(4)], 0..30),
        ],
        cuts in vec(0usize..10, 1..6).prop_filter("some progress", |cuts| cuts.iter().any(|&cut| cut > 0)),
        context_takeover: bool,
    ) {
        let direction = Direction { window_bits: WindowBits::MAX, context_takeover };
        check_like_naive(direction, &start, &garbage, &cuts)?;
    }

    /// A message that was changed or truncated in transit.
    #[test]
    fn damage_is_read_as_the_naive_reader_does(
        direction in direction(),
        level in level(),
        start in text(),
        said in text(),
        cut in any::<prop::sample::Index>(),
        flip in prop::option::of((any::<prop::sample::Index>(), 0u8..8)),
        keeps_tail: bool,
        cuts in vec(1usize..300, 1..4),
    ) {
        let pool = Pool::default();
        let mut wire = Vec::new();
        Deflater::new(&pool, direction, level).unwrap().compress(&said, &mut wire);
        if let Some((at, bit)) = flip {
            let at = at.index(wire.len());
            wire[at] ^= 1 << bit;
        }
        wire.truncate(cut.index(wire.len()) + 1);
        if keeps_tail {
            wire.extend([0x00, 0x00, 0xff, 0xff]);
        }
        let direction = Direction { window_bits: WindowBits::MAX, ..direction };
        check_like_naive(direction, &start, &wire, &cuts)?;
    }
}

/// Reads `start`, properly compressed, and then `wire`, in every way.
fn check_like_naive(
    direction: Direction,
    start: &[u8],
    wire: &[u8],
    cuts: &[usize],
) -> Result<(), TestCaseError> {
    const ROOM: usize = 1 << 20;
    let pool = Pool::default();
    let mut first = Vec::new();
    Deflater::new(&pool, direction, Level::FASTEST).unwrap().compress(start, &mut first);
    let mut naive = naive::Reader::new(15);
    naive.message(&first, true).unwrap();
    if !direction.context_takeover {
        naive.forget();
    }
    let expected =
        if wire.is_empty() { Ok(Vec::new()) } else { naive.message(wire, direction.context_takeover) };
    for pieces in [vec![wire], split(wire, cuts)] {
        let mut inflater = Inflater::new(&pool, direction);
        inflate(&mut inflater, &[&first], ROOM).unwrap();
        let read = inflate(&mut inflater, &pieces, ROOM);
        let mut inflater = Inflater::new(&pool, direction);
        inflate(&mut inflater, &[&first], ROOM).unwrap();
        prop_assert_eq!(&inflate_some(&mut inflater, &pieces, ROOM, 50), &read, "in steps");
        prop_assert_eq!(&read.map_err(|_| naive::Malformed), &expected);
    }
    Ok(())
}
