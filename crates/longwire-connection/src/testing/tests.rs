//! Tests of the transport: polled by hand if the order matters, and as a property under any harmless faults.

use std::future::Future;
use std::io::{ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use super::*;

/// Counts how often its waker is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Bell {
    fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (Arc::clone(&bell), Waker::from(bell))
    }

    fn rings(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(pipe: &mut Pipe, waker: &Waker) -> Poll<Result<Vec<u8>, ErrorKind>> {
    let mut space = [0; 256];
    let mut buf = ReadBuf::new(&mut space);
    let result = Pin::new(pipe).poll_read(&mut Context::from_waker(waker), &mut buf);
    result.map(|result| result.map(|()| buf.filled().to_vec()).map_err(|error| error.kind()))
}

fn write(pipe: &mut Pipe, bytes: &[u8], waker: &Waker) -> Poll<Result<usize, ErrorKind>> {
    let result = Pin::new(pipe).poll_write(&mut Context::from_waker(waker), bytes);
    result.map_err(|error| error.kind())
}

fn flush(pipe: &mut Pipe) -> Poll<Result<(), ErrorKind>> {
    let result = Pin::new(pipe).poll_flush(&mut Context::from_waker(Waker::noop()));
    result.map_err(|error| error.kind())
}

fn shutdown(pipe: &mut Pipe) -> Poll<Result<(), ErrorKind>> {
    let result = Pin::new(pipe).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    result.map_err(|error| error.kind())
}

/// Reads until the pipe is pending, at its end, or fails.
fn read_all(pipe: &mut Pipe) -> Vec<Vec<u8>> {
    let mut reads = Vec::new();
    while let Poll::Ready(Ok(bytes)) = read(pipe, Waker::noop()) {
        if bytes.is_empty() {
            break;
        }
        reads.push(bytes);
    }
    reads
}

const READ_END: Poll<Result<Vec<u8>, ErrorKind>> = Poll::Ready(Ok(Vec::new()));

fn bytes(text: &str) -> Poll<Result<Vec<u8>, ErrorKind>> {
    Poll::Ready(Ok(text.as_bytes().to_vec()))
}

#[test]
fn pipes_can_be_moved_between_threads() {
    fn check<T: Send + Unpin + 'static>() {}
    check::<Pipe>();
    check::<Tap>();
}

#[test]
fn capacity_bounds_what_is_under_way_and_a_read_wakes_the_writer() {
    let (mut client, mut server) = duplex(4);
    let (bell, waker) = Bell::new();
    assert_eq!(write(&mut client, b"hello", &waker), Poll::Ready(Ok(4)));
    assert_eq!(write(&mut client, b"o", &waker), Poll::Pending);
    assert_eq!(client.tap().unread(), 4);
    assert_eq!(bell.rings(), 0);
    assert_eq!(read(&mut server, Waker::noop()), bytes("hell"));
    assert_eq!(bell.rings(), 1);
    assert_eq!(write(&mut client, b"o", &waker), Poll::Ready(Ok(1)));
    assert_eq!(client.tap().counts().writes, 2, "the write that waited is one operation");
    assert_eq!(client.tap().counts().polls, 3);
}

#[test]
fn capacities_of_the_directions_are_independent() {
    let (client, mut server) = duplex(4);
    let mut client = client.with_capacity(1);
    assert_eq!(write(&mut client, b"hello", Waker::noop()), Poll::Ready(Ok(1)));
    assert_eq!(write(&mut server, b"hello", Waker::noop()), Poll::Ready(Ok(4)));
}

/// An event at one end, with what the other end then sees. The end is dropped unless it is returned.
type Event<Seen> = (&'static str, fn(Pipe) -> Option<Pipe>, Poll<Result<Seen, ErrorKind>>);

const RESET: ErrorKind = ErrorKind::ConnectionReset;
const BROKEN: ErrorKind = ErrorKind::BrokenPipe;

#[test]
fn each_event_wakes_the_reader() {
    let events: [Event<Vec<u8>>; 6] = [
        ("write", |mut peer| write(&mut peer, b"x", Waker::noop()).is_ready().then_some(peer), bytes("x")),
        ("shutdown", |mut peer| shutdown(&mut peer).is_ready().then_some(peer), READ_END),
        ("drop", |_| None, READ_END),
        ("drop with reset", |peer| Some(peer.resetting_on_drop()).filter(|_| false), Poll::Ready(Err(RESET))),
        ("reset", |peer| Some(peer).inspect(|peer| peer.tap().reset()), Poll::Ready(Err(RESET))),
        ("resume", |peer| Some(peer).inspect(|peer| peer.tap().peer().resume()), Poll::Pending),
    ];
    for (case, event, seen) in events {
        let (mut pipe, peer) = duplex(4);
        let (bell, waker) = Bell::new();
        assert_eq!(read(&mut pipe, &waker), Poll::Pending, "{case}");
        let _peer = event(peer);
        assert_eq!(bell.rings(), 1, "{case}");
        assert_eq!(read(&mut pipe, &waker), seen, "{case}");
    }
}

#[test]
fn each_event_wakes_the_writer() {
    fn cut(peer: Pipe) -> Pipe {
        let mut peer = peer.with_faults(Faults::new().eof_at(Operation::Any(0)));
        assert_eq!(read(&mut peer, Waker::noop()), READ_END);
        peer
    }
    let events: [Event<usize>; 5] = [
        ("read", |mut peer| read(&mut peer, Waker::noop()).is_ready().then_some(peer), Poll::Ready(Ok(1))),
        ("drop", |_| None, Poll::Ready(Err(BROKEN))),
        ("drop with reset", |peer| Some(peer.resetting_on_drop()).filter(|_| false), Poll::Ready(Err(RESET))),
        ("reset", |peer| Some(peer).inspect(|peer| peer.tap().reset()), Poll::Ready(Err(RESET))),
        ("cut", |peer| Some(cut(peer)), Poll::Ready(Err(BROKEN))),
    ];
    for (case, event, seen) in events {
        let (mut pipe, peer) = duplex(1);
        let (bell, waker) = Bell::new();
        assert_eq!(write(&mut pipe, b"ab", &waker), Poll::Ready(Ok(1)), "{case}");
        assert_eq!(write(&mut pipe, b"b", &waker), Poll::Pending, "{case}");
        let _peer = event(peer);
        assert_eq!(bell.rings(), 1, "{case}");
        assert_eq!(write(&mut pipe, b"b", &waker), seen, "{case}");
    }
}

#[test]
fn only_the_last_task_that_waited_is_woken() {
    let (mut client, mut server) = duplex(4);
    let (first, first_waker) = Bell::new();
    let (second, second_waker) = Bell::new();
    assert_eq!(read(&mut client, &first_waker), Poll::Pending);
    assert_eq!(read(&mut client, &second_waker), Poll::Pending);
    assert_eq!(write(&mut server, b"x", Waker::noop()), Poll::Ready(Ok(1)));
    assert_eq!((first.rings(), second.rings()), (0, 1));
}

/// Owns a pipe, as the task of a waker may.
struct Owner(Mutex<Option<Pipe>>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
    }
}

#[test]
fn a_waker_may_drop_a_pipe_when_it_is_woken() {
    let (mut client, mut server) = duplex(4);
    let tap = client.tap();
    let owner = Arc::new(Owner(Mutex::new(None)));
    assert_eq!(read(&mut client, &Waker::from(Arc::clone(&owner))), Poll::Pending);
    *owner.0.lock().unwrap() = Some(client);
    assert_eq!(write(&mut server, b"x", Waker::noop()), Poll::Ready(Ok(1)));
    assert!(tap.is_dropped());
}

#[test]
fn a_waker_may_drop_a_pipe_when_it_is_replaced() {
    let (client, mut server) = duplex(4);
    let tap = client.tap();
    // The reader's waker holds the last reference to the owner of the other end.
    let owner = Arc::new(Owner(Mutex::new(Some(client))));
    assert_eq!(read(&mut server, &Waker::from(owner)), Poll::Pending);
    assert_eq!(read(&mut server, Waker::noop()), Poll::Pending);
    assert!(tap.is_dropped());
    assert_eq!(read(&mut server, Waker::noop()), READ_END);
}

#[test]
fn a_half_closed_connection_still_carries_the_other_direction() {
    let (mut client, mut server) = duplex(8);
    assert_eq!(write(&mut client, b"bye", Waker::noop()), Poll::Ready(Ok(3)));
    assert_eq!(shutdown(&mut client), Poll::Ready(Ok(())));
    assert_eq!(shutdown(&mut client), Poll::Ready(Ok(())), "again");
    assert_eq!(write(&mut client, b"!", Waker::noop()), Poll::Ready(Err(ErrorKind::BrokenPipe)));
    assert_eq!(read(&mut server, Waker::noop()), bytes("bye"));
    assert_eq!(read(&mut server, Waker::noop()), READ_END);
    assert_eq!(write(&mut server, b"ciao", Waker::noop()), Poll::Ready(Ok(4)));
    assert_eq!(read(&mut client, Waker::noop()), bytes("ciao"));
    assert!(client.tap().is_finished() && !server.tap().is_finished());
}

#[test]
fn a_drop_delivers_what_was_written_and_a_reset_does_not() {
    for (case, reset, seen) in
        [("end", false, bytes("bye")), ("reset", true, Poll::Ready(Err(ErrorKind::ConnectionReset)))]
    {
        let (client, mut server) = duplex(8);
        let mut client = if reset { client.resetting_on_drop() } else { client };
        assert_eq!(write(&mut client, b"bye", Waker::noop()), Poll::Ready(Ok(3)));
        drop(client);
        assert_eq!(read(&mut server, Waker::noop()), seen, "{case}");
    }
}

#[test]
fn vectored_writes_take_all_buffers_or_only_the_first() {
    for (case, vectored, len) in [("supported", true, 6), ("unsupported", false, 2)] {
        let (client, _server) = duplex(6);
        let mut client = if vectored { client } else { client.without_vectored_writes() };
        assert_eq!(client.is_write_vectored(), vectored, "{case}");
        let parts = [&b""[..], b"ab", b"cde", b"fgh"].map(IoSlice::new);
        let mut cx = Context::from_waker(Waker::noop());
        let result = Pin::new(&mut client).poll_write_vectored(&mut cx, &parts);
        assert!(matches!(result, Poll::Ready(Ok(written)) if written == len), "{case}: {result:?}");
        assert_eq!(client.tap().written(), b"abcdefgh"[..len], "{case}");
        assert_eq!(client.tap().write_sizes(), [len], "{case}");
    }
}

#[test]
fn empty_buffers_are_no_operations() {
    let (mut client, _server) = duplex(1);
    assert_eq!(write(&mut client, b"", Waker::noop()), Poll::Ready(Ok(0)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut client).poll_read(&mut cx, &mut ReadBuf::new(&mut [])).is_ready());
    assert_eq!(client.tap().counts(), Counts::default());
}

#[test]
fn reads_are_split() {
    for (case, faults, reads) in [
        ("no fault", Faults::new(), &["abcdefgh"][..]),
        ("at most 3", Faults::new().read_at_most(3), &["abc", "def", "gh"]),
        ("every byte", Faults::new().read_at_most(1), &["a", "b", "c", "d", "e", "f", "g", "h"]),
        ("at offsets", Faults::new().split_reads_at([0, 2, 7, 8, 99]), &["ab", "cdefg", "h"]),
        ("both", Faults::new().read_at_most(3).split_reads_at([2, 7]), &["ab", "cde", "fg", "h"]),
    ] {
        let (mut client, server) = duplex(8);
        let mut server = server.with_faults(faults);
        assert_eq!(write(&mut client, b"abcdefgh", Waker::noop()), Poll::Ready(Ok(8)));
        assert_eq!(
            read_all(&mut server),
            reads.iter().map(|read| read.as_bytes()).collect::<Vec<_>>(),
            "{case}"
        );
    }
}

#[tokio::test]
async fn writes_are_split() {
    for (case, faults, sizes) in [
        ("no fault", Faults::new(), &[8][..]),
        ("at most 3", Faults::new().write_at_most(3), &[3, 3, 2]),
        ("at neighbours", Faults::new().split_writes_at([1, 2]), &[1, 1, 6]),
        ("at offsets", Faults::new().split_writes_at([0, 2, 7]), &[2, 5, 1]),
        ("pending", Faults::new().pend_each().write_at_most(5), &[5, 3]),
    ] {
        let (client, _server) = duplex(8);
        let mut client = client.with_faults(faults);
        client.write_all(b"abcdefgh").await.unwrap();
        assert_eq!(client.tap().write_sizes(), sizes, "{case}");
        assert_eq!(client.tap().written(), b"abcdefgh", "{case}");
    }
}

#[test]
fn plans_count_from_the_moment_they_are_given() {
    let (mut client, mut server) = duplex(64);
    assert_eq!(write(&mut client, b"abcdefgh", Waker::noop()), Poll::Ready(Ok(8)));
    assert_eq!(read_all(&mut server).len(), 1);
    server.tap().set_faults(Faults::new().split_reads_at([1]).eof_at(Operation::Read(1)));
    assert_eq!(write(&mut client, b"ijkl", Waker::noop()), Poll::Ready(Ok(4)));
    // The read that was already pending belongs to the old plan.
    assert_eq!(read(&mut server, Waker::noop()), bytes("ijkl"));
    assert_eq!(write(&mut client, b"mnop", Waker::noop()), Poll::Ready(Ok(4)));
    assert_eq!(read(&mut server, Waker::noop()), bytes("mnop"));
    assert_eq!(read(&mut server, Waker::noop()), READ_END);
}

#[test]
fn a_pending_operation_wakes_its_own_task_once() {
    for (case, faults, pending) in [
        ("each", Faults::new().pend_each(), [true, true]),
        ("second of all", Faults::new().pend_at(Operation::Any(1)), [false, true]),
        ("first write", Faults::new().pend_at(Operation::Write(0)), [true, false]),
        ("a read", Faults::new().pend_at(Operation::Read(0)), [false, false]),
    ] {
        let (client, _server) = duplex(8);
        let mut client = client.with_faults(faults);
        for pending in pending {
            let (bell, waker) = Bell::new();
            if pending {
                assert_eq!(write(&mut client, b"x", &waker), Poll::Pending, "{case}");
            }
            assert_eq!(bell.rings(), usize::from(pending), "{case}");
            assert_eq!(write(&mut client, b"x", &waker), Poll::Ready(Ok(1)), "{case}");
            assert_eq!(bell.rings(), usize::from(pending), "{case}");
        }
        assert_eq!(client.tap().counts().operations(), 2, "{case}");
    }
}

#[test]
fn a_stall_lasts_until_it_is_resumed() {
    for (case, faults, reads, writes) in [
        ("read", Faults::new().stall_at(Operation::Read(0)), true, false),
        ("write", Faults::new().stall_at(Operation::Write(0)), false, true),
        ("handle", Faults::new(), true, true),
    ] {
        let (client, mut server) = duplex(8);
        let mut client = client.with_faults(faults);
        let tap = client.tap();
        if case == "handle" {
            tap.stall();
        }
        assert_eq!(write(&mut server, b"in", Waker::noop()), Poll::Ready(Ok(2)), "{case}");
        let (read_bell, read_waker) = Bell::new();
        let (write_bell, write_waker) = Bell::new();
        for _ in 0..3 {
            if reads {
                assert_eq!(read(&mut client, &read_waker), Poll::Pending, "{case}");
            }
            if writes {
                assert_eq!(write(&mut client, b"out", &write_waker), Poll::Pending, "{case}");
                assert_eq!(flush(&mut client), Poll::Pending, "{case}: later operations of the side too");
                assert_eq!(write(&mut client, b"out", &write_waker), Poll::Pending, "{case}");
            }
        }
        assert!(tap.is_stalled(), "{case}");
        assert_eq!((read_bell.rings(), write_bell.rings()), (0, 0), "{case}");
        tap.resume();
        assert!(!tap.is_stalled(), "{case}");
        assert_eq!(
            (read_bell.rings(), write_bell.rings()),
            (usize::from(reads), usize::from(writes)),
            "{case}"
        );
        assert_eq!(read(&mut client, &read_waker), bytes("in"), "{case}");
        assert_eq!(write(&mut client, b"out", &write_waker), Poll::Ready(Ok(3)), "{case}");
    }
}

#[test]
fn a_reset_ends_stalls() {
    let (client, server) = duplex(8);
    let mut ends = [client, server];
    for pipe in &mut ends {
        pipe.tap().stall();
    }
    let bells = ends.each_mut().map(|pipe| {
        let (bell, waker) = Bell::new();
        assert_eq!(read(pipe, &waker), Poll::Pending);
        bell
    });
    ends[0].tap().reset();
    for (pipe, bell) in ends.iter_mut().zip(bells) {
        assert!(bell.rings() > 0);
        assert_eq!(read(pipe, Waker::noop()), Poll::Ready(Err(ErrorKind::ConnectionReset)));
        assert_eq!(write(pipe, b"x", Waker::noop()), Poll::Ready(Err(ErrorKind::ConnectionReset)));
    }
}

#[test]
fn an_early_end_cuts_the_stream() {
    let (mut client, server) = duplex(8);
    let mut server = server.with_faults(Faults::new().read_at_most(2).eof_at(Operation::Read(1)));
    assert_eq!(write(&mut client, b"abcd", Waker::noop()), Poll::Ready(Ok(4)));
    assert_eq!(read(&mut server, Waker::noop()), bytes("ab"));
    assert_eq!(read(&mut server, Waker::noop()), READ_END);
    assert_eq!(read(&mut server, Waker::noop()), READ_END);
    assert_eq!(write(&mut client, b"e", Waker::noop()), Poll::Ready(Err(ErrorKind::BrokenPipe)));
    assert_eq!(write(&mut server, b"f", Waker::noop()), Poll::Ready(Ok(1)));
    assert_eq!(read(&mut client, Waker::noop()), bytes("f"), "the other direction is open");
}

#[test]
fn an_early_end_at_a_write_wakes_the_reader() {
    let (_client, server) = duplex(8);
    let mut server = server.with_faults(Faults::new().eof_at(Operation::Write(0)));
    let (bell, waker) = Bell::new();
    assert_eq!(read(&mut server, &waker), Poll::Pending);
    assert_eq!(write(&mut server, b"x", Waker::noop()), Poll::Ready(Ok(1)));
    assert_eq!(bell.rings(), 1);
    assert_eq!(read(&mut server, &waker), READ_END);
}

#[tokio::test]
async fn a_write_can_take_nothing() {
    let (client, _server) = duplex(8);
    let mut client = client.with_faults(Faults::new().write_at_most(2).write_zero_at(1));
    let error = client.write_all(b"abcd").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriteZero);
    assert_eq!(client.tap().written(), b"ab");
    assert_eq!(write(&mut client, b"cd", Waker::noop()), Poll::Ready(Ok(2)));
}

