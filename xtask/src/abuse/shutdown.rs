//! SIGINT while hostile clients hold on to their connections: the server must end nevertheless.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail, ensure};

use super::{peer::Peer, start_server, wire};

/// The name of this attack for `--only`.
pub(super) const NAME: &str = "SIGINT";

/// The limit for the shutdown, whatever clients do.
const LIMIT: Duration = Duration::from_secs(15);

/// A hostile client, connected and in the middle of its action.
type Hostile = fn(std::net::SocketAddr) -> Result<Peer>;

const HOSTILE: &[Hostile] = &[
    // Answers no close frame.
    |addr| Peer::open(addr),
    // Has sent half a request.
    |addr| with(Peer::connect(addr)?, &wire::request("").as_bytes()[..50]),
    // Has sent nothing.
    |addr| Peer::connect(addr),
    // Is in the middle of a frame.
    |addr| with(Peer::open(addr)?, &wire::frame(wire::BINARY, &[7; 1000])[..500]),
    // Is in the middle of a message.
    |addr| with(Peer::open(addr)?, &wire::frame(wire::BINARY_BEGINS, b"to be continued")),
    // Has broken a rule, and stays.
    |addr| with(Peer::open(addr)?, &wire::frame(0x83, b"")),
    // Reads nothing, with echoes owed.
    |addr| {
        let mut peer = Peer::connect_narrow(addr)?.shake_hands("")?;
        let message = wire::frame(wire::BINARY, &vec![7; 1 << 20]);
        for _ in 0..16 {
            let taken = peer.send_patiently(&message, Duration::from_millis(200));
            if !taken? {
                break;
            }
        }
        Ok(peer)
    },
];

fn with(mut peer: Peer, bytes: &[u8]) -> Result<Peer> {
    peer.send(bytes)?;
    Ok(peer)
}

/// Interrupts a server with ten of each kind, and returns a line that describes how it ended.
pub(super) fn run(quick: bool) -> Result<String> {
    let (running, addr) = start_server(&[])?;
    let mut peers = Vec::new();
    for hostile in HOSTILE {
        for _ in 0..if quick { 1 } else { 10 } {
            peers.push(hostile(addr)?);
        }
    }
    let mut honest = Peer::open(addr)?;
    honest.echo(b"an honest client")?;
    let began = Instant::now();
    running.interrupt()?;
    // Reads the close frame, and leaves cleanly.
    let told = thread::spawn(move || honest.end(&mut 0));
    let ended = running.finish(LIMIT)?;
    let took = began.elapsed();
    let told = told.join().map_err(|_| anyhow!("the honest client panicked"))??;
    if !ended.status.success() || ended.stderr.contains("panicked") {
        bail!("the server ended with {}: {}", ended.status, ended.stderr.trim());
    }
    ensure!(told == super::verdict::End::Close(1001), "the honest client received {told}");
    let count = peers.len();
    drop(peers);
    Ok(format!(
        "{NAME} with {count} hostile clients: ended after {:.1} s with status 0; the honest client received {told}.",
        took.as_secs_f64()
    ))
}
