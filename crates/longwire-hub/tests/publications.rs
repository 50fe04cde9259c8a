//! The messages of one turn of a handler reach each client in one write, and none is lost however the turn ends.

use std::future::{pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker, ready};
use std::thread;
use std::time::Duration;

use longwire_connection::testing::{Pipe, Tap, duplex, pair, pair_over, repeatable_keys};
use longwire_connection::{Config, Error, Handover, WebSocket};
use longwire_hub::{BoxError, ClientHandle, ClientInfo, Hub, HubConfig, SlowPolicy, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, coop, yield_now};
use tokio::time::timeout;

/// More clients than a turn writes to itself.
const MANY: usize = 300;

/// One client, and what its server's end of the connection has written.
struct Peer {
    ws: WebSocket<Pipe>,
    tap: Tap,
    handle: ClientHandle,
    /// Set once its task has been polled, and waits.
    waits: Arc<AtomicBool>,
}

impl Peer {
    fn join(hub: &Hub, capacity: usize) -> Self {
        let (client, server) = duplex(capacity);
        let tap = server.tap();
        let (ws, server) = pair_over(client, server, &Config::default());
        let running = hub.run(server, ClientInfo::default(), listen);
        let handle = hub.clients().last().expect("it was registered by the call").clone();
        let waits = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&waits);
        tokio::spawn(async move {
            let mut running = pin!(running);
            poll_fn(|cx| {
                let polled = running.as_mut().poll(cx);
                told.store(true, Ordering::Release);
                polled
            })
            .await
        });
        Self { ws, tap, handle, waits }
    }

    async fn next(&mut self) -> Result<Option<String>, Error> {
        let received = timeout(Duration::from_secs(20), self.ws.recv()).await.expect("something arrives");
        Ok(received?.map(|message| message.as_text().expect("all is text").to_owned()))
    }

    /// Receives as many messages.
    async fn take(&mut self, count: usize) -> Vec<String> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.next().await.expect("all is well").expect("it is open"));
        }
        taken
    }

    /// Receives until the connection ends; returns the messages and the close code, 0 without one.
    async fn all(&mut self) -> (Vec<String>, u16) {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(message)) => all.push(message),
                Ok(None) => return (all, self.ws.close_received().map_or(0, |frame| frame.code.into())),
                Err(Error::ClosedByPeer(frame)) => return (all, frame.code.into()),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

async fn listen(mut ws: Socket<Pipe>) -> Result<(), Error> {
    while ws.recv().await?.is_some() {}
    Ok(())
}

/// Adds clients, and waits until their tasks wait and they have received a message. A task that is polled for the
/// first time later would write what a turn has queued.
async fn crowd(hub: &Hub, count: usize, capacity: usize) -> Vec<Peer> {
    let mut peers: Vec<_> = (0..count).map(|_| Peer::join(hub, capacity)).collect();
    while !peers.iter().all(|peer| peer.waits.load(Ordering::Acquire)) {
        yield_now().await;
    }
    hub.broadcast("ready");
    for peer in &mut peers {
        assert_eq!(peer.take(1).await, ["ready"]);
    }
    peers
}

/// Runs a handler of a client that is in no room and is left out of broadcasts by [`to_others`].
fn handle<Fut>(
    hub: &Hub,
    handler: impl FnOnce(Socket<Pipe>) -> Fut + Send + 'static,
) -> JoinHandle<Result<(), longwire_hub::RunError<BoxError>>>
where
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let (mut client, server) = pair(Config::default());
    let running = hub.run(server, ClientInfo::default(), handler);
    tokio::spawn(async move { while let Ok(Some(_)) = client.recv().await {} });
    tokio::spawn(running)
}

/// Ends a handler that waits. It has not failed.
async fn stop<T: std::fmt::Debug>(handler: JoinHandle<T>) {
    handler.abort();
    assert!(handler.await.unwrap_err().is_cancelled());
}