#[test]
fn failures_end_what_their_kind_says() {
    let lost = Err(ErrorKind::ConnectionReset);
    let broken = Err(ErrorKind::BrokenPipe);
    for (kind, own_write, own_read, peer_read, peer_write) in [
        (ErrorKind::Interrupted, Ok(1), Ok(1), Ok(1), Ok(1)),
        (ErrorKind::BrokenPipe, broken, Ok(1), Ok(0), Ok(1)),
        (ErrorKind::ConnectionReset, lost, lost, lost, lost),
        (ErrorKind::TimedOut, Err(ErrorKind::TimedOut), Err(ErrorKind::TimedOut), lost, lost),
    ] {
        for operation in [Operation::Any(0), Operation::Write(0), Operation::Flush(0), Operation::Shutdown(0)]
        {
            let (client, mut server) = duplex(8);
            let mut client = client.with_faults(Faults::new().fail_at(operation, kind));
            let seen = match operation {
                Operation::Flush(_) => flush(&mut client),
                Operation::Shutdown(_) => shutdown(&mut client),
                _ => write(&mut client, b"lost", Waker::noop()).map_ok(drop),
            };
            let case = format!("{kind:?} at {operation:?}");
            assert_eq!(seen, Poll::Ready(Err(kind)), "{case}");
            assert_eq!(client.tap().written(), b"", "{case}");

            assert_eq!(write(&mut client, b"x", Waker::noop()), Poll::Ready(own_write), "{case}");
            let len = |read: Poll<Result<Vec<u8>, ErrorKind>>| read.map_ok(|bytes| bytes.len());
            assert_eq!(len(read(&mut server, Waker::noop())), Poll::Ready(peer_read), "{case}");
            assert_eq!(write(&mut server, b"y", Waker::noop()), Poll::Ready(peer_write), "{case}");
            assert_eq!(len(read(&mut client, Waker::noop())), Poll::Ready(own_read), "{case}");
        }
    }
}

