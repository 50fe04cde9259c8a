//! One [`Inbound`] and some bytes, cut and fed in many ways.

use bytes::BufMut;
use longwire_protocol::{Event, Inbound, Message, MessageKind, Part, ProtocolError};

use crate::input::Lengths;

/// The result of decoding some bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Event>,
    pub(crate) error: Option<ProtocolError>,
}

/// Decodes all of `bytes`: in one call for the way 0, byte by byte for 1, otherwise cut at places and fed through
/// methods that look random.
pub(crate) fn decode(inbound: &mut Inbound, bytes: &[u8], way: u8) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut lengths, mut rest) = (Lengths::new(way), bytes);
    let mut spare = Vec::new();
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(lengths.next(rest.len()));
        rest = after;
        let method = if way < 2 { 0 } else { lengths.random() % 8 };
        while !piece.is_empty() {
            let ended = inbound.is_ended();
            let result = match method {
                1 | 2 => match inbound.decode_message(&mut piece) {
                    Some(message) => Ok(Some(Event::Message(message))),
                    None => inbound.decode(&mut piece),
                },
                3 | 4 if inbound.payload_left() > 0 => read_payload(inbound, &mut piece),
                5 => inbound.decode_lending(&mut piece, &mut spare),
                6 => {
                    spare = Vec::with_capacity(70_000);
                    inbound.decode_lending(&mut piece, &mut spare)
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
                    assert!(inbound.is_ended(), "goes on after {error}");
                    outcome.error = Some(error);
                }
            }
        }
        if method == 7 {
            inbound.park();
        }
    }
    outcome
}

fn read_payload(inbound: &mut Inbound, piece: &mut &[u8]) -> Result<Option<Event>, ProtocolError> {
    let left = inbound.payload_left();
    let (taken, result) = inbound.read_payload(|buf| {
        assert!(buf.remaining_mut() <= left, "takes more than the frame has");
        let taken = piece.len().min(buf.remaining_mut());
        buf.put_slice(&piece[..taken]);
        taken
    });
    assert!(taken > 0, "has no room for the bytes to come");
    *piece = &piece[taken..];
    result
}

/// Joins the parts of each message; drops those of a message that did not end.
pub(crate) fn join_parts(outcome: Outcome) -> Outcome {
    let mut events = Vec::new();
    let (mut kind, mut joined) = (None, Vec::new());
    for event in outcome.events {
        let Event::Part(Part { kind: part_kind, data, last }) = event else {
            assert!(!matches!(event, Event::Message(_)), "a whole message among parts");
            events.push(event);
            continue;
        };
        assert_eq!(*kind.get_or_insert(part_kind), part_kind, "the kind changes within a message");
        joined.extend_from_slice(&data);
        if last {
            kind = None;
            events.push(Event::Message(message(part_kind, std::mem::take(&mut joined))));
        }
    }
    Outcome { events, ..outcome }
}

/// Returns the message with this payload.
pub(crate) fn message(kind: MessageKind, payload: Vec<u8>) -> Message {
    match kind {
        MessageKind::Text => Message::text(String::from_utf8(payload).expect("a text is UTF-8")),
        MessageKind::Binary => payload.into(),
    }
}