/// Publishes `count` numbered messages; returns the copies that were dropped.
fn to_others(ws: &Socket<Pipe>, count: usize) -> usize {
    (0..count).map(|number| ws.hub().broadcast_except(ws.id(), format!("{number:090}")).dropped).sum()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number:090}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_messages_of_a_turn_are_queued_at_once_and_written_together() {
    let hub = Hub::default();
    let mut peers = crowd(&hub, MANY, 1 << 16).await;
    let before: Vec<_> = peers.iter().map(|peer| peer.tap.counts().writes).collect();
    let taps: Vec<_> = peers.iter().map(|peer| peer.tap.clone()).collect();
    let publisher = handle(&hub, {
        let before = before.clone();
        move |ws| async move {
            for number in 0..20 {
                let delivery = ws.hub().broadcast_except(ws.id(), format!("{number:090}"));
                assert_eq!((delivery.accepted, delivery.dropped), (MANY, 0));
            }
            let others = ws.hub().clients();
            let others = || others.iter().filter(|client| client.id() != ws.id());
            assert!(others().all(|client| client.sender().queued() == 20 * 92), "they are queued");
            assert!(
                taps.iter().zip(&before).all(|(tap, before)| tap.counts().writes == *before),
                "not written"
            );
            pending::<()>().await;
            Ok(())
        }
    });
    for (peer, before) in peers.iter_mut().zip(before) {
        assert_eq!(peer.take(20).await, numbers(0..20));
        assert_eq!(peer.tap.counts().writes - before, 1, "{:?}", peer.tap.write_sizes());
    }
    stop(publisher).await;
}

#[tokio::test]
async fn outside_of_a_turn_a_message_is_written_by_the_call() {
    let hub = Hub::default();
    let mut peers = crowd(&hub, 3, 1 << 16).await;
    for number in 0..3 {
        hub.broadcast(format!("{number:090}"));
        for peer in &peers {
            assert_eq!(peer.tap.counts().bytes_written, (number + 1) * 92 + 7);
        }
    }
    let outside = hub.clone();
    thread::spawn(move || outside.broadcast("from a thread of its own")).join().unwrap();
    for peer in &mut peers {
        assert!(peer.tap.written().ends_with(b"from a thread of its own"));
        peer.take(4).await;
    }
}

/// However the handler ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_handler_has_published_is_lost() {
    for case in ["returns", "fails", "panics", "waits and is dropped"] {
        let hub = Hub::default();
        let mut peers = crowd(&hub, MANY, 1 << 16).await;
        let (done, is_done) = tokio::sync::oneshot::channel();
        let publisher = handle(&hub, move |ws| async move {
            to_others(&ws, 5);
            done.send(()).unwrap();
            match case {
                "returns" => Ok(()),
                "fails" => Err("it fails".into()),
                "panics" => panic!("the test wants it"),
                _ => pending().await,
            }
        });
        is_done.await.unwrap();
        if case == "waits and is dropped" {
            publisher.abort();
        }
        for peer in &mut peers {
            assert_eq!(peer.take(5).await, numbers(0..5), "{case}");
        }
        assert_eq!(publisher.await.is_err(), case.len() > 7 || case == "panics", "{case}");
    }
}

/// Has a handler publish and panic outside of a runtime. Returns whether a member got everything, which was admitted in a
/// runtime that has ended, or in none.
fn is_published_before_a_panic(runtime: Option<Runtime>) -> bool {
    let hub = Hub::default();
    let (_client, server) = duplex(1 << 16);
    let tap = server.tap();
    let member = WebSocket::new(server, Handover::server(), &Config::default());
    let _member = {
        let _entered = runtime.as_ref().map(Runtime::enter);
        hub.admit(member, ClientInfo::default()).unwrap()
    };
    drop(runtime);
    let (_other, publisher) = pair(Config::default());
    let mut running = Box::pin(hub.run(publisher, ClientInfo::default(), |ws| async move {
        to_others(&ws, 5);
        assert_eq!(ws.hub().len(), 3, "the test wants it");
        Ok::<_, Error>(())
    }));
    let polled =
        catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
    assert!(polled.is_err());
    tap.counts().bytes_written == 5 * 92
}

