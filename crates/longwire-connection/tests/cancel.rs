//! Cancel safety: every future is dropped at every poll, and the wire and the messages must match those of a run
//! without drops.
//!
//! A dropped call has taken effect completely or not at all. So each run, with one call dropped at one poll, must
//! equal one of two others: the run in which nothing is dropped, or the run in which that call is never made. If a
//! method is called again after it was dropped (receiving, flushing), only the first of the two counts.

mod support;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures_util::{SinkExt, StreamExt};
use longwire_connection::testing::{Faults, Pipe, duplex};
use longwire_connection::{Config, Error, Incoming, Message, MessageKind, MessageReader, WebSocket, drive};
use support::{End, check_wire, keep, messages, recv_all, run, show, show_end, socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The future to drop, and the moment to drop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Never,
    /// The n-th call is not made at all.
    Skip(usize),
    /// Instead of the k-th poll of all: the task was woken, and other code takes the wake-up.
    Instead(usize),
    /// As soon as the k-th poll of all is pending.
    After(usize),
    /// Each call, instead of its k-th poll. For methods that are called again.
    Each(usize),
}

/// Watches the calls of one run.
struct Cancel {
    plan: Plan,
    calls: Cell<usize>,
    polls: Cell<usize>,
    /// The call that was dropped.
    dropped: Cell<Option<usize>>,
}

impl Cancel {
    fn new(plan: Plan) -> Self {
        Self { plan, calls: Cell::new(0), polls: Cell::new(0), dropped: Cell::new(None) }
    }

    /// Runs a call until it is ready or the plan drops it.
    async fn watch<F: Future>(&self, call: F) -> Option<F::Output> {
        let number = self.calls.replace(self.calls.get() + 1);
        if self.plan == Plan::Skip(number) {
            return None;
        }
        let mut call = pin!(call);
        let mut own_polls = 0;
        poll_fn(|cx| {
            let poll = self.polls.replace(self.polls.get() + 1);
            own_polls += 1;
            if self.plan == Plan::Instead(poll) || matches!(self.plan, Plan::Each(k) if own_polls > k) {
                self.dropped.set(Some(number));
                return Poll::Ready(None);
            }
            match call.as_mut().poll(cx) {
                Poll::Pending if self.plan == Plan::After(poll) => {
                    self.dropped.set(Some(number));
                    Poll::Ready(None)
                }
                polled => polled.map(Some),
            }
        })
        .await
    }

    /// Runs a call, and runs it again if it was dropped.
    async fn redo<O>(&self, mut call: impl AsyncFnMut() -> O) -> O {
        loop {
            if let Some(output) = self.watch(call()).await {
                return output;
            }
        }
    }
}

/// Everything observable of one run.
#[derive(PartialEq, Eq)]
struct Outcome {
    /// The bytes that the end under test wrote.
    written: Vec<u8>,
    /// The bytes that its peer wrote.
    answered: Vec<u8>,
    /// The messages that the end under test received.
    got: Vec<String>,
    /// The messages that its peer received.
    heard: Vec<String>,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = (self.written.len(), self.answered.len());
        f.debug_struct("Outcome")
            .field("sizes", &sizes)
            .field("got", &self.got)
            .field("heard", &self.heard)
            .finish_non_exhaustive()
    }
}

/// The place of the end under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Client,
    Server,
    /// A server's handler, whose sends are gathered until it yields.
    Handler,
}

/// Pipes that cause many polls of every call.
#[derive(Clone, Copy, Debug)]
enum Pipes {
    /// A few bytes at a time, and each operation pending once.
    Tight,
    /// Bytes that are held until they are flushed.
    Holding,
}

impl Pipes {
    fn make(self) -> (Pipe, Pipe) {
        match self {
            Self::Tight => {
                let (one, other) = duplex(13);
                let faults = Faults::new().pend_each().write_at_most(11).read_at_most(9);
                (one.with_faults(faults.clone()), other.with_faults(faults.pend_each()))
            }
            Self::Holding => {
                let (one, other) = duplex(100);
                let faults = Faults::new().pend_each().hold_until_flush();
                (one.with_faults(faults.clone()), other.with_faults(faults))
            }
        }
    }
}

