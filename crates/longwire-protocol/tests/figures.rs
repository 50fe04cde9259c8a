//! The documented figures: each default, each limit at its last allowed value, each close code.

use std::time::Duration;

use bytes::{BufMut, Bytes};
use longwire_protocol::{
    CloseCode, CloseFrame, Event, FrameError, Inbound, Keepalive, Limits, MaskingKey, Message, MessageKind,
    Outbound, PreparedMessage, ProtocolError, Role, Timers,
};

#[test]
fn defaults_are_the_documented_ones() {
    let limits = Limits::default();
    assert_eq!(limits.max_message, Some(16 * 1024 * 1024));
    assert_eq!(limits.max_frame, Some(16 * 1024 * 1024));
    assert_eq!(limits.max_fragments, Some(131_072));
    let keepalive = Keepalive::default();
    assert_eq!(keepalive.interval, Duration::from_secs(30));
    assert_eq!(keepalive.timeout, Duration::from_secs(20));
    assert_eq!(Timers::MAX_CLOSING_LIMITS, 24);
}

/// Every violation, and the close code sent to the peer (RFC 6455 §7.4.1).
#[test]
fn close_codes_are_the_documented_ones() {
    for (error, code) in [
        (ProtocolError::Frame(FrameError::ReservedBits), 1002),
        (ProtocolError::UnexpectedContinuation, 1002),
        (ProtocolError::UnfinishedMessage, 1002),
        (ProtocolError::UnexpectedRsv1, 1002),
        (ProtocolError::InvalidUtf8, 1007),
        (ProtocolError::MalformedCompression, 1007),
        (ProtocolError::FrameTooLong { len: 2, max: 1 }, 1009),
        (ProtocolError::MessageTooLong { len: 2, max: 1 }, 1009),
        (ProtocolError::TooManyFragments { max: 1 }, 1008),
        (ProtocolError::TooManyFinalBlocks, 1008),
    ] {
        assert_eq!(error.close_code(), CloseCode::from(code), "{error}");
        let mut out = Outbound::new(None);
        out.fail(&error);
        let [high, low] = code.to_be_bytes();
        assert_eq!(out.queue().contiguous(), Some(&[0x88, 2, high, low][..]), "{error}");
    }
}

/// Up to 16 KiB of answers are queued; beyond that, one pong is owed, for the newest ping.
#[test]
fn pings_are_answered_one_by_one_while_16_kib_wait() {
    let mut out = Outbound::new(None);
    let ping =
        |number: u32| Event::Ping(Bytes::copy_from_slice(&[&number.to_be_bytes()[..], &[7; 121]].concat()));
    for number in 0..10_000 {
        out.respond(&ping(number));
    }
    // Pongs take 127 bytes each. The last one is queued while no more than 16 KiB are waiting.
    let answered = (16 * 1024_usize).div_euclid(127) + 1;
    assert_eq!(out.queue().len(), answered * 127);
    let queued = out.queue().contiguous().unwrap();
    assert_eq!(queued[queued.len() - 125..][..4], u32::try_from(answered - 1).unwrap().to_be_bytes());
    out.written(answered * 127 - 16 * 1024);
    let queued = out.queue().contiguous().unwrap();
    assert_eq!(queued.len(), 16 * 1024 + 127, "the one that is owed");
    assert_eq!(queued[queued.len() - 125..][..4], 9999_u32.to_be_bytes());
}

/// A payload of 16 KiB or more is queued by reference.
#[test]
fn payloads_from_16_kib_on_are_shared() {
    for (len, is_shared) in [(16 * 1024 - 1, false), (16 * 1024, true)] {
        let mut out = Outbound::new(None);
        out.message(Message::binary(vec![7; len])).unwrap();
        assert_eq!(out.queue().contiguous().is_none(), is_shared, "{len}");
    }
}

/// The shortcut for short messages ends where payloads are queued by reference, and a frame of a broadcast with it.
#[test]
fn messages_of_16_kib_are_not_gathered() {
    for (len, is_gathered) in [(16 * 1024 - 1, true), (16 * 1024, false)] {
        let mut out = Outbound::new(None);
        let message = Message::binary(vec![7; len]);
        assert_eq!(
            (out.can_gather(&message), out.gather_message(&message)),
            (is_gathered, is_gathered),
            "{len}"
        );
        let mut out = Outbound::new(None);
        let prepared = PreparedMessage::new(vec![7; len - 4]);
        out.prepared(&prepared).unwrap();
        let is_copied = out.queue().contiguous().unwrap().as_ptr() != prepared.server_frame().as_ptr();
        assert_eq!(is_copied, is_gathered, "a frame of {len} bytes");
    }
}