#[test]
fn held_bytes_wait_for_a_flush_a_shutdown_or_a_full_buffer() {
    type Event = fn(Pipe) -> Option<Pipe>;
    let events: [(&str, Event, &str); 5] = [
        ("nothing", Some, ""),
        ("flush", |mut pipe| flush(&mut pipe).is_ready().then_some(pipe), "abc"),
        ("shutdown", |mut pipe| shutdown(&mut pipe).is_ready().then_some(pipe), "abc"),
        (
            "full",
            |mut pipe| {
                assert_eq!(write(&mut pipe, b"de", Waker::noop()), Poll::Ready(Ok(1)));
                assert_eq!(write(&mut pipe, b"e", Waker::noop()), Poll::Pending);
                Some(pipe)
            },
            "abcd",
        ),
        ("drop", |_| None, ""),
    ];
    for (case, event, seen) in events {
        let (client, mut server) = duplex(4);
        let mut client = client.with_faults(Faults::new().hold_until_flush());
        let (bell, waker) = Bell::new();
        assert_eq!(read(&mut server, &waker), Poll::Pending, "{case}");
        assert_eq!(write(&mut client, b"abc", Waker::noop()), Poll::Ready(Ok(3)), "{case}");
        assert_eq!(bell.rings(), 0, "{case}");
        let _client = event(client);
        assert_eq!(read_all(&mut server).concat(), seen.as_bytes(), "{case}");
        assert_eq!(bell.rings(), usize::from(case != "nothing"), "{case}");
    }
}

