//! Fault injection: whatever a transport does at whichever operation, nothing hangs, leaks, or is reported wrongly.
//!
//! One conversation is run repeatedly, each time with one fault at one operation of one end. Time is virtual, so
//! waiting forever is a failure like any other.

mod support;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longwire_connection::testing::{Faults, Operation, Pipe, duplex};
use longwire_connection::{Config, Error, Keepalive, Message, MessageRef, Reply, WebSocket, drive};
use support::{End, check_wire, close_code, messages, run, socket};

/// The place of the end with the faulty transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Client,
    Server,
    /// A server's handler, whose sends are gathered until it yields.
    Handler,
}

const PLACES: [Place; 3] = [Place::Client, Place::Server, Place::Handler];

impl Place {
    fn end(self) -> End {
        if self == Self::Client { End::Client } else { End::Server }
    }

    fn peer(self) -> End {
        if self == Self::Client { End::Server } else { End::Client }
    }
}

/// The way in which the end under test uses messages.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// They are received and sent back.
    Recv,
    /// They are lent and sent back.
    Lend,
}

/// The ends under test.
fn ends() -> impl Iterator<Item = (Place, Way)> {
    PLACES.into_iter().flat_map(|place| [Way::Recv, Way::Lend].map(|way| (place, way)))
}

/// The sizes of the conversation's messages.
#[derive(Clone, Copy, Debug)]
enum Script {
    /// A few bytes each.
    Short,
    /// Some longer than the transport accepts at once.
    Long,
}

impl Script {
    fn capacity(self) -> usize {
        match self {
            Self::Short => 40,
            Self::Long => 4096,
        }
    }

    /// Returns the messages that the peer sends.
    fn said(self) -> Vec<Message> {
        let long = match self {
            Self::Short => 30,
            Self::Long => 40_000,
        };
        vec!["Grüße".into(), vec![0xab; long].into(), "".into(), "€".repeat(long / 10).into()]
    }
}

/// The outcome of one run.
#[derive(Debug)]
struct Outcome {
    /// The messages that the end under test received, and the end of its connection.
    got: Vec<Message>,
    end: Result<(), Error>,
    /// The messages that its peer received, and the end of the peer's connection.
    heard: Vec<Message>,
    peer_end: Result<(), Error>,
    written: Vec<u8>,
    operations: u64,
    bytes: [u64; 2],
}

fn config() -> Config {
    let keepalive =
        Keepalive::default().with_interval(Duration::from_secs(30)).with_timeout(Duration::from_secs(20));
    Config::default().with_keepalive(keepalive).with_send_queue(1000)
}

/// Echoes messages, and measures one round trip.
async fn echo(ws: &mut WebSocket<Pipe>, way: Way, got: &Mutex<Vec<Message>>) -> Result<(), Error> {
    drop(ws.ping()?);
    if let Way::Lend = way {
        let echo = |message: MessageRef<'_>, reply: &mut Reply<'_, Pipe>| {
            got.lock().unwrap().push(message.to_message());
            reply.send(message)
        };
        while let Some(sent) = ws.reply_with(echo).await? {
            sent?;
        }
        return Ok(());
    }
    while let Some(message) = ws.recv().await? {
        got.lock().unwrap().push(message.clone());
        ws.send(message).await?;
    }
    Ok(())
}

