//! Lending: the same messages, ends, answers and counts as when messages are received and sent.

mod support;

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;

use futures_util::FutureExt;
use longwire_connection::testing::{Faults, Pipe, duplex};
use longwire_connection::{
    Config, Error, Excess, Handover, Incoming, Limits, Message, MessageKind, Rate, RateLimit, Stats,
    WebSocket, drive,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use support::{
    BINARY, CLOSE, CONTINUATION, End, PING, PONG, TEXT, frame, keep, messages, one_key, read_frames, run,
    settle, show_end, socket, text_frame, whole_frames, write,
};
use tokio::io::AsyncWriteExt;

/// The way in which the end under test uses messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// They are received.
    Recv,
    /// They are received between pings and pongs, which never takes a fast path.
    Event,
    /// They are lent.
    Lend,
    /// They are lent by the receiving half of a socket that was split.
    LendByReceiver,
    /// They are received and sent back.
    Echo,
    /// They are lent and sent back.
    Reply,
}

/// An item that a peer sends.
#[derive(Clone, Debug)]
enum Item {
    /// A message with one more frame than there are cuts, and a ping before each of them but the first.
    Message {
        text: bool,
        payload: Vec<u8>,
        cuts: Vec<Index>,
    },
    /// A message that the peer compresses if that was negotiated.
    Compressible(Vec<u8>),
    Control {
        opcode: u8,
        payload: Vec<u8>,
    },
    Close(Vec<u8>),
    /// A frame of any kind.
    Frame {
        first: u8,
        payload: Vec<u8>,
    },
}

/// The terms of a connection.
#[derive(Clone, Debug)]
struct Terms {
    end: End,
    config: Config,
    is_compressed: bool,
    is_driven: bool,
}

/// Everything observable of one run.
#[derive(Debug, PartialEq)]
struct Outcome {
    got: Vec<Message>,
    end: String,
    close: String,
    stats: Stats,
    /// The first byte and the payload of each frame that was written.
    written: Vec<(u8, Message)>,
}

