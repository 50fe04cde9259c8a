//! Loom models of the queue of a reconnecting client: tasks that send, on several threads, and the connections that
//! take from the queue. `cargo xtask loom` runs them. The comment on each model names a fault of the code with which
//! the model was seen to fail.

use std::pin::pin;
use std::task::{Context, Waker};

use longwire_connection::stepped::{block_on, model};
use loom::thread::spawn;

use super::super::sender::Sender;
use super::super::shared::{Finish, Shared};
use super::*;

fn outbox(max_messages: usize) -> (Arc<Shared>, Sender) {
    let shared = Arc::new(Shared::new(Outbox::new(max_messages, 100)));
    (Arc::clone(&shared), Sender::new(shared))
}

/// A connection, which hands over the next message when there is one. Its numbers must increase.
struct Connection<'a> {
    outbox: &'a Outbox,
    last: Option<u64>,
}

impl<'a> Connection<'a> {
    fn open(outbox: &'a Outbox) -> Self {
        Self { outbox, last: None }
    }

    fn try_next(&mut self) -> Option<(u64, String)> {
        let (number, message) = self.outbox.hand_over()?;
        assert!(Some(number) > self.last, "in order, and none of them twice");
        self.last = Some(number);
        Some((number, message.to_string()))
    }

    fn next(&mut self) -> (u64, String) {
        block_on(self.outbox.wait_queued());
        self.try_next().expect("there is one")
    }
}

/// Checks that nothing is queued and that all the space is free.
fn assert_empty(outbox: &Outbox, max_messages: usize) {
    assert_eq!(outbox.waiting(), (0, 0));
    assert_eq!((outbox.messages.available_permits(), outbox.bytes.available_permits()), (max_messages, 100));
}

/// Two tasks send, and there is space for one message. Fails if the connection is woken before the message is queued,
/// or if a message that is delivered keeps its space.
#[test]
fn each_message_is_sent_once_and_confirmed() {
    model(3, || {
        let (shared, sender) = outbox(1);
        let threads = ["a", "b"].map(|text| {
            let sender = sender.clone();
            spawn(move || block_on(sender.send(text)))
        });
        let mut connection = Connection::open(&shared.outbox);
        let mut texts = Vec::new();
        for _ in 0..2 {
            let (number, text) = connection.next();
            assert_eq!(sender.queued().0, 1, "the limit");
            shared.outbox.delivered(number);
            texts.push(text);
        }
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        texts.sort();
        assert_eq!(texts, ["a", "b"]);
        assert_empty(&shared.outbox, 1);
    });
}

/// A connection is lost while a task sends two messages and flushes. Fails if the flush is not told of a delivery, or
/// if a message that was handed over is not sent again.
#[test]
fn what_was_lost_is_sent_again_in_order() {
    model(3, || {
        let (shared, sender) = outbox(2);
        let sending = spawn(move || {
            block_on(sender.feed("a")).unwrap();
            block_on(sender.feed("b")).unwrap();
            block_on(sender.flush())
        });
        let mut lost = Connection::open(&shared.outbox);
        assert_eq!(lost.next(), (0, "a".into()));
        if let Some(second) = lost.try_next() {
            assert_eq!(second, (1, "b".into()));
        }
        shared.outbox.lose();
        let mut next = Connection::open(&shared.outbox);
        for expected in ["a", "b"] {
            let (number, text) = next.next();
            assert_eq!(text, expected);
            shared.outbox.delivered(number);
        }
        sending.join().unwrap().unwrap();
        assert_empty(&shared.outbox, 2);
    });
}

/// A call is dropped while its message is handed over and the connection is lost. Fails if the call withdraws its
/// message before the connection can see that nobody waits for it, or if a message that was handed over is withdrawn.
#[test]
fn what_is_withdrawn_is_not_sent_again() {
    model(4, || {
        let (shared, sender) = outbox(1);
        let dropping = spawn(move || {
            let mut sending = pin!(sender.send("a"));
            assert!(sending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        });
        let mut lost = Connection::open(&shared.outbox);
        let handed = lost.try_next();
        assert!(handed.is_none() || shared.outbox.oldest_handed().is_some(), "it may be on its way");
        shared.outbox.lose();
        dropping.join().unwrap();
        assert_eq!(shared.outbox.hand_over(), None, "handed over before: {handed:?}");
        block_on(shared.outbox.wait_settled()).unwrap();
        assert_empty(&shared.outbox, 1);
    });
}

/// The last handle is dropped, and with it the task that connects, while a call waits for its delivery, another for
/// space, and a third for all deliveries. Fails if a message is queued after the end, or if the end does not reach a
/// flush.
#[test]
fn the_end_reaches_who_waits() {
    model(3, || {
        let (shared, sender) = outbox(1);
        let sending = ["a", "b"].map(|text| {
            let sender = sender.clone();
            spawn(move || assert!(matches!(block_on(sender.send(text)), Err(Error::Closed))))
        });
        let flushing = spawn(move || {
            // Nothing may be queued yet, or what was queued is given up.
            let flushed = block_on(sender.flush());
            assert!(matches!(flushed, Ok(()) | Err(Error::Closed)));
        });
        drop(Finish::new(Arc::clone(&shared)));
        for thread in sending {
            thread.join().unwrap();
        }
        flushing.join().unwrap();
        assert_eq!(shared.outbox.waiting(), (0, 0));
        assert!(shared.outbox.is_closed() && matches!(block_on(shared.ended()), Err(Error::Closed)));
    });
}
