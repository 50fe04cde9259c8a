//! Payloads that are read straight into their message: what the reader can reach, and the memory reserved for it.

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
    let (_, result) = inbound.read_payload(|buf| buf.put_slice(b"cd"));
    assert_eq!(result, Ok(Some(Event::Message(Message::text("abcd")))));
}