const PLACES: [(Place, Pipes); 3] =
    [(Place::Client, Pipes::Tight), (Place::Server, Pipes::Holding), (Place::Handler, Pipes::Tight)];

fn observe<P>(
    place: Place,
    pipes: Pipes,
    cancel: &Cancel,
    scenario: &impl AsyncFn(WebSocket<Pipe>, &Cancel) -> Vec<String>,
    peer: impl Fn(WebSocket<Pipe>) -> P,
) -> Outcome
where
    P: Future<Output = Vec<String>> + Send + 'static,
{
    let (pipe, peer_pipe) = pipes.make();
    let tap = pipe.tap();
    let config = Config::default().with_send_queue(20);
    let (end, peer_end) = match place {
        Place::Client => (End::Client, End::Server),
        Place::Server | Place::Handler => (End::Server, End::Client),
    };
    let what = format!("{place:?} {pipes:?} {:?}", cancel.plan);
    let (got, heard) = run(&what, async {
        let peer = tokio::spawn(peer(socket(peer_end, peer_pipe, &config)));
        let ws = socket(end, pipe, &config);
        let got = if place == Place::Handler {
            let got = RefCell::default();
            let handled = drive(ws, async |ws| {
                got.replace(scenario(ws, cancel).await);
                Ok::<_, Error>(())
            });
            handled.await.unwrap();
            got.into_inner()
        } else {
            scenario(ws, cancel).await
        };
        (got, peer.await.expect("the peer does not panic"))
    });
    assert!(tap.is_dropped() && tap.peer().is_dropped(), "{what}: a transport is left");
    let (written, answered) = (tap.written(), tap.peer().written());
    assert_eq!(check_wire(&written, end).1, 0, "{what}: a frame is cut short");
    assert_eq!(check_wire(&answered, peer_end).1, 0, "{what}: a frame of the peer is cut short");
    Outcome { written, answered, got, heard }
}

/// The handling of a call that was dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dropped {
    Redone,
    Left,
}

/// The part of the outcome that must be the same in two runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Same {
    Everything,
    /// The messages received, in any order, because other tasks send too.
    Messages,
}

impl Outcome {
    fn in_any_order(mut self, end: End) -> Self {
        let (frames, _) = check_wire(&self.written, end);
        self.written = Vec::new();
        self.got.extend(messages(&frames).iter().map(show));
        self.got.sort();
        self.heard.sort();
        self
    }
}

/// Drops a call of `scenario` at every poll, one in each run.
fn check<P>(
    name: &str,
    dropped: Dropped,
    same: Same,
    scenario: &impl AsyncFn(WebSocket<Pipe>, &Cancel) -> Vec<String>,
    peer: impl Fn(WebSocket<Pipe>) -> P,
) where
    P: Future<Output = Vec<String>> + Send + 'static,
{
    for (place, pipes) in PLACES {
        let observe = |plan| {
            let cancel = Cancel::new(plan);
            let outcome = observe(place, pipes, &cancel, scenario, &peer);
            match same {
                Same::Everything => (outcome, cancel),
                Same::Messages if place == Place::Client => (outcome.in_any_order(End::Client), cancel),
                Same::Messages => (outcome.in_any_order(End::Server), cancel),
            }
        };
        let (base, counted) = observe(Plan::Never);
        let (polls, calls) = (counted.polls.get(), counted.calls.get());
        assert!(polls > calls, "{name} {place:?}: {calls} calls in {polls} polls wait for nothing");
        let skipped: Vec<_> = (0..calls).map(|call| observe(Plan::Skip(call)).0).collect();
        for k in 0..polls {
            for plan in [Plan::Instead(k), Plan::After(k)] {
                let (outcome, cancel) = observe(plan);
                let Some(call) = cancel.dropped.get() else {
                    assert!(
                        plan == Plan::After(k) && outcome == base,
                        "{name} {place:?} {plan:?}: {outcome:?}"
                    );
                    continue;
                };
                let allowed = [&base, &skipped[call]];
                assert!(
                    allowed.contains(&&outcome),
                    "{name} {place:?} {plan:?} of {polls}, call {call}:\n{outcome:?}\nis none of\n{allowed:?}"
                );
            }
        }
        if dropped == Dropped::Redone {
            assert!(
                skipped.iter().all(|outcome| *outcome == base),
                "{name} {place:?}: a skipped call is made again"
            );
            for k in 1..8 {
                let (outcome, _) = observe(Plan::Each(k));
                assert_eq!(outcome, base, "{name} {place:?}, each call dropped after {k} polls");
            }
        } else {
            assert!(skipped.iter().any(|outcome| *outcome != base), "{name} {place:?}: the calls do nothing");
        }
    }
}

