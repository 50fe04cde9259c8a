//! Counts that limits apply to, and when they start over.

use longwire_protocol::{Event, Inbound, Limits, ProtocolError, Role};

/// Returns a frame as a server sends it, with a payload of `len` bytes.
fn frame(first: u8, len: u8) -> Vec<u8> {
    wire_model::frame(first, &vec![b'x'; len.into()], None)
}

fn receive(limits: Limits, bytes: &[u8]) -> (usize, Option<ProtocolError>) {
    let mut inbound = Inbound::new(Role::Client, limits);
    let (mut messages, mut input) = (0, bytes);
    loop {
        match inbound.decode(&mut input) {
            Ok(Some(Event::Message(_))) => messages += 1,
            Ok(Some(_)) => {}
            Ok(None) => return (messages, None),
            Err(error) => return (messages, Some(error)),
        }
    }
}

const TEXT: u8 = 0x81;
const BEGUN: u8 = 0x01;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

#[test]
fn each_message_has_the_whole_limit_and_control_frames_have_none() {
    let limits = Limits::default().with_max_message(100).with_max_frame(100).with_max_fragments(3);
    for (case, frames, messages, is_within) in [
        ("whole messages", vec![(TEXT, 100); 50], 50, true),
        ("messages in fragments", [(BEGUN, 50), (MORE, 25), (LAST, 25)].repeat(50), 50, true),
        ("control frames before and behind", [(PING, 125), (TEXT, 100), (PONG, 125)].repeat(50), 50, true),
        (
            "control frames between fragments",
            [(BEGUN, 50), (PING, 125), (PONG, 125), (MORE, 25), (PING, 0), (LAST, 25)].repeat(50),
            50,
            true,
        ),
        (
            "a ping does not start the count over",
            vec![(BEGUN, 50), (PING, 1), (MORE, 50), (PING, 1), (LAST, 1)],
            0,
            false,
        ),
        ("behind a whole message", vec![(TEXT, 100), (BEGUN, 100), (LAST, 1)], 1, false),
        ("empty fragments", vec![(TEXT, 1), (BEGUN, 0), (MORE, 0), (MORE, 0), (LAST, 0)], 1, false),
        (
            "empty fragments with pings",
            vec![(BEGUN, 0), (PING, 0), (MORE, 0), (PING, 0), (MORE, 0), (LAST, 0)],
            0,
            false,
        ),
    ] {
        let bytes: Vec<u8> = frames.into_iter().flat_map(|(first, len)| frame(first, len)).collect();
        let (received, error) = receive(limits, &bytes);
        assert_eq!((received, error.is_none()), (messages, is_within), "{case}: {error:?}");
    }
}

#[test]
fn no_limit_is_no_limit() {
    let none = Limits::default().with_max_message(None).with_max_frame(None).with_max_fragments(None);
    let fragments = 200_000;
    let bytes = [frame(BEGUN, 0), frame(MORE, 1).repeat(fragments), frame(LAST, 0)].concat();
    assert_eq!(receive(none, &bytes), (1, None));
    let error = receive(Limits::default(), &bytes).1;
    assert_eq!(error, Some(ProtocolError::TooManyFragments { max: 131_072 }));
}

#[test]
fn thousands_of_frames_may_come_at_once() {
    let frames = [frame(TEXT, 0), frame(PING, 3), frame(BEGUN, 2), frame(PONG, 0), frame(LAST, 7)].concat();
    assert_eq!(receive(Limits::default(), &frames.repeat(10_000)), (20_000, None));
}
