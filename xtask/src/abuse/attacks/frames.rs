//! Floods of frames that are individually allowed, and lengths that are never reached.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use super::super::{
    Attack, Target,
    peer::Peer,
    verdict::{End, Tally},
    wire,
};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new("length lies", &[End::Open], length_lies),
        Attack::new("fragments of 1 byte", &[End::Close(1008)], |target| {
            fragments(target, &wire::frame(wire::CONTINUES, b"x"))
        }),
        Attack::new("empty fragments", &[End::Close(1008)], |target| {
            fragments(target, &wire::frame(wire::CONTINUES, b""))
        }),
        Attack::new("empty fragments with pings between", &[End::Close(1008)], |target| {
            let pair = [wire::frame(wire::CONTINUES, b""), wire::frame(wire::PING, b"between")];
            fragments(target, &pair.concat())
        }),
        Attack::new("pings with unread pongs", &[End::Close(1000)], |target| controls(target, wire::PING)),
        Attack::new("pongs", &[End::Close(1000)], |target| controls(target, wire::PONG)),
        Attack::new("small messages without pause", &[End::Close(1000)], small_messages),
        Attack::new("small messages, one thread", &[End::Close(1000)], small_messages)
            .with_server(&["--threads", "1"]),
    ]
}

/// Claims a mebibyte on each connection, sends a hundred bytes of it, and waits.
fn length_lies(target: &Target) -> Result<Tally> {
    let mut lie = wire::header(wire::BINARY, 1 << 20);
    lie.extend([7; 100]);
    let mut peers = Vec::new();
    for _ in 0..target.count(200) {
        let mut peer = Peer::open(target.addr)?;
        peer.send(&lie).context("a lie was not taken")?;
        peers.push(peer);
    }
    thread::sleep(Duration::from_secs(1));
    peers.iter().map(|peer| Ok(if peer.is_open()? { End::Open } else { End::Dropped })).collect()
}

/// Sends ten messages of endless fragments: more than the 131 072 allowed.
fn fragments(target: &Target, fragment: &[u8]) -> Result<Tally> {
    let block = fragment.repeat(1000);
    target.crowd(target.count(10), |target| {
        let mut peer = Peer::open(target.addr)?;
        let mut sent = peer.send(&wire::frame(wire::BINARY_BEGINS, b""));
        for _ in 0..140 {
            sent = sent.and_then(|()| peer.send(&block));
        }
        // The reason a send failed is found in how the connection ended.
        peer.end(&mut 0)
    })
}

/// Sends a hundred thousand of the longest control frames on each of ten connections, which read only at the very
/// end.
fn controls(target: &Target, first: u8) -> Result<Tally> {
    let block = wire::frame(first, &[b'p'; 125]).repeat(100);
    target.crowd(target.count(10), |target| {
        let mut peer = Peer::open(target.addr)?;
        for _ in 0..1000 {
            peer.send(&block).context("a flood of control frames was stopped")?;
        }
        peer.send(&wire::frame(wire::CLOSE, wire::NORMAL)).context("no close")?;
        peer.end(&mut 0)
    })
}

/// Sends messages of ten bytes on one connection as fast as it can, and reads the echoes.
fn small_messages(target: &Target) -> Result<Tally> {
    let mut writer = Peer::open(target.addr)?;
    let mut reader = writer.split()?;
    let block = wire::frame(wire::TEXT, b"ten bytes.").repeat(4000);
    let (sent, echoes, end) = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut echoes = 0;
            let end = reader.end(&mut echoes);
            (echoes, end)
        });
        let (began, mut sent) = (Instant::now(), 0);
        let flood = if target.quick { Duration::from_secs(1) } else { Duration::from_secs(3) };
        while began.elapsed() < flood && writer.send(&block).is_ok() {
            sent += 4000;
        }
        // If this fails, the reader knows the reason better.
        let _ = writer.send(&wire::frame(wire::CLOSE, wire::NORMAL));
        let (echoes, end) = reading.join().unwrap_or((0, Err(anyhow!("the reader panicked"))));
        (sent, echoes, end)
    });
    let end = end?;
    ensure!(echoes == sent, "{echoes} of {sent} messages came back ({end})");
    Ok([end].into_iter().collect())
}
