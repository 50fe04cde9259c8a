//! Clusters over the broker in the process, in virtual time.

mod support;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use longwire_cluster::{
    Append, Backplane, BackplaneError, BoxFuture, Channel, Cluster, ClusterError, ClusterEvent,
    ClusterEvents, ClusterOptions, ClusterState, Gap, History, Inbox, Memory, NodeId, Past, Position,
};
use longwire_connection::{Config, Handover, Message, WebSocket};
use longwire_hub::{ClientInfo, Hub};
use support::history::history_suite;
use support::{TestNode, in_order};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, timeout};

fn options() -> ClusterOptions {
    ClusterOptions::default()
}

async fn node(broker: &Memory) -> TestNode {
    TestNode::new(broker.clone(), options()).await
}

/// Waits for an event.
async fn event<R>(events: &mut ClusterEvents, mut want: impl FnMut(ClusterEvent) -> Option<R>) -> R {
    let search = async {
        loop {
            let event = events.next().await.expect("it keeps up").expect("the node is there");
            if let Some(found) = want(event) {
                return found;
            }
        }
    };
    timeout(Duration::from_secs(120), search).await.expect("the event comes")
}

fn is_gap_of(room: &str) -> impl FnMut(ClusterEvent) -> Option<()> {
    move |event| matches!(event, ClusterEvent::Gap(Gap::Room(name)) if &*name == room).then_some(())
}

