//! The same bytes, in any split and through any of the input methods, give the same events and the same error.

#![expect(clippy::disallowed_methods, reason = "a test needs some time to begin at")]

use std::time::Instant;

use bytes::{BufMut, Bytes};
use longwire_protocol::{
    CloseCode, CloseFrame, Connection, Event, Inbound, Limits, MaskingKey, MaskingKeys, Message, MessageKind,
    Outbound, Part, PreparedMessage, ProtocolError, Role, State,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The method that takes the next bytes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// All of them go to `decode`.
    Decode,
    /// They go to `decode_message` as long as it accepts them, then to `decode`.
    Message,
    /// They go to `decode_in_place` as long as it accepts them, then to `decode`.
    InPlace,
    /// They go to `read_payload` as far as it accepts them, then to `decode`.
    Payload,
}

/// An item that a peer sends.
#[derive(Clone, Debug)]
enum Item {
    /// A message with one more frame than there are cuts, and a ping before the chosen frames.
    Message {
        text: bool,
        payload: Vec<u8>,
        cuts: Vec<Index>,
        pings: Vec<bool>,
    },
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
    /// Bytes that need not be a frame.
    Raw(Vec<u8>),
}

/// The result of decoding some bytes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome {
    events: Vec<Event>,
    error: Option<ProtocolError>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1500)))]

    #[test]
    fn any_split_through_any_way_gives_the_same(
        role in select(&[Role::Client, Role::Server][..]),
        limits in limits(),
        mut bytes in bytes(),
        steps in steps(),
    ) {
        let bytes = bytes.for_role(role);
        let whole = receive(role, limits, bytes, &[]);
        let one_by_one = receive(role, limits, bytes, &[(1, Way::Decode)]);
        prop_assert_eq!(&one_by_one, &whole);
        let mixed = receive(role, limits, bytes, &steps);
        prop_assert_eq!(&mixed, &whole);
        for way in [Way::Message, Way::InPlace, Way::Payload] {
            let split = receive(role, limits, bytes, &[(steps[0].0, way)]);
            prop_assert_eq!(&split, &whole);
        }
        let connected = receive_by_connection(role, limits, bytes, &steps);
        prop_assert_eq!(&connected, &whole);
    }

    #[test]
    fn the_parts_of_a_message_are_the_message(
        role in select(&[Role::Client, Role::Server][..]),
        limits in limits(),
        mut bytes in bytes(),
        steps in steps(),
    ) {
        let bytes = bytes.for_role(role);
        let whole = receive(role, limits, bytes, &[]);
        let mut inbound = Inbound::new(role, limits);
        inbound.set_parts(true);
        let parts = receive_with(&mut inbound, bytes, &steps);
        prop_assert_eq!(join_parts(parts), whole);
    }

    #[test]
    fn garbage_never_panics_and_nothing_is_interpreted_after_an_error(
        role in select(&[Role::Client, Role::Server][..]),
        garbage in vec(any::<u8>(), 0..200),
        steps in steps(),
    ) {
        let whole = receive(role, Limits::default(), &garbage, &[]);
        prop_assert_eq!(receive(role, Limits::default(), &garbage, &steps), whole);
    }

    #[test]
    fn what_is_sent_is_what_is_received(
        masks in any::<bool>(),
        sent in vec(sent(), 1..8),
        steps in steps(),
    ) {
        let keys: MaskingKeys = || MaskingKey::new([0x37, 0xfa, 0x21, 0x3d]);
        let mut outbound = Outbound::new(masks.then_some(keys));
        let mut expected = Vec::new();
        for sent in sent {
            expected.push(send(&mut outbound, sent));
        }
        let bytes = drain(&mut outbound);
        let role = if masks { Role::Server } else { Role::Client };
        for steps in [&[][..], &steps] {
            let got = receive(role, Limits::default(), &bytes, steps);
            prop_assert_eq!(got, Outcome { events: expected.clone(), error: None });
        }
    }
}

