//! Both halves and the deadlines as one machine: its own wiring. The rules are proven in `rules.rs` and `split.rs`,
//! which run through it as well.

#![expect(clippy::disallowed_methods, reason = "a test needs some time to begin at")]

use std::time::{Duration, Instant};

use longwire_protocol::{
    Connection, Due, Event, Keepalive, Limits, MaskingKey, MaskingKeys, Message, Role, SendError, State,
};

const KEYS: MaskingKeys = || MaskingKey::new([0x37, 0xfa, 0x21, 0x3d]);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

fn client() -> Connection {
    Connection::new(Role::Client, Some(KEYS), Limits::default()).with_close_timeout(CLOSE_TIMEOUT)
}

fn server() -> Connection {
    Connection::new(Role::Server, None, Limits::default()).with_close_timeout(CLOSE_TIMEOUT)
}

/// Moves everything that is queued at one end to the other. Returns the events there.
fn deliver(from: &mut Connection, to: &mut Connection, now: Instant) -> Vec<Event> {
    let mut wire = Vec::new();
    while !from.outbound().queue().is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        let filled = from.outbound().queue().chunks(&mut slices);
        let before = wire.len();
        for slice in &slices[..filled] {
            wire.extend_from_slice(slice);
        }
        let taken = wire.len() - before;
        from.outbound_mut().written(taken);
    }
    let (mut input, mut events) = (&wire[..], Vec::new());
    while !input.is_empty() {
        events.extend(to.handle_bytes(&mut input, now).expect("both ends keep to the rules"));
    }
    events
}

#[test]
fn two_connections_talk_and_close() {
    let now = Instant::now();
    let (mut client, mut server) = (client(), server());
    client.send("hello").unwrap();
    assert_eq!(deliver(&mut client, &mut server, now), [Event::Message(Message::text("hello"))]);
    server.send(vec![1, 2, 3]).unwrap();
    assert_eq!(deliver(&mut server, &mut client, now), [Event::Message(Message::binary(vec![1, 2, 3]))]);
    assert_eq!((client.deadline(), server.deadline()), (None, None));

    client.close(None, now).unwrap();
    assert_eq!((client.state(), client.deadline()), (State::Closing, Some(now + CLOSE_TIMEOUT)));
    assert_eq!(client.send("more"), Err(SendError::Closing));
    assert!(matches!(deliver(&mut client, &mut server, now)[..], [Event::Close(_)]));
    assert_eq!((server.state(), server.deadline()), (State::Closed, Some(now + CLOSE_TIMEOUT)));
    assert!(matches!(deliver(&mut server, &mut client, now)[..], [Event::Close(_)]));
    assert_eq!(client.state(), State::Closed);
}

#[test]
fn a_close_that_is_not_answered_times_out() {
    let now = Instant::now();
    let mut server = server();
    server.close(None, now).unwrap();
    let end = now + CLOSE_TIMEOUT;
    let before = now + CLOSE_TIMEOUT / 2;
    assert_eq!(server.handle_timeout(before), Due::Nothing);
    assert_eq!(server.state(), State::Closing);
    assert_eq!(server.handle_timeout(end), Due::CloseTimedOut);
    assert_eq!(server.state(), State::Closed);
    // Nothing that arrives later is interpreted.
    assert_eq!(server.handle_bytes(&mut &b"\x81\x80\0\0\0\0"[..], end), Ok(None));
}

/// The close frame may have been queued past the connection, and the peer may still send messages.
#[test]
fn a_close_that_was_queued_has_a_limit_once_something_arrives() {
    let now = Instant::now();
    let (mut client, mut server) = (client(), server());
    server.outbound_mut().close(None).unwrap();
    assert_eq!(server.deadline(), None);
    client.send("hello").unwrap();
    assert_eq!(deliver(&mut client, &mut server, now), [Event::Message(Message::text("hello"))]);
    assert_eq!(server.deadline(), Some(now + CLOSE_TIMEOUT));
}

#[test]
fn a_silent_peer_is_pinged_and_then_gone() {
    let start = Instant::now();
    let keepalive = Keepalive::default();
    let (mut client, mut server) = (client(), server().with_keepalive(keepalive, start));
    let first = server.deadline().expect("a ping will be due");
    assert_eq!(first, start + keepalive.interval);
    assert_eq!(server.handle_timeout(first), Due::Ping);
    assert_eq!(deliver(&mut server, &mut client, first), [Event::Ping(Vec::new().into())]);
    assert_eq!(deliver(&mut client, &mut server, first), [Event::Pong(Vec::new().into())]);

    // The pong is a sign of life.
    let look = server.deadline().unwrap();
    assert_eq!(server.handle_timeout(look), Due::Nothing);
    let second = server.deadline().unwrap();
    assert_eq!(server.handle_timeout(second), Due::Ping);
    let gone = server.deadline().unwrap();
    assert_eq!(gone, second + keepalive.timeout);
    assert_eq!(server.handle_timeout(gone), Due::PeerGone);
    assert_eq!(server.state(), State::Closing);
    assert_eq!(server.handle_bytes(&mut &b"\x81\x80\0\0\0\0"[..], gone), Ok(None));
}

#[test]
fn the_keys_must_be_those_of_the_role() {
    for (role, keys) in [(Role::Client, None), (Role::Server, Some(KEYS))] {
        let made = std::panic::catch_unwind(|| Connection::new(role, keys, Limits::default()));
        assert!(made.is_err(), "{role:?}");
    }
}
