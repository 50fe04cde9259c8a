//! Loom models of the state that several threads share: every interleaving of the locks and atomics with at most
//! three preemptions is run.
//!
//! `cargo xtask loom` runs them. The comment on each model names a fault of the code with which the model was seen to
//! fail.
//!
//! The cork keeps the messages that a handler sends in one turn, so that they are written together. The heir of a
//! connection is the task that closes it after the handler has dropped its socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use longwire_protocol::{Message, MessageKind, Outbound, PreparedMessage};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sending::fan_out::Publisher;
use crate::sending::request::{IfFull, Item, Sending, Until};
use crate::sending::shared::Shared;
use crate::sync::{Mutex, lock};
use crate::{CloseCode, Config, Error, Handover, WebSocket, drive};

/// A transport that accepts nothing until it is opened, keeps only the last waker, and records the bytes written to
/// it.
#[derive(Clone)]
struct Io(Arc<IoState>);

struct IoState {
    gate: Mutex<Gate>,
    is_dropped: AtomicBool,
}

#[derive(Default)]
struct Gate {
    is_open: bool,
    waker: Option<Waker>,
    written: Vec<u8>,
}

/// The handle that a connection owns. Its drop is recorded.
struct Owned(Io);

impl Io {
    fn closed() -> Self {
        Self(Arc::new(IoState { gate: Mutex::default(), is_dropped: AtomicBool::new(false) }))
    }

    fn opened() -> Self {
        let io = Self::closed();
        io.open();
        io
    }

    fn open(&self) {
        let waker = {
            let mut gate = lock(&self.0.gate);
            gate.is_open = true;
            gate.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn written(&self) -> Vec<u8> {
        lock(&self.0.gate).written.clone()
    }

    fn is_dropped(&self) -> bool {
        self.0.is_dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.0.is_dropped.store(true, Ordering::Relaxed);
    }
}

impl AsyncRead for Owned {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Owned {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut gate = lock(&self.0.0.gate);
        if gate.is_open {
            gate.written.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        gate.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn shared(io: &Io, config: &Config) -> Arc<Shared<Owned>> {
    Shared::new(Owned(io.clone()), Outbound::new(None), config)
}

/// Runs `send` to its end. Loom reports a deadlock if nothing wakes it.
fn send(shared: &Shared<Owned>, item: Item, until: Until) -> Result<(), Error> {
    let mut sending = Sending::new(item);
    loom::future::block_on(std::future::poll_fn(|cx| shared.poll_send(&mut sending, until, cx)))
}

fn message(text: &str) -> Item {
    Item::Message(Message::text(text.to_owned()))
}

/// A task that ignores wake-ups.
struct Idle;

impl Wake for Idle {
    fn wake(self: Arc<Self>) {}
}

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

/// The receiving task polls the transport while a sender waits for its bytes to be written. Fails if the transport gets
/// a waker that does nothing although a task waits, or if the task that made progress does not wake the other.
#[test]
fn a_send_is_woken_whoever_writes_its_bytes() {
    model(|| {
        let io = Io::closed();
        let shared = shared(&io, &Config::default());
        let sender = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || send(&shared, message("hello"), Until::Written))
        };
        let receiver = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || {
                let waker = Waker::from(Arc::new(Idle));
                shared.lock().before_waiting(&mut Context::from_waker(&waker));
            })
        };
        io.open();
        receiver.join().unwrap();
        sender.join().unwrap().unwrap();
        assert_eq!(io.written(), b"\x81\x05hello");
    });
}

/// One of two senders waits for room in the queue. Fails if the sender that makes room wakes no task.
#[test]
fn room_reaches_the_sender_that_waits_for_it() {
    model(|| {
        let io = Io::closed();
        let shared = shared(&io, &Config::default().with_send_queue(1));
        let threads = ["a", "b"].map(|text| {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || send(&shared, message(text), Until::Written))
        });
        io.open();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        assert_eq!(io.written().len(), 6);
    });
}

/// A message in parts ends while another sender waits for its end. Fails if the last part wakes no task.
#[test]
fn the_end_of_a_message_in_parts_reaches_who_waits() {
    model(|| {
        let io = Io::opened();
        let shared = shared(&io, &Config::default());
        send(&shared, Item::Begin(MessageKind::Text), Until::Queued).unwrap();
        let waiting = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || send(&shared, message("b"), Until::Written))
        };
        send(&shared, Item::Part { data: "a".into(), last: true }, Until::Queued).unwrap();
        waiting.join().unwrap().unwrap();
        assert_eq!(io.written(), b"\x81\x01a\x81\x01b");
    });
}