#[test]
fn a_client_does_not_alter_a_payload_that_others_hold() {
    let keys: MaskingKeys = || MaskingKey::new([1, 2, 3, 4]);
    for len in [0, 1, 16 * 1024 - 1, 16 * 1024, 100_000] {
        let payload = Bytes::from(vec![b'x'; len]);
        let mut outbound = Outbound::new(Some(keys));
        outbound.message(payload.clone().into()).expect("nothing is open");
        assert!(payload.iter().all(|&byte| byte == b'x'), "{len}");
        let got = receive(Role::Server, Limits::default(), &drain(&mut outbound), &[]);
        assert_eq!(got.events, [Event::Message(payload.into())], "{len}");
    }
}

fn receive(role: Role, limits: Limits, bytes: &[u8], steps: &[(usize, Way)]) -> Outcome {
    receive_with(&mut Inbound::new(role, limits), bytes, steps)
}

/// Decodes all of `bytes`, repeating `steps`, and checks that nothing follows the end.
fn receive_with(inbound: &mut Inbound, bytes: &[u8], steps: &[(usize, Way)]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rest = bytes;
    let mut steps = steps.iter().cycle();
    while !rest.is_empty() {
        let (len, way) =
            steps.next().map_or((rest.len(), Way::Decode), |&(len, way)| (len.min(rest.len()), way));
        let (mut piece, after) = rest.split_at(len);
        rest = after;
        while !piece.is_empty() {
            let ended = inbound.is_ended();
            let result = match way {
                Way::Message => match inbound.decode_message(&mut piece) {
                    Some(message) => Ok(Some(Event::Message(message))),
                    None => inbound.decode(&mut piece),
                },
                Way::InPlace => match take_in_place(inbound, &mut piece) {
                    Some(message) => Ok(Some(Event::Message(message))),
                    None => inbound.decode(&mut piece),
                },
                Way::Payload if inbound.payload_left() > 0 => {
                    let (taken, result) = inbound.read_payload(|buf| {
                        let take = piece.len().min(buf.remaining_mut());
                        buf.put_slice(&piece[..take]);
                        take
                    });
                    assert!(taken > 0, "what is to come has room");
                    piece = &piece[taken..];
                    result
                }
                _ => inbound.decode(&mut piece),
            };
            match result {
                Ok(None) => {}
                _ if ended => panic!("interpreted after the end: {result:?}"),
                Ok(Some(event)) => {
                    assert_eq!(inbound.is_ended(), matches!(event, Event::Close(_)), "{event:?}");
                    outcome.events.push(event);
                }
                Err(error) => {
                    assert!(inbound.is_ended());
                    outcome.error = Some(error);
                }
            }
        }
        if inbound.is_ended() {
            assert_eq!(inbound.payload_left(), 0);
        }
    }
    if inbound.is_ended() {
        for follows in [&b"\x81\x01a"[..], b"\x81\x81\0\0\0\0a", b"\xff"] {
            let mut input = follows;
            assert_eq!(inbound.decode_message(&mut input), None);
            assert_eq!(take_in_place(inbound, &mut input), None);
            assert_eq!(inbound.decode(&mut input), Ok(None));
            assert_eq!(input, b"");
        }
    }
    outcome
}

/// Takes a message with `decode_in_place`, and checks that everything else is left unchanged.
fn take_in_place(inbound: &mut Inbound, piece: &mut &[u8]) -> Option<Message> {
    let mut bytes = piece.to_vec();
    let lies_in = bytes.as_ptr_range();
    let (message, taken) = match inbound.decode_in_place(&mut bytes) {
        Some((message, taken)) => {
            let payload = message.as_bytes().as_ptr_range();
            assert!(lies_in.start < payload.start && payload.end <= lies_in.end, "it is not a copy");
            (Some(message.to_message()), taken)
        }
        None => (None, 0),
    };
    assert_eq!(bytes[taken..], piece[taken..], "the rest is unchanged");
    *piece = &piece[taken..];
    message
}

