//! Fault injection: whatever a transport does at whichever operation, nothing hangs, leaks, or is told that is not so.
//!
//! One conversation is run over and over, each time with one fault at one operation of one end. Time is virtual, so that
//! waiting for ever is a failure like any other.

mod support;

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longwire_connection::testing::{Faults, Operation, Pipe, duplex};
use longwire_connection::{Config, Error, Keepalive, Message, WebSocket, drive};
use support::{End, check_wire, close_code, messages, run, socket};

/// Where the end with the faulty transport lives.
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

/// Sizes of the conversation's messages.
#[derive(Clone, Copy, Debug)]
enum Script {
    /// A few bytes each.
    Short,
    /// Some longer than the transport takes at once.
    Long,
}

impl Script {
    fn capacity(self) -> usize {
        match self {
            Self::Short => 40,
            Self::Long => 4096,
        }
    }

    /// What the peer says.
    fn said(self) -> Vec<Message> {
        let long = match self {
            Self::Short => 30,
            Self::Long => 40_000,
        };
        vec!["Grüße".into(), vec![0xab; long].into(), "".into(), "€".repeat(long / 10).into()]
    }
}

/// What came of one run.
#[derive(Debug)]
struct Outcome {
    /// What the end under test received, and how its connection ended.
    got: Vec<Message>,
    end: Result<(), Error>,
    /// What its peer received, and how that ended.
    heard: Vec<Message>,
    peer_end: Result<(), Error>,
    written: Vec<u8>,
    operations: u64,
    bytes: [u64; 2],
}

fn config() -> Config {
    let keepalive = Keepalive { interval: Duration::from_secs(30), timeout: Duration::from_secs(20) };
    Config { keepalive: Some(keepalive), send_queue: 1000, ..Config::default() }
}

/// Echoes, and asks once for the time that it takes.
async fn echo(ws: &mut WebSocket<Pipe>, got: &Mutex<Vec<Message>>) -> Result<(), Error> {
    drop(ws.ping()?);
    while let Some(message) = ws.recv().await? {
        got.lock().unwrap().push(message.clone());
        ws.send(message).await?;
    }
    Ok(())
}

/// Says all there is to say, hears as much, and closes.
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
                    // It may be gone already.
                    let _ = sender.close(4000, "all said");
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    drop(receiver);
    // With the receiver goes the connection, for every sender.
    drop(talking.await.expect("the talker does not panic"));
    (heard, end)
}

fn converse(place: Place, script: Script, faults: &Faults, peer_faults: &Faults) -> Outcome {
    let what = format!("{place:?} {script:?} {faults:?}");
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
                drive(ws, async move |mut ws| echo(&mut ws, &got).await).await
            }
            _ => echo(&mut ws, &got).await,
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
    /// Holds for every run.
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

/// One kind of trouble, and how a connection may end by it.
struct Trouble {
    name: &'static str,
    at: fn(u64) -> Faults,
    /// Whether nothing at all may come of it.
    harmless: bool,
    may_end: fn(&Error) -> bool,
}

fn is_io(error: &Error, kinds: &[ErrorKind]) -> bool {
    matches!(error, Error::Io(error) if kinds.contains(&error.kind()))
}

/// What ends a connection whose peer has lost patience or gone.
fn by_the_peer(error: &Error) -> bool {
    matches!(error, Error::Lost) || is_io(error, &[ErrorKind::BrokenPipe, ErrorKind::ConnectionReset])
}