#[test]
fn a_queue_that_is_written_later_is_copied_up_to_a_length() {
    const BEFORE: usize = 100;
    const FRAME: usize = 50;
    const LENT: usize = 200;
    let lend = || Vec::with_capacity(LENT);
    for (most, is_copied) in [(BEFORE + FRAME - 1, false), (BEFORE + FRAME, true)] {
        let broadcast = PreparedMessage::new(vec![2; FRAME - 2]);
        let mut out = Outbound::new(None);
        out.message(vec![1; BEFORE - 2].into()).unwrap();
        out.prepared_copying(&broadcast, most, lend).unwrap();
        assert_eq!(out.queue().len(), BEFORE + FRAME);
        assert_eq!(out.queue().contiguous().is_some(), is_copied, "behind a message, at most {most}");

        // The first is shared until another one follows.
        let mut out = Outbound::new(None);
        let first = PreparedMessage::new(vec![1; BEFORE - 2]);
        out.prepared_copying(&first, most, lend).unwrap();
        let frame = first.server_frame();
        assert_eq!(out.queue().contiguous().map(<[u8]>::as_ptr), Some(frame.as_ptr()), "at most {most}");
        out.prepared_copying(&broadcast, most, lend).unwrap();
        assert_eq!(out.queue().len(), BEFORE + FRAME);
        assert_eq!(
            out.queue().contiguous(),
            is_copied.then(|| [&frame[..], broadcast.server_frame()].concat()).as_deref()
        );
        assert_eq!(out.drop_oldest().is_some(), !is_copied, "what was copied cannot be dropped");
        out.written(out.queue().len());
        assert_eq!(out.queue_mut().reclaim().map(|buf| buf.capacity()), is_copied.then_some(LENT));
    }
}

/// Whatever the limit: the copies for many connections would fill the caches.
#[test]
fn long_frames_are_shared_in_a_queue_that_is_written_later() {
    for (len, is_copied) in [(640, true), (641, false)] {
        let news = PreparedMessage::new(vec![7; len - 4]);
        assert_eq!(news.server_frame().len(), len);
        let mut out = Outbound::new(None);
        out.prepared_copying(&news, 4096, Vec::new).unwrap();
        out.prepared_copying(&news, 4096, Vec::new).unwrap();
        assert_eq!(out.queue().contiguous().is_some(), is_copied, "{len} bytes");
        assert_eq!(out.queue().len(), 2 * len);
        assert_eq!(out.drop_oldest().is_some(), !is_copied, "{len} bytes");
    }
}

/// Nothing is copied behind frames that may be dropped.
#[test]
fn frames_are_only_copied_behind_frames_that_stay() {
    let news = PreparedMessage::new("news");
    for (most, written, is_copied) in [(100, 0, true), (100, 1, true), (0, 0, false), (0, 1, false)] {
        for with_reply in [false, true] {
            let case = format!("at most {most}, {written} written, a reply: {with_reply}");
            let mut out = Outbound::new(None);
            let mut expected = Vec::new();
            out.prepared_copying(&news, most, Vec::new).unwrap();
            expected.extend_from_slice(news.server_frame());
            out.written(written);
            if with_reply {
                out.message("own".into()).unwrap();
                expected.extend_from_slice(b"\x81\x03own");
            }
            for _ in 0..2 {
                out.prepared_copying(&news, 100, Vec::new).unwrap();
                expected.extend_from_slice(news.server_frame());
                assert_eq!(out.queue().contiguous().is_some(), is_copied, "{case}");
            }
            assert_eq!(out.queue().position(), written as u64, "{case}");
            assert_eq!(out.queue().len(), expected.len() - written, "{case}");
            let mut slices = [std::io::IoSlice::new(&[]); 8];
            let filled = out.queue().chunks(&mut slices);
            let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
            assert_eq!(bytes, expected[written..], "{case}");
        }
    }
}

/// A client masks each frame, so it copies it into the buffer that it borrows.
#[test]
fn a_client_copies_prepared_messages_into_the_buffer_that_is_lent() {
    let mut out = Outbound::new(Some(|| MaskingKey::new([0; 4])));
    out.prepared_copying(&PreparedMessage::new("news"), 100, || Vec::with_capacity(200)).unwrap();
    assert_eq!(out.queue().contiguous(), Some(&b"\x81\x84\0\0\0\0news"[..]));
    out.written(10);
    assert_eq!(out.queue_mut().reclaim().map(|buf| buf.capacity()), Some(200));
}

/// A single piece takes no memory beside the queue; several have a list.
#[test]
fn a_single_shared_message_costs_its_bytes() {
    let mut out = Outbound::new(None);
    let news = PreparedMessage::new(vec![7; 98]);
    out.prepared_copying(&news, 0, Vec::new).unwrap();
    assert_eq!((out.cost(), out.droppable_cost()), (100, 100));
    out.prepared_copying(&news, 0, Vec::new).unwrap();
    let of_each = out.cost() / 2 - 100;
    assert!((32..=64).contains(&of_each), "{of_each}");
    assert_eq!(out.droppable_cost(), out.cost());
    assert!(out.drop_oldest().is_some());
    out.written(100);
    assert_eq!((out.cost(), out.droppable_cost()), (0, 0));
}

