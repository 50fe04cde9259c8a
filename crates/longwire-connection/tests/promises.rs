//! Promises of a call are kept, whichever task polls afterward: bytes are written, flushes cover everything
//! queued, pongs and closes are sent, and every wait ends.

mod support;

use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::{FutureExt, Sink, Stream};
use longwire_connection::testing::{Faults, Gate, Gated, Operation, duplex, gated, repeatable_keys};
use longwire_connection::{
    Config, Error, Handover, Keepalive, Message, MessageKind, Sender, WebSocket, drive,
};
use support::{End, PING, close_frame, frame, settle, text_frame, whole_frames};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const SHORT: Duration = Duration::from_secs(1);

fn server(config: &Config) -> (WebSocket<Gated>, Gate) {
    let (io, gate) = gated();
    (WebSocket::new(io, Handover::server(), config), gate)
}

fn fail() -> Result<(), Error> {
    panic!("on purpose");
}

fn opcodes(gate: &Gate) -> Vec<u8> {
    whole_frames(&gate.written(), End::Server).iter().map(|frame| frame.opcode).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_sent_is_written_after_its_end() {
    let (ws, gate) = server(&Config::default());
    gate.shut_writes();
    let driving = tokio::spawn(drive(ws, |ws| {
        let (sender, mut receiver) = ws.split();
        let _reading = tokio::spawn(async move { receiver.recv().await });
        async move {
            settle().await; // the other task receives and waits
            sender.send("hello").await
        }
    }));
    let ended = timeout(SHORT, driving).await.unwrap().unwrap();
    assert!(ended.is_ok());
    gate.open();
    settle().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(gate.written(), b"\x81\x05hello", "{gate:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_sent_is_written_after_its_panic() {
    let (ws, gate) = server(&Config::default());
    let driving = tokio::spawn(drive(ws, |ws| {
        let (sender, mut receiver) = ws.split();
        let _reading = tokio::spawn(async move { receiver.recv().await });
        async move {
            settle().await;
            sender.send("hello").await?;
            fail()
        }
    }));
    assert!(driving.await.is_err());
    settle().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(gate.written(), b"\x81\x05hello", "{gate:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flush_after_a_dropped_flush_flushes_all() {
    let (mut ws, gate) = server(&Config::default());
    gate.shut_writes();
    ws.feed("one").await.unwrap();
    assert!(ws.flush().now_or_never().is_none());
    ws.feed("two").await.unwrap();
    gate.admit(5);
    let flushed = ws.flush().now_or_never();
    assert!(flushed.is_none(), "{flushed:?}, but {:?}", gate.written());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_after_a_dropped_flush_flushes_the_end() {
    let (mut ws, gate) = server(&Config::default());
    gate.shut_writes();
    let mut writer = ws.message_writer(MessageKind::Binary).await.unwrap();
    writer.write_all(b"one").await.unwrap();
    assert!(AsyncWriteExt::flush(&mut writer).now_or_never().is_none());
    gate.admit(5);
    let done = AsyncWriteExt::shutdown(&mut writer).now_or_never();
    assert!(done.is_none(), "{done:?}, but {:?}", gate.written());
}

#[tokio::test(start_paused = true)]
async fn a_pong_ends_with_the_connection() {
    let (ws, gate) = server(&Config::default());
    let (sender, mut receiver) = ws.split();
    let pong = sender.ping().unwrap();
    gate.feed(close_frame(End::Client, 1000));
    assert_eq!(receiver.recv().await.unwrap(), None);
    let result = timeout(Duration::from_secs(3600), pong).await;
    assert!(result.is_ok(), "the pong waits though the connection has ended");
    drop(receiver);
}

#[tokio::test(start_paused = true)]
async fn a_pong_ends_with_a_lost_connection() {
    let (ws, gate) = server(&Config::default());
    let (sender, mut receiver) = ws.split();
    let pong = sender.ping().unwrap();
    gate.end_reads();
    assert!(receiver.recv().await.is_err());
    let result = timeout(Duration::from_secs(3600), pong).await;
    assert!(result.is_ok(), "the pong waits though the connection has ended");
    drop(receiver);
}

#[tokio::test(start_paused = true)]
async fn recv_writes_the_pong() {
    let (mut ws, gate) = server(&Config::default());
    let mut bytes = frame(End::Client, 0x80 | PING, b"?");
    for _ in 0..100 {
        bytes.extend(text_frame(End::Client, "x"));
    }
    gate.feed(bytes);
    for _ in 0..99 {
        ws.recv().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(opcodes(&gate), [0xa]);
}

#[tokio::test(start_paused = true)]
async fn sends_in_a_row_write_the_pong() {
    let (mut ws, gate) = server(&Config::default());
    ws.send("one").await.unwrap();
    gate.feed(frame(End::Client, 0x80 | PING, b"?"));
    ws.send("two").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(opcodes(&gate), [1, 1, 0xa]);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_waits_for_parts_writes_the_pong() {
    let (mut ws, gate) = server(&Config::default());
    let sender = ws.sender();
    let writer = sender.message_writer(MessageKind::Text).await.unwrap();
    let waiting = tokio::spawn(async move { ws.send("two").await });
    settle().await;
    gate.feed(frame(End::Client, 0x80 | PING, b"?"));
    settle().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(opcodes(&gate), [0xa]);
    drop((writer, waiting));
}

#[tokio::test(start_paused = true)]
async fn a_sink_whose_stream_is_polled_elsewhere_is_given_up() {
    let keepalive =
        Keepalive::default().with_interval(Duration::from_secs(30)).with_timeout(Duration::from_secs(20));
    let config = Config::default().with_keepalive(keepalive).with_send_queue(1);
    let (mut ws, gate) = server(&config);
    // This task receives first, as for a greeting.
    assert!(ws.recv().now_or_never().is_none());
    let first = Arc::new(Mutex::new(ws));
    let other = Arc::clone(&first);
    gate.shut_writes();
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let sending = tokio::spawn(async move {
        std::future::poll_fn(|cx| {
            // The stream was polled by this same task before.
            let mut ws = first.lock().unwrap();
            let _ = Pin::new(&mut *ws).poll_next(cx);
            Poll::Ready(())
        })
        .await;
        {
            let mut ws = first.lock().unwrap();
            Pin::new(&mut *ws).start_send("fills the queue".into()).unwrap();
        }
        let mut tell = Some(tell);
        std::future::poll_fn(|cx| {
            let mut ws = first.lock().unwrap();
            let polled = Pin::new(&mut *ws).poll_ready(cx);
            if let Some(tell) = tell.take() {
                let _ = tell.send(());
            }
            polled
        })
        .await
    });
    told.await.unwrap();
    // Another task has the stream now: it receives a message and then does something else.
    let reading = tokio::spawn(async move {
        let message = std::future::poll_fn(|cx| Pin::new(&mut *other.lock().unwrap()).poll_next(cx)).await;
        assert!(message.is_some());
        std::future::pending::<()>().await;
        drop(other);
    });
    settle().await;
    gate.feed(text_frame(End::Client, "x"));
    settle().await;
    let sent = timeout(Duration::from_secs(3600), sending).await;
    assert!(sent.is_ok(), "the sink waits for ever");
    reading.abort();
}

struct Nosy(Sender, AtomicBool);

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::Relaxed);
        let _ = self.0.queued();
    }
}

#[test]
fn a_displaced_ping_is_told_outside_of_the_lock() {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (ws, _gate) = server(&Config::default());
        let sender = ws.sender();
        let waker = Waker::from(Arc::new(Nosy(sender.clone(), AtomicBool::new(false))));
        let mut pong = pin!(sender.ping().unwrap());
        assert!(pong.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        for _ in 0..16 {
            drop(sender.ping().unwrap());
        }
        done.send(()).unwrap();
    });
    assert!(finished.recv_timeout(Duration::from_secs(5)).is_ok(), "deadlock");
}

/// G: a drive that has ended but was not dropped.
#[tokio::test(start_paused = true)]
async fn a_socket_outlives_a_drive_that_is_kept() {
    let (ws, gate) = server(&Config::default());
    let place = Arc::new(Mutex::new(None));
    let there = Arc::clone(&place);
    let mut driving = pin!(drive(ws, move |ws| async move {
        *there.lock().unwrap() = Some(ws);
        Ok::<_, Error>(())
    }));
    driving.as_mut().await.unwrap();
    let ws = place.lock().unwrap().take();
    tokio::spawn(async move { drop(ws) });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(gate.written(), [0x88, 2, 3, 0xe8], "{gate:?}");
}

#[cfg(feature = "deflate")]
#[tokio::test(start_paused = true)]
async fn a_compressor_is_given_back_after_a_slow_message_in_parts() {
    use longwire_connection::Compression;
    use longwire_connection::deflate::{DeflateOptions, Pool, accept};
    let pool = Pool::default();
    let options = DeflateOptions::default();
    let agreement = accept([[("client_max_window_bits", None)]], &options).unwrap();
    let (io, _gate) = gated();
    let handover = Handover::server().compression(Compression::new(agreement, &options, &pool));
    let (sender, mut receiver) = WebSocket::new(io, handover, &Config::default()).split();
    tokio::spawn(async move { receiver.recv().await });
    let mut writer = sender.message_writer(MessageKind::Text).await.unwrap();
    writer.write("x".repeat(2000)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    writer.write("x".repeat(2000)).await.unwrap();
    writer.finish().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pool.idle_compressors(), 1);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(pool.idle_compressors(), 0, "and freed, because nothing needed it");
}

#[tokio::test(start_paused = true)]
async fn a_sink_loses_no_message_silently() {
    let (mut ws, _gate) = server(&Config::default());
    let sender = ws.sender();
    std::future::poll_fn(|cx| Pin::new(&mut ws).poll_ready(cx)).await.unwrap();
    let writer = sender.message_writer(MessageKind::Text).await.unwrap(); // another task, in between
    let sent = Pin::new(&mut ws).start_send(Message::text("x"));
    assert!(matches!(sent, Err(Error::QueueFull)), "{sent:?}");
    drop(writer);
}

struct Idle;
impl Wake for Idle {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test(start_paused = true)]
async fn a_sender_of_a_gone_connection_keeps_no_task() {
    let (ws, _gate) = server(&Config::default());
    let (sender, mut receiver) = ws.split();
    let idle = Arc::new(Idle);
    let waker = Waker::from(Arc::clone(&idle));
    assert!(pin!(receiver.recv()).poll(&mut Context::from_waker(&waker)).is_pending());
    receiver.abort();
    drop(waker);
    assert!(sender.is_closed());
    assert_eq!(Arc::strong_count(&idle), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_sees_that_the_connection_was_lost() {
    use tokio::io::AsyncReadExt;
    let (ws, gate) = server(&Config::default());
    let (mut read, mut write) = tokio::io::split(ws.into_byte_stream());
    let reading = tokio::spawn(async move { read.read_to_end(&mut Vec::new()).await });
    settle().await;
    let shut = tokio::spawn(async move {
        let shut = write.shutdown().await;
        (write, shut)
    });
    settle().await;
    gate.end_reads();
    settle().await;
    let (_write, shut) = shut.await.unwrap();
    let read = reading.await.unwrap();
    assert!(read.is_err(), "the reader: {read:?}, the writer: {shut:?}");
}

#[tokio::test(start_paused = true)]
async fn the_driving_task_is_woken_for_its_bytes() {
    let (ws, gate) = server(&Config::default());
    let third = ws.sender();
    let _driving = tokio::spawn(drive(ws, |ws| {
        let (sender, mut receiver) = ws.split();
        let _reading = tokio::spawn(async move {
            receiver.recv().await.unwrap().unwrap();
            std::future::pending::<()>().await; // busy with the message
            drop(receiver);
        });
        async move {
            settle().await;
            sender.send("hello").await?;
            std::future::pending::<()>().await;
            Ok::<_, Error>(())
        }
    }));
    tokio::task::yield_now().await;
    gate.shut_writes();
    gate.feed(text_frame(End::Client, "x"));
    settle().await;
    settle().await;
    third.try_send("third").unwrap();
    gate.open();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(gate.written(), b"\x81\x05hello\x81\x05third", "{gate:?}");
}

fn exhaust() {
    let semaphore = tokio::sync::Semaphore::new(1);
    while semaphore.acquire().now_or_never().is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_without_budget_wakes_the_driving_task() {
    let (ws, gate) = server(&Config::default());
    let sender = ws.sender();
    let _driving = tokio::spawn(drive(ws, |mut ws| {
        let _reading = tokio::spawn(async move {
            ws.recv().await.unwrap().unwrap();
            std::future::pending::<()>().await;
            drop(ws);
        });
        std::future::pending::<Result<(), Error>>()
    }));
    settle().await;
    gate.feed(text_frame(End::Client, "x"));
    settle().await;
    tokio::spawn(async move {
        exhaust();
        sender.try_send("hello").unwrap();
    })
    .await
    .unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(gate.written(), b"\x81\x05hello", "{gate:?}");
}

#[tokio::test(start_paused = true)]
async fn the_error_is_not_taken_from_the_reader() {
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    let (ws, gate) = server(&Config::default());
    let mut stream = ws.into_byte_stream();
    let mut bytes = [0; 8];
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut stream).poll_read(&mut cx, &mut ReadBuf::new(&mut bytes)).is_pending());
    assert!(Pin::new(&mut stream).poll_shutdown(&mut cx).is_pending());
    gate.end_reads();
    let shut = Pin::new(&mut stream).poll_shutdown(&mut cx);
    let mut buf = ReadBuf::new(&mut bytes);
    let read = Pin::new(&mut stream).poll_read(&mut cx, &mut buf);
    assert!(
        !matches!(read, Poll::Ready(Ok(()))),
        "shutdown: {shut:?}, read: {read:?} as if it was a clean end"
    );
}

#[test]
fn a_dropped_socket_writes_its_close_frame_without_budget() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (done, peer) = std::sync::mpsc::channel();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (peer, _) = listener.accept().await.unwrap();
        done.send(peer.into_std().unwrap()).unwrap();
        let ws = WebSocket::new(io, Handover::server(), &Config::default());
        tokio::task::yield_now().await;
        exhaust();
        drop(ws);
    });
    drop(runtime);
    let mut peer = peer.recv().unwrap();
    peer.set_nonblocking(false).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut peer, &mut bytes).unwrap();
    assert_eq!(bytes, [0x88, 2, 3, 0xe8]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_flushes_what_was_sent_after_a_pending_flush() {
    let (mut ws, gate) = server(&Config::default());
    gate.shut_writes();
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(&mut ws).start_send("one".into()).unwrap();
    assert!(Sink::poll_flush(Pin::new(&mut ws), &mut cx).is_pending());
    Pin::new(&mut ws).start_send("two".into()).unwrap();
    gate.admit(5);
    let flushed = Sink::poll_flush(Pin::new(&mut ws), &mut cx);
    assert!(flushed.is_pending(), "{flushed:?}, {} queued", ws.stats().bytes_queued);
}

#[tokio::test(start_paused = true)]
async fn pongs_by_hand_are_bounded() {
    let (ws, gate) = server(&Config::default().with_auto_pong(false));
    gate.shut_writes();
    let sender = ws.sender();
    for _ in 0..100_000 {
        let _ = sender.pong([7; 125]);
    }
    assert!(sender.queued() < 1 << 20, "{}", sender.queued());
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_wait_for_deferred_broadcasts() {
    let (ws, gate) = server(&Config::default());
    let sender = ws.sender();
    let mut writer = sender.message_writer(MessageKind::Text).await.unwrap();
    writer.write("one").await.unwrap();
    sender.try_send_prepared(&longwire_connection::PreparedMessage::new("x"), 1000).unwrap();
    // The task that holds the writer may flush, and must not wait for itself.
    sender.flush().now_or_never().unwrap().unwrap();
    assert_eq!(sender.queued(), 3);
    writer.finish().await.unwrap();
    assert_eq!(opcodes(&gate), [1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_nobody_can_answer_is_refused() {
    let (ws, gate) = server(&Config::default());
    let (sender, mut receiver) = ws.split();
    gate.end_reads();
    assert!(receiver.recv().await.is_err());
    assert!(matches!(sender.ping(), Err(Error::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_closes_flushes_its_close_frame() {
    let (mut ws, gate) = server(&Config::default());
    gate.shut_writes();
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(&mut ws).start_send("one".into()).unwrap();
    assert!(Sink::poll_flush(Pin::new(&mut ws), &mut cx).is_pending());
    gate.admit(5);
    let closed = Sink::poll_close(Pin::new(&mut ws), &mut cx);
    assert!(closed.is_pending(), "{closed:?}, {} queued", ws.stats().bytes_queued);
}

#[tokio::test(start_paused = true)]
async fn the_message_that_a_left_connection_keeps_is_counted() {
    let budget = longwire_connection::MemoryBudget::new(1 << 30);
    let config = Config::default().with_memory(budget.clone());
    let (mut ws, gate) = server(&config);
    let whole = frame(End::Client, 0x82, &vec![7; 8 << 20]);
    gate.feed(&whole[..whole.len() - 1]);
    for _ in 0..1000 {
        assert!(ws.recv().now_or_never().is_none());
    }
    assert!(budget.used() >= 8 << 20, "{}", budget.used());
    drop(ws);
    settle().await;
    assert!(budget.used() >= 8 << 20, "counted {} while the message is kept", budget.used());
    gate.feed(&whole[whole.len() - 1..]);
    settle().await;
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_ping_follows_a_message_of_any_length() {
    let (mut ws, gate) = server(&Config::default());
    gate.shut_writes();
    let sender = ws.sender();
    assert!(ws.send(vec![7; 1 << 20]).now_or_never().is_none());
    let pong = sender.ping().unwrap();
    gate.open();
    ws.flush().await.unwrap();
    assert_eq!(opcodes(&gate), [2, 9]);
    drop(pong);
}

#[tokio::test(start_paused = true)]
async fn pings_that_were_written_do_not_count() {
    let (ws, gate) = server(&Config::default());
    let sender = ws.sender();
    for _ in 0..10_000 {
        sender.pong([7; 125]).unwrap();
        assert_eq!(sender.queued(), 0);
        let _ = gate.written();
    }
}

/// The application keeps the socket, but the peer must not wait for that.
#[tokio::test(start_paused = true)]
async fn a_server_ends_the_transport_after_both_close_frames() {
    for driven in [false, true] {
        for peer_first in [false, true] {
            let case = format!("driven: {driven}, the peer first: {peer_first}");
            let (mut peer, io) = tokio::io::duplex(1000);
            let ws = WebSocket::new(io, Handover::server(), &Config::default());
            let handler = move |mut ws: WebSocket<tokio::io::DuplexStream>| async move {
                if peer_first {
                    assert_eq!(ws.recv().await?, None);
                } else {
                    ws.close(1000, "").await?;
                }
                std::future::pending::<Result<(), Error>>().await
            };
            let serving = if driven { tokio::spawn(drive(ws, handler)) } else { tokio::spawn(handler(ws)) };
            peer.write_all(&close_frame(End::Client, 1000)).await.unwrap();
            let mut bytes = Vec::new();
            let ended = timeout(SHORT, peer.read_to_end(&mut bytes)).await;
            assert!(ended.is_ok(), "{case}: {bytes:?} and no end");
            assert_eq!(bytes, [0x88, 2, 3, 0xe8], "{case}");
            serving.abort();
        }
    }
}

/// A connection holds no memory for a message that it has handed out, and none after its end, whatever the
/// application keeps.
#[tokio::test(start_paused = true)]
async fn what_the_application_has_is_not_counted() {
    let budget = longwire_connection::MemoryBudget::new(1 << 30);
    let config = Config::default().with_memory(budget.clone());
    let (mut ws, gate) = server(&config);
    let whole = frame(End::Client, 0x82, &vec![7; 100_000]);
    for piece in whole.chunks(20_000) {
        gate.feed(piece);
        assert!(
            ws.recv().now_or_never().is_none_or(|message| message.is_ok_and(|message| message.is_some()))
        );
    }
    assert_eq!(budget.used(), 0, "after a message");
    gate.feed(&whole[..whole.len() - 1]);
    assert!(ws.recv().now_or_never().is_none());
    assert!(budget.used() > 0);
    gate.end_reads();
    assert!(ws.recv().await.is_err());
    assert_eq!(budget.used(), 0, "after the end");
}

/// Pings within a compressed message do not block the thread.
#[cfg(feature = "deflate")]
#[tokio::test(start_paused = true)]
async fn pings_within_a_compressed_message_cost_the_turn() {
    use longwire_connection::Compression;
    use longwire_connection::deflate::{DeflateOptions, Pool, accept};
    let options = DeflateOptions::default();
    let agreement = accept([[("client_max_window_bits", None)]], &options).unwrap();
    let (io, gate) = gated();
    let handover = Handover::server().compression(Compression::new(agreement, &options, &Pool::default()));
    let mut ws = WebSocket::new(io, handover, &Config::default());
    // A stored block of one byte, without the end of the message.
    let mut bytes = frame(End::Client, 0x42, &[0, 1, 0, 0xfe, 0xff, b'x']);
    for _ in 0..2000 {
        bytes.extend(frame(End::Client, 0x80 | PING, b""));
    }
    gate.feed(bytes);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut turns = 0;
    while turns == 0 || woken.0.swap(false, Ordering::Relaxed) {
        assert!(pin!(ws.recv()).poll(&mut Context::from_waker(&waker)).is_pending());
        turns += 1;
    }
    assert!(turns > 7, "{turns} turns for 2000 pings");
}

#[cfg(feature = "deflate")]
#[derive(Default)]
struct Woken(AtomicBool);

#[cfg(feature = "deflate")]
impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A handler that uses up the cooperative budget in each of its task's turns yields only because tokio forces it
/// to.
#[tokio::test]
async fn a_handler_without_budget_is_answered_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (io, _) = listener.accept().await.unwrap();
    let ws = WebSocket::new(io, Handover::server(), &Config::default());
    let driving = tokio::spawn(drive(ws, |mut ws| async move {
        ws.send("hello").await?;
        loop {
            tokio::task::coop::consume_budget().await;
        }
        #[allow(unreachable_code, reason = "it says of what type the error is")]
        Ok::<_, Error>(())
    }));
    let mut hello = [0; 7];
    timeout(SHORT, peer.read_exact(&mut hello)).await.unwrap().unwrap();
    assert_eq!(hello, *b"\x81\x05hello");
    driving.abort();
}

/// A handler may wait for an answer without ending its turn.
#[tokio::test]
async fn a_handler_that_waits_in_its_turn_is_written_for() {
    let (ws, gate) = server(&Config::default());
    let written = gate.clone();
    let driving = tokio::spawn(drive(ws, |mut ws| async move {
        ws.send("question").await?;
        assert_eq!(written.written(), b"", "it is gathered");
        assert!(ws.recv().now_or_never().is_none());
        assert_eq!(written.written(), b"\x81\x08question");
        written.end_reads();
        ws.recv().await.map(drop)
    }));
    let ended = timeout(SHORT, driving).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Error::Lost)), "{ended:?} {gate:?}");
}

/// A dropped call leaves its flush to be done. That flush is not mistaken for the next call's.
#[tokio::test]
async fn a_flush_for_a_dropped_call_is_not_the_next_ones() {
    let (ws, gate) = server(&Config::default());
    let (sender, _receiver) = ws.split();
    gate.shut_writes();
    assert!(sender.send_flushed("a").now_or_never().is_none());
    gate.admit(3);
    let mut second = pin!(sender.send_flushed("b"));
    assert!(second.as_mut().now_or_never().is_none());
    assert_eq!((gate.written().len(), gate.flushed()), (3, 3));
    gate.admit(3);
    sender.try_send("c").unwrap();
    assert_eq!((gate.written().len(), gate.flushed()), (6, 6), "before anything of the third is written");
    assert!(second.now_or_never().is_some());
}

/// The call that receives finds the failure itself, and nobody received before.
#[tokio::test(start_paused = true)]
async fn a_call_that_fails_to_write_reads_for_a_limited_time() {
    let (io, _peer) = duplex(1 << 16);
    let faults = Faults::new().fail_at(Operation::Write(0), ErrorKind::BrokenPipe);
    let mut ws = WebSocket::new(io.with_faults(faults), Handover::server(), &Config::default());
    ws.feed("queued").await.unwrap();
    let received = timeout(SHORT * 10, ws.recv()).await.expect("it ends");
    assert!(
        matches!(&received, Err(Error::Io(error)) if error.kind() == ErrorKind::BrokenPipe),
        "{received:?}"
    );
}

/// Without keepalive, nothing else would end the wait for a peer whose own writes have failed as well.
#[tokio::test(start_paused = true)]
async fn a_transport_that_cannot_be_written_to_is_read_for_a_limited_time() {
    for (handover, from) in
        [(Handover::server(), End::Client), (Handover::client(repeatable_keys), End::Server)]
    {
        let (io, mut peer) = duplex(1 << 16);
        let io = io.with_faults(Faults::new().fail_at(Operation::Write(0), ErrorKind::BrokenPipe));
        let (sender, mut reader) = WebSocket::new(io, handover, &Config::default()).split();
        let receiving = tokio::spawn(async move {
            let mut received = Vec::new();
            loop {
                match reader.recv().await {
                    Ok(message) => received.push(message.expect("the end is an error")),
                    Err(error) => return (received, error),
                }
            }
        });
        settle().await;
        assert!(matches!(sender.send("lost").await, Err(Error::Io(_))));
        let begin = Instant::now();
        for _ in 0..2 {
            tokio::time::sleep(SHORT).await;
            peer.write_all(&text_frame(from, "still here")).await.unwrap();
        }
        let (messages, error) = timeout(SHORT * 10, receiving).await.expect("it ends").unwrap();
        assert_eq!(messages.len(), 2, "what the peer has sent meanwhile");
        assert!(matches!(&error, Error::Io(error) if error.kind() == ErrorKind::BrokenPipe), "{error}");
        assert_eq!(begin.elapsed(), Config::default().close_timeout);
    }
}
