//! Compressed messages that are larger than they look, or empty.

use anyhow::Result;

use super::super::{
    Attack, Target,
    peer::Peer,
    verdict::{End, Tally},
    wire,
};

const DEFLATE: &[&str] = &["--deflate"];

pub(super) fn attacks() -> Vec<Attack> {
    let one = |name, run| Attack::new(name, &[End::Close(1009)], run).with_server(DEFLATE);
    vec![
        Attack::new("compressed fragments of nothing", &[End::Close(1008)], fragments_of_nothing)
            .with_server(DEFLATE),
        Attack::new("long compressed fragments of nothing", &[End::Close(1009)], long_fragments_of_nothing)
            .with_server(DEFLATE),
        one("bomb in one frame", |target| bombs(target, 1, usize::MAX)),
        one("bomb in fragments", |target| bombs(target, 1, 1000)),
        Attack {
            growth: 128 << 20,
            ..one("fifty bombs", |target| bombs(target, target.count(50), usize::MAX))
        },
        Attack {
            growth: 128 << 20,
            ..one("fifty fragmented", |target| bombs(target, target.count(50), 1000))
        },
    ]
}

/// A stored block without content.
const NOTHING: &[u8] = &[0x00, 0x00, 0x00, 0xff, 0xff];

/// Sends more fragments than allowed, each of which yields nothing.
fn fragments_of_nothing(target: &Target) -> Result<Tally> {
    let block = wire::frame(wire::CONTINUES, NOTHING).repeat(1000);
    target.crowd(target.count(10), |target| {
        let mut peer = Peer::open_deflate(target.addr)?;
        let mut sent = peer.send(&wire::frame(wire::COMPRESSED_BEGINS, NOTHING));
        for _ in 0..140 {
            sent = sent.and_then(|()| peer.send(&block));
        }
        peer.end(&mut 0)
    })
}

/// Sends more compressed bytes than a message may have, yielding nothing.
fn long_fragments_of_nothing(target: &Target) -> Result<Tally> {
    let content = NOTHING.repeat(50_000);
    let (first, next) =
        (wire::frame(wire::COMPRESSED_BEGINS, &content), wire::frame(wire::CONTINUES, &content));
    target.crowd(target.count(10), |target| {
        let mut peer = Peer::open_deflate(target.addr)?;
        let mut sent = peer.send(&first);
        for _ in 0..80 {
            sent = sent.and_then(|()| peer.send(&next));
        }
        peer.end(&mut 0)
    })
}

/// Sends messages of 64 MiB in 65 KiB, simultaneously.
fn bombs(target: &Target, count: usize, piece: usize) -> Result<Tally> {
    let bomb = wire::bomb(64 << 20);
    let bytes = wire::compressed(&bomb, piece.min(bomb.len()));
    target.crowd(count, |target| {
        let mut peer = Peer::open_deflate(target.addr)?;
        // The server may stop reading before the end.
        let _ = peer.send(&bytes);
        peer.end(&mut 0)
    })
}