/// The panic does not unwind through transports, which may be in any state, and may panic themselves.
#[test]
fn a_handler_that_panics_without_a_runtime_has_published_as_well() {
    assert!(is_published_before_a_panic(None));
}

#[test]
fn a_handler_that_panics_has_published_to_clients_of_a_runtime_that_has_ended() {
    assert!(is_published_before_a_panic(Some(Builder::new_current_thread().build().unwrap())));
}

/// The turn of one thread may last, so a turn of another does not rely on its list.
#[test]
fn turns_of_two_threads_have_a_list_each() {
    fn publish(hub: &Hub, then: impl FnOnce()) {
        let (_client, server) = pair(Config::default());
        let mut running = pin!(hub.run(server, ClientInfo::default(), |ws| async move {
            ws.hub().publish("room", "news");
            then();
            pending::<Result<(), Error>>().await
        }));
        assert!(running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let hub = Hub::default();
    let (_client, server) = duplex(1 << 16);
    let tap = server.tap();
    let member = WebSocket::new(server, Handover::server(), &Config::default());
    let member = hub.admit(member, ClientInfo::default()).unwrap();
    member.join("room").unwrap();
    publish(&hub, || {
        assert_eq!(tap.counts().writes, 0);
        thread::scope(|scope| scope.spawn(|| publish(&hub, || {})).join().unwrap());
        assert_eq!(tap.written(), b"\x81\x04news\x81\x04news");
    });
    assert_eq!(tap.counts().writes, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_longer_than_the_queue_meets_no_policy_of_a_client_that_keeps_up() {
    for policy in [SlowPolicy::Close, SlowPolicy::DropNewest, SlowPolicy::DropOldest] {
        let hub = Hub::new(HubConfig::default().with_queue(1000).with_slow(policy));
        let mut peers = crowd(&hub, MANY, 1 << 16).await;
        let publisher = handle(&hub, move |ws| async move {
            assert_eq!(to_others(&ws, 100), 0, "{policy:?}");
            Ok(())
        });
        publisher.await.unwrap().unwrap();
        for peer in &mut peers {
            assert_eq!(peer.take(100).await, numbers(0..100), "{policy:?}");
            let writes = peer.tap.counts().writes;
            assert!(writes < 20, "{writes} writes");
        }
    }
}

/// Also the memory of a turn is bounded by the queues.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_meets_the_policy_of_a_client_that_does_not_keep_up() {
    for policy in [SlowPolicy::Close, SlowPolicy::DropNewest, SlowPolicy::DropOldest] {
        let hub = Hub::new(HubConfig::default().with_queue(1000).with_slow(policy));
        let mut peers = crowd(&hub, 10, 1 << 16).await;
        peers[3].tap.stall_writes();
        let slow = peers[3].handle.clone();
        let publisher = handle(&hub, move |ws| async move {
            let dropped = to_others(&ws, 100);
            assert!(slow.sender().queued() <= 1000 + 20, "{}", slow.sender().queued());
            assert!(dropped > 0 && slow.dropped() == dropped as u64, "{policy:?}");
            Ok(())
        });
        publisher.await.unwrap().unwrap();
        let dropped = usize::try_from(peers[3].handle.dropped()).unwrap();
        peers[3].tap.resume();
        let closing = tokio::spawn({
            let hub = hub.clone();
            async move { hub.shutdown(1001, "", Duration::from_secs(20)).await }
        });
        for (index, peer) in peers.iter_mut().enumerate() {
            let (all, code) = peer.all().await;
            let expected = match policy {
                _ if index != 3 => (numbers(0..100), 1001),
                SlowPolicy::Close => (numbers(0..all.len()), 1013),
                SlowPolicy::DropNewest => (numbers(0..100 - dropped), 1001),
                // One was begun to be written, and cannot be dropped.
                _ => (numbers(dropped..100), 1001),
            };
            assert!(!all.is_empty());
            assert_eq!((all, code), expected, "{policy:?}, client {index}");
        }
        closing.await.unwrap().unwrap();
    }
}

/// Also those that were sent by calls which do not drop older ones themselves.
#[tokio::test]
async fn all_that_a_turn_has_queued_can_be_dropped_for_later_broadcasts() {
    for by_latest in [true, false] {
        let hub = Hub::new(HubConfig::default().with_queue(1000).with_slow(SlowPolicy::DropOldest));
        let mut peers = crowd(&hub, 1, 1 << 16).await;
        peers[0].tap.stall_writes();
        let publisher = handle(&hub, move |ws| async move {
            for number in 0..5 {
                let (key, message) = (number.to_string(), format!("{number:-<90}"));
                let delivery = if by_latest {
                    ws.hub().broadcast_latest(key, message)
                } else {
                    ws.hub().broadcast_waiting(message, Duration::ZERO).await
                };
                assert_eq!((delivery.accepted, delivery.dropped), (2, 0));
            }
            to_others(&ws, 100);
            Ok(())
        });
        publisher.await.unwrap().unwrap();
        let dropped = usize::try_from(peers[0].handle.dropped()).unwrap();
        assert!((5..105).contains(&dropped), "{dropped}, by latest values: {by_latest}");
        peers[0].tap.resume();
        assert_eq!(peers[0].take(105 - dropped).await, numbers(dropped - 5..100));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_or_is_closed_within_a_turn_has_what_was_published_before() {
    let hub = Hub::default();
    let mut peers = crowd(&hub, 3, 1 << 16).await;
    for peer in &peers {
        peer.handle.join("room").unwrap();
    }
    let [leaving, closed] = [0, 1].map(|index| peers[index].handle.clone());
    let publisher = handle(&hub, move |ws| async move {
        let publish = |text: &str| ws.hub().publish("room", text).accepted;
        assert_eq!(publish("to three"), 3);
        assert!(leaving.leave("room"));
        assert_eq!(publish("to two"), 2);
        leaving.sender().try_send("after it").unwrap();
        closed.sender().start_close(4000, "enough").unwrap();
        assert_eq!(publish("to one"), 1);
        Ok(())
    });
    publisher.await.unwrap().unwrap();
    hub.broadcast("last");
    assert_eq!(peers[0].take(3).await, ["to three", "after it", "last"]);
    assert_eq!(peers[1].all().await, (["to three", "to two"].map(String::from).to_vec(), 4000));
    assert_eq!(peers[2].take(4).await, ["to three", "to two", "to one", "last"]);
}

/// Each publisher's messages arrive in order, without a gap, and all that were accepted do.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_shutdown_amid_broadcasts_loses_nothing_that_was_accepted() {
    let hub = Hub::new(HubConfig::default().with_queue(64 << 20));
    let peers = crowd(&hub, 150, 700).await;
    let before = hub.stats().delivered;
    let publishers: Vec<_> = (0..4)
        .map(|publisher| {
            handle(&hub, move |mut ws| async move {
                let mut number = 0;
                while !ws.hub().is_shutting_down() {
                    for _ in 0..7 {
                        // Not to other publishers, which do not count what they receive.
                        ws.hub().publish("crowd", format!("{publisher} {number}"));
                        number += 1;
                    }
                    yield_now().await;
                }
                while ws.recv().await?.is_some() {}
                Ok(())
            })
        })
        .collect();
    for peer in &peers {
        peer.handle.join("crowd").unwrap();
    }
    let receiving: Vec<_> = peers
        .into_iter()
        .map(|mut peer| {
            tokio::spawn(async move {
                let (all, code) = peer.all().await;
                assert_eq!(code, 1001);
                let mut last = [None; 4];
                for message in &all {
                    let (publisher, number) = message.split_once(' ').unwrap();
                    let last = &mut last[publisher.parse::<usize>().unwrap()];
                    let number: u64 = number.parse().unwrap();
                    assert!(last.is_none_or(|last| number == last + 1), "{number} after {last:?}");
                    *last = Some(number);
                }
                all.len() as u64
            })
        })
        .collect();
    while hub.stats().delivered < before + 20_000 {
        yield_now().await;
    }
    hub.shutdown(1001, "", Duration::from_secs(60)).await.unwrap();
    let mut received = 0;
    for receiving in receiving {
        received += receiving.await.unwrap();
    }
    assert_eq!(received, hub.stats().delivered - before);
    for publisher in publishers {
        publisher.await.unwrap().unwrap();
    }
}

/// A transport over a pipe that uses up the cooperative budget of the task, as tokio's sockets do, and counts its
/// writes.
struct Socketlike {
    pipe: Pipe,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Socketlike {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socketlike {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(coop::poll_proceed(cx)).made_progress();
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.pipe).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// Clients whose writes are counted together, and the polls of whose tasks are.
struct Counted {
    clients: Vec<WebSocket<Pipe>>,
    writes: Arc<AtomicUsize>,
    polls: Arc<AtomicUsize>,
}

async fn counted(hub: &Hub, count: usize) -> Counted {
    let (writes, polls) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let join = |_| {
        let (client, server) = duplex(1 << 16);
        let socket = Socketlike { pipe: server, writes: Arc::clone(&writes) };
        let server = WebSocket::new(socket, Handover::server(), &Config::default());
        let mut running = Box::pin(hub.run(server, ClientInfo::default(), |mut ws| async move {
            while ws.recv().await?.is_some() {}
            Ok::<_, Error>(())
        }));
        let polls = Arc::clone(&polls);
        tokio::spawn(poll_fn(move |cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            running.as_mut().poll(cx)
        }));
        WebSocket::new(client, Handover::client(repeatable_keys), &Config::default())
    };
    let clients = (0..count).map(join).collect();
    while polls.load(Ordering::Relaxed) < count {
        yield_now().await;
    }
    Counted { clients, writes, polls }
}

/// A task in no handler's turn writes as long as tokio lets it. Then its messages wait for its yield.
#[tokio::test]
async fn a_task_that_publishes_much_between_two_yields_writes_once_more_to_each_client() {
    let hub = Hub::default();
    let Counted { mut clients, writes, polls } = counted(&hub, MANY).await;
    let publisher = tokio::spawn({
        let (hub, writes) = (hub.clone(), Arc::clone(&writes));
        async move {
            for number in 0..20 {
                assert_eq!(hub.broadcast(number.to_string()).accepted, MANY);
            }
            writes.load(Ordering::Relaxed)
        }
    });
    let at_once = publisher.await.unwrap();
    assert!((100..=128).contains(&at_once), "{at_once}");
    for client in &mut clients {
        for number in 0..20 {
            let received =
                timeout(Duration::from_secs(20), client.recv()).await.expect("it arrives").unwrap();
            assert_eq!(received, Some(number.to_string().into()));
        }
    }
    assert_eq!(writes.load(Ordering::Relaxed), at_once + MANY);
    assert_eq!(polls.load(Ordering::Relaxed), MANY, "no client's task was woken");
}

/// Writing to many clients is no reason to keep other tasks of the thread waiting.
#[tokio::test]
async fn other_tasks_have_their_turns_among_the_writes() {
    let hub = Hub::default();
    let Counted { clients, writes, .. } = counted(&hub, 1000).await;
    let publisher = handle(&hub, |ws| async move {
        for number in 0..5 {
            ws.hub().broadcast_except(ws.id(), number.to_string());
        }
        pending().await
    });
    let (mut before, mut most) = (0, 0);
    let other = tokio::spawn(poll_fn(move |cx| {
        let now = writes.load(Ordering::Relaxed);
        most = most.max(now - before);
        before = now;
        if now >= 1000 {
            return Poll::Ready((now, most));
        }
        // Always ready, and polled whenever it is its turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
    assert_eq!(timeout(Duration::from_secs(20), other).await.unwrap().unwrap(), (1000, 128));
    stop(publisher).await;
    drop(clients);
}

/// A transport that panics when it is first written to.
struct Broken(bool);

impl AsyncRead for Broken {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Broken {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        assert!(std::mem::replace(&mut self.0, true), "the test wants it");
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Written by the turn itself, and by its task.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transport_that_panics_keeps_no_message_from_the_others() {
    for before in [10, 200] {
        let hub = Hub::default();
        let mut peers = crowd(&hub, before, 1 << 16).await;
        let broken = WebSocket::new(Broken(false), Handover::server(), &Config::default());
        let _broken = hub.admit(broken, ClientInfo::default()).unwrap();
        peers.extend((before..MANY).map(|_| Peer::join(&hub, 1 << 16)));
        let publisher = handle(&hub, |ws| async move {
            to_others(&ws, 3);
            pending().await
        });
        for peer in &mut peers {
            assert_eq!(peer.take(3).await, numbers(0..3));
        }
        publisher.abort();
        assert_eq!(publisher.await.unwrap_err().is_panic(), before == 10);
    }
}

/// In the slice that the turn writes itself, and among the others, which no task can write to.
#[test]
fn a_transport_that_panics_keeps_no_message_from_the_others_without_a_runtime() {
    for before in [10, 200] {
        let hub = Hub::default();
        let admit = || {
            let (client, server) = duplex(1 << 16);
            let server = WebSocket::new(server, Handover::server(), &Config::default());
            (hub.admit(server, ClientInfo::default()).unwrap(), client)
        };
        let mut clients: Vec<_> = (0..before).map(|_| admit()).collect();
        let broken = WebSocket::new(Broken(false), Handover::server(), &Config::default());
        let _broken = hub.admit(broken, ClientInfo::default()).unwrap();
        clients.extend((before..MANY).map(|_| admit()));
        let (_other, publisher) = pair(Config::default());
        let mut running = Box::pin(hub.run(publisher, ClientInfo::default(), |ws| async move {
            to_others(&ws, 3);
            pending::<Result<(), Error>>().await
        }));
        let polled =
            catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
        assert!(polled.is_err());
        for (_, client) in &clients {
            assert_eq!(client.tap().peer().counts().bytes_written, 3 * 92, "{before}");
        }
    }
}

/// The call has queued the message and panics before its client is listed: the client's own task writes it.
#[tokio::test]
async fn a_message_whose_publisher_panics_is_written_by_the_clients_own_task() {
    let hub = Hub::default();
    let broken = WebSocket::new(Broken(false), Handover::server(), &Config::default());
    let mut broken = hub.admit(broken, ClientInfo::default()).unwrap();
    let client = broken.client();
    let driven = tokio::spawn(async move { broken.recv().await.map(drop) });
    yield_now().await;
    let publishing = catch_unwind(AssertUnwindSafe(|| hub.broadcast("news")));
    assert!(publishing.is_err());
    let written = async {
        while client.stats().connection.bytes_queued > 0 {
            yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), written).await.expect("it is written");
    stop(driven).await;
}

/// Publishes in a runtime that does not run its other tasks: in a handler's turn, or in a task without budget.
fn publish_once(hub: &Hub, in_a_turn: bool) -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (_client, server) = pair(Config::default());
    let hub = hub.clone();
    runtime.block_on(async move {
        if !in_a_turn {
            return drop(tokio::spawn(async move { hub.broadcast("news") }).await);
        }
        let mut running = pin!(hub.run(server, ClientInfo::default(), |ws| async move {
            ws.hub().broadcast_except(ws.id(), "news");
            pending::<Result<(), Error>>().await
        }));
        poll_fn(|cx| {
            assert!(running.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    });
    runtime
}

#[test]
fn clients_depend_on_no_runtime_but_their_own() {
    for in_a_turn in [true, false] {
        let hub = Hub::default();
        let runtimes =
            [(); 2].map(|()| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
        let mut clients = Vec::new();
        for runtime in &runtimes {
            clients.push(runtime.block_on(counted(&hub, MANY)).clients);
        }
        let idle = publish_once(&hub, in_a_turn);
        for (runtime, clients) in runtimes.iter().zip(&mut clients) {
            runtime.block_on(async {
                for client in clients {
                    let received = timeout(Duration::from_secs(20), client.recv()).await.expect("it arrives");
                    assert_eq!(received.unwrap(), Some("news".into()), "in a turn: {in_a_turn}");
                }
            });
        }
        drop(idle);
    }
}

/// Each thread lists the clients again, because another one has listed them since.
#[test]
fn threads_that_publish_in_turn_start_one_task_each_in_a_runtime_that_does_not_run() {
    let hub = Hub::default();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut clients = runtime.block_on(counted(&hub, MANY)).clients;
    let tasks = runtime.metrics().num_alive_tasks();
    let turns = Barrier::new(2);
    thread::scope(|scope| {
        for parity in 0..2 {
            let (hub, turns) = (&hub, &turns);
            scope.spawn(move || {
                for number in 0..40 {
                    if number % 2 == parity {
                        drop(publish_once(hub, true));
                    }
                    turns.wait();
                }
            });
        }
    });
    let more = runtime.metrics().num_alive_tasks() - tasks;
    assert!((1..=2).contains(&more), "{more} tasks");
    runtime.block_on(async {
        for client in &mut clients {
            for _ in 0..40 {
                let received = timeout(Duration::from_secs(20), client.recv()).await.expect("it arrives");
                assert_eq!(received.unwrap(), Some("news".into()));
            }
        }
        let ended = async {
            while runtime.metrics().num_alive_tasks() > tasks {
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), ended).await.expect("these tasks end");
    });
}

#[test]
fn what_was_published_on_a_runtime_that_ends_is_written() {
    for in_a_turn in [true, false] {
        let hub = Hub::default();
        let admit = |_| {
            let (client, server) = duplex(1 << 16);
            let socket = Socketlike { writes: Arc::default(), pipe: server };
            let server = WebSocket::new(socket, Handover::server(), &Config::default());
            // Outside of any runtime, so that the publisher's runtime is the only one.
            (hub.admit(server, ClientInfo::default()).unwrap(), client)
        };
        let sockets: Vec<_> = (0..MANY).map(admit).collect();
        drop(publish_once(&hub, in_a_turn));
        for (_, client) in &sockets {
            assert_eq!(client.tap().peer().written(), b"\x81\x04news", "in a turn: {in_a_turn}");
        }
    }
}

#[tokio::test]
async fn a_handler_that_runs_another_one_loses_nothing() {
    let hub = Hub::default();
    let mut peers = crowd(&hub, 3, 1 << 16).await;
    let taps: Vec<_> = peers.iter().map(|peer| peer.tap.clone()).collect();
    let (_client, inner) = pair(Config::default());
    let publisher = handle(&hub, move |ws| async move {
        let publish = |text: &str| _ = ws.hub().publish("room", text);
        publish("outer");
        let inner = ws.hub().run(inner, ClientInfo::default(), |ws| async move {
            ws.hub().publish("room", "inner");
            Ok::<_, Error>(())
        });
        let mut inner = Box::pin(inner);
        assert!(poll_fn(|cx| Poll::Ready(inner.as_mut().poll(cx))).await.is_pending());
        publish("outer again");
        // The outer turn lasts, and the inner one has listed no other client.
        assert!(taps.iter().all(|tap| tap.written().ends_with(b"ready")));
        pending().await
    });
    for peer in &peers {
        peer.handle.join("room").unwrap();
    }
    for peer in &mut peers {
        assert_eq!(peer.take(3).await, ["outer", "inner", "outer again"]);
    }
    stop(publisher).await;
}

#[tokio::test]
async fn latest_values_of_a_turn_are_written_together() {
    let hub = Hub::default();
    let mut peers = crowd(&hub, 3, 1 << 16).await;
    let before: Vec<_> = peers.iter().map(|peer| peer.tap.counts().writes).collect();
    let publisher = handle(&hub, |ws| async move {
        for number in 0..10 {
            ws.hub().broadcast_latest(format!("key {}", number % 2), number.to_string());
        }
        pending().await
    });
    for (peer, before) in peers.iter_mut().zip(before) {
        assert_eq!(peer.take(10).await, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!(peer.tap.counts().writes - before, 1);
    }
    stop(publisher).await;
}