#[test]
fn held_bytes_are_lost_when_the_pipe_breaks() {
    let (client, mut server) = duplex(4);
    let faults = Faults::new().hold_until_flush().fail_at(Operation::Flush(0), BROKEN);
    let mut client = client.with_faults(faults);
    assert_eq!(write(&mut client, b"abc", Waker::noop()), Poll::Ready(Ok(3)));
    assert_eq!(flush(&mut client), Poll::Ready(Err(BROKEN)));
    assert_eq!(flush(&mut client), Poll::Ready(Ok(())));
    assert_eq!(read(&mut server, Waker::noop()), READ_END);
}

#[test]
fn a_flush_of_nothing_wakes_nobody() {
    let (mut client, mut server) = duplex(4);
    let (bell, waker) = Bell::new();
    assert_eq!(read(&mut server, &waker), Poll::Pending);
    assert_eq!(flush(&mut client), Poll::Ready(Ok(())));
    assert_eq!(bell.rings(), 0);
}

#[test]
fn a_dropped_pipe_keeps_no_waker() {
    let (mut client, _server) = duplex(1);
    let tap = client.tap();
    let (bell, waker) = Bell::new();
    assert_eq!(read(&mut client, &waker), Poll::Pending);
    assert_eq!(write(&mut client, b"ab", &waker), Poll::Ready(Ok(1)));
    assert_eq!(write(&mut client, b"b", &waker), Poll::Pending);
    drop((client, waker));
    assert!(tap.is_dropped());
    assert_eq!(Arc::strong_count(&bell), 1);
}