/// Decodes all of `bytes` with a whole connection, in pieces of the lengths of `steps`, and checks that it queues the
/// answers that its halves would give.
fn receive_by_connection(role: Role, limits: Limits, bytes: &[u8], steps: &[(usize, Way)]) -> Outcome {
    let keys: MaskingKeys = || MaskingKey::new([0x37, 0xfa, 0x21, 0x3d]);
    let keys = (role == Role::Client).then_some(keys);
    let (mut connection, mut answers) = (Connection::new(role, keys, limits), Outbound::new(keys));
    let mut outcome = Outcome::default();
    let mut rest = bytes;
    let mut steps = steps.iter().cycle();
    while !rest.is_empty() {
        let len = steps.next().map_or(rest.len(), |(len, _)| rest.len().min(*len));
        let (mut piece, after) = rest.split_at(len);
        rest = after;
        while !piece.is_empty() {
            let ended = connection.state() == State::Closed;
            match connection.handle_bytes(&mut piece, Instant::now()) {
                Ok(None) => {}
                result if ended => panic!("interpreted after the end: {result:?}"),
                Ok(Some(event)) => {
                    answers.respond(&event);
                    outcome.events.push(event);
                }
                Err(error) => {
                    answers.fail(&error);
                    outcome.error = Some(error);
                }
            }
        }
        assert_eq!(drain(connection.outbound_mut()), drain(&mut answers));
    }
    let closed = outcome.error.is_some() || matches!(outcome.events.last(), Some(Event::Close(_)));
    assert_eq!(connection.state(), if closed { State::Closed } else { State::Open });
    assert_eq!(connection.deadline().is_some(), closed, "the limit of the closing handshake");
    outcome
}

/// Joins the parts of each message; drops the parts of a message that did not end.
fn join_parts(outcome: Outcome) -> Outcome {
    let mut events = Vec::new();
    let mut kind = None;
    let mut joined = Vec::new();
    for event in outcome.events {
        let Event::Part(Part { kind: part_kind, data, last }) = event else {
            assert!(!matches!(event, Event::Message(_)), "a whole message among parts");
            events.push(event);
            continue;
        };
        assert_eq!(*kind.get_or_insert(part_kind), part_kind);
        joined.extend_from_slice(&data);
        if last {
            kind = None;
            events.push(Event::Message(message(part_kind, std::mem::take(&mut joined))));
        }
    }
    Outcome { events, ..outcome }
}

fn message(kind: MessageKind, payload: Vec<u8>) -> Message {
    match kind {
        MessageKind::Text => Message::text(String::from_utf8(payload).expect("text is UTF-8")),
        MessageKind::Binary => payload.into(),
    }
}

/// A peer's bytes. Its frames are masked if the peer is a client.
#[derive(Clone, Debug)]
struct PeerBytes {
    items: Vec<Item>,
    key: [u8; 4],
    /// The position of a byte that is changed at the end, and its new value.
    mutation: Option<(Index, u8)>,
    encoded: Vec<u8>,
}

impl PeerBytes {
    fn for_role(&mut self, role: Role) -> &[u8] {
        let key = (role == Role::Server).then_some(self.key);
        let mut out = Vec::new();
        for item in &self.items {
            encode(item, key, &mut out);
        }
        if let Some((index, byte)) = self.mutation
            && !out.is_empty()
        {
            let at = index.index(out.len());
            out[at] = byte;
        }
        self.encoded = out;
        &self.encoded
    }
}

fn encode(item: &Item, key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    match item {
        Item::Message { text, payload, cuts, pings } => {
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
            ends.sort_unstable();
            ends.push(payload.len());
            let mut start = 0;
            for (at, &end) in ends.iter().enumerate() {
                if pings.get(at) == Some(&true) && at > 0 {
                    out.extend(wire_model::frame(0x89, b"between", key));
                }
                let opcode = if at > 0 { 0 } else { 2 - u8::from(*text) };
                let fin = if at + 1 == ends.len() { 0x80 } else { 0 };
                out.extend(wire_model::frame(fin | opcode, &payload[start..end], key));
                start = end;
            }
        }
        Item::Control { opcode, payload } => out.extend(wire_model::frame(0x80 | opcode, payload, key)),
        Item::Close(payload) => out.extend(wire_model::frame(0x88, payload, key)),
        Item::Frame { first, payload } => out.extend(wire_model::frame(*first, payload, key)),
        Item::Raw(raw) => out.extend_from_slice(raw),
    }
}

