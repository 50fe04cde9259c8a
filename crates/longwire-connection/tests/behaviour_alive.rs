//! Liveness of the peer: keepalive, pings and their pongs, and their timing.

mod support;

use std::time::Duration;

use longwire_connection::testing::{Faults, Pipe, duplex, pair};
use longwire_connection::{Config, Error, Incoming, Keepalive, Pong, drive};
use support::{End, Frame, PING, PONG, check_wire, echo, frame, read_frames, run, settle, socket};
use support::{text_frame, whole_frames, write};
use tokio::time::{Instant, sleep};

fn keepalive() -> Keepalive {
    Keepalive::default().with_interval(Duration::from_secs(30)).with_timeout(Duration::from_secs(20))
}

fn config() -> Config {
    Config::default().with_keepalive(keepalive())
}

fn pings(bytes: &[u8], from: End) -> Vec<Frame> {
    whole_frames(bytes, from).into_iter().filter(|frame| frame.opcode == PING).collect()
}

#[test]
fn a_silent_peer_is_pinged_and_then_given_up() {
    for (end, driven) in [(End::Client, false), (End::Server, false), (End::Server, true)] {
        run("a silent peer", async {
            let (pipe, _peer) = duplex(1024);
            let tap = pipe.tap();
            let start = Instant::now();
            let ws = socket(end, pipe, &config());
            let receiving =
                tokio::spawn(async move { if driven { drive(ws, echo).await } else { echo(ws).await } });
            sleep(Duration::from_millis(29_999)).await;
            assert!(tap.written().is_empty(), "no ping before the interval is over");
            sleep(Duration::from_millis(2)).await;
            assert_eq!(whole_frames(&tap.written(), end).len(), 1);
            assert_eq!(pings(&tap.written(), end).len(), 1);
            let error = receiving.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::PeerGone), "{error}");
            assert_eq!(error.close_code().unwrap(), 1006.into());
            assert_eq!(start.elapsed().as_secs(), 50);
            assert!(tap.is_dropped(), "nobody waits for a peer that is gone");
            assert_eq!(whole_frames(&tap.written(), end).len(), 1, "nor says anything to it");
        });
    }
}

/// Not only a pong shows that the peer lives: so does a message, a part of one, or a byte of a frame.
#[test]
fn whatever_the_peer_sends_is_a_sign_of_life() {
    let begun = text_frame(End::Client, "a frame that comes byte by byte");
    let signs: [(&str, Vec<Vec<u8>>); 4] = [
        ("messages", vec![text_frame(End::Client, "here"); 10]),
        ("pings", vec![frame(End::Client, 0x80 | PING, b""); 10]),
        ("pongs", vec![frame(End::Client, 0x80 | PONG, b"unasked"); 10]),
        ("bytes", begun[..10].iter().map(|byte| vec![*byte]).collect()),
    ];
    for (what, signs) in signs {
        run(what, async {
            let (pipe, mut peer) = duplex(1024);
            let tap = pipe.tap();
            let mut ws = socket(End::Server, pipe, &config());
            let start = Instant::now();
            let receiving = tokio::spawn(async move {
                loop {
                    match ws.recv().await {
                        Ok(Some(_)) => {}
                        end => return end,
                    }
                }
            });
            for sign in signs {
                sleep(Duration::from_secs(29)).await;
                write(&mut peer, sign).await;
            }
            assert_eq!(pings(&tap.written(), End::Server), [], "{what}: no ping while there is traffic");
            assert!(!receiving.is_finished(), "{what}");
            // The last sign came at 290 s: pinged at 320 s, given up 20 s later.
            assert!(matches!(receiving.await.unwrap(), Err(Error::PeerGone)), "{what}");
            assert_eq!(start.elapsed().as_secs(), 340, "{what}");
            assert_eq!(pings(&tap.written(), End::Server).len(), 1, "{what}");
        });
    }
}

/// After one message soon after the start, then silence, the peer is pinged after an interval and at most a quarter
/// more.
#[test]
fn a_ping_is_not_late_because_something_came_early_in_the_interval() {
    for ms in [1, 1000, 5000, 15_000, 29_900] {
        run("an early message", async {
            let (pipe, mut peer) = duplex(1024);
            let tap = pipe.tap();
            let mut ws = socket(End::Server, pipe, &config());
            let receiving = tokio::spawn(async move {
                ws.recv().await.unwrap();
                ws.recv().await
            });
            sleep(Duration::from_millis(ms)).await;
            write(&mut peer, text_frame(End::Client, "here")).await;
            let sent = Instant::now();
            while pings(&tap.written(), End::Server).is_empty() {
                sleep(Duration::from_millis(100)).await;
            }
            let silence = sent.elapsed();
            assert!((29_999..=37_700).contains(&silence.as_millis()), "{ms} ms: silent for {silence:?}");
            receiving.abort();
        });
    }
}

#[test]
fn a_peer_that_answers_is_kept() {
    run("a peer that answers", async {
        let (pipe, peer) = duplex(1024);
        let (tap, peer_tap) = (pipe.tap(), peer.tap());
        let server = tokio::spawn(echo(socket(End::Server, pipe, &config())));
        // The client has no keepalive, and only its socket answers.
        let client = tokio::spawn(echo(socket(End::Client, peer, &Config::default())));
        sleep(Duration::from_secs(500)).await;
        assert!(!server.is_finished() && !client.is_finished());
        let asked = pings(&tap.written(), End::Server).len();
        let answered = whole_frames(&peer_tap.written(), End::Client);
        assert_eq!(asked, 16, "pings in 500 s");
        assert!(answered.iter().all(|frame| frame.opcode == PONG));
        assert_eq!(answered.len(), asked);
        server.abort();
        client.abort();
    });
}