/// Sends everything there is to send, receives as much, and closes.
async fn talk(ws: WebSocket<Pipe>, said: Vec<Message>) -> (Vec<Message>, Result<(), Error>) {
    let (sender, mut receiver) = ws.split();
    let count = said.len();
    let talking = sender.clone();
    let talking = tokio::spawn(async move {
        for message in said {
            drop(talking.ping()?);
            talking.send(message).await?;
        }
        Ok::<_, Error>(())
    });
    let mut heard = Vec::new();
    let end = loop {
        match receiver.recv().await {
            Ok(Some(message)) => {
                heard.push(message);
                if heard.len() == count {
                    // The connection may be gone already.
                    let _ = sender.start_close(4000, "all said");
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(receiver);
    // The connection ends with the receiver, for every sender.
    drop(talking.await.expect("the talker does not panic"));
    (heard, end)
}

fn converse((place, way): (Place, Way), script: Script, faults: &Faults, peer_faults: &Faults) -> Outcome {
    let what = format!("{place:?} {way:?} {script:?} {faults:?}");
    let (pipe, peer_pipe) = duplex(script.capacity());
    let (pipe, peer_pipe) = (pipe.with_faults(faults.clone()), peer_pipe.with_faults(peer_faults.clone()));
    let tap = pipe.tap();
    let got = Arc::new(Mutex::new(Vec::new()));
    let (end, (heard, peer_end)) = run(&what, async {
        let peer = tokio::spawn(talk(socket(place.peer(), peer_pipe, &config()), script.said()));
        let mut ws = socket(place.end(), pipe, &config());
        let end = match place {
            Place::Handler => {
                let got = Arc::clone(&got);
                drive(ws, async move |mut ws| echo(&mut ws, way, &got).await).await
            }
            _ => echo(&mut ws, way, &got).await,
        };
        (end, peer.await.expect("the peer does not panic"))
    });
    assert!(tap.is_dropped() && tap.peer().is_dropped(), "{what}: a transport is left");
    let counts = tap.counts();
    Outcome {
        got: Arc::into_inner(got).unwrap().into_inner().unwrap(),
        end,
        heard,
        peer_end,
        written: tap.written(),
        operations: counts.operations(),
        bytes: [counts.bytes_read, counts.bytes_written],
    }
}

impl Outcome {
    /// Checks the properties that hold for every run.
    fn check(&self, what: &str, place: Place, script: Script) {
        let said = script.said();
        assert!(said.starts_with(&self.got), "{what}: received what was not said: {:?}", self.got);
        assert!(self.got.starts_with(&self.heard), "{what}: an echo of what was not received");
        let (frames, _) = check_wire(&self.written, place.end());
        let echoed = messages(&frames);
        assert!(self.got.starts_with(&echoed), "{what}: wrote what was not received");
        assert!(echoed.starts_with(&self.heard), "{what}: heard what was not written");
        if self.peer_end.is_ok() {
            assert_eq!(self.heard, said, "{what}: a clean end without all that was said");
        }
    }

    fn is_complete(&self, script: Script) -> bool {
        let said = script.said();
        let ended = matches!(&self.end, Err(Error::ClosedByPeer(frame)) if frame.code == 4000.into());
        ended && self.peer_end.is_ok() && self.got == said && self.heard == said
    }
}

/// One kind of trouble, and the ways in which it can end the two ends: each pair of these, and no other.
struct Trouble {
    name: &'static str,
    at: fn(u64) -> Faults,
    /// The ends of the end under test and of its peer. Without any, the trouble must have no effect.
    ends: &'static [(&'static str, &'static str)],
}

/// Returns one word for the end of a connection.
fn word(end: &Result<(), Error>) -> &'static str {
    match end {
        Ok(()) => "end",
        Err(Error::ClosedByPeer(frame)) if frame.code == 4000.into() => "4000",
        Err(Error::Lost) => "lost",
        Err(Error::PeerGone) => "peer gone",
        Err(Error::CloseTimeout) => "close timeout",
        Err(Error::Closed) => "closed",
        Err(Error::Io(error)) => match error.kind() {
            ErrorKind::BrokenPipe => "broken pipe",
            ErrorKind::ConnectionReset => "reset",
            ErrorKind::WriteZero => "write zero",
            kind => panic!("{kind}"),
        },
        Err(error) => panic!("{error}"),
    }
}

const TROUBLES: [Trouble; 7] = [
    Trouble { name: "pending once", at: |k| Faults::new().pend_at(Operation::Any(k)), ends: &[] },
    Trouble {
        name: "interrupted",
        at: |k| Faults::new().fail_at(Operation::Any(k), ErrorKind::Interrupted),
        ends: &[],
    },
    Trouble {
        name: "end of the stream",
        at: |k| Faults::new().eof_at(Operation::Any(k)),
        // Its peer may have had much to send, or waited for an echo, or for the answer to its close frame.
        ends: &[("lost", "broken pipe")],
    },
    Trouble {
        name: "reset",
        at: |k| Faults::new().fail_at(Operation::Any(k), ErrorKind::ConnectionReset),
        // The peer's close frame arrived before.
        ends: &[("reset", "reset"), ("4000", "reset")],
    },
    Trouble {
        name: "broken pipe",
        at: |k| Faults::new().fail_at(Operation::Write(k), ErrorKind::BrokenPipe),
        ends: &[("broken pipe", "lost"), ("4000", "lost")],
    },
    Trouble {
        name: "nothing written",
        at: |k| Faults::new().write_zero_at(k),
        ends: &[
            ("write zero", "lost"),
            ("write zero", "peer gone"),
            ("4000", "lost"),
            ("4000", "close timeout"),
        ],
    },
    Trouble {
        name: "stalled",
        at: |k| Faults::new().stall_at(Operation::Any(k)),
        ends: &[
            // Either end may give up first, because it receives no bytes or because its bytes are not accepted.
            ("peer gone", "broken pipe"),
            ("peer gone", "lost"),
            ("peer gone", "peer gone"),
            ("lost", "peer gone"),
            // The peer has received everything, closed, waited for the answer, and was written to after that.
            ("broken pipe", "close timeout"),
            ("4000", "lost"),
            // The same, while the last echo waited in `send` for the flush.
            ("closed", "close timeout"),
        ],
    },
];

#[test]
fn any_trouble_at_any_operation() {
    let mut seen = TROUBLES.each_ref().map(|_| BTreeSet::new());
    for (place, way) in ends() {
        for script in [Script::Short, Script::Long] {
            let base = converse((place, way), script, &Faults::new(), &Faults::new());
            base.check("base", place, script);
            assert!(
                base.is_complete(script),
                "{place:?} {way:?} {script:?}: {:?} {:?}",
                base.end,
                base.peer_end
            );
            assert_eq!(close_code(&check_wire(&base.written, place.end()).0), Some(4000), "echoed");
            assert!(base.operations > 15, "{}", base.operations);
            for (trouble, seen) in TROUBLES.iter().zip(&mut seen) {
                for k in 0..base.operations {
                    let outcome = converse((place, way), script, &(trouble.at)(k), &Faults::new());
                    let what = format!("{place:?} {way:?} {script:?}, {} at {k}", trouble.name);
                    outcome.check(&what, place, script);
                    if outcome.is_complete(script) {
                        continue;
                    }
                    let ends = (word(&outcome.end), word(&outcome.peer_end));
                    assert!(trouble.ends.contains(&ends), "{what}: {:?} {:?}", outcome.end, outcome.peer_end);
                    if ends.0 == "closed" {
                        // A send that waits ends like this after the peer has closed, and the peer has received
                        // everything by then.
                        assert!(place != Place::Handler, "{what}: a handler's send waits for room alone");
                        assert_eq!(
                            (&outcome.got, &outcome.heard),
                            (&script.said(), &script.said()),
                            "{what}"
                        );
                    }
                    seen.insert(ends);
                }
            }
        }
    }
    for (trouble, seen) in TROUBLES.iter().zip(seen) {
        assert_eq!(seen, trouble.ends.iter().copied().collect(), "{}: all of them occur", trouble.name);
    }
}

#[test]
fn bytes_come_and_go_in_any_two_pieces() {
    for (place, way) in ends() {
        let base = converse((place, way), Script::Short, &Faults::new(), &Faults::new());
        for offset in 1..base.bytes[0] {
            let outcome = converse(
                (place, way),
                Script::Short,
                &Faults::new().split_reads_at([offset]),
                &Faults::new(),
            );
            assert!(outcome.is_complete(Script::Short), "{place:?} {way:?}, read {offset}: {outcome:?}");
        }
        for offset in 1..base.bytes[1] {
            let outcome = converse(
                (place, way),
                Script::Short,
                &Faults::new().split_writes_at([offset]),
                &Faults::new(),
            );
            assert!(outcome.is_complete(Script::Short), "{place:?} {way:?}, written {offset}: {outcome:?}");
            assert_eq!(outcome.written, base.written, "{place:?} {way:?}, written {offset}");
        }
    }
}

#[test]
fn bytes_come_and_go_one_by_one() {
    for (place, way) in ends() {
        let one = Faults::new().read_at_most(1).write_at_most(1).pend_each().hold_until_flush();
        let outcome = converse((place, way), Script::Short, &one, &one);
        assert!(outcome.is_complete(Script::Short), "{place:?} {way:?}: {outcome:?}");
    }
}

#[test]
fn any_weather() {
    for seed in 0..200 {
        let (faults, peer_faults) = (Faults::new().random(seed), Faults::new().random(!seed));
        for (place, way) in ends() {
            for script in [Script::Short, Script::Long] {
                let outcome = converse((place, way), script, &faults, &peer_faults);
                outcome.check("random", place, script);
                assert!(
                    outcome.is_complete(script),
                    "{place:?} {way:?} {script:?}, seed {seed}: {:?}",
                    outcome.end
                );
            }
        }
    }
}