const TROUBLES: [Trouble; 7] = [
    Trouble {
        name: "pending once",
        at: |k| Faults::new().pend_at(Operation::Any(k)),
        harmless: true,
        may_end: |_| false,
    },
    Trouble {
        name: "interrupted",
        at: |k| Faults::new().fail_at(Operation::Any(k), ErrorKind::Interrupted),
        harmless: true,
        may_end: |_| false,
    },
    Trouble {
        name: "end of the stream",
        at: |k| Faults::new().eof_at(Operation::Any(k)),
        harmless: false,
        may_end: by_the_peer,
    },
    Trouble {
        name: "reset",
        at: |k| Faults::new().fail_at(Operation::Any(k), ErrorKind::ConnectionReset),
        harmless: false,
        may_end: |error| is_io(error, &[ErrorKind::ConnectionReset]),
    },
    Trouble {
        name: "broken pipe",
        at: |k| Faults::new().fail_at(Operation::Write(k), ErrorKind::BrokenPipe),
        harmless: false,
        may_end: by_the_peer,
    },
    Trouble {
        name: "nothing written",
        at: |k| Faults::new().write_zero_at(k),
        harmless: false,
        may_end: |error| is_io(error, &[ErrorKind::WriteZero]) || by_the_peer(error),
    },
    Trouble {
        name: "stalled",
        at: |k| Faults::new().stall_at(Operation::Any(k)),
        harmless: false,
        // A send that waits ends with `Closed` when the peer closes.
        may_end: |error| {
            matches!(error, Error::PeerGone | Error::CloseTimeout | Error::Closed) || by_the_peer(error)
        },
    },
];

#[test]
fn any_trouble_at_any_operation() {
    for place in PLACES {
        for script in [Script::Short, Script::Long] {
            let base = converse(place, script, &Faults::new(), &Faults::new());
            base.check("base", place, script);
            assert!(base.is_complete(script), "{place:?} {script:?}: {:?} {:?}", base.end, base.peer_end);
            assert_eq!(close_code(&check_wire(&base.written, place.end()).0), Some(4000), "echoed");
            assert!(base.operations > 15, "{}", base.operations);
            for trouble in &TROUBLES {
                let mut ended = 0;
                for k in 0..base.operations {
                    let outcome = converse(place, script, &(trouble.at)(k), &Faults::new());
                    let what = format!("{place:?} {script:?}, {} at {k}", trouble.name);
                    outcome.check(&what, place, script);
                    if outcome.is_complete(script) {
                        continue;
                    }
                    assert!(!trouble.harmless, "{what}: {:?} {:?}", outcome.end, outcome.peer_end);
                    ended += 1;
                    match &outcome.end {
                        Err(Error::ClosedByPeer(_)) | Ok(()) => {}
                        Err(error) => assert!((trouble.may_end)(error), "{what}: {error:?}"),
                    }
                }
                assert!(trouble.harmless || ended > 3, "{}: {ended} have ended by it", trouble.name);
            }
        }
    }
}

#[test]
fn bytes_come_and_go_in_any_two_pieces() {
    for place in PLACES {
        let base = converse(place, Script::Short, &Faults::new(), &Faults::new());
        for offset in 1..base.bytes[0] {
            let outcome =
                converse(place, Script::Short, &Faults::new().split_reads_at([offset]), &Faults::new());
            assert!(outcome.is_complete(Script::Short), "{place:?}, read {offset}: {outcome:?}");
        }
        for offset in 1..base.bytes[1] {
            let outcome =
                converse(place, Script::Short, &Faults::new().split_writes_at([offset]), &Faults::new());
            assert!(outcome.is_complete(Script::Short), "{place:?}, written {offset}: {outcome:?}");
            assert_eq!(outcome.written, base.written, "{place:?}, written {offset}");
        }
    }
}

#[test]
fn bytes_come_and_go_one_by_one() {
    for place in PLACES {
        let one = Faults::new().read_at_most(1).write_at_most(1).pend_each().hold_until_flush();
        let outcome = converse(place, Script::Short, &one, &one);
        assert!(outcome.is_complete(Script::Short), "{place:?}: {outcome:?}");
    }
}

#[test]
fn any_weather() {
    for seed in 0..200 {
        let (faults, peer_faults) = (Faults::new().random(seed), Faults::new().random(!seed));
        for place in PLACES {
            for script in [Script::Short, Script::Long] {
                let outcome = converse(place, script, &faults, &peer_faults);
                outcome.check("random", place, script);
                assert!(outcome.is_complete(script), "{place:?} {script:?}, seed {seed}: {:?}", outcome.end);
            }
        }
    }
}