#[tokio::test(start_paused = true)]
async fn latency_delays_bytes_and_the_end_and_keeps_their_order() {
    let (client, mut server) = duplex(64);
    let mut client = client.with_faults(Faults::new().latency(Duration::from_millis(100)));
    let start = Instant::now();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let mut buf = [0; 64];
            let len = server.read(&mut buf).await.unwrap();
            seen.push((start.elapsed().as_millis(), String::from_utf8_lossy(&buf[..len]).into_owned()));
            if len == 0 {
                return seen;
            }
        }
    });
    client.write_all(b"a").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    client.write_all(b"b").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    client.tap().set_faults(Faults::new());
    client.write_all(b"c").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.tap().set_faults(Faults::new().latency(Duration::from_millis(40)));
    drop(client);
    let seen = seen.await.unwrap();
    let expected = [(100, "a"), (130, "bc"), (300, "")];
    assert_eq!(seen, expected.map(|(at, bytes)| (at, bytes.to_owned())));
}

#[tokio::test]
async fn a_seed_gives_the_same_faults_again() {
    async fn sizes(seed: u64) -> (Vec<usize>, Counts) {
        let (client, _server) = duplex(1 << 20);
        let mut client = client.with_faults(Faults::new().random(seed));
        for len in 0..200 {
            client.write_all(&vec![7; len]).await.unwrap();
        }
        (client.tap().write_sizes(), client.tap().counts())
    }
    for seed in [0, 1, u64::MAX] {
        let (first, counts) = sizes(seed).await;
        assert_eq!((first.clone(), counts), sizes(seed).await);
        assert!(first.contains(&1) && first.iter().any(|&len| len > 16), "sizes vary: {first:?}");
        assert!(counts.polls > counts.operations(), "some are pending");
    }
    assert_ne!(sizes(0).await, sizes(1).await);
}