/// A peer that sends one of everything, and closes.
async fn talk(mut ws: WebSocket<Pipe>) -> Vec<String> {
    ws.send("Grüße").await.unwrap();
    ws.ping_with("here?").map(drop).unwrap();
    let mut writer = ws.message_writer(MessageKind::Text).await.unwrap();
    let text = "of three € parts".as_bytes();
    for part in [&text[..3], &text[3..10], &text[10..]] {
        writer.write(part.to_vec()).await.unwrap();
    }
    writer.finish().await.unwrap();
    ws.pong("unasked").unwrap();
    ws.send(vec![0xab; 60]).await.unwrap();
    ws.send("").await.unwrap();
    ws.ping_with("still?").map(drop).unwrap();
    vec![show_end(&ws.close(4000, "over").await.map(|()| None))]
}

/// A peer that only listens.
async fn listen(mut ws: WebSocket<Pipe>) -> Vec<String> {
    let (messages, end) = recv_all(&mut ws).await;
    let mut heard: Vec<_> = messages.iter().map(show).collect();
    heard.push(show_end(&end.map(|()| None)));
    heard.push(format!("{:?}", ws.close_received()));
    heard
}

/// A peer that sends and listens.
async fn talk_and_listen(ws: WebSocket<Pipe>) -> Vec<String> {
    let (sender, mut receiver) = ws.split();
    let talking = tokio::spawn(async move {
        for message in outgoing() {
            sender.send(message).await.unwrap();
        }
    });
    let mut heard = Vec::new();
    while let Ok(Some(message)) = receiver.recv().await {
        heard.push(show(&message));
    }
    talking.await.unwrap();
    heard
}

fn outgoing() -> [Message; 4] {
    [Message::text("first"), Message::binary(vec![0xcd; 50]), Message::text(""), Message::text("last, Grüße")]
}

fn sent(result: Option<Result<(), Error>>) {
    if let Some(result) = result {
        result.unwrap();
    }
}

#[test]
fn recv() {
    check(
        "recv",
        Dropped::Redone,
        Same::Everything,
        &async |mut ws, cancel| {
            let mut got = Vec::new();
            loop {
                let received = cancel.redo(async || ws.recv().await).await;
                got.push(show_end(&received));
                if !matches!(received, Ok(Some(_))) {
                    return got;
                }
            }
        },
        talk,
    );
}

#[test]
fn recv_with() {
    check(
        "recv_with",
        Dropped::Redone,
        Same::Everything,
        &async |mut ws, cancel| {
            let mut got = Vec::new();
            loop {
                let received = cancel.redo(async || ws.recv_with(keep).await).await;
                got.push(show_end(&received));
                if !matches!(received, Ok(Some(_))) {
                    return got;
                }
            }
        },
        talk,
    );
}

#[test]
fn receiver_recv_with() {
    check(
        "Receiver::recv_with",
        Dropped::Redone,
        Same::Everything,
        &async |ws, cancel| {
            let (_sender, mut receiver) = ws.split();
            let mut got = Vec::new();
            loop {
                let item = cancel.redo(async || receiver.recv_with(keep).await).await;
                got.push(show_end(&item));
                if !matches!(item, Ok(Some(_))) {
                    return got;
                }
            }
        },
        talk,
    );
}