#[test]
fn without_keepalive_silence_is_no_end() {
    run("silence", async {
        let (pipe, _peer) = duplex(1024);
        let tap = pipe.tap();
        let receiving = tokio::spawn(echo(socket(End::Server, pipe, &Config::default())));
        sleep(Duration::from_secs(590)).await;
        assert!(!receiving.is_finished() && tap.written().is_empty());
        receiving.abort();
    });
}

#[test]
fn a_pong_tells_the_round_trip_time() {
    run("a round trip", async {
        let (pipe, peer) = duplex(1024);
        let pipe = pipe.with_faults(Faults::new().latency(Duration::from_millis(70)));
        let peer = peer.with_faults(Faults::new().latency(Duration::from_millis(30)));
        let mut ws = socket(End::Client, pipe, &Config::default());
        let server = tokio::spawn(echo(socket(End::Server, peer, &Config::default())));
        for _ in 0..3 {
            let pong = ws.ping().unwrap();
            let time = tokio::select! {
                time = pong => time.unwrap(),
                end = ws.recv() => panic!("{end:?}"),
            };
            assert_eq!(time.as_millis(), 100);
        }
        ws.close(1000, "").await.unwrap();
        server.await.unwrap().unwrap();
    });
}

async fn next_ping(peer: &mut Pipe) -> Vec<u8> {
    let frames = read_frames(peer, End::Server, 1).await;
    assert_eq!(frames[0].opcode, PING);
    frames[0].payload.clone()
}

#[test]
fn pongs_resolve_in_order_and_a_later_one_answers_earlier_pings() {
    run("several pings", async {
        let (pipe, mut peer) = duplex(1024);
        let (sender, mut receiver) = socket(End::Server, pipe, &Config::default()).split();
        let receiving = tokio::spawn(async move { receiver.recv().await });
        let mut payloads = Vec::new();
        let mut pongs = Vec::new();
        for _ in 0..4 {
            pongs.push(tokio::spawn(sender.ping().unwrap()));
            payloads.push(next_ping(&mut peer).await);
            sleep(Duration::from_secs(1)).await;
        }
        let pong = |payload: &[u8]| frame(End::Client, 0x80 | PONG, payload);
        let done = |pongs: &[tokio::task::JoinHandle<_>]| -> Vec<_> {
            pongs.iter().map(tokio::task::JoinHandle::is_finished).collect()
        };
        write(&mut peer, pong(b"of nothing")).await;
        settle().await;
        assert_eq!(done(&pongs), [false; 4], "an unasked pong answers none");
        write(&mut peer, pong(&payloads[0])).await;
        settle().await;
        assert_eq!(done(&pongs), [true, false, false, false]);
        write(&mut peer, pong(&payloads[2])).await;
        settle().await;
        assert_eq!(done(&pongs), [true, true, true, false], "the third answers the second as well");
        drop(peer);
        let mut times = Vec::new();
        for pong in pongs {
            times.push(pong.await.unwrap().map(|time| time.as_secs()));
        }
        assert!(
            matches!(times[..], [Ok(4), Ok(3), Ok(2), Err(Error::Closed)]),
            "the last has no answer: {times:?}"
        );
        assert!(matches!(receiving.await.unwrap(), Err(Error::Lost)));
    });
}

#[test]
fn the_oldest_of_too_many_pings_is_given_up() {
    run("too many pings", async {
        let (pipe, mut peer) = duplex(4096);
        let mut ws = socket(End::Server, pipe, &Config::default());
        let first = ws.ping_with("the first").unwrap();
        let others: Vec<Pong> = (0..Pong::MAX_PENDING).map(|_| ws.ping_with("other").unwrap()).collect();
        assert!(matches!(first.await, Err(Error::Closed)));
        write(&mut peer, frame(End::Client, 0x80 | PONG, b"other")).await;
        assert!(matches!(ws.next_event().await, Ok(Some(Incoming::Pong(payload))) if payload == "other"));
        for pong in others {
            pong.await.unwrap();
        }
        ws.abort();
    });
}

/// Pings that no pong has answered yet are owed one pong, for the newest (RFC 6455 §5.5.3).
#[test]
fn pings_are_answered_unless_the_application_does() {
    for auto_pong in [true, false] {
        run("pings", async {
            let (pipe, mut peer) = duplex(1024);
            let tap = pipe.tap();
            let mut ws = socket(End::Server, pipe, &Config::default().with_auto_pong(auto_pong));
            write(&mut peer, frame(End::Client, 0x80 | PING, b"here?")).await;
            assert!(matches!(ws.next_event().await, Ok(Some(Incoming::Ping(payload))) if payload == "here?"));
            ws.flush().await.unwrap();
            let written = check_wire(&tap.written(), End::Server).0;
            if auto_pong {
                assert_eq!(written, [Frame { fin: true, opcode: PONG, payload: b"here?".to_vec() }]);
            } else {
                assert_eq!(written, []);
                ws.pong("by hand").unwrap();
                let written = whole_frames(&tap.written(), End::Server);
                assert_eq!(written, [Frame { fin: true, opcode: PONG, payload: b"by hand".to_vec() }]);
            }
            ws.abort();
        });
    }
}

#[test]
fn control_payloads_that_are_too_long_are_refused() {
    run("long payloads", async {
        let (mut ws, peer) = pair(Config::default());
        assert!(matches!(ws.ping_with(vec![0; 126]), Err(Error::Invalid(_))));
        assert!(matches!(ws.pong(vec![0; 126]), Err(Error::Invalid(_))));
        assert_eq!(ws.stats().bytes_sent, 0);
        ws.pong(vec![0; 125]).expect("still usable");
        ws.abort();
        peer.abort();
    });
}