/// Polls one of the woken tasks at a time until all have ended. Fails if none is woken any more.
fn run_in_any_order(mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>, schedule: &[u8]) {
    let mut bells: Vec<_> = tasks.iter().map(|_| Arc::new(Bell(AtomicUsize::new(1)))).collect();
    let mut schedule = schedule.iter().cycle();
    while !tasks.is_empty() {
        let choice = usize::from(*schedule.next().unwrap());
        let woken: Vec<_> = (0..tasks.len()).filter(|&task| bells[task].rings() > 0).collect();
        assert!(!woken.is_empty(), "{} tasks wait for ever", tasks.len());
        // One poll in eight is spurious.
        let task = if choice < 32 { choice % tasks.len() } else { woken[choice % woken.len()] };
        // A new waker each time, so that wakers of earlier polls do not count.
        let (bell, waker) = Bell::new();
        bells[task] = bell;
        if tasks[task].as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(tasks.swap_remove(task));
            bells.swap_remove(task);
        }
    }
}

async fn write_messages(mut pipe: impl AsyncWrite + Unpin, messages: &[Vec<u8>]) {
    for message in messages {
        let (head, tail) = message.split_at(message.len() / 3);
        let mut parts = &mut [IoSlice::new(head), IoSlice::new(tail)][..];
        while parts.iter().any(|part| !part.is_empty()) {
            let written = pipe.write_vectored(parts).await.unwrap();
            IoSlice::advance_slices(&mut parts, written);
        }
        if message.len() % 2 == 0 {
            pipe.flush().await.unwrap();
        }
    }
    pipe.shutdown().await.unwrap();
}

