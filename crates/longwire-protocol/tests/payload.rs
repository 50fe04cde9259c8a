//! Payloads that are read straight into their message: the space offered to the reader, and the memory reserved.

use std::panic::{AssertUnwindSafe, catch_unwind};

use longwire_protocol::{Event, Inbound, Limits, Message, Role};

fn client() -> Inbound {
    Inbound::new(Role::Client, Limits::default())
}

#[test]
fn a_reader_that_panics_leaves_nothing_unchecked_in_a_text() {
    let mut inbound = client();
    assert_eq!(inbound.decode(&mut &b"\x81\x04ab"[..]), Ok(None));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        inbound.read_payload(|buf| {
            buf.put_slice(b"\xff");
            panic!("of the reader");
        })
    }));
    assert!(panicked.is_err());
    let ((), result) = inbound.read_payload(|buf| buf.put_slice(b"cd"));
    assert_eq!(result, Ok(Some(Event::Message(Message::text("abcd")))));
}

#[test]
fn what_is_held_is_what_is_reserved() {
    let mut inbound = client();
    assert_eq!(inbound.held(), 0);
    assert_eq!(inbound.decode(&mut &b"\x02\x7f\0\0\0\0\0\x10\0\0ab"[..]), Ok(None));
    assert_eq!(inbound.held(), 16, "reserved for more to come");
    let room = inbound.read_payload(|buf| {
        buf.put_slice(b"c");
        buf.remaining_mut()
    });
    assert_eq!(inbound.held(), 3 + room.0);
    inbound.read_payload(|buf| buf.put_bytes(0, room.0)).1.unwrap();
    let mut rest = vec![0; inbound.payload_left()];
    assert_eq!(inbound.decode(&mut &rest[..]), Ok(None));
    assert_eq!(inbound.held(), 1 << 20);
    rest = [&b"\x89\x7d"[..], &[b'p'; 100]].concat();
    assert_eq!(inbound.decode(&mut &rest[..]), Ok(None));
    assert!((100..=128).contains(&(inbound.held() - (1 << 20))), "of a control frame");
    inbound.end();
    assert_eq!(inbound.held(), 0);
}

#[test]
fn the_last_frame_of_a_message_reserves_no_more_than_it_needs() {
    let (len, first) = (1_usize << 20, 131_058);
    for (fin, most) in [(0x80, len), (0x00, 2 * len)] {
        let mut inbound = client();
        let header = [&[fin | 0x02, 0x7f][..], &(len as u64).to_be_bytes()].concat();
        assert_eq!(inbound.decode(&mut &header[..]), Ok(None));
        for piece in [first, len - first - 200, 100] {
            assert_eq!(inbound.decode(&mut &vec![0; piece][..]), Ok(None));
        }
        assert!((len - 100..=most).contains(&inbound.held()), "{} of {most}", inbound.held());
    }
}

/// The header announces 16 MiB each time. The space offered to the reader is the memory reserved for bytes to come.
#[test]
fn memory_is_reserved_in_proportion_to_what_has_arrived() {
    const STEP: usize = 64 << 10;
    for (case, arriving) in
        [("bytes", 1), ("packets", 1400), ("whole steps", STEP), ("all at once", 16 << 20)]
    {
        let mut inbound = client();
        assert_eq!(inbound.decode(&mut &b"\x82\x7f\0\0\0\0\x01\0\0\0"[..]), Ok(None));
        let (mut arrived, mut growths, mut reads) = (0, 0, 0);
        let mut reserved = 0;
        while inbound.payload_left() > 0 && reads < 20_000 {
            let (n, result) = inbound.read_payload(|buf| {
                let room = buf.remaining_mut();
                assert!(
                    room > 0 && room <= STEP.max(7 * arrived),
                    "{case}: room {room} after {arrived} bytes"
                );
                growths += usize::from(arrived + room != reserved);
                reserved = arrived + room;
                let n = arriving.min(room);
                buf.put_bytes(0, n);
                n
            });
            assert!(result.is_ok());
            arrived += n;
            reads += 1;
        }
        assert!(growths <= 5, "{case}: moved {growths} times for {arrived} bytes");
    }
}