impl Outcome {
    /// Leaves out the pongs, how much was written by the end, and how much was read, which may include what follows a
    /// close frame. All depend on when the queue is written, which is earlier if an answer waits for room.
    fn whenever_written(mut self) -> Self {
        self.written.retain(|(first, _)| *first != 0x80 | PONG);
        (self.stats.bytes_sent, self.stats.bytes_queued, self.stats.bytes_received) = (0, 0, 0);
        self
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_way_gives_the_same_messages(
        terms in terms(),
        items in vec(item(), 1..12),
        splits in vec(any::<Index>(), 0..12),
        mutation in prop_oneof![3 => Just(None), 1 => any::<(Index, u8)>().prop_map(Some)],
    ) {
        let mut bytes = encode(&terms, &items);
        if let Some((index, byte)) = mutation && !bytes.is_empty() {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let splits: Vec<_> = splits.iter().map(|at| at.index(bytes.len() + 1) as u64).collect();
        let received = observe(&terms, Way::Recv, &bytes, &splits);
        for way in [Way::Event, Way::Lend, Way::LendByReceiver] {
            prop_assert_eq!(&observe(&terms, way, &bytes, &splits), &received, "{:?}", way);
        }
        let echoed = observe(&terms, Way::Echo, &bytes, &splits);
        prop_assert_eq!(&echoed.got, &received.got);
        let replied = observe(&terms, Way::Reply, &bytes, &splits);
        prop_assert_eq!(replied.whenever_written(), echoed.whenever_written());
    }
}

/// Runs one end on these bytes, which arrive in pieces that end at `splits`.
fn observe(terms: &Terms, way: Way, bytes: &[u8], splits: &[u64]) -> Outcome {
    let what = format!("{way:?} {terms:?}");
    run(&what, async {
        let (pipe, mut peer) = duplex(1 << 22);
        let pipe = pipe.with_faults(Faults::new().split_reads_at(splits.iter().copied()));
        let tap = pipe.tap();
        peer.write_all(bytes).await.unwrap();
        peer.shutdown().await.unwrap();
        let ws = WebSocket::new(pipe, terms.handover(terms.end), &terms.config);
        let outcome = Cell::new(None);
        if terms.is_driven {
            drive(ws, async |ws| {
                outcome.set(Some(receive(ws, way).await));
                Ok::<_, Error>(())
            })
            .await
            .unwrap();
        } else {
            outcome.set(Some(receive(ws, way).await));
        }
        settle().await;
        drop(peer);
        let (got, end, close, stats) = outcome.into_inner().expect("it has run to its end");
        let (mut written, mut left) = (Vec::new(), &tap.written()[..]);
        while let Some(frame) = wire_model::take_frame(&mut left) {
            written.push((frame.first, frame.payload.into()));
        }
        assert_eq!(left, b"", "{what}: a frame is cut short");
        Outcome { got, end: show_end(&end.map(|()| None)), close, stats, written }
    })
}

async fn receive(mut ws: WebSocket<Pipe>, way: Way) -> (Vec<Message>, Result<(), Error>, String, Stats) {
    let mut got = Vec::new();
    if way == Way::LendByReceiver {
        let (_sender, mut receiver) = ws.split();
        let end = loop {
            match receiver.recv_with(|message| got.push(message.to_message())).await {
                Ok(Some(())) => {}
                end => break end.map(drop),
            }
        };
        return (got, end, format!("{:?}", receiver.close_received()), receiver.stats());
    }
    let end = loop {
        let received = match way {
            Way::Recv => ws.recv().await.map(|message| message.map(|message| got.push(message))),
            Way::Event => ws.next_event().await.map(|event| {
                event.map(|event| {
                    if let Incoming::Message(message) = event {
                        got.push(message);
                    }
                })
            }),
            Way::Lend => ws.recv_with(|message| got.push(message.to_message())).await,
            Way::Echo => match ws.recv().await {
                Ok(Some(message)) => {
                    got.push(message.clone());
                    // The reason is what receiving reports.
                    let _ = ws.send(message).await;
                    Ok(Some(()))
                }
                end => end.map(|_| None),
            },
            Way::Reply | Way::LendByReceiver => {
                ws.reply_with(|message, reply| {
                    got.push(message.to_message());
                    let _ = reply.send(message);
                })
                .await
            }
        };
        match received {
            Ok(Some(())) => {}
            end => break end.map(drop),
        }
    };
    (got, end, format!("{:?}", ws.close_received()), ws.stats())
}

impl Terms {
    fn handover(&self, end: End) -> Handover {
        let handover = match end {
            End::Client => Handover::client(one_key),
            End::Server => Handover::server(),
        };
        #[cfg(feature = "deflate")]
        if self.is_compressed {
            return handover.compression(compression());
        }
        handover
    }

    fn peer(&self) -> End {
        if self.end == End::Client { End::Server } else { End::Client }
    }
}

#[cfg(feature = "deflate")]
fn compression() -> longwire_connection::Compression {
    use longwire_connection::deflate::{DeflateOptions, Pool, accept};
    let mut options = DeflateOptions::default();
    options.threshold = 30;
    let agreement = accept([[("client_max_window_bits", None)]], &options).unwrap();
    longwire_connection::Compression::new(agreement, &options, &Pool::default())
}

fn encode(terms: &Terms, items: &[Item]) -> Vec<u8> {
    let peer = terms.peer();
    let mut compressing = longwire_protocol::Outbound::new((peer == End::Client).then_some(one_key));
    #[cfg(feature = "deflate")]
    if terms.is_compressed {
        compressing.set_compression(&compression());
    }
    let mut bytes = Vec::new();
    for item in items {
        match item {
            Item::Message { text, payload, cuts } => {
                let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
                ends.sort_unstable();
                ends.push(payload.len());
                let mut start = 0;
                for (at, &end) in ends.iter().enumerate() {
                    if at > 0 {
                        bytes.extend(frame(peer, 0x80 | PING, b"between"));
                    }
                    let first = if *text { TEXT } else { BINARY };
                    let opcode = if at > 0 { CONTINUATION } else { first };
                    let fin = if at + 1 == ends.len() { 0x80 } else { 0 };
                    bytes.extend(frame(peer, fin | opcode, &payload[start..end]));
                    start = end;
                }
            }
            Item::Compressible(payload) => {
                compressing.message_ref(payload.into()).unwrap();
                bytes.extend(compressing.queue().contiguous().unwrap());
                let written = compressing.queue().len();
                compressing.written(written);
            }
            Item::Control { opcode, payload } => bytes.extend(frame(peer, 0x80 | opcode, payload)),
            Item::Close(payload) => bytes.extend(frame(peer, 0x80 | CLOSE, payload)),
            Item::Frame { first, payload } => bytes.extend(frame(peer, *first, payload)),
        }
    }
    bytes
}

fn terms() -> impl Strategy<Value = Terms> {
    let limits = prop_oneof![
        4 => Just(Limits::default()),
        1 => (0..300_usize, 0..300_usize).prop_map(|(message, frame)| {
            Limits::default().with_max_message(message).with_max_frame(frame)
        }),
    ];
    let rate_limit = prop_oneof![
        3 => Just(None),
        1 => (1..5_u64, select(&[Excess::Close, Excess::Drop][..])).prop_map(|(burst, excess)| {
            let rate = Rate::per_second(1).burst(burst);
            Some(RateLimit::default().with_messages(rate).with_excess(excess))
        }),
    ];
    let end = select(&[End::Client, End::Server][..]);
    (end, limits, rate_limit, any::<bool>(), any::<bool>()).prop_map(
        |(end, limits, rate_limit, is_compressed, is_driven)| {
            let mut config = Config::default().with_limits(limits);
            config.rate_limit = rate_limit;
            Terms { end, config, is_compressed, is_driven }
        },
    )
}

/// Contents of close frames: none, two codes, and half of one.
const CLOSES: &[&[u8]] = &[b"", b"\x03\xe8", b"\x0f\xa0over", b"\x03"];

fn item() -> impl Strategy<Value = Item> {
    let payload = prop_oneof![
        6 => "[a-cäß€語🦀]{0,60}".prop_map(|text| (true, text.into_bytes())),
        6 => vec(any::<u8>(), 0..300).prop_map(|bytes| (false, bytes)),
        1 => vec(any::<u8>(), 0..20).prop_map(|bytes| (true, bytes)),
        1 => (0..200_000_usize, any::<u8>()).prop_map(|(len, byte)| (false, vec![byte; len])),
    ];
    let cuts = prop_oneof![2 => Just(Vec::new()), 1 => vec(any::<Index>(), 0..4)];
    prop_oneof![
        12 => (payload, cuts).prop_map(|((text, payload), cuts)| Item::Message { text, payload, cuts }),
        2 => vec(any::<u8>(), 0..100).prop_map(|bytes| Item::Compressible(bytes.repeat(3))),
        2 => (select(&[PING, PONG][..]), vec(any::<u8>(), 0..=125))
            .prop_map(|(opcode, payload)| Item::Control { opcode, payload }),
        1 => select(CLOSES).prop_map(|payload| Item::Close(payload.to_vec())),
        1 => (any::<u8>(), vec(any::<u8>(), 0..10)).prop_map(|(first, payload)| Item::Frame { first, payload }),
    ]
}

/// The messages of one read lie where they were read, one frame after the other.
#[test]
fn messages_of_one_read_are_not_copied() {
    run("messages of one read", async {
        let (pipe, mut peer) = duplex(1 << 16);
        let mut ws = socket(End::Server, pipe, &Config::default());
        write(&mut peer, text_frame(End::Client, "sixteen bytes :-)").repeat(10)).await;
        let mut places = Vec::new();
        for _ in 0..10 {
            let place = ws.recv_with(|message| message.as_bytes().as_ptr().addr()).await;
            places.push(place.unwrap().unwrap());
        }
        // After the first, the rest of the read is moved to a buffer of its size.
        for two in places[1..].windows(2) {
            assert_eq!(two[1] - two[0], 6 + 17, "{places:?}");
        }
        ws.abort();
    });
}

/// A message whose use panics is received all the same, and the connection continues.
#[test]
fn a_panic_takes_one_message() {
    for count in [1, 3] {
        run("a panic", async move {
            let (pipe, mut peer) = duplex(1 << 16);
            let mut ws = socket(End::Server, pipe, &Config::default());
            write(&mut peer, text_frame(End::Client, "bad").repeat(count)).await;
            for _ in 0..count {
                let looking = ws.recv_with(|_| -> () { std::panic::resume_unwind(Box::new("it was bad")) });
                assert!(AssertUnwindSafe(looking).catch_unwind().await.is_err());
            }
            assert_eq!(ws.stats().messages_received, count as u64);
            write(&mut peer, text_frame(End::Client, "good")).await;
            let good = ws.recv_with(keep).await;
            assert_eq!(good.unwrap(), Some("good".into()));
            ws.abort();
        });
    }
}

/// A peer that does not read is no longer read from, and nothing of the queue's room is exceeded but one answer.
#[test]
fn answers_wait_for_room() {
    for is_driven in [false, true] {
        run("a peer that does not read", async move {
            let (pipe, mut peer) = duplex(1 << 20);
            let tap = pipe.tap();
            tap.stall_writes();
            let ws = socket(End::Server, pipe, &Config::default().with_send_queue(1000));
            let sender = ws.sender();
            let handler = async move |mut ws: WebSocket<Pipe>| {
                while let Some(sent) = ws.reply_with(|message, reply| reply.send(message)).await? {
                    sent?;
                }
                Ok::<_, Error>(())
            };
            let handling =
                if is_driven { tokio::spawn(drive(ws, handler)) } else { tokio::spawn(handler(ws)) };
            write(&mut peer, frame(End::Client, 0x82, &[7; 300]).repeat(20)).await;
            settle().await;
            assert_eq!(sender.queued(), 4 * 304, "the fourth is the one for which there was room");
            // Control frames are handled meanwhile only if they are next.
            tap.resume();
            assert_eq!(messages(&read_frames(&mut peer, End::Server, 20).await).len(), 20);
            write(&mut peer, support::close_frame(End::Client, 1000)).await;
            handling.await.unwrap().unwrap();
            whole_frames(&tap.written(), End::Server);
        });
    }
}

/// A message in parts by another task delays no received message; answers meanwhile are the application's to keep.
#[test]
fn answers_are_refused_while_a_message_in_parts_is_open() {
    run("a message in parts", async {
        let (pipe, mut peer) = duplex(1 << 20);
        let tap = pipe.tap();
        let mut ws = socket(End::Server, pipe, &Config::default());
        let sender = ws.sender();
        write(&mut peer, text_frame(End::Client, "hello").repeat(3)).await;

        let mut writer = sender.message_writer(MessageKind::Text).await.unwrap();
        for _ in 0..2 {
            let replying = ws.reply_with(|message, reply| reply.send(message));
            let refused = replying.now_or_never().expect("it does not wait").unwrap().unwrap();
            assert!(matches!(refused, Err(Error::QueueFull)), "{refused:?}");
        }
        writer.write("in parts").await.unwrap();
        writer.finish().await.unwrap();
        ws.reply_with(|message, reply| reply.send(message)).await.unwrap().unwrap().unwrap();
        ws.abort();
        let sent = messages(&whole_frames(&tap.written(), End::Server));
        assert_eq!(sent, ["in parts".into(), "hello".into()] as [Message; 2]);
    });
}

/// A callback that panics has sent what it had sent.
#[test]
fn answers_are_written_although_the_callback_panics() {
    run("a panic", async {
        let (pipe, mut peer) = duplex(1 << 20);
        let tap = pipe.tap();
        let mut ws = socket(End::Server, pipe, &Config::default());
        write(&mut peer, text_frame(End::Client, "hello")).await;
        let replying = ws.reply_with(|message, reply| {
            reply.send(message).unwrap();
            panic!("on purpose");
        });
        let panicked = AssertUnwindSafe(replying).catch_unwind().await;
        assert!(panicked.is_err());
        let sent = messages(&whole_frames(&tap.written(), End::Server));
        assert_eq!(sent, ["hello".into()] as [Message; 1]);
    });
}

/// After a close frame nothing is sent, but messages are still lent.
#[test]
fn messages_are_lent_to_the_end() {
    run("a close", async {
        let (pipe, mut peer) = duplex(1 << 20);
        let mut ws = socket(End::Server, pipe, &Config::default().with_send_queue(10));
        ws.start_close(1000, "").unwrap();
        write(&mut peer, text_frame(End::Client, "late").repeat(2)).await;
        write(&mut peer, support::close_frame(End::Client, 1000)).await;
        for _ in 0..2 {
            let sent = ws.reply_with(|message, reply| reply.send(message)).await.unwrap().unwrap();
            assert!(matches!(sent, Err(Error::Closed)), "{sent:?}");
        }
        assert!(ws.reply_with(|_, _| ()).await.unwrap().is_none());
        assert!(ws.recv_with(|_| ()).await.unwrap().is_none());
    });
}

/// One message may have several answers, of any payload.
#[test]
fn a_reply_sends_any_messages() {
    run("several answers", async {
        let (pipe, mut peer) = duplex(1 << 20);
        let mut ws = socket(End::Server, pipe, &Config::default());
        let long = vec![9; 100_000];
        write(&mut peer, frame(End::Client, 0x82, &long)).await;
        ws.reply_with(|message, reply| {
            reply.send("one")?;
            reply.send(message)?;
            reply.send(&message.as_bytes()[..3])?;
            reply.send(&vec![1; 20_000])
        })
        .await
        .unwrap()
        .unwrap()
        .unwrap();
        let sent = messages(&read_frames(&mut peer, End::Server, 4).await);
        let expected = ["one".into(), long.clone().into(), long[..3].into(), Message::from(vec![1; 20_000])];
        assert_eq!(sent, expected);
        assert_eq!(ws.stats().messages_sent, 4);
        ws.abort();
    });
}

/// Futures may move between threads if what they call may.
#[test]
fn futures_are_send() {
    fn is_send(_: &impl Send) {}
    run("futures", async {
        let mut ws = socket(End::Server, duplex(10).0, &Config::default());
        is_send(&ws.recv_with(keep));
        is_send(&ws.reply_with(|message, reply| reply.send(message).is_ok()));
        // Polled only if it may be.
        let pending = poll_fn(|cx| Poll::Ready(pin!(ws.recv_with(|_| ())).poll(cx).is_pending()));
        assert!(!pending.await, "the peer is gone");
        ws.abort();
    });
}
