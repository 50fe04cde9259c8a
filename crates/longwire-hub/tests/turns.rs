//! Operations on all clients do not hold up others: clients join, leave and get messages meanwhile.

use std::io;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex, pair, repeatable_keys};
use longwire_connection::{Config, Handover, WebSocket};
use longwire_hub::{ClientInfo, Hub, HubConfig, SlowPolicy, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The maximum number of clients that are reached in one turn.
const TURN: usize = 256;

fn crowd(hub: &Hub, count: usize) -> Vec<(Socket<Pipe>, WebSocket<Pipe>)> {
    let admit = |_| {
        let (client, server) = pair(Config::default());
        (hub.admit(server, ClientInfo::default()).expect("there is a place"), client)
    };
    (0..count).map(admit).collect()
}

/// Polls the future to completion; returns the number of additional clients that each poll reached.
async fn turns<T>(hub: &Hub, future: impl Future<Output = T>) -> (Vec<usize>, T) {
    let clients = hub.clients();
    let reached = || {
        let sent = |client: &&longwire_hub::ClientHandle| {
            client.stats().connection.messages_sent > 0 || client.sender().is_closed()
        };
        clients.iter().filter(sent).count()
    };
    let mut future = pin!(future);
    let (mut turns, mut before) = (Vec::new(), reached());
    loop {
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let now = reached();
        turns.push(now - before);
        before = now;
        if let Poll::Ready(output) = polled {
            return (turns, output);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_broadcast_that_may_wait_yields_among_many() {
    let hub = Hub::default();
    let sockets = crowd(&hub, 3 * TURN + 10);
    let (turns, delivery) = turns(&hub, hub.broadcast_waiting("to all", Duration::ZERO)).await;
    assert_eq!(turns, [TURN, TURN, TURN, 10]);
    assert_eq!((delivery.accepted, delivery.dropped), (sockets.len(), 0));
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn a_report_of_the_traffic_yields_among_many() {
    let hub = Hub::default();
    let _sockets = crowd(&hub, 3 * TURN + 10);
    let (turns, ()) = turns(&hub, hub.report_traffic_in_turns()).await;
    assert_eq!(turns.len(), 4);
}

#[tokio::test]
async fn clients_that_do_not_keep_up_are_closed_in_turns_as_well() {
    let hub = Hub::new(HubConfig::default().with_slow(SlowPolicy::Close).with_queue(1));
    let mut sockets = Vec::new();
    for _ in 0..TURN + 10 {
        let (pipe, peer) = duplex(1);
        let ws = WebSocket::new(pipe, Handover::server(), &Config::default());
        sockets.push((hub.admit(ws, ClientInfo::default()).unwrap(), peer));
    }
    hub.broadcast("to be waited for");
    let clients = hub.clients();
    let mut closing = pin!(hub.broadcast_waiting("too much", Duration::ZERO));
    let mut closed = Vec::new();
    loop {
        let polled = closing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        closed.push(clients.iter().filter(|client| client.sender().is_closed()).count());
        if polled.is_ready() {
            break;
        }
        tokio::task::yield_now().await;
    }
    closed.dedup();
    assert_eq!(closed, [0, TURN, TURN + 10]);
}

#[tokio::test]
async fn a_shutdown_yields_among_many() {
    let hub = Hub::default();
    let sockets = crowd(&hub, 2 * TURN + 10);
    let shutdown = hub.shutdown(1001, "", Duration::ZERO);
    let (turns, drained) =
        turns(&hub, async { tokio::time::timeout(Duration::from_secs(5), shutdown).await }).await;
    assert_eq!(turns[..3], [TURN, TURN, 10]);
    assert_eq!(drained.unwrap().unwrap().aborted, sockets.len());
}

#[tokio::test]
async fn clients_that_leave_by_themselves_are_not_counted_as_aborted() {
    let hub = Hub::default();
    let mut sockets = crowd(&hub, TURN + 10);
    let mut shutdown = pin!(hub.shutdown(1001, "", Duration::ZERO));
    let mut cx = Context::from_waker(Waker::noop());
    // Poll until the first turn of aborts is over.
    while sockets[0].0.with_transport(|_| ()).is_some() {
        assert!(shutdown.as_mut().poll(&mut cx).is_pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(sockets[TURN].0.with_transport(|_| ()).is_some());
    sockets.truncate(TURN + 4);
    while hub.len() > TURN + 4 {
        tokio::task::yield_now().await;
    }
    let drained = tokio::time::timeout(Duration::from_secs(5), shutdown).await.unwrap().unwrap();
    assert_eq!(drained.aborted, TURN + 4);
}

/// A transport that stays in the middle of a write until it is released.
struct Stuck {
    begun: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl AsyncRead for Stuck {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Stuck {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let _ = self.begun.send(());
        let _ = self.go_on.recv();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Others are not held up, however long it takes to read the counters of one connection.
#[test]
fn clients_come_and_leave_while_the_traffic_is_summed_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let hub = Hub::default();
    let ((begun, has_begun), (go_on, may_go_on)) = (mpsc::channel(), mpsc::channel());
    let stuck = Stuck { begun, go_on: may_go_on };
    let stuck = WebSocket::new(stuck, Handover::client(repeatable_keys), &Config::default());
    let stuck = hub.admit(stuck, ClientInfo::default()).unwrap();
    let (leaving, _peer) = crowd(&hub, 1).pop().unwrap();
    leaving.sender().try_send("counted once").unwrap();

    let sender = stuck.sender();
    let writing = thread::spawn(move || sender.try_send("begun").unwrap());
    has_begun.recv().unwrap();
    let summing = thread::spawn({
        let hub = hub.clone();
        move || hub.traffic()
    });
    // Wait until it has reached the connection that is being written to.
    thread::sleep(Duration::from_millis(100));
    let (done, is_done) = mpsc::channel();
    let others = thread::spawn({
        let (hub, runtime) = (hub.clone(), runtime.handle().clone());
        move || {
            let _entered = runtime.enter();
            drop(leaving);
            let newcomer = crowd(&hub, 1);
            done.send((hub.len(), hub.stats().admitted, hub.close_codes().len())).unwrap();
            drop(newcomer);
        }
    });
    let outcome = is_done.recv_timeout(Duration::from_secs(10));
    drop(go_on);
    assert_eq!(outcome, Ok((2, 3, 1)), "they were not held up");
    writing.join().unwrap();
    others.join().unwrap();
    assert_eq!(summing.join().unwrap().messages_sent, 2, "the one who left is counted, and once");
    assert_eq!(hub.traffic().messages_sent, 2);
}
