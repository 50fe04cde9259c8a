//! Requests that are slow, too long, or ambiguous.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::super::{
    Attack, Target,
    peer::Peer,
    verdict::{End, Tally},
    wire,
};

pub(super) fn attacks() -> Vec<Attack> {
    let refused = &[End::Status(400), End::Status(414), End::Status(431)];
    vec![
        Attack::new("slow requests", &[End::Status(408), End::Ended, End::Served], |target| slow(target, 20)),
        Attack {
            only_full: true,
            ..Attack::new(
                "slow requests, 1500 at once",
                &[End::Status(408), End::Status(503), End::Ended, End::Served],
                |target| slow(target, 500),
            )
        },
        Attack::new("header of 8 MiB", refused, |target| {
            heads(target, &["GET / HTTP/1.1\r\nX: ", &"x".repeat(8 << 20), "\r\n\r\n"].concat(), 1)
        }),
        Attack::new("target of 1 MiB", refused, |target| {
            heads(target, &["GET /", &"x".repeat(1 << 20), " HTTP/1.1\r\n\r\n"].concat(), 1)
        }),
        Attack::new("20 000 headers", refused, |target| {
            heads(target, &["GET / HTTP/1.1\r\n", &"X: y\r\n".repeat(20_000), "\r\n"].concat(), 1)
        }),
        Attack::new("headers without end", refused, |target| {
            heads(target, &["GET / HTTP/1.1\r\n", &"X: y\r\n".repeat(10_000)].concat(), 500)
        }),
        Attack::new("smuggled requests", SMUGGLED, smuggled),
    ]
}

/// The ways in which a smuggled request may be refused.
const SMUGGLED: &[End] = &[End::Status(400), End::Status(405), End::Status(426), End::Status(501)];

/// Connects `each` clients that send a byte every 100 ms, as many that send nothing, and as many that stop halfway.
///
/// At the peak an honest client connects. The server ends all the others; they stay until it does.
fn slow(target: &Target, each: usize) -> Result<Tally> {
    let request = wire::request("");
    let half = &request.as_bytes()[..request.len() / 2];
    let mut drip = request.as_bytes().iter();
    let mut peers = Vec::new();
    for number in 0..3 * target.count(each) {
        let mut peer = Peer::connect(target.addr)?;
        // If there are too many, the oldest may have received 503 already.
        if number % 3 == 0 {
            let _ = peer.send(half);
        }
        peers.push((number % 3 == 1, peer));
    }
    let mut tally = Tally::default();
    let mut honest = Peer::open(target.addr)?;
    honest.echo(b"room for one more")?;
    tally.add(End::Served, 1);
    drop(honest);
    let began = Instant::now();
    while !peers.is_empty() {
        ensure!(began.elapsed() <= SLOW_LIMIT, "{} requests were still unfinished", peers.len());
        let byte = drip.next();
        let mut rest = Vec::new();
        for (drips, mut peer) in peers {
            if let (true, Some(byte)) = (drips, byte) {
                let _ = peer.send(&[*byte]);
            }
            match peer.look()? {
                Some(end) => tally.add(end, 1),
                None => rest.push((drips, peer)),
            }
        }
        peers = rest;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(tally)
}

/// Longer than the server's limit, which is 10 s.
const SLOW_LIMIT: Duration = Duration::from_secs(15);

/// Connects ten clients that send a head, or the last part of it up to `times` times, and receive the response.
fn heads(target: &Target, head: &str, times: usize) -> Result<Tally> {
    target.crowd(target.count(10), |target| {
        let mut peer = Peer::connect(target.addr)?;
        for _ in 0..times {
            if peer.send(head.as_bytes()).is_err() {
                break;
            }
        }
        peer.refusal()
    })
}

/// Sends each form once, followed by a good request and a message: there must be one refusal, and both are ignored.
fn smuggled(target: &Target) -> Result<Tally> {
    let mut behind = wire::request("").into_bytes();
    behind.extend(wire::frame(wire::TEXT, b"smuggled"));
    let good = wire::request("");
    let with = |field: &str| wire::request(field);
    let forms = [
        ("another method", good.replace("GET", "POST")),
        ("no upgrade", good.replace("Upgrade: websocket\r\n", "")),
        ("another version", good.replace("Version: 13", "Version: 12")),
        ("no key", good.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")),
        ("length and chunks", with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
        ("chunks", with("Transfer-Encoding: chunked\r\n")),
        ("a body", with("Content-Length: 5\r\n")),
        ("two lengths", with("Content-Length: 0\r\nContent-Length: 5\r\n")),
        ("a folded line", with("X: a\r\n b\r\n")),
        ("a bare CR", with("X: a\rb\r\n")),
        ("a space before the colon", with("X : a\r\n")),
        ("a NUL", with("X: a\0b\r\n")),
        ("no colon", with("X\r\n")),
        ("no name", with(": a\r\n")),
        ("two hosts", with("Host: other\r\n")),
        ("no host", good.replace("Host: abuse\r\n", "")),
        ("two spaces in the first line", good.replace("GET /", "GET  /")),
        ("another protocol", good.replace("HTTP/1.1", "HTTP/1.1x")),
    ];
    let mut tally = Tally::default();
    for (form, head) in forms {
        let mut peer = Peer::connect(target.addr)?;
        let bytes = [head.as_bytes(), &behind].concat();
        peer.send(&bytes).context(form)?;
        let end = peer.refusal().context(form)?;
        ensure!(SMUGGLED.contains(&end), "{form}: {end}");
        tally.add(end, 1);
    }
    Ok(tally)
}