/// Each message is answered once, whichever call answers it.
#[test]
fn reply_with() {
    check(
        "reply_with",
        Dropped::Redone,
        Same::Everything,
        &async |mut ws, cancel| {
            let got = RefCell::new(Vec::new());
            for _ in outgoing() {
                let replying = async || {
                    ws.reply_with(|message, reply| {
                        got.borrow_mut().push(show(&message.to_message()));
                        reply.send(message)
                    })
                    .await
                };
                cancel.redo(replying).await.unwrap().unwrap().unwrap();
            }
            cancel.redo(async || ws.flush().await).await.unwrap();
            ws.close(1000, "").await.unwrap();
            got.into_inner()
        },
        talk_and_listen,
    );
}

#[test]
fn receiver_recv_and_stream_next() {
    check(
        "Receiver::recv, Stream::next",
        Dropped::Redone,
        Same::Everything,
        &async |ws, cancel| {
            let (_sender, mut receiver) = ws.split();
            let mut got = vec![show_end(&cancel.redo(async || receiver.recv().await).await)];
            while let Some(item) = cancel.redo(async || receiver.next().await).await {
                got.push(show_end(&item.map(Some)));
            }
            got
        },
        talk,
    );
}

#[test]
fn next_event() {
    check(
        "next_event",
        Dropped::Redone,
        Same::Everything,
        &async |mut ws, cancel| {
            let mut got = Vec::new();
            loop {
                match cancel.redo(async || ws.next_event().await).await {
                    Ok(Some(Incoming::Message(message))) => got.push(show(&message)),
                    Ok(Some(control)) => got.push(format!("{control:?}")),
                    end => {
                        got.push(format!("{end:?}"));
                        return got;
                    }
                }
            }
        },
        talk,
    );
}