/// Sends one item and returns the event that the other end must yield.
fn send(outbound: &mut Outbound, sent: Sent) -> Event {
    const IDLE: &str = "nothing is open or closed";
    match sent {
        Sent::Message(message) => {
            outbound.message(message.clone()).expect(IDLE);
            Event::Message(message)
        }
        Sent::Gathered(message) => {
            assert!(outbound.gather_message(&message), "short and nothing in the way");
            Event::Message(message)
        }
        Sent::Lent(message) => {
            outbound.message_ref((&message).into()).expect(IDLE);
            Event::Message(message)
        }
        Sent::Prepared(message) => {
            outbound.prepared(&PreparedMessage::new(message.clone())).expect(IDLE);
            Event::Message(message)
        }
        Sent::Parts(message, cuts) => {
            outbound.begin(message.kind()).expect(IDLE);
            let mut rest = message.payload().clone();
            for cut in cuts {
                let at = cut.index(rest.len() + 1);
                outbound.part(rest.split_to(at)).expect(IDLE);
            }
            outbound.last_part(rest).expect(IDLE);
            Event::Message(message)
        }
        Sent::Ping(payload) => {
            outbound.ping(&payload).expect(IDLE);
            Event::Ping(payload.into())
        }
        Sent::Pong(payload) => {
            outbound.pong(&payload).expect(IDLE);
            Event::Pong(payload.into())
        }
    }
}

/// Returns all bytes that wait to be written.
fn drain(outbound: &mut Outbound) -> Vec<u8> {
    let mut out = Vec::new();
    while !outbound.queue().is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 3];
        let count = outbound.queue().chunks(&mut slices);
        let before = out.len();
        for slice in &slices[..count] {
            out.extend_from_slice(slice);
        }
        let taken = out.len() - before;
        outbound.written(taken);
    }
    out
}

#[derive(Clone, Debug)]
enum Sent {
    Message(Message),
    Gathered(Message),
    Lent(Message),
    Prepared(Message),
    Parts(Message, Vec<Index>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let message = prop_oneof![
        "\\PC{0,40}".prop_map(Message::from),
        vec(any::<u8>(), 0..300).prop_map(Message::from),
        (16_380..16_390_usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len].into()),
        (65_530..65_540_usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len].into()),
    ]
    .boxed();
    let short =
        prop_oneof!["\\PC{0,40}".prop_map(Message::from), vec(any::<u8>(), 0..300).prop_map(Message::from)];
    prop_oneof![
        message.clone().prop_map(Sent::Message),
        short.prop_map(Sent::Gathered),
        message.clone().prop_map(Sent::Lent),
        message.clone().prop_map(Sent::Prepared),
        (message, vec(any::<Index>(), 0..4)).prop_map(|(message, cuts)| Sent::Parts(message, cuts)),
        vec(any::<u8>(), 0..=125).prop_map(Sent::Ping),
        vec(any::<u8>(), 0..=125).prop_map(Sent::Pong),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(usize, Way)>> {
    let way = select(&[Way::Decode, Way::Message, Way::InPlace, Way::Payload][..]);
    vec((prop_oneof![1..5_usize, 1..400_usize], way), 1..8)
}

fn limits() -> impl Strategy<Value = Limits> {
    prop_oneof![
        4 => Just(Limits::default()),
        1 => (0..300_usize, 0..300_usize, 1..5_u32).prop_map(|(message, frame, fragments)| {
            Limits::default().with_max_message(message).with_max_frame(frame).with_max_fragments(fragments)
        }),
        1 => Just(Limits::default().with_max_message(None).with_max_frame(None).with_max_fragments(None)),
    ]
}

fn bytes() -> impl Strategy<Value = PeerBytes> {
    let mutation = prop_oneof![2 => Just(None), 1 => any::<(Index, u8)>().prop_map(Some)];
    (vec(item(), 1..8), any::<[u8; 4]>(), mutation).prop_map(|(items, key, mutation)| PeerBytes {
        items,
        key,
        mutation,
        encoded: Vec::new(),
    })
}

fn item() -> impl Strategy<Value = Item> {
    let payload = prop_oneof![
        // Characters of one to four bytes, so that cuts fall inside them.
        "[a-cäß€語🦀]{0,20}".prop_map(|text| (true, text.into_bytes())),
        "[a-c🦀]{80,120}".prop_map(|text| (true, text.into_bytes())),
        vec(any::<u8>(), 0..200).prop_map(|bytes| (false, bytes)),
        vec(any::<u8>(), 0..20).prop_map(|bytes| (true, bytes)),
    ];
    let message = (payload, vec(any::<Index>(), 0..5), vec(any::<bool>(), 0..6))
        .prop_map(|((text, payload), cuts, pings)| Item::Message { text, payload, cuts, pings });
    let control = (select(&[9_u8, 10][..]), vec(any::<u8>(), 0..=125))
        .prop_map(|(opcode, payload)| Item::Control { opcode, payload });
    let close = prop_oneof![
        Just(Vec::new()),
        "[a-ä]{0,10}".prop_map(|reason| [b"\x03\xe8", reason.as_bytes()].concat()),
        vec(any::<u8>(), 0..10),
    ]
    .prop_map(Item::Close);
    let anything =
        (any::<u8>(), vec(any::<u8>(), 0..10)).prop_map(|(first, payload)| Item::Frame { first, payload });
    prop_oneof![
        12 => message,
        4 => control,
        1 => close,
        1 => anything,
        1 => vec(any::<u8>(), 1..6).prop_map(Item::Raw),
    ]
}

/// Returns the number of cases to run: `PROPTEST_CASES` if it is set.
#[expect(clippy::disallowed_methods, reason = "the environment configures this test, not the crate")]
fn cases(default: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default)
}