#[tokio::test(start_paused = true)]
async fn messages_reach_the_clients_of_all_nodes() {
    let broker = Memory::new();
    let (one, other) = (node(&broker).await, node(&broker).await);
    let mut near = one.member("tea").await;
    let mut far = other.member("tea").await;
    let mut elsewhere = other.member("coffee").await;

    assert_eq!(one.hub.publish("tea", "in the room").accepted, 1, "those of other nodes are not counted");
    assert_eq!((near.text().await, far.text().await), ("in the room".into(), "in the room".into()));
    one.hub.publish_except("tea", near.socket.id(), "from near");
    // The client with the same number on the other node is another one.
    assert_eq!(near.socket.id(), far.socket.id());
    assert_eq!(far.text().await, "from near");
    other.hub.broadcast("to all");
    assert_eq!(near.text().await, "to all");
    one.hub.publish_local("tea", "here only");
    one.hub.broadcast_local("here only, too");
    for _ in 0..2 {
        one.hub.publish_latest("tea", "price", "latest");
    }
    one.hub.publish_waiting("tea", "patient", Duration::from_secs(1)).await;
    assert_eq!(near.texts().await, ["here only", "here only, too", "latest", "latest", "patient"]);
    assert_eq!(far.texts().await, ["to all", "latest", "latest", "patient"]);
    assert_eq!(elsewhere.texts().await, ["to all"]);
    one.hub.publish("tea", Bytes::from_static(b"\xff"));
    assert_eq!(far.ws.recv().await.expect("it is open"), Some(Message::binary(b"\xff".as_slice())));
    assert_eq!((one.cluster.stats().published, other.cluster.stats().received), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn a_message_to_a_user_reaches_it_wherever_it_is() {
    let broker = Memory::new();
    let (one, other) = (node(&broker).await, node(&broker).await);
    let mut phone = one.client_with(ClientInfo::default().key("ada"));
    let mut desk = other.client_with(ClientInfo::default().key("ada"));
    let mut bob = other.client_with(ClientInfo::default().key("bob"));
    sleep(Duration::from_millis(1)).await;
    one.hub.send_to("ada", "for Ada");
    one.hub.send_to("bob", "for Bob");
    one.hub.send_to("eve", "for nobody");
    assert_eq!((phone.text().await, desk.text().await), ("for Ada".into(), "for Ada".into()));
    assert_eq!(bob.text().await, "for Bob");
    assert_eq!(broker.subscribers(&Channel::Key("ada".into())), 2);
    drop((phone, desk));
    sleep(Duration::from_secs(6)).await;
    assert_eq!(broker.subscribers(&Channel::Key("ada".into())), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_hears_only_of_rooms_with_clients_of_its_own() {
    let broker = Memory::new();
    let (one, other) = (node(&broker).await, node(&broker).await);
    let _near = one.member("tea").await;
    let channel = Channel::Room("tea".into());
    assert_eq!(broker.subscribers(&channel), 1);
    let before = broker.delivered_to(other.cluster.id());
    for n in 0..100 {
        one.hub.publish("tea", n.to_string());
    }
    assert_eq!(broker.delivered_to(other.cluster.id()), before);
    assert_eq!(other.cluster.stats().received, 0);

    // Clients that come and go do not change the subscription.
    for _ in 0..50 {
        let client = other.member("tea").await;
        assert_eq!(broker.subscribers(&channel), 2);
        drop(client);
        sleep(Duration::from_secs(4)).await;
        assert_eq!(broker.subscribers(&channel), 2);
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(broker.subscribers(&channel), 1);
    assert_eq!(other.cluster.stats().subscriptions, 0);
}

#[tokio::test(start_paused = true)]
async fn clients_that_were_there_before_are_served() {
    let broker = Memory::new();
    let one = node(&broker).await;
    let hub = Hub::default();
    let (mut ws, server) = longwire_connection::testing::pair(Config::default());
    let socket = hub.admit(server, ClientInfo::default().key("ada")).expect("the hub is open");
    socket.join("tea").expect("the client is connected");
    let cluster = Cluster::join(&hub, broker.clone(), options()).await.expect("the broker is there");
    cluster.subscribed("tea").await.expect("the node is there");
    sleep(Duration::from_millis(1)).await;
    one.hub.publish("tea", "room");
    one.hub.send_to("ada", "user");
    for expected in ["room", "user"] {
        let received = timeout(Duration::from_secs(5), ws.recv()).await.expect("it arrives");
        assert_eq!(received.expect("it is open"), Some(expected.into()));
    }
    assert_eq!(one.cluster.count("tea").await.expect("the broker is there"), 1);
}

#[tokio::test(start_paused = true)]
async fn presence_is_the_same_on_all_nodes() {
    let broker = Memory::new();
    let options_of =
        |name: &str| options().with_name(name).with_member_data(|client| client.id().to_string().into());
    let one = TestNode::new(broker.clone(), options_of("one")).await;
    let mut events = one.cluster.events();
    let other = TestNode::new(broker.clone(), options_of("other")).await;
    let third = TestNode::new(broker.clone(), options_of("third")).await;
    let _near = one.member("tea").await;
    let far = other.member("tea").await;
    let _more = other.member("tea").await;
    let seen_by = async |node: &TestNode| {
        let members = node.cluster.members("tea").await.expect("the broker is there");
        assert_eq!(node.cluster.count("tea").await.expect("the broker is there"), members.len());
        let mut found: Vec<_> = members.into_iter().map(|it| (it.node, it.client.value(), it.data)).collect();
        found.sort_by_key(|(node, client, _)| (*node != one.cluster.id(), *client));
        found
    };
    let data = |id: u64| Bytes::from(id.to_string());
    let (first, second) = (one.cluster.id(), other.cluster.id());
    let expected = [(first, 1, data(1)), (second, 1, data(1)), (second, 2, data(2))];
    for node in [&one, &other, &third] {
        // Known by asking, and a second later from memory.
        assert_eq!(seen_by(node).await, expected);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(seen_by(node).await, expected);
    }
    let mut names: Vec<_> = one.cluster.nodes().into_iter().map(|node| node.name.to_string()).collect();
    names[1..].sort();
    assert_eq!(names, ["one", "other", "third"]);
    drop(far);
    let left = event(&mut events, |event| match event {
        ClusterEvent::Left { room, member } => Some((room, member.node, member.client.value())),
        _ => None,
    });
    assert_eq!(left.await, (Arc::from("tea"), second, 1));
    for node in [&one, &other, &third] {
        assert_eq!(node.cluster.count("tea").await.expect("the broker is there"), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_is_gone_after_a_lease_and_a_leaving_one_at_once() {
    let broker = Memory::new();
    let (one, other, third) = (node(&broker).await, node(&broker).await, node(&broker).await);
    let _members = (one.member("tea").await, other.member("tea").await, third.member("tea").await);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(one.cluster.count("tea").await.expect("the broker is there"), 3);
    third.cluster.leave().await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(one.cluster.count("tea").await.expect("the broker is there"), 2);
    broker.cut_silently(other.cluster.id());
    let begun = Instant::now();
    while one.cluster.count("tea").await.expect("the broker is there") == 2 {
        sleep(Duration::from_millis(100)).await;
    }
    let took = begun.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(16)).contains(&took), "{took:?}");
    assert_eq!(one.cluster.nodes().len(), 1);
    broker.heal(other.cluster.id());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(one.cluster.count("tea").await.expect("the broker is there"), 2);
}

#[tokio::test(start_paused = true)]
async fn every_outage_is_reported_and_everything_is_whole_again() {
    let broker = Memory::new();
    let gap = |room: &str| Some(Message::text(format!("gap in {room}")));
    let one = TestNode::new(broker.clone(), options().with_gap_message(gap)).await;
    let other = node(&broker).await;
    let mut near = one.member("tea").await;
    let mut far = other.member("tea").await;
    let mut state = one.cluster.state();
    let mut events = one.cluster.events();
    broker.pause();
    state.changed().await.expect("the node is there");
    assert!(matches!(&*state.borrow_and_update(), ClusterState::Lost { .. }));
    event(&mut events, |event| matches!(event, ClusterEvent::Lost(_)).then_some(())).await;
    assert!(matches!(one.cluster.members("tea").await, Err(ClusterError::Broker(_))));
    // Those here still get it.
    other.hub.publish("tea", "lost for one");
    one.hub.publish("tea", "lost for the other");
    assert_eq!((near.text().await, far.text().await), ("lost for the other".into(), "lost for one".into()));
    // A room that is joined meanwhile.
    let mut late = one.client();
    late.join("late");
    sleep(Duration::from_secs(60)).await;
    assert_eq!((one.cluster.stats().lost, one.cluster.stats().outages), (1, 1));
    broker.resume();
    event(&mut events, is_gap_of("tea")).await;
    event(&mut events, |event| matches!(event, ClusterEvent::Restored).then_some(())).await;
    state.changed().await.expect("the node is there");
    assert!(one.cluster.is_connected());
    one.cluster.subscribed("late").await.expect("the node is there");
    sleep(Duration::from_secs(1)).await;
    other.hub.publish("tea", "whole again");
    other.hub.publish("late", "whole as well");
    let texts = near.texts().await;
    assert_eq!(texts.last().map(String::as_str), Some("whole again"));
    assert!(texts[..texts.len() - 1].iter().all(|text| text == "gap in tea") && texts.len() > 1, "{texts:?}");
    assert_eq!(late.texts().await.last().map(String::as_str), Some("whole as well"));
    assert_eq!(one.cluster.count("tea").await.expect("the broker is there"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_swallows_everything_is_noticed() {
    let broker = Memory::new();
    let (one, other) = (node(&broker).await, node(&broker).await);
    let _members = (one.member("tea").await, other.member("tea").await);
    let mut events = one.cluster.events();
    broker.cut_silently(one.cluster.id());
    let begun = Instant::now();
    event(&mut events, |event| matches!(event, ClusterEvent::Lost(_)).then_some(())).await;
    assert!(begun.elapsed() <= Duration::from_secs(6), "{:?}", begun.elapsed());
    broker.heal(one.cluster.id());
    event(&mut events, |event| matches!(event, ClusterEvent::Restored).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_is_a_gap() {
    let broker = Memory::new();
    let one = node(&broker).await;
    let other = TestNode::new(broker.clone(), options().with_inbox(10_000)).await;
    let mut far = other.member("tea").await;
    let mut events = other.cluster.events();
    // Without a break, so that the other node has no turn.
    for n in 0..1000 {
        one.hub.publish("tea", format!("one {n}"));
    }
    event(&mut events, is_gap_of("tea")).await;
    let texts = far.texts().await;
    let count = texts.len();
    in_order(&texts);
    assert!((10..900).contains(&count), "{count}");
    assert_eq!(other.cluster.stats().overflowed, 1000 - count as u64);
    one.hub.publish("tea", "one 1000");
    assert_eq!(far.texts().await, ["one 1000"]);
}

/// The whole burst would not fit into the client's queue.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_gets_a_burst_from_another_node() {
    let broker = Memory::new();
    let (near, far) = (node(&broker).await, node(&broker).await);
    let mut client = far.member("tea").await;
    for number in 1..=4000 {
        near.hub.publish("tea", format!("{number:0100}"));
    }
    for number in 1..=4000 {
        assert_eq!(client.text().await, format!("{number:0100}"));
    }
    assert_eq!(far.cluster.stats().gaps, 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_is_a_gap_on_the_other_nodes() {
    let broker = Memory::new();
    let one = TestNode::new(broker.clone(), options().with_outbox(10_000)).await;
    let other = node(&broker).await;
    let mut near = one.member("tea").await;
    let mut far = other.member("tea").await;
    let mut events = other.cluster.events();
    for n in 0..150 {
        one.hub.publish("tea", format!("one {n}"));
    }
    let lost = one.cluster.stats().lost;
    assert!(lost > 0);
    event(&mut events, is_gap_of("tea")).await;
    assert_eq!(far.texts().await.len() as u64, 150 - lost);
    assert_eq!(near.texts().await.len(), 150, "those here get everything");
    let gaps = other.cluster.stats().gaps;
    one.hub.publish("tea", "next");
    assert_eq!(far.texts().await, ["next"]);
    assert_eq!(other.cluster.stats().gaps, gaps, "it is told once");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_left_is_alone() {
    let broker = Memory::new();
    let (one, other) = (node(&broker).await, node(&broker).await);
    let mut near = one.member("tea").await;
    let mut far = other.member("tea").await;
    let mut events = one.cluster.events();
    // What was published before reaches the others.
    one.hub.publish("tea", "last words");
    one.cluster.leave().await;
    one.cluster.leave().await;
    assert_eq!(far.text().await, "last words");
    one.hub.publish("tea", "alone");
    other.hub.publish("tea", "without one");
    assert_eq!(near.texts().await, ["last words", "alone"]);
    assert_eq!(far.texts().await, ["without one"]);
    while events.next().await.expect("it keeps up").is_some() {}
    assert!(matches!(one.cluster.members("tea").await, Err(ClusterError::Left)));
    assert!(matches!(one.cluster.subscribed("tea").await, Err(ClusterError::Left)));
    let again = Cluster::join(&one.hub, broker.clone(), options()).await;
    assert!(matches!(again, Err(ClusterError::Linked)));
    assert_eq!(other.cluster.nodes().len(), 1);
    // The one that was refused left nothing behind.
    assert_eq!(broker.subscribers(&Channel::Control), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_dropped_ends_and_frees_its_hub() {
    let broker = Memory::new();
    let one = node(&broker).await;
    let client = one.member("tea").await;
    let events = one.cluster.events();
    let TestNode { hub, cluster } = one;
    drop(cluster);
    let mut events = events;
    while events.next().await.expect("it keeps up").is_some() {}
    assert_eq!(hub.publish("tea", "alone").accepted, 1);
    drop((client, hub));
}

#[tokio::test(start_paused = true)]
async fn a_panicking_function_of_the_application_harms_nobody() {
    let broker = Memory::new();
    let panics = options().with_member_data(|_| panic!("a planted panic"));
    let one = TestNode::new(broker.clone(), panics).await;
    let other = node(&broker).await;
    let mut near = one.member("tea").await;
    other.hub.publish("tea", "still here");
    assert_eq!(near.text().await, "still here");
    assert_eq!(other.cluster.count("tea").await.expect("the broker is there"), 1);
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
        assert!(std::mem::replace(&mut self.0, true), "a planted panic");
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_panics_does_not_end_its_node() {
    for history in [None, Some(History::default())] {
        let broker = Memory::new();
        let mut options = options().with_gap_message(|room| Some(format!("gap in {room}").into()));
        options.history = history;
        let one = TestNode::new(broker.clone(), options.clone()).await;
        let other = TestNode::new(broker.clone(), options).await;
        let mut first = one.member("tea").await;
        let panicking = WebSocket::new(Broken(false), Handover::server(), &Config::default());
        let panicking = one.hub.admit(panicking, ClientInfo::default()).expect("the hub is open");
        panicking.join("tea").expect("it is connected");
        let mut last = one.client();
        last.join("tea");
        let mut events = one.cluster.events();
        other.hub.publish("tea", "some get it");
        event(&mut events, is_gap_of("tea")).await;
        other.hub.publish("tea", "all get it");
        assert_eq!(first.texts().await, ["some get it", "gap in tea", "all get it"], "{history:?}");
        assert_eq!(last.texts().await, ["gap in tea", "all get it"], "{history:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_moves_ends_in_the_truth() {
    let broker = Memory::new();
    let (one, other) = (node(&broker).await, node(&broker).await);
    let client = one.client();
    sleep(Duration::from_millis(1)).await;
    // More than the link remembers, and without a break.
    for n in 0..40_000 {
        assert!(matches!(client.socket.join(format!("{}", n % 100)), Ok(true)));
        assert!(client.socket.leave(format!("{}", n % 100)));
    }
    client.join("7");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(one.cluster.stats().subscriptions, 1);
    assert_eq!(other.cluster.count("7").await.expect("the broker is there"), 1);
    assert_eq!(other.cluster.count("8").await.expect("the broker is there"), 0);
}

/// What holds over every broker, in real time.
mod suite {
    use longwire_cluster::Memory;

    crate::support::suite::suite!(Memory:
        messages_reach_the_clients_of_all_nodes,
        a_message_to_a_user_reaches_it_wherever_it_is,
        messages_arrive_in_order,
        a_broker_that_starts_again_is_noticed,
        ten_thousand_rooms_are_subscribed_to_again,
        a_slow_node_has_a_gap_and_recovers,
    );
}

/// A connection to the broker whose calls can be made to fail, and whose news are told by the test.
#[derive(Clone)]
struct Tricky(Arc<Trick>);

struct Trick {
    inner: Memory,
    inbox: Mutex<Option<Inbox>>,
    refuses_publish: AtomicBool,
    /// Set to drop what is published, without an error.
    swallows: AtomicBool,
    /// Set to report a loss, and that it is over, before the next probe succeeds.
    breaks: AtomicBool,
    refuses_subscribe: AtomicBool,
    refuses_unsubscribe: AtomicBool,
    hides_history: AtomicBool,
    panics: AtomicBool,
    history_panics: AtomicBool,
}

impl Tricky {
    fn new(broker: &Memory) -> Self {
        Self(Arc::new(Trick {
            inner: broker.clone(),
            inbox: Mutex::default(),
            refuses_publish: AtomicBool::new(false),
            swallows: AtomicBool::new(false),
            breaks: AtomicBool::new(false),
            refuses_subscribe: AtomicBool::new(false),
            refuses_unsubscribe: AtomicBool::new(false),
            hides_history: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            history_panics: AtomicBool::new(false),
        }))
    }

    fn inbox(&self) -> Inbox {
        self.0.inbox.lock().expect("no panic").clone().expect("it was started")
    }

    fn refuse(flag: &AtomicBool) -> Result<(), BackplaneError> {
        if flag.load(Ordering::Relaxed) { Err(BackplaneError::new("refused")) } else { Ok(()) }
    }
}

impl Backplane for Tricky {
    fn start(&self, node: NodeId, inbox: Inbox) -> BoxFuture<'_, Result<(), BackplaneError>> {
        *self.0.inbox.lock().expect("no panic") = Some(inbox.clone());
        self.0.inner.start(node, inbox)
    }

    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async move {
            Self::refuse(&self.0.refuses_subscribe)?;
            self.0.inner.subscribe(channels).await
        })
    }

    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async move {
            Self::refuse(&self.0.refuses_unsubscribe)?;
            self.0.inner.unsubscribe(channels).await
        })
    }

    fn publish<'a>(&'a self, messages: &'a [(Channel, Bytes)]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async move {
            assert!(!self.0.panics.load(Ordering::Relaxed), "a planted panic");
            Self::refuse(&self.0.refuses_publish)?;
            if self.0.swallows.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.0.inner.publish(messages).await
        })
    }

    fn keep<'a>(&'a self, history: &'a History) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.0.inner.keep(history)
    }

    fn append<'a>(&'a self, messages: &'a [Append]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.0.inner.append(messages)
    }

    fn history<'a>(
        &'a self,
        room: &'a Arc<str>,
        after: Option<Position>,
        most: usize,
    ) -> BoxFuture<'a, Result<Past, BackplaneError>> {
        assert!(!self.0.history_panics.load(Ordering::Relaxed), "a planted panic");
        if self.0.hides_history.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        self.0.inner.history(room, after, most)
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), BackplaneError>> {
        if self.0.breaks.swap(false, Ordering::Relaxed) {
            self.inbox().lost(BackplaneError::new("it was away for a moment"));
            self.inbox().restored();
        }
        self.0.inner.probe()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.0.inner.stop()
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_answers_is_away_until_its_client_says_that_it_is_back() {
    let broker = Memory::new();
    let tricky = Tricky::new(&broker);
    let one = TestNode::new(tricky.clone(), options()).await;
    let _near = one.member("tea").await;
    let mut events = one.cluster.events();
    tricky.inbox().lost(BackplaneError::new("half of it"));
    event(&mut events, |event| matches!(event, ClusterEvent::Lost(_)).then_some(())).await;
    // Its probes succeed, which says nothing about what arrives.
    sleep(Duration::from_secs(60)).await;
    assert!(!one.cluster.is_connected());
    tricky.inbox().restored();
    event(&mut events, is_gap_of("tea")).await;
    event(&mut events, |event| matches!(event, ClusterEvent::Restored).then_some(())).await;
    // Back before anybody knew that it was away: what arrived meanwhile is missing all the same.
    tricky.inbox().restored();
    event(&mut events, is_gap_of("tea")).await;
    assert_eq!(one.cluster.stats().outages, 1);
}

/// A node that has handed over a message for the room "tea", which is lost, and the events of another one. The next
/// probe reports that.
async fn one_lost() -> (TestNode, TestNode, ClusterEvents) {
    let broker = Memory::new();
    let tricky = Tricky::new(&broker);
    let one = TestNode::new(tricky.clone(), options()).await;
    let other = node(&broker).await;
    sleep(Duration::from_secs(1)).await;
    let events = other.cluster.events();
    tricky.0.swallows.store(true, Ordering::Relaxed);
    one.hub.publish("tea", "lost");
    sleep(Duration::from_millis(1)).await;
    tricky.0.swallows.store(false, Ordering::Relaxed);
    tricky.0.breaks.store(true, Ordering::Relaxed);
    (one, other, events)
}

#[tokio::test(start_paused = true)]
async fn an_answer_confirms_nothing_before_a_loss_that_was_not_noted_yet() {
    let (_one, other, mut events) = one_lost().await;
    let _far = other.member("tea").await;
    event(&mut events, is_gap_of("tea")).await;
}

#[tokio::test(start_paused = true)]
async fn a_leaving_node_tells_what_was_lost_after_it_was_handed_over() {
    let (one, other, mut events) = one_lost().await;
    let _far = other.member("tea").await;
    one.cluster.leave().await;
    event(&mut events, is_gap_of("tea")).await;
    assert_eq!(one.cluster.stats().lost, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_leaving_node_has_handed_over_to_a_broker_that_is_away_is_lost() {
    let broker = Memory::new();
    let tricky = Tricky::new(&broker);
    let one = TestNode::new(tricky.clone(), options()).await;
    tricky.0.swallows.store(true, Ordering::Relaxed);
    one.hub.publish("tea", "lost");
    sleep(Duration::from_millis(1)).await;
    broker.cut(one.cluster.id());
    one.cluster.leave().await;
    assert_eq!(one.cluster.stats().lost, 1);
}

#[tokio::test(start_paused = true)]
async fn a_leaving_node_does_not_wait_for_a_room_whose_last_client_leaves() {
    let tricky = Tricky::new(&Memory::new());
    let one = TestNode::new(tricky.clone(), options().with_history(History::default())).await;
    let client = one.member("tea").await;
    sleep(Duration::from_secs(1)).await;
    tricky.0.hides_history.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let leaves = async {
        sleep(Duration::from_millis(100)).await;
        drop(client);
    };
    tokio::join!(one.cluster.leave(), leaves);
    let waited = begun.elapsed();
    assert!((100..200).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_broker_refuses_is_a_gap_and_no_outage() {
    let broker = Memory::new();
    let tricky = Tricky::new(&broker);
    let one = TestNode::new(tricky.clone(), options()).await;
    let other = node(&broker).await;
    let mut far = other.member("tea").await;
    sleep(Duration::from_secs(1)).await;
    let mut events = other.cluster.events();
    tricky.0.refuses_publish.store(true, Ordering::Relaxed);
    one.hub.publish("tea", "refused");
    sleep(Duration::from_millis(1)).await;
    tricky.0.refuses_publish.store(false, Ordering::Relaxed);
    event(&mut events, is_gap_of("tea")).await;
    one.hub.publish("tea", "next");
    assert_eq!(far.text().await, "next");
    assert_eq!((one.cluster.stats().lost, one.cluster.stats().outages), (1, 0));
    assert_eq!(other.cluster.stats().gaps, 1);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_the_broker_refuses_is_asked_again() {
    let broker = Memory::new();
    let tricky = Tricky::new(&broker);
    let one = TestNode::new(tricky.clone(), options()).await;
    let other = node(&broker).await;
    let _far = other.member("tea").await;
    sleep(Duration::from_secs(3)).await;
    tricky.0.refuses_publish.store(true, Ordering::Relaxed);
    let _near = one.member("tea").await;
    sleep(Duration::from_millis(50)).await;
    tricky.0.refuses_publish.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(one.cluster.count("tea").await.expect("the broker is there"), 2);
    assert_eq!(other.cluster.count("tea").await.expect("the broker is there"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_lost_is_asked_again_soon_whatever_the_lease() {
    let broker = Memory::new();
    let (to_one, to_other) = (Tricky::new(&broker), Tricky::new(&broker));
    let options = options().with_lease(Duration::from_secs(3600));
    let one = TestNode::new(to_one.clone(), options.clone()).await;
    let other = TestNode::new(to_other.clone(), options).await;
    let _members = (other.member("tea").await, one.member("tea").await);
    sleep(Duration::from_secs(3)).await;
    to_one.0.swallows.store(true, Ordering::Relaxed);
    let _unnoticed = one.member("tea").await;
    sleep(Duration::from_millis(50)).await;
    to_one.0.swallows.store(false, Ordering::Relaxed);
    to_other.0.swallows.store(true, Ordering::Relaxed);
    let _noticed = one.member("tea").await;
    sleep(Duration::from_millis(50)).await;
    to_other.0.swallows.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(other.cluster.count("tea").await.expect("the broker is there"), 4);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_could_not_be_given_up_is_given_up_later() {
    let broker = Memory::new();
    let tricky = Tricky::new(&broker);
    let one = TestNode::new(tricky.clone(), options()).await;
    let tea = Channel::Room("tea".into());
    let client = one.member("tea").await;
    assert_eq!(broker.subscribers(&tea), 1);
    tricky.0.refuses_unsubscribe.store(true, Ordering::Relaxed);
    drop(client);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(broker.subscribers(&tea), 1);
    tricky.0.refuses_unsubscribe.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(broker.subscribers(&tea), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_answer_is_told() {
    let broker = Memory::new();
    let tricky = Tricky::new(&broker);
    let one = node(&broker).await;
    let _mute = TestNode::new(tricky.clone(), options()).await;
    sleep(Duration::from_secs(3)).await;
    tricky.0.swallows.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let error = one.cluster.members("tea").await.expect_err("one is missing");
    assert!(matches!(error, ClusterError::Unanswered), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_events_is_told_how_many_are_missing() {
    let tricky = Tricky::new(&Memory::new());
    let one = TestNode::new(tricky.clone(), options()).await;
    let mut events = one.cluster.events();
    for _ in 0..1030 {
        tricky.inbox().dropped(Some(Channel::All));
        sleep(Duration::from_millis(1)).await;
    }
    let missing = events.next().await.expect_err("some are missing");
    let mut there = 0;
    while let Ok(event) = timeout(Duration::from_millis(1), events.next()).await {
        assert!(matches!(event, Ok(Some(ClusterEvent::Gap(_)))), "{event:?}");
        there += 1;
    }
    assert_eq!((there, missing + there), (1024, one.cluster.stats().gaps));
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_messages_are_lost_has_a_gap() {
    let tricky = Tricky::new(&Memory::new());
    let one = TestNode::new(tricky.clone(), options()).await;
    let _ada = one.client_with(ClientInfo::default().key("ada"));
    sleep(Duration::from_secs(1)).await;
    let mut events = one.cluster.events();
    tricky.inbox().dropped(Some(Channel::Key("ada".into())));
    event(&mut events, |event| {
        matches!(event, ClusterEvent::Gap(Gap::Key(key)) if &*key == "ada").then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_in_a_history_is_counted_and_passed_over() {
    let tricky = Tricky::new(&Memory::new());
    let add = |_, message: &Message| {
        assert!(message.as_bytes() != b"unlucky", "a planted panic");
        message.clone()
    };
    let options = options().with_history(History::default()).with_history_message(add);
    let one = TestNode::new(tricky.clone(), options).await;
    let mut client = one.member("tea").await;
    one.hub.publish("tea", "before");
    assert_eq!(client.text().await, "before");
    let foreign = Append { room: "tea".into(), number: 1000, payload: Bytes::from_static(b"?") };
    tricky.0.inner.append(&[foreign]).await.expect("the broker is there");
    sleep(Duration::from_millis(1)).await;
    assert_eq!((one.cluster.stats().malformed, one.cluster.stats().gaps), (1, 0));
    let other = TestNode::new(
        Tricky::new(&tricky.0.inner),
        ClusterOptions::default().with_history(History::default()),
    );
    let other = other.await;
    other.hub.publish("tea", "unlucky");
    other.hub.publish("tea", "after");
    assert_eq!(client.text().await, "after");
}

#[tokio::test(start_paused = true)]
async fn a_room_that_could_not_be_subscribed_to_has_a_gap() {
    let broker = Memory::new();
    let tricky = Tricky::new(&broker);
    let one = TestNode::new(tricky.clone(), options()).await;
    let mut events = one.cluster.events();
    tricky.0.refuses_subscribe.store(true, Ordering::Relaxed);
    let late = one.client();
    late.join("late");
    sleep(Duration::from_secs(3)).await;
    tricky.0.refuses_subscribe.store(false, Ordering::Relaxed);
    event(&mut events, is_gap_of("late")).await;
    one.cluster.subscribed("late").await.expect("the node is there");
    assert_eq!(one.cluster.stats().outages, 0);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_gets_a_client_as_it_is_given_up_stays() {
    let broker = Memory::new();
    let (one, other) = (node(&broker).await, node(&broker).await);
    for round in 0..100 {
        let client = one.member("tea").await;
        drop(client);
        // About the time at which the linger is over.
        sleep(Duration::from_millis(4950 + round)).await;
        let mut client = one.member("tea").await;
        let before = one.cluster.stats().gaps;
        other.hub.publish("tea", "there?");
        let texts = client.texts().await;
        assert!(texts == ["there?"] || one.cluster.stats().gaps > before, "{texts:?} in round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_farewell_that_nobody_waits_for_ends_the_node() {
    let broker = Memory::new();
    let (one, other) = (node(&broker).await, node(&broker).await);
    let _near = one.member("tea").await;
    {
        let mut leaving = std::pin::pin!(one.cluster.leave());
        let polled = std::future::poll_fn(|cx| Poll::Ready(leaving.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    }
    assert!(matches!(one.cluster.members("tea").await, Err(ClusterError::Left)));
    other.hub.publish("tea", "without one");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(one.cluster.stats().received, 0);
    // It waits for nothing.
    one.cluster.leave().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_ends_with_its_tasks() {
    let broker = Memory::new();
    let tricky = Tricky::new(&broker);
    let one = TestNode::new(tricky.clone(), options()).await;
    let mut events = one.cluster.events();
    tricky.0.panics.store(true, Ordering::Relaxed);
    one.hub.publish("tea", "the broker's client panics");
    while events.next().await.expect("it keeps up").is_some() {}
    assert!(matches!(one.cluster.members("tea").await, Err(ClusterError::Left)));
}

/// Without the fetch, the room would stay as it was, and nobody would know.
#[tokio::test(start_paused = true)]
async fn a_node_ends_with_a_fetch_that_panics() {
    let broker = Memory::new();
    let tricky = Tricky::new(&broker);
    let one = TestNode::new(tricky.clone(), options().with_history(History::default())).await;
    let _near = one.member("tea").await;
    let mut events = one.cluster.events();
    tricky.0.history_panics.store(true, Ordering::Relaxed);
    tricky.inbox().dropped(Some(Channel::Room("tea".into())));
    let end = async { while events.next().await.expect("it keeps up").is_some() {} };
    timeout(Duration::from_secs(3600), end).await.expect("the node ends");
}

#[tokio::test(start_paused = true)]
async fn names_that_nobody_can_have_go_nowhere() {
    let broker = Memory::new();
    let (one, other) = (node(&broker).await, node(&broker).await);
    let _far = other.member("tea").await;
    // The first heartbeats, and what follows from them.
    sleep(Duration::from_secs(1)).await;
    one.hub.publish("tea", "first");
    let mut events = other.cluster.events();
    sleep(Duration::from_millis(1)).await;
    let before = broker.published();
    let long = "x".repeat(1025);
    one.hub.publish(&long, "to nobody");
    one.hub.send_to(&long, "to nobody");
    sleep(Duration::from_millis(1)).await;
    assert_eq!((broker.published() - before, one.cluster.stats().lost), (0, 0));
    one.hub.publish_latest("tea", &long, "value");
    assert_eq!(one.cluster.stats().lost, 1);
    event(&mut events, is_gap_of("tea")).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_node_keeps_its_place_among_the_others() {
    let broker = Memory::new();
    let short = || options().with_lease(Duration::from_millis(300)).with_inbox(100_000);
    let one = TestNode::new(broker.clone(), short()).await;
    let other = TestNode::new(broker.clone(), short()).await;
    let mut far = other.member("tea").await;
    let _near = one.member("tea").await;
    sleep(Duration::from_secs(3)).await;
    let mut events = other.cluster.events();
    for n in 0..2000 {
        one.hub.publish("tea", n.to_string());
        if n % 100 == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
    far.texts().await;
    assert_eq!(other.cluster.count("tea").await.expect("the broker is there"), 2);
    while let Ok(Ok(Some(event))) = timeout(Duration::from_millis(1), events.next()).await {
        assert!(!matches!(event, ClusterEvent::NodeWent(_)), "{event:?}");
    }
}

/// A link whose answers to every second [`append`](Backplane::append) are lost.
struct Forgetful {
    link: Memory,
    calls: AtomicUsize,
    /// The time that [`probe`](Backplane::probe) takes.
    probing: Duration,
}

impl Backplane for Forgetful {
    fn start(&self, node: NodeId, inbox: Inbox) -> BoxFuture<'_, Result<(), BackplaneError>> {
        self.link.start(node, inbox)
    }

    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.link.subscribe(channels)
    }

    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.link.unsubscribe(channels)
    }

    fn publish<'a>(&'a self, messages: &'a [(Channel, Bytes)]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.link.publish(messages)
    }

    fn keep<'a>(&'a self, history: &'a History) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.link.keep(history)
    }

    fn append<'a>(&'a self, messages: &'a [Append]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        let is_lost = self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        Box::pin(async move {
            self.link.append(messages).await?;
            if is_lost { Err(BackplaneError::new("the answer is lost")) } else { Ok(()) }
        })
    }

    fn history<'a>(
        &'a self,
        room: &'a Arc<str>,
        after: Option<Position>,
        most: usize,
    ) -> BoxFuture<'a, Result<Past, BackplaneError>> {
        self.link.history(room, after, most)
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), BackplaneError>> {
        Box::pin(async {
            sleep(self.probing).await;
            self.link.probe().await
        })
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.link.stop()
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_storage_was_not_confirmed_is_handed_over_again() {
    let options = options().with_history(History::default());
    let link = Forgetful { link: Memory::new(), calls: AtomicUsize::new(0), probing: Duration::ZERO };
    let node = TestNode::new(link, options).await;
    let mut near = node.member("tea").await;
    for number in 0..5 {
        node.hub.publish("tea", number.to_string());
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(near.texts().await, ["0", "1", "2", "3", "4"]);
    let stats = node.cluster.stats();
    assert_eq!((stats.published, stats.lost, stats.gaps), (5, 0, 0));
}

/// A broker that takes nothing for longer than it recognizes repetitions: what was on its way is given up and told.
#[tokio::test(start_paused = true)]
async fn what_may_be_stored_or_not_is_given_up_after_a_time() {
    let broker = Memory::new();
    let options = options().with_history(History::default()).with_gap_message(|_| Some("gap".into()));
    let node = TestNode::new(broker.clone(), options).await;
    let mut near = node.member("tea").await;
    broker.cut_silently(node.cluster.id());
    node.hub.publish("tea", "on its way");
    sleep(Duration::from_millis(50)).await;
    node.hub.publish("tea", "waits");
    sleep(Duration::from_secs(3600)).await;
    broker.heal(node.cluster.id());
    sleep(Duration::from_secs(30)).await;
    // In the place of what is missing, and not counted as a message.
    assert_eq!(near.texts().await, ["gap", "waits"]);
    assert_eq!((node.cluster.stats().lost, node.cluster.stats().published), (1, 1));
}

/// Waits until nothing more happens, and returns how many gaps were reported in rooms, and for all.
async fn gaps(events: &mut ClusterEvents) -> (usize, usize) {
    let mut gaps = (0, 0);
    while let Ok(event) = timeout(Duration::from_secs(30), events.next()).await {
        match event.expect("it keeps up").expect("the node is there") {
            ClusterEvent::Gap(Gap::Room(_)) => gaps.0 += 1,
            ClusterEvent::Gap(Gap::All) => gaps.1 += 1,
            _ => {}
        }
    }
    gaps
}

/// Messages of a history do not use the channel on which losses are reported.
#[tokio::test(start_paused = true)]
async fn a_lost_broadcast_is_no_gap_in_rooms_with_a_history() {
    let broker = Memory::new();
    let options = || options().with_history(History::default()).with_gap_message(|_| Some("gap".into()));
    let one = TestNode::new(broker.clone(), options()).await;
    let other = TestNode::new(broker.clone(), options().with_inbox(10_000)).await;
    let mut far = other.member("tea").await;
    let mut events = other.cluster.events();
    broker.cut(one.cluster.id());
    sleep(Duration::from_secs(1)).await;
    one.hub.broadcast("lost");
    assert_eq!(one.cluster.stats().lost, 1);
    broker.heal(one.cluster.id());
    assert_eq!(gaps(&mut events).await, (0, 1));
    // Without a break, so that the other node has no turn.
    for n in 0..1000 {
        one.hub.broadcast(n.to_string());
    }
    let (in_rooms, of_all) = gaps(&mut events).await;
    assert!(in_rooms == 0 && of_all > 0, "{in_rooms}, {of_all}");
    assert!(other.cluster.stats().overflowed > 0);
    assert!(far.texts().await.iter().all(|text| text != "gap"));
}

/// More rooms than a node remembers one by one.
#[tokio::test(start_paused = true)]
async fn refusals_in_very_many_rooms_are_a_gap_in_all() {
    const ROOMS: usize = 17_000;
    let broker = Memory::new();
    let options = || options().with_history(History::default()).with_gap_message(|_| Some("gap".into()));
    let one = TestNode::new(broker.clone(), options().with_outbox(1000)).await;
    let other = TestNode::new(broker.clone(), options()).await;
    let (mut near, mut far) = (one.member("last").await, other.member("last").await);
    sleep(Duration::from_secs(2)).await;
    for is_late in [false, true] {
        broker.pause();
        sleep(Duration::from_secs(1)).await;
        one.hub.publish("first", "x".repeat(1000));
        for n in 0..ROOMS {
            one.hub.publish(n.to_string(), "lost");
        }
        one.hub.publish("last", "lost");
        assert_eq!((near.texts().await.len(), far.texts().await.len()), (0, 0));
        broker.resume();
        if is_late {
            // This node misses the reports of the first seconds.
            broker.cut(other.cluster.id());
            sleep(Duration::from_secs(10)).await;
            broker.heal(other.cluster.id());
        }
        sleep(Duration::from_secs(10)).await;
        one.hub.publish("last", "next");
        assert_eq!(near.texts().await, ["gap", "next"], "on the node itself");
        assert_eq!(far.texts().await, ["gap", "next"], "on the other");
    }
}

/// A connection to the broker on which no message of a history arrives by itself.
struct Deaf {
    link: Memory,
    /// Set if the broker takes nothing, without a word.
    is_stuck: bool,
}

impl Backplane for Deaf {
    fn start(&self, node: NodeId, inbox: Inbox) -> BoxFuture<'_, Result<(), BackplaneError>> {
        self.link.start(node, inbox)
    }

    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        Box::pin(async move {
            for channel in channels.iter().filter(|channel| !matches!(channel, Channel::Room(_))) {
                self.link.subscribe(std::slice::from_ref(channel)).await?;
            }
            Ok(())
        })
    }

    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.link.unsubscribe(channels)
    }

    fn publish<'a>(&'a self, messages: &'a [(Channel, Bytes)]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        if self.is_stuck { Box::pin(std::future::pending()) } else { self.link.publish(messages) }
    }

    fn keep<'a>(&'a self, history: &'a History) -> BoxFuture<'a, Result<(), BackplaneError>> {
        self.link.keep(history)
    }

    fn append<'a>(&'a self, messages: &'a [Append]) -> BoxFuture<'a, Result<(), BackplaneError>> {
        if self.is_stuck { Box::pin(std::future::pending()) } else { self.link.append(messages) }
    }

    fn history<'a>(
        &'a self,
        room: &'a Arc<str>,
        after: Option<Position>,
        most: usize,
    ) -> BoxFuture<'a, Result<Past, BackplaneError>> {
        self.link.history(room, after, most)
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), BackplaneError>> {
        self.link.probe()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.link.stop()
    }
}

/// The broker has what was published last, and has not given it back yet.
#[tokio::test(start_paused = true)]
async fn a_leaving_node_fetches_what_its_clients_have_not_got() {
    let broker = Memory::new();
    let options = || options().with_history(History::default()).with_gap_message(|_| Some("gap".into()));
    let one = TestNode::new(Deaf { link: broker.clone(), is_stuck: false }, options()).await;
    let other = TestNode::new(broker.clone(), options()).await;
    let (mut near, mut far) = (one.member("tea").await, other.member("tea").await);
    one.hub.publish("tea", "last words");
    one.cluster.leave().await;
    assert_eq!(near.texts().await, ["last words"]);
    assert_eq!(far.texts().await, ["last words"]);
    assert_eq!((one.cluster.stats().lost, one.cluster.stats().gaps), (0, 0));
    one.hub.publish("tea", "alone");
    // The name would be too long for other nodes.
    one.hub.publish_latest("tea", "x".repeat(1025), "latest");
    assert_eq!(near.texts().await, ["alone", "latest"]);
    assert_eq!(one.cluster.stats().lost, 0);
}

/// With and without a history; the broker is lost, or takes nothing.
#[tokio::test(start_paused = true)]
async fn what_a_leaving_node_cannot_hand_over_is_counted_and_a_gap_for_its_clients() {
    for (history, is_stuck) in
        [None, Some(History::default())].into_iter().flat_map(|it| [(it, false), (it, true)])
    {
        let broker = Memory::new();
        let mut options = options().with_gap_message(|_| Some("gap".into()));
        options.history = history;
        let one = TestNode::new(Deaf { link: broker.clone(), is_stuck }, options).await;
        let (mut near, mut elsewhere) = (one.member("tea").await, one.member("coffee").await);
        let mut events = one.cluster.events();
        if !is_stuck {
            broker.cut_silently(one.cluster.id());
        }
        // A call takes its time, and the rest waits.
        for number in 0..3 {
            one.hub.publish("tea", number.to_string());
            sleep(Duration::from_secs(1)).await;
        }
        one.cluster.leave().await;
        let expected = if history.is_some() { vec!["gap"] } else { vec!["0", "1", "2"] };
        assert_eq!(near.texts().await, expected);
        assert_eq!(elsewhere.texts().await, expected[..usize::from(history.is_some())]);
        assert_eq!(one.cluster.stats().lost, 3, "{history:?}, {is_stuck}");
        let mut gaps = 0;
        while let Some(event) = events.next().await.expect("it keeps up") {
            gaps += usize::from(matches!(event, ClusterEvent::Gap(_)));
        }
        assert_eq!(gaps, 2 * usize::from(history.is_some()));
    }
}

/// The node's tasks end on other threads while the gaps are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_gap_of_a_leaving_node_is_told() {
    const ROOMS: usize = 500;
    let broker = Memory::new();
    let one = TestNode::new(broker.clone(), options().with_history(History::default())).await;
    let client = one.client();
    for number in 0..ROOMS {
        client.join(&number.to_string());
    }
    for number in 0..ROOMS {
        one.cluster.subscribed(number.to_string()).await.expect("the node is there");
    }
    let mut events = one.cluster.events();
    broker.cut_silently(one.cluster.id());
    one.hub.publish("0", "it does not arrive");
    // Nobody waits until it has left.
    assert!(timeout(Duration::from_millis(20), one.cluster.leave()).await.is_err());
    let mut gaps = 0;
    while let Some(event) = events.next().await.expect("it keeps up") {
        gaps += usize::from(matches!(event, ClusterEvent::Gap(Gap::Room(_))));
    }
    assert_eq!(gaps, ROOMS);
}

/// Nothing follows that would show the loss.
#[tokio::test(start_paused = true)]
async fn what_was_missed_is_fetched_as_soon_as_the_broker_is_back() {
    let broker = Memory::new();
    let options = || options().with_history(History::default());
    let one = TestNode::new(broker.clone(), options()).await;
    let other = TestNode::new(broker.clone(), options()).await;
    let mut far = other.member("tea").await;
    broker.cut(other.cluster.id());
    sleep(Duration::from_secs(1)).await;
    one.hub.publish("tea", "missed");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(far.texts().await, [""; 0]);
    broker.heal(other.cluster.id());
    assert_eq!(far.text().await, "missed");
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_follows_the_gap_for_the_rest() {
    let broker = Memory::new();
    let history = History::default().with_messages(2);
    let options = || options().with_history(history).with_gap_message(|_| Some("gap".into()));
    let one = TestNode::new(broker.clone(), options()).await;
    let other = TestNode::new(broker.clone(), options()).await;
    let mut far = other.member("tea").await;
    broker.cut(other.cluster.id());
    sleep(Duration::from_secs(1)).await;
    for number in 1..=5 {
        one.hub.publish("tea", number.to_string());
    }
    sleep(Duration::from_secs(1)).await;
    broker.heal(other.cluster.id());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(far.texts().await, ["gap", "4", "5"]);
}

/// A message arrives with the connection, before the node knows that the broker is back. The history does not have the
/// one before it any more, so that it seems to be the next one.
#[tokio::test(start_paused = true)]
async fn what_is_too_old_after_an_outage_is_a_gap_although_a_message_arrives_first() {
    let broker = Memory::new();
    let history = History::default().with_age(Duration::from_secs(2));
    let options = || options().with_history(history).with_gap_message(|_| Some("gap".into()));
    let one = TestNode::new(broker.clone(), options()).await;
    let probing = Duration::from_millis(500);
    let link = Forgetful { link: broker.clone(), calls: AtomicUsize::new(0), probing };
    let other = TestNode::new(link, options()).await;
    let mut far = other.member("tea").await;
    one.hub.publish("tea", "before");
    assert_eq!(far.text().await, "before");
    broker.cut(other.cluster.id());
    sleep(Duration::from_secs(1)).await;
    one.hub.publish("tea", "missed");
    sleep(Duration::from_secs(10)).await;
    broker.heal(other.cluster.id());
    sleep(Duration::from_millis(100)).await;
    assert!(!other.cluster.is_connected());
    one.hub.publish("tea", "after");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(far.texts().await, ["gap", "after"]);
}

mod history {
    use super::*;

    history_suite!(Memory:
        a_room_has_one_order,
        a_client_resumes_after_a_position,
        a_client_ahead_of_a_quiet_node_does_not_wait,
        what_is_not_kept_is_not_recovered,
        a_node_with_less_history_hides_no_loss_from_one_with_more,
        a_history_that_is_lost_is_a_gap_and_a_new_start,
        what_is_kept_can_be_fetched_although_more_was_missed,
        large_messages_are_fetched,
        the_seam_has_no_hole_and_no_repetition,
        everything_arrives_although_the_broker_is_killed_twice,
        a_repetition_is_delivered_once,
        a_full_outbox_is_counted_and_told_in_its_place,
        a_node_dies_and_its_clients_go_on,
        a_slow_node_catches_up,
    );
}

/// The broker takes nothing that is to be kept, answers otherwise, and the node has given a message up.
#[tokio::test(start_paused = true)]
async fn a_loss_that_a_leaving_node_could_not_tell_is_a_gap_for_its_clients() {
    let broker = Memory::new();
    let history = History::default().with_age(Duration::from_secs(60));
    let options = options().with_history(history).with_gap_message(|_| Some("gap".into()));
    let one = TestNode::new(Deaf { link: broker.clone(), is_stuck: true }, options).await;
    let mut near = one.member("tea").await;
    one.hub.publish("tea", "lost");
    // Now and then, the news of it is on its way.
    for _ in 0..100 {
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(one.cluster.stats().lost, 1);
    assert_eq!(near.texts().await, [""; 0]);
    one.cluster.leave().await;
    assert_eq!(near.texts().await, ["gap"]);
    assert_eq!(one.cluster.stats().lost, 1);
}