async fn read_parts(
    mut ws: WebSocket<Pipe>,
    cancel: &Cancel,
    read: impl AsyncFn(&mut MessageReader<'_, Pipe>, &mut Vec<u8>, &Cancel),
) -> Vec<String> {
    let mut got = Vec::new();
    loop {
        let Some(begun) = cancel.watch(ws.recv_parts()).await else { continue };
        match begun {
            Ok(Some(mut reader)) => {
                let mut bytes = Vec::new();
                read(&mut reader, &mut bytes, cancel).await;
                got.push(format!("{} {bytes:02x?}", reader.is_text()));
            }
            end => {
                got.push(format!("{:?}", end.map(drop)));
                return got;
            }
        }
    }
}

#[test]
fn recv_parts_and_next() {
    check(
        "recv_parts, next",
        Dropped::Redone,
        Same::Everything,
        &async |ws, cancel| {
            read_parts(ws, cancel, async |reader, bytes, cancel| {
                while let Some(part) = cancel.redo(async || reader.next().await).await.unwrap() {
                    bytes.extend(part);
                }
            })
            .await
        },
        talk,
    );
}

#[test]
fn message_reader_as_async_read() {
    check(
        "MessageReader::read",
        Dropped::Redone,
        Same::Everything,
        &async |ws, cancel| {
            read_parts(ws, cancel, async |reader, bytes, cancel| {
                while cancel.redo(async || reader.read_buf(bytes).await).await.unwrap() > 0 {}
            })
            .await
        },
        talk,
    );
}

/// A message of which a part was read is no longer whole, whichever call reads next.
#[test]
fn recv_behind_a_reader_that_was_dropped() {
    check(
        "recv behind recv_parts",
        Dropped::Redone,
        Same::Everything,
        &async |mut ws, cancel| {
            let mut got = Vec::new();
            loop {
                match cancel.watch(ws.recv_parts()).await {
                    None => continue,
                    Some(Ok(Some(reader))) => got.push(format!("skipped {}", reader.is_text())),
                    Some(end) => {
                        got.push(format!("{:?}", end.map(drop)));
                        return got;
                    }
                }
                let received = cancel.redo(async || ws.recv().await).await;
                got.push(show_end(&received));
                if !matches!(received, Ok(Some(_))) {
                    return got;
                }
            }
        },
        talk,
    );
}

#[test]
fn send() {
    check(
        "send",
        Dropped::Left,
        Same::Everything,
        &async |mut ws, cancel| {
            for message in outgoing() {
                sent(cancel.watch(ws.send(message)).await);
            }
            ws.close(1000, "").await.unwrap();
            Vec::new()
        },
        listen,
    );
}

#[test]
fn feed_and_flush() {
    check(
        "feed, flush",
        Dropped::Left,
        Same::Everything,
        &async |mut ws, cancel| {
            for message in outgoing() {
                sent(cancel.watch(ws.feed(message.clone())).await);
                sent(cancel.watch(ws.feed(message)).await);
                sent(cancel.watch(ws.flush()).await);
            }
            ws.close(1000, "").await.unwrap();
            Vec::new()
        },
        listen,
    );
}

#[test]
fn sink() {
    check(
        "Sink",
        Dropped::Left,
        Same::Everything,
        &async |mut ws, cancel| {
            for message in outgoing() {
                sent(cancel.watch(SinkExt::feed(&mut ws, message.clone())).await);
                sent(cancel.watch(SinkExt::send(&mut ws, message)).await);
                sent(cancel.watch(SinkExt::flush(&mut ws)).await);
            }
            sent(cancel.watch(SinkExt::close(&mut ws)).await);
            Vec::new()
        },
        listen,
    );
}

#[test]
fn sender_send_feed_and_flush() {
    check(
        "Sender",
        Dropped::Left,
        Same::Everything,
        &async |ws, cancel| {
            let (sender, mut receiver) = ws.split();
            let receiving = tokio::spawn(async move { receiver.recv().await });
            for message in outgoing() {
                sent(cancel.watch(sender.send(message.clone())).await);
                sent(cancel.watch(sender.feed(message)).await);
                sent(cancel.watch(sender.flush()).await);
            }
            sender.start_close(1000, "").unwrap();
            vec![show_end(&receiving.await.unwrap())]
        },
        listen,
    );
}

#[test]
fn senders_beside_each_other() {
    check(
        "Sender beside another",
        Dropped::Left,
        Same::Messages,
        &async |ws, cancel| {
            let (sender, mut receiver) = ws.split();
            let receiving = tokio::spawn(async move { receiver.recv().await });
            let other = sender.clone();
            let others = tokio::spawn(async move {
                for message in ["one", "of another", "task"] {
                    other.send(message).await.unwrap();
                    other.flush().await.unwrap();
                }
            });
            for message in outgoing() {
                sent(cancel.watch(sender.send(message)).await);
            }
            others.await.unwrap();
            sender.start_close(1000, "").unwrap();
            vec![show_end(&receiving.await.unwrap())]
        },
        listen,
    );
}

#[test]
fn message_writer() {
    check(
        "MessageWriter",
        Dropped::Left,
        Same::Everything,
        &async |mut ws, cancel| {
            ws.send("before").await.unwrap();
            if let Some(writer) = cancel.watch(ws.message_writer(MessageKind::Text)).await {
                let mut writer = writer.unwrap();
                for part in ["in ", "several parts, of which some are long", "", "€"] {
                    sent(cancel.watch(writer.write(part)).await);
                }
                sent(cancel.watch(writer.finish()).await);
            }
            match ws.send("behind").await {
                Ok(()) | Err(Error::Closed) => {}
                Err(error) => panic!("{error}"),
            }
            ws.close(1000, "").await.unwrap();
            Vec::new()
        },
        listen,
    );
}

#[test]
fn owned_message_writer() {
    check(
        "OwnedMessageWriter",
        Dropped::Left,
        Same::Everything,
        &async |mut ws, cancel| {
            let sender = ws.sender();
            sender.send("before").await.unwrap();
            if let Some(writer) = cancel.watch(sender.message_writer(MessageKind::Text)).await {
                let mut writer = writer.unwrap();
                for part in ["in ", "several parts, of which some are long", "", "€"] {
                    sent(cancel.watch(writer.write(part)).await);
                }
                sent(cancel.watch(writer.finish()).await);
            }
            match sender.send("behind").await {
                Ok(()) | Err(Error::Closed) => {}
                Err(error) => panic!("{error}"),
            }
            ws.close(1000, "").await.unwrap();
            Vec::new()
        },
        listen,
    );
}

#[test]
fn message_writer_as_async_write() {
    check(
        "MessageWriter::write_all",
        Dropped::Left,
        Same::Everything,
        &async |mut ws, cancel| {
            let mut writer = ws.message_writer(MessageKind::Binary).await.unwrap();
            for part in [&[1; 5][..], &[2; 60], &[3; 1]] {
                if let Some(n) = cancel.watch(AsyncWriteExt::write(&mut writer, part)).await {
                    assert_eq!(n.unwrap(), part.len());
                }
                cancel.redo(async || AsyncWriteExt::flush(&mut writer).await).await.unwrap();
            }
            cancel.redo(async || AsyncWriteExt::shutdown(&mut writer).await).await.unwrap();
            drop(writer);
            ws.send("behind").await.unwrap();
            ws.close(1000, "").await.unwrap();
            Vec::new()
        },
        listen,
    );
}

#[test]
fn close() {
    check(
        "close",
        Dropped::Left,
        Same::Everything,
        &async |mut ws, cancel| {
            ws.feed("accepted").await.unwrap();
            let closed = cancel.watch(ws.close(4001, "enough")).await;
            assert!(matches!(closed, None | Some(Ok(()))), "{closed:?}");
            Vec::new()
        },
        listen,
    );
}

#[test]
fn pong() {
    check(
        "Pong",
        Dropped::Left,
        Same::Everything,
        &async |ws, cancel| {
            let (sender, mut receiver) = ws.split();
            let receiving = tokio::spawn(async move { receiver.recv().await });
            for message in outgoing() {
                let pong = sender.ping_with("there?").unwrap();
                if let Some(time) = cancel.watch(pong).await {
                    time.unwrap();
                }
                sent(cancel.watch(sender.send(message)).await);
            }
            sender.start_close(1000, "").unwrap();
            vec![show_end(&receiving.await.unwrap())]
        },
        listen,
    );
}

#[test]
fn byte_stream_reads() {
    check(
        "ByteStream::read",
        Dropped::Redone,
        Same::Everything,
        &async |ws, cancel| {
            let mut stream = ws.into_byte_stream();
            let mut bytes: Vec<u8> = Vec::new();
            loop {
                let mut buf = [0; 17];
                match cancel.redo(async || stream.read(&mut buf).await).await {
                    Ok(0) => panic!("4000 is not a clean end"),
                    Ok(n) => bytes.extend(&buf[..n]),
                    Err(error) => return vec![format!("{bytes:02x?}"), error.to_string()],
                }
            }
        },
        talk,
    );
}

#[test]
fn byte_stream_writes() {
    check(
        "ByteStream::write",
        Dropped::Left,
        Same::Everything,
        &async |ws, cancel| {
            let mut stream = ws.into_byte_stream();
            for bytes in [&[1; 5][..], &[2; 60], &[3; 1]] {
                if let Some(n) = cancel.watch(stream.write(bytes)).await {
                    assert_eq!(n.unwrap(), bytes.len());
                }
                cancel.redo(async || stream.flush().await).await.unwrap();
            }
            cancel.redo(async || stream.shutdown().await).await.unwrap();
            Vec::new()
        },
        listen,
    );
}

/// Both directions at once, as in an echo handler with a `select!` around it.
#[test]
fn recv_and_send_in_turn() {
    check(
        "echo",
        Dropped::Left,
        Same::Everything,
        &async |mut ws, cancel| {
            let mut got = Vec::new();
            for _ in outgoing() {
                let message = cancel.redo(async || ws.recv().await).await.unwrap().unwrap();
                got.push(show(&message));
                sent(cancel.watch(ws.send(message)).await);
            }
            cancel.redo(async || ws.flush().await).await.unwrap();
            ws.close(1000, "").await.unwrap();
            got
        },
        talk_and_listen,
    );
}