/// A broadcast that is deferred costs its frame and the handle to it.
#[test]
fn the_cost_of_a_deferred_broadcast_includes_its_handle() {
    let mut out = Outbound::new(None);
    let news = PreparedMessage::new("news");
    assert_eq!((news.message_len(), news.server_frame().len()), (4, 6));
    assert_eq!(PreparedMessage::new(vec![7; 1000]).message_len(), 1000);
    assert!(!out.is_message_open());
    out.begin(MessageKind::Text).unwrap();
    assert!(out.is_message_open());
    out.prepared(&news).unwrap();
    out.prepared(&news).unwrap();
    assert_eq!(out.cost(), 2 * (6 + size_of::<PreparedMessage>()));
    out.last_part(Bytes::new()).unwrap();
    assert!(!out.is_message_open());
}

#[test]
fn the_close_frame_that_was_sent_is_known() {
    let bye = CloseFrame::new(CloseCode::NORMAL, "bye");
    let mut out = Outbound::new(None);
    assert_eq!(out.close_sent(), None);
    out.close(Some(bye.clone())).unwrap();
    assert_eq!(out.close_sent(), Some(&bye));
    let mut out = Outbound::new(None);
    out.close(None).unwrap();
    assert_eq!(out.close_sent(), Some(&CloseFrame::new(CloseCode::NO_STATUS_RECEIVED, "")));
}

/// A message that is kept holds its payload and nothing else: a payload that nobody shares becomes a vector of the same
/// capacity.
#[test]
fn a_message_holds_no_more_than_its_payload() {
    let mut inbound = Inbound::new(Role::Client, Limits::default());
    for len in [1_u16, 32, 33, 125, 126, 256, 257, 5000] {
        let frame = [&[0x82, 126][..], &len.to_be_bytes(), &vec![7; len.into()]].concat();
        let frame = if len < 126 { [&frame[..1], &frame[3..]].concat() } else { frame };
        let message = inbound.decode_message(&mut &frame[..]).unwrap();
        let payload = Vec::from(message.into_payload());
        assert_eq!((payload.len(), payload.capacity()), (len.into(), len.into()));
    }
}

/// Memory follows the bytes that have arrived: at most eight times as much, whatever length is announced.
#[test]
fn no_more_than_eight_times_what_came_is_reserved() {
    let header = [&[0x82, 127][..], &(8_u64 << 20).to_be_bytes()].concat();
    for came in [1_usize, 1000, 50_000] {
        let mut inbound = Inbound::new(Role::Client, Limits::default());
        let bytes = [&header[..], &vec![7; came]].concat();
        assert_eq!(inbound.decode(&mut &bytes[..]), Ok(None));
        assert_eq!(inbound.held(), came * 8, "{came} bytes came");
    }
    // If the payload is read straight into the message, 64 KiB are reserved before any of it has arrived.
    let mut inbound = Inbound::new(Role::Client, Limits::default());
    assert_eq!(inbound.decode(&mut &header[..]), Ok(None));
    let (room, result) = inbound.read_payload(|buf| buf.remaining_mut());
    assert_eq!((room, result), (64 * 1024, Ok(None)));
    assert_eq!(inbound.held(), 64 * 1024);
}

/// A message that compression does not shorten grows by less than an eighth and some bytes. That much more is
/// allowed on the wire, and no more.
#[cfg(feature = "deflate")]
#[test]
fn a_compressed_message_may_be_an_eighth_longer_on_the_wire() {
    use longwire_deflate::{DeflateOptions, Pool, accept};
    use longwire_protocol::Compression;

    let options = DeflateOptions::default();
    let agreement = accept([[]], &options).unwrap();
    let compression = Compression::new(agreement, &options, &Pool::default());
    let limits = Limits::default().with_max_message(800);
    for (first, len, is_allowed) in
        [(0xc2, 964, true), (0xc2, 965, false), (0x82, 800, true), (0x82, 801, false), (0x02, 801, false)]
    {
        let mut inbound = Inbound::new(Role::Client, limits);
        inbound.set_compression(&compression);
        let [high, low] = u16::to_be_bytes(len);
        let result = inbound.decode(&mut &[first, 126, high, low][..]);
        let refused = ProtocolError::MessageTooLong { len: len.into(), max: 800 };
        assert_eq!(result, if is_allowed { Ok(None) } else { Err(refused) }, "{first:#x}, {len}");
    }
}

#[test]
fn a_servers_long_payload_is_queued_as_it_is() {
    let payload = Bytes::from(vec![7; 16 * 1024]);
    let mut out = Outbound::new(None);
    out.message(payload.clone().into()).unwrap();
    let mut slices = [std::io::IoSlice::new(&[]); 3];
    let filled = out.queue().chunks(&mut slices);
    assert!(slices[..filled].iter().any(|slice| slice.as_ptr() == payload.as_ptr()));
}
