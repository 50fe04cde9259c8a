//! Clients that do not read, do not close, or vanish at the wrong moment.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::super::{
    Attack, Target,
    peer::Peer,
    verdict::{End, Tally},
    watch, wire,
};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::new("messages after the close frame", &[End::Close(1000)], after_close),
        Attack::new("never closes", &[End::Dropped], never_closes),
        Attack::new("never reads", &[End::Open], |target| never_reads(target, 64 << 10)),
        Attack {
            growth: NEVER_READS_GROWTH,
            ..Attack::new("never reads, messages of 1 MiB", &[End::Open], |target| {
                never_reads(target, 1 << 20)
            })
        },
        Attack::new("half-closes with echoes owed", &[End::Ended, End::Close(1000)], half_closes),
        Attack::new("reset mid-frame", &[End::Left], |target| {
            hit_and_run(target, |target| {
                let mut peer = Peer::open(target.addr)?;
                let frame = wire::frame(wire::BINARY, &[7; 1000]);
                peer.send(&frame[..500])?;
                peer.reset()
            })
        }),
        Attack::new("reset while written to", &[End::Left], |target| {
            hit_and_run(target, |target| {
                let mut peer = Peer::open(target.addr)?;
                peer.send(&wire::frame(wire::BINARY, &[7; 100_000]))?;
                peer.reset()
            })
        }),
        Attack::new("reset mid-handshake", &[End::Left], |target| {
            hit_and_run(target, |target| {
                let mut peer = Peer::connect(target.addr)?;
                peer.send(&wire::request("").as_bytes()[..60])?;
                peer.reset()
            })
        }),
        Attack::new("connects and leaves", &[End::Left], |target| {
            hit_and_run(target, |target| Peer::connect(target.addr).map(drop))
        }),
    ]
}

/// The memory that a hundred clients that read nothing may hold with messages of 1 MiB: one message being written
/// and one waiting in `send`, and half as much again for memory that the allocator cannot give back. The 20 MiB are
/// for memory that does not depend on the messages: for each of the hundred, 16 KiB that were read and wait to be
/// decoded and the queue's 64 KiB, and the memory that the server keeps after its first load.
///
/// Even one message each is more than the 64 MiB of the other attacks, and `send` must take one without waiting:
/// two peers that each send before they receive would otherwise wait for each other.
pub(super) const NEVER_READS_GROWTH: u64 = 100 * (3 << 20) + (20 << 20);

/// Closes on ten connections, and continues with ten thousand messages.
fn after_close(target: &Target) -> Result<Tally> {
    let messages = wire::frame(wire::TEXT, b"after the close").repeat(1000);
    target.crowd(target.count(10), |target| {
        let mut peer = Peer::open(target.addr)?;
        let mut sent = peer.send(&wire::frame(wire::CLOSE, wire::NORMAL));
        for _ in 0..10 {
            sent = sent.and_then(|()| peer.send(&messages));
        }
        let mut echoes = 0;
        let end = peer.end(&mut echoes)?;
        if echoes == 0 { Ok(end) } else { Err(anyhow!("{echoes} messages were echoed")) }
    })
}

/// Connects fifty clients: one half closes, the other breaks a rule; none ever ends the connection, and all keep
/// dripping bytes.
fn never_closes(target: &Target) -> Result<Tally> {
    let mut peers = Vec::new();
    for number in 0..target.count(50) {
        let mut peer = Peer::open(target.addr)?;
        let last =
            if number % 2 == 0 { wire::frame(wire::CLOSE, wire::NORMAL) } else { wire::frame(0x83, b"") };
        peer.send(&last).context("no close")?;
        peers.push(peer);
    }
    let began = Instant::now();
    while watch::descriptors(target.pid)? > target.descriptors {
        if began.elapsed() > Duration::from_secs(15) {
            let left = watch::descriptors(target.pid)?.saturating_sub(target.descriptors);
            bail!("{left} connections were still held");
        }
        for peer in &mut peers {
            // Fails once the server has dropped the connection, which this loop waits for.
            let _ = peer.send(b"\0");
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(peers.iter().map(|_| End::Dropped).collect())
}

/// Sends messages of `len` bytes from a hundred clients that read nothing: the server must stop reading from them.
///
/// Four threads take turns to write as much as each connection takes: one thread per connection would leave the
/// honest client no processor.
fn never_reads(target: &Target, len: usize) -> Result<Tally> {
    let message = wire::frame(wire::BINARY, &vec![7; len]);
    let each = target.count(100).div_ceil(THREADS);
    let barrier = Barrier::new(THREADS);
    target.crowd(THREADS, |target| {
        let flooded = flood(target, &message, each);
        // All of them, including those that failed, hold on until the last is stuck, so that none waits in vain.
        barrier.wait();
        flooded.map(|peers| {
            drop(peers);
            End::Open
        })
    })?;
    let mut tally = Tally::default();
    tally.add(End::Open, each * THREADS);
    Ok(tally)
}

/// Sends on `count` connections until none has taken anything for a second, and returns them.
fn flood(target: &Target, message: &[u8], count: usize) -> Result<Vec<Peer>> {
    let mut floods = Vec::new();
    for _ in 0..count {
        floods.push((Peer::connect_narrow(target.addr)?.shake_hands("")?, 0));
    }
    let mut progress = Instant::now();
    while progress.elapsed() < Duration::from_secs(1) {
        let mut stuck = true;
        for (peer, sent) in &mut floods {
            let taken = peer.offer(&message[*sent % message.len()..]);
            let taken = taken.context("it was cut off")?;
            *sent += taken;
            stuck &= taken == 0;
            ensure!(*sent <= 64 << 20, "64 MiB were taken from a client that reads nothing");
        }
        if stuck {
            thread::sleep(Duration::from_millis(10));
        } else {
            progress = Instant::now();
        }
    }
    Ok(floods.into_iter().map(|(peer, _)| peer).collect())
}

/// Sends a hundred messages from each of twenty clients and ends their direction: all echoes arrive, then the end.
fn half_closes(target: &Target) -> Result<Tally> {
    const MESSAGES: usize = 100;
    let bytes = &wire::frame(wire::BINARY, &[7; 10_000]).repeat(MESSAGES);
    target.crowd(target.count(20), |target| {
        let mut reader = Peer::open(target.addr)?;
        let mut writer = reader.split()?;
        let mut echoes = 0;
        let end = thread::scope(|scope| {
            let writing = scope.spawn(move || {
                writer.send(bytes)?;
                writer.end_sending()
            });
            let end = reader.end(&mut echoes);
            writing.join().unwrap_or_else(|_| Err(anyhow!("the writer panicked"))).and(end)
        })?;
        if echoes == MESSAGES { Ok(end) } else { Err(anyhow!("{echoes} of {MESSAGES} echoes came ({end})")) }
    })
}

/// Calls `once` two thousand times, from four threads.
fn hit_and_run(target: &Target, once: impl Fn(&Target) -> Result<()> + Sync) -> Result<Tally> {
    let times = target.count(2000) / THREADS;
    target.crowd(THREADS, |target| (0..times).try_for_each(|_| once(target)).map(|()| End::Left))?;
    let mut tally = Tally::default();
    tally.add(End::Left, times * THREADS);
    Ok(tally)
}

const THREADS: usize = 4;