/// A handler's turn ends, and with it the cork, while another thread sends. Fails if the other thread's message is kept
/// by the cork.
#[test]
fn the_cork_belongs_to_its_thread() {
    model(|| {
        let io = Io::opened();
        let shared = shared(&io, &Config::default());
        let other = {
            let shared = Arc::clone(&shared);
            let io = io.clone();
            loom::thread::spawn(move || {
                send(&shared, message("b"), Until::Sent).unwrap();
                assert!(io.written().windows(3).any(|frame| frame == b"\x81\x01b"), "written by this thread");
            })
        };
        let cork = shared.cork();
        assert!(shared.try_gather(&Message::text("a")));
        drop(cork);
        let waker = Waker::from(Arc::new(Idle));
        shared.lock().end_turn(&mut Context::from_waker(&waker));
        other.join().unwrap();
        assert_eq!(io.written().len(), 6);
    });
}

/// Queues a message whose write a publisher puts off. Returns whether the publisher must add the connection to its
/// list.
fn put_off(shared: &Shared<Owned>, text: &str, list: u32) -> bool {
    let prepared = PreparedMessage::new(text);
    let by = Publisher { list, gathers: true };
    shared.publish(&prepared, 1000, IfFull::Refuse, by).unwrap().is_due
}

/// A publisher's list is written by one thread while its next message is queued by another. Fails if a connection that
/// is in the list no longer, because it was written to, is not added again.
#[test]
fn what_is_put_off_is_written_by_whoever_has_the_list() {
    model(|| {
        let io = Io::opened();
        let shared = shared(&io, &Config::default());
        assert!(put_off(&shared, "a", 1));
        assert!(io.written().is_empty());
        let writing = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || shared.write_queued())
        };
        if put_off(&shared, "b", 1) {
            shared.write_queued();
        }
        writing.join().unwrap();
        assert_eq!(io.written(), b"\x81\x01a\x81\x01b");
    });
}

/// Two publishers put off writes to one connection. Fails if the second relies on the list of the first, whose turn may
/// last.
#[test]
fn what_is_put_off_does_not_wait_for_another_publisher() {
    model(|| {
        let io = Io::opened();
        let shared = shared(&io, &Config::default());
        let other = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || put_off(&shared, "a", 1))
        };
        if put_off(&shared, "b", 2) {
            shared.write_queued();
        }
        assert!(io.written().contains(&b'b'));
        if other.join().unwrap() {
            shared.write_queued();
        }
        assert_eq!(io.written().len(), 6);
    });
}

/// A send waits while the connection ends on another thread. Fails if the end wakes no task.
#[test]
fn the_end_reaches_who_waits() {
    model(|| {
        let io = Io::closed();
        let shared = shared(&io, &Config::default());
        let waiting = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || send(&shared, message("a"), Until::Written))
        };
        shared.abort();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
        assert!(io.is_dropped());
    });
}

/// The socket is dropped on one thread while the future of `drive` is dropped on another. Fails if the lock is released
/// between looking up the heir and leaving the socket to it.
#[test]
fn a_dropped_socket_has_one_heir() {
    model(|| {
        let io = Io::opened();
        let ws = WebSocket::new(Owned(io.clone()), Handover::server(), &Config::default());
        let taken = Arc::new(std::sync::Mutex::new(None));
        let place = Arc::clone(&taken);
        let driving = drive(ws, move |ws| {
            *place.lock().unwrap() = Some(ws);
            std::future::pending::<Result<(), Error>>()
        });
        let ws = taken.lock().unwrap().take();
        let dropping = loom::thread::spawn(move || drop(ws));
        drop(driving);
        dropping.join().unwrap();
        assert!(io.is_dropped(), "the transport is closed by one of them");
        assert_eq!(io.written(), [0x88, 2, 3, 0xe8], "after one close frame");
    });
}

/// One thread closes the connection while another drops the receiver. Fails if one of them interrupts the close frame
/// of the other.
#[test]
fn close_and_drop_send_one_close_frame() {
    model(|| {
        let io = Io::opened();
        let ws = WebSocket::new(Owned(io.clone()), Handover::server(), &Config::default());
        let (sender, receiver) = ws.split();
        let dropping = loom::thread::spawn(move || drop(receiver));
        let closed = sender.start_close(CloseCode::GOING_AWAY, "");
        dropping.join().unwrap();
        assert!(io.is_dropped());
        let code = if closed.is_ok() { 0xe9 } else { 0xe8 };
        assert_eq!(io.written(), [0x88, 2, 3, code]);
    });
}