fn harmless_faults() -> impl Strategy<Value = Faults> {
    let len = || proptest::option::weighted(0.3, 1..20_usize);
    let offsets = || proptest::collection::vec(0..200_u64, 0..4);
    let operations = proptest::collection::vec((0..5_u8, 0..20_u64), 0..4);
    let flags = (any::<bool>(), any::<bool>(), proptest::option::of(any::<u64>()));
    (len(), len(), offsets(), offsets(), operations, flags).prop_map(
        |(read_len, write_len, reads, writes, operations, (pend_each, hold, seed))| {
            let mut faults = Faults::new().split_reads_at(reads).split_writes_at(writes);
            if let Some(len) = read_len {
                faults = faults.read_at_most(len);
            }
            if let Some(len) = write_len {
                faults = faults.write_at_most(len);
            }
            for (kind, k) in operations {
                faults = faults.pend_at(match kind {
                    0 => Operation::Any(k),
                    1 => Operation::Read(k),
                    2 => Operation::Write(k),
                    3 => Operation::Flush(k),
                    _ => Operation::Shutdown(k),
                });
            }
            if pend_each {
                faults = faults.pend_each();
            }
            if hold {
                faults = faults.hold_until_flush();
            }
            if let Some(seed) = seed {
                faults = faults.random(seed);
            }
            faults
        },
    )
}

fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..12)
}

proptest! {
    #[test]
    fn every_byte_arrives_under_any_harmless_faults(
        (capacity, vectored) in (1..100_usize, any::<bool>()),
        faults in [harmless_faults(), harmless_faults()],
        messages in [messages(), messages()],
        schedule in proptest::collection::vec(any::<u8>(), 1..100),
    ) {
        // A schedule of only spurious polls could starve the task that is woken.
        let schedule = [&schedule[..], &[32, 129, 227]].concat();
        let (first, second) = duplex(capacity);
        let second = if vectored { second } else { second.without_vectored_writes() };
        let taps = [first.tap(), second.tap()];
        let [first_faults, second_faults] = faults;
        let (mut first_read, first_write) = tokio::io::split(first.with_faults(first_faults));
        let (mut second_read, second_write) = tokio::io::split(second.with_faults(second_faults));
        let (mut received_first, mut received_second) = (Vec::new(), Vec::new());
        run_in_any_order(
            vec![
                Box::pin(write_messages(first_write, &messages[0])),
                Box::pin(write_messages(second_write, &messages[1])),
                Box::pin(async { first_read.read_to_end(&mut received_first).await.map(drop).unwrap(); }),
                Box::pin(async { second_read.read_to_end(&mut received_second).await.map(drop).unwrap(); }),
            ],
            &schedule,
        );
        let [sent_first, sent_second] = messages.map(|messages| messages.concat());
        prop_assert_eq!(&received_second, &sent_first);
        prop_assert_eq!(&received_first, &sent_second);
        for (tap, sent) in taps.iter().zip([sent_first, sent_second]) {
            prop_assert_eq!(tap.counts().bytes_written, sent.len() as u64);
            prop_assert_eq!(tap.peer().counts().bytes_read, sent.len() as u64);
            prop_assert_eq!(tap.write_sizes().iter().sum::<usize>(), sent.len());
            prop_assert_eq!(tap.written(), sent);
            prop_assert!(tap.is_finished());
        }
    }

    #[test]
    fn a_failure_is_noticed_by_both_ends(
        k in 0..12_u64,
        kind in proptest::sample::select(vec![BROKEN, RESET, ErrorKind::TimedOut]),
        schedule in proptest::collection::vec(32..=255_u8, 1..50),
    ) {
        async fn talk(mut pipe: Pipe) -> std::io::Result<()> {
            for _ in 0..3 {
                pipe.write_all(b"over").await?;
                pipe.flush().await?;
                pipe.read_exact(&mut [0; 4]).await?;
            }
            Ok(())
        }
        let (client, server) = duplex(6);
        let client = client.with_faults(Faults::new().fail_at(Operation::Any(k), kind));
        let tap = client.tap();
        let failed = Mutex::new(0);
        let count = |pipe| async {
            if talk(pipe).await.is_err() {
                *failed.lock().unwrap() += 1;
            }
        };
        run_in_any_order(vec![Box::pin(count(client)), Box::pin(count(server))], &schedule);
        prop_assert_eq!(failed.into_inner().unwrap() > 0, tap.counts().operations() > k);
    }
}

#[test]
fn a_pipe_works_with_a_hand_polled_future() {
    let (mut client, mut server) = duplex(2);
    let mut future = pin!(client.write_all(b"hello"));
    let mut cx = Context::from_waker(Waker::noop());
    let mut received = Vec::new();
    while future.as_mut().poll(&mut cx).is_pending() {
        received.extend(read_all(&mut server).concat());
    }
    received.extend(read_all(&mut server).concat());
    assert_eq!(received, b"hello");
}