/// A text in three fragments with a ping in between, cut at any position, arrives whole.
#[test]
fn fragmented_text_survives_any_cut() {
    let text = "aä€🦀z";
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let mut bytes = Vec::new();
            bytes.extend(wire_model::frame(0x01, &text.as_bytes()[..first], None));
            bytes.extend(wire_model::frame(0x00, &text.as_bytes()[first..second], None));
            bytes.extend(wire_model::frame(0x89, b"", None));
            bytes.extend(wire_model::frame(0x80, &text.as_bytes()[second..], None));
            bytes.extend(wire_model::frame(0x88, b"\x03\xe8", None));
            for len in 1..=bytes.len() {
                for way in [Way::Decode, Way::Message, Way::InPlace, Way::Payload] {
                    let got = receive(Role::Client, Limits::default(), &bytes, &[(len, way)]);
                    let expected = [
                        Event::Ping(Bytes::new()),
                        Event::Message(Message::text(text)),
                        Event::Close(CloseFrame::new(CloseCode::NORMAL, "")),
                    ];
                    assert_eq!(got.events, expected, "{first} {second} {len} {way:?}");
                    assert_eq!(got.error, None);
                }
            }
        }
    }
}

#[test]
fn a_message_is_taken_at_once_exactly_where_the_limits_allow_it() {
    let numbers = [None, Some(0), Some(1), Some(125), Some(126), Some(usize::MAX)];
    let fragments = [None, Some(0), Some(1), Some(u32::MAX)];
    for (max_message, max_frame, max_fragments) in combinations(&numbers, &fragments) {
        let limits = Limits::default()
            .with_max_message(max_message)
            .with_max_frame(max_frame)
            .with_max_fragments(max_fragments);
        for len in [0, 1, 2, 124, 125, 126, 127] {
            let mut frame = vec![0x82];
            match u8::try_from(len).unwrap() {
                len if len < 126 => frame.push(len),
                len => frame.extend([126, 0, len]),
            }
            frame.resize(frame.len() + len, b'a');
            let at_once = Inbound::new(Role::Client, limits).decode_message(&mut &frame[..]);
            let in_place = take_in_place(&mut Inbound::new(Role::Client, limits), &mut &frame[..]);
            assert_eq!(in_place, at_once, "{limits:?}, {len} bytes");
            let decoded = Inbound::new(Role::Client, limits).decode(&mut &frame[..]);
            assert_eq!(at_once.map(Event::Message), decoded.ok().flatten(), "{limits:?}, {len} bytes");
        }
    }
}

/// Returns every combination of limits.
fn combinations(
    numbers: &[Option<usize>],
    fragments: &[Option<u32>],
) -> impl Iterator<Item = (Option<usize>, Option<usize>, Option<u32>)> {
    numbers.iter().flat_map(move |message| {
        numbers
            .iter()
            .flat_map(move |frame| fragments.iter().map(move |fragments| (*message, *frame, *fragments)))
    })
}
