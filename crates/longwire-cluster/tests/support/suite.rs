//! Promises that hold over every broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longwire_cluster::{Backplane, Channel, ClusterEvent, ClusterEvents, ClusterOptions, ClusterState, Gap};
use longwire_connection::Message;
use longwire_hub::ClientInfo;
use tokio::time::{Instant, sleep, timeout};

use super::broker::{Broker, Network};
use super::{Client, Shared, TestNode, in_order};

/// Runs tests of this module as tests over a broker.
macro_rules! suite {
    ($broker:ty: $($name:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let broker = <$broker as $crate::support::broker::Broker>::start().await;
            if let Some(broker) = broker {
                $crate::support::suite::$name(broker).await;
            }
        }
    )+};
}
pub(crate) use suite;

const LEASE: Duration = Duration::from_secs(3);

fn options() -> ClusterOptions {
    ClusterOptions::default().with_lease(LEASE)
}

async fn node(broker: &impl Broker) -> TestNode {
    TestNode::new(broker.connect().await, options()).await
}

async fn event<R>(events: &mut ClusterEvents, mut want: impl FnMut(ClusterEvent) -> Option<R>) -> R {
    let search = async {
        loop {
            let event = events.next().await.expect("it keeps up").expect("the node is there");
            if let Some(found) = want(event) {
                return found;
            }
        }
    };
    timeout(Duration::from_secs(60), search).await.expect("the event comes")
}

async fn lost(events: &mut ClusterEvents) {
    event(events, |event| matches!(event, ClusterEvent::Lost(_)).then_some(())).await;
}

/// Waits until a condition holds, and returns how long that took.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

async fn connected(node: &TestNode) {
    let mut state = node.cluster.state();
    let wait = state.wait_for(|state| matches!(state, ClusterState::Connected));
    timeout(Duration::from_secs(60), wait).await.expect("it connects").expect("the node is there");
}

/// Waits until a node counts so many clients in a room.
async fn count(node: &TestNode, room: &str, expected: usize) -> Duration {
    until(
        &format!("{expected} in {room}"),
        async || matches!(node.cluster.count(room).await, Ok(count) if count == expected),
    )
    .await
}

/// Publishes until a client gets it, because the way is whole again. Returns how long that took.
async fn whole(from: &TestNode, room: &str, to: &mut Client) -> Duration {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let begun = Instant::now();
    let text = format!("whole {}", LAST.fetch_add(1, Ordering::Relaxed));
    loop {
        from.hub.publish(room, text.clone());
        let search = async { while to.text().await != text {} };
        if timeout(Duration::from_millis(100), search).await.is_ok() {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing arrives in {room}");
    }
}

pub(crate) async fn messages_reach_the_clients_of_all_nodes(broker: impl Broker) {
    let (one, two, three) = (node(&broker).await, node(&broker).await, node(&broker).await);
    let mut near = one.member("tea & room.*>").await;
    let mut far = two.member("tea & room.*>").await;
    let mut farther = three.member("tea & room.*>").await;
    let mut elsewhere = three.member("coffee").await;
    let room = "tea & room.*>";
    one.hub.publish(room, "in the room");
    for client in [&mut near, &mut far, &mut farther] {
        assert_eq!(client.text().await, "in the room");
    }
    one.hub.publish_except(room, near.socket.id(), "except near");
    assert_eq!((far.text().await, farther.text().await), ("except near".into(), "except near".into()));
    two.hub.publish_latest(room, "price", "latest");
    for client in [&mut near, &mut far, &mut farther] {
        assert_eq!(client.text().await, "latest");
    }
    three.hub.publish_local(room, "local");
    assert_eq!(farther.text().await, "local");
    three.hub.broadcast("to all");
    for client in [&mut near, &mut far, &mut farther, &mut elsewhere] {
        assert_eq!(client.text().await, "to all");
    }
    // A large one, and bytes that are no text.
    let large: String = "x".repeat(50_000);
    one.hub.publish(room, large.clone());
    assert_eq!(farther.text().await, large);
    one.hub.publish(room, vec![0, 0xff, 13, 10]);
    let received = timeout(Duration::from_secs(10), async {
        while far.ws.recv().await.expect("it is open") != Some(Message::binary(vec![0, 0xff, 13, 10])) {}
    });
    received.await.expect("it arrives");
    // The longest name of a room, all of which is escaped.
    let longest = "*".repeat(1024);
    let mut there = three.member(&longest).await;
    one.hub.publish(&longest, "far away");
    assert_eq!(there.text().await, "far away");
    // Nothing has arrived twice.
    assert_eq!(near.ws.recv().await.expect("it is open"), Some(Message::text(large)));
    assert_eq!(one.cluster.stats().received, 2, "own messages are not counted");
    assert_eq!([&one, &two, &three].map(|node| node.cluster.stats().malformed), [0; 3]);
}

pub(crate) async fn a_message_to_a_user_reaches_it_wherever_it_is(broker: impl Broker) {
    let (one, two, three) = (node(&broker).await, node(&broker).await, node(&broker).await);
    let mut phone = two.client_with(ClientInfo::default().key("ada"));
    let mut desk = three.client_with(ClientInfo::default().key("ada"));
    let mut bob = three.client_with(ClientInfo::default().key("bob"));
    until("two nodes know Ada", async || broker.subscribers(&Channel::Key("ada".into())).await == 2).await;
    until("one node knows Bob", async || broker.subscribers(&Channel::Key("bob".into())).await == 1).await;
    one.hub.send_to("ada", "for Ada");
    one.hub.send_to("bob", "for Bob");
    assert_eq!((phone.text().await, desk.text().await), ("for Ada".into(), "for Ada".into()));
    assert_eq!(bob.text().await, "for Bob");
    assert_eq!(phone.texts().await, [""; 0]);
}

/// Three nodes, 50 rooms, 300 clients: everything arrives, once, and in the order of each publisher.
pub(crate) async fn messages_arrive_in_order(broker: impl Broker) {
    const ROOMS: usize = 50;
    const CLIENTS: usize = 300;
    const LAST: &str = "end 0";
    let nodes = [node(&broker).await, node(&broker).await, node(&broker).await];
    let mut receiving = Vec::new();
    for number in 0..CLIENTS {
        let node = &nodes[number % 3];
        let room = number / 3 % ROOMS;
        let mut client = node.member(&room.to_string()).await;
        receiving.push(tokio::spawn(async move {
            let mut texts = Vec::new();
            loop {
                let text = client.text().await;
                if text == LAST {
                    return (room, in_order(&texts));
                }
                texts.push(text);
            }
        }));
    }
    let begun = Instant::now();
    let mut publishing = Vec::new();
    for (name, node) in ["a", "b", "c"].into_iter().zip(&nodes) {
        let hub = node.hub.clone();
        publishing.push(tokio::spawn(async move {
            let mut sent = [0_u64; ROOMS];
            let mut room = 0;
            while begun.elapsed() < Duration::from_secs(3) {
                for number in 0..50 {
                    // Two in a row, so that they are handed over together.
                    room = (room + number % 2 * 7) % ROOMS;
                    hub.publish(room.to_string(), format!("{name} {}", sent[room]));
                    sent[room] += 1;
                }
                sleep(Duration::from_millis(25)).await;
            }
            (name, sent)
        }));
    }
    let mut sent = Vec::new();
    for publisher in publishing {
        sent.push(publisher.await.expect("it does not panic"));
    }
    // One node's last message does not come after the others' last ones.
    sleep(Duration::from_secs(1)).await;
    nodes[0].hub.broadcast(LAST);
    for client in receiving {
        let (room, last) = client.await.expect("everything is in order");
        let expected: BTreeMap<_, _> =
            sent.iter().map(|(name, sent)| ((*name).to_owned(), sent[room] - 1)).collect();
        assert_eq!(last, expected, "room {room}");
    }
    let total: u64 = sent.iter().flat_map(|(_, sent)| sent).sum();
    eprintln!("{total} messages published, each to 6 clients, in {:?}", begun.elapsed());
    assert_eq!(nodes.each_ref().map(|node| node.cluster.stats().gaps), [0; 3]);
}

pub(crate) async fn a_node_without_members_gets_nothing(broker: impl Broker) {
    const COUNT: u64 = 200;
    const SIZE: u64 = 10_000;
    let (one, two, three) = (node(&broker).await, node(&broker).await, node(&broker).await);
    let _near = one.member("tea").await;
    let mut far = two.member("tea").await;
    let _elsewhere = three.member("coffee").await;
    assert_eq!(broker.subscribers(&Channel::Room("tea".into())).await, 2);
    assert_eq!(broker.subscribers(&Channel::Room("coffee".into())).await, 1);
    let before = broker.sent().await.expect("it is counted");
    let text = "x".repeat(usize::try_from(SIZE).expect("it is small"));
    for _ in 0..COUNT {
        one.hub.publish("tea", text.clone());
        assert_eq!(far.text().await, text);
    }
    let sent = broker.sent().await.expect("it is counted") - before;
    // To the second node, and back to the first.
    let tenths = sent * 10 / (COUNT * SIZE);
    eprintln!("{tenths}/10 copies of each message have left the broker");
    assert!((10..25).contains(&tenths), "{tenths}");
    assert_eq!(three.cluster.stats().received, 0);

    // The room is given up after the linger.
    drop(far);
    let took =
        until("the room is given up", async || broker.subscribers(&Channel::Room("tea".into())).await == 1)
            .await;
    assert!(took > Duration::from_secs(3), "{took:?}");
}

pub(crate) async fn presence_is_the_same_on_all_nodes(broker: impl Broker) {
    let (one, two, three) = (node(&broker).await, node(&broker).await, node(&broker).await);
    let _near = one.member("tea").await;
    let (far, _more) = (two.member("tea").await, two.member("tea").await);
    let farther = three.member("tea").await;
    let nodes = [&one, &two, &three];
    for node in nodes {
        count(node, "tea", 4).await;
    }
    let members = async |node: &TestNode| node.cluster.members("tea").await.expect("the broker is there");
    let expected = members(&one).await;
    for node in nodes {
        assert_eq!(members(node).await, expected);
        assert_eq!(node.cluster.nodes().len(), 3);
    }
    drop(far);
    for node in nodes {
        count(node, "tea", 3).await;
    }
    // A node that dies says nothing.
    drop(three);
    let took = count(&one, "tea", 2).await;
    eprintln!("the members of a dead node are gone after {took:?}, with a lease of {LEASE:?}");
    assert!((LEASE / 2..LEASE + Duration::from_secs(2)).contains(&took), "{took:?}");
    drop(farther);
    two.cluster.leave().await;
    let took = count(&one, "tea", 1).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

pub(crate) async fn a_broker_that_starts_again_is_noticed(mut broker: impl Broker) {
    let (one, two, three) = (node(&broker).await, node(&broker).await, node(&broker).await);
    let (mut near, mut far) = (one.member("tea").await, two.member("tea").await);
    let _more = (one.member("coffee").await, three.member("tea").await);
    count(&one, "tea", 3).await;
    let mut events = one.cluster.events();
    broker.kill();
    let begun = Instant::now();
    lost(&mut events).await;
    eprintln!("noticed after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(2));
    // Those here still get it.
    one.hub.publish("tea", "lost elsewhere");
    assert_eq!(near.text().await, "lost elsewhere");
    // A room that is joined meanwhile, and one that is left.
    let mut late = one.client();
    late.join("late");
    sleep(Duration::from_secs(1)).await;
    assert!(!one.cluster.is_connected());
    broker.restart().await;
    let begun = Instant::now();
    let mut gaps = Vec::new();
    let restored = |event| match event {
        ClusterEvent::Gap(Gap::Room(room)) => {
            gaps.push(room);
            None
        }
        ClusterEvent::Restored => Some(()),
        _ => None,
    };
    event(&mut events, restored).await;
    gaps.sort();
    assert_eq!(gaps, [Arc::from("coffee"), Arc::from("tea")]);
    eprintln!("restored after {:?}", begun.elapsed());
    connected(&two).await;
    connected(&three).await;
    let to_far = whole(&one, "tea", &mut far).await;
    let to_near = whole(&two, "tea", &mut near).await;
    let to_late = whole(&three, "late", &mut late).await;
    eprintln!("whole after {:?} ({to_far:?}, {to_near:?}, {to_late:?})", begun.elapsed());
    count(&one, "tea", 3).await;
    count(&three, "late", 1).await;
    eprintln!("presence is whole after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert!(one.cluster.stats().lost > 0);
}

pub(crate) async fn a_broker_that_answers_nothing_is_noticed(broker: impl Broker) {
    let (one, two) = (node(&broker).await, node(&broker).await);
    let (mut near, mut far) = (one.member("tea").await, two.member("tea").await);
    count(&one, "tea", 2).await;
    let mut events = one.cluster.events();
    broker.freeze();
    let begun = Instant::now();
    lost(&mut events).await;
    eprintln!("noticed after {:?}", begun.elapsed());
    assert!(begun.elapsed() < LEASE / 3 + Duration::from_secs(6));
    sleep(Duration::from_secs(4)).await;
    broker.thaw();
    let begun = Instant::now();
    connected(&one).await;
    connected(&two).await;
    let (to_far, to_near) = (whole(&one, "tea", &mut far).await, whole(&two, "tea", &mut near).await);
    count(&one, "tea", 2).await;
    eprintln!("whole after {:?} ({to_far:?}, {to_near:?})", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(15));
}

pub(crate) async fn ten_thousand_rooms_are_subscribed_to_again(mut broker: impl Broker) {
    const ROOMS: usize = 10_000;
    let (one, two) = (node(&broker).await, node(&broker).await);
    let before = resident();
    // A client may be in 1024 rooms.
    let mut clients: Vec<_> = std::iter::repeat_with(|| one.client()).take(10).collect();
    let begun = Instant::now();
    for room in 0..ROOMS {
        clients[room / 1000].join(&room.to_string());
    }
    until("all are subscribed to", async || one.cluster.stats().subscriptions == ROOMS).await;
    eprintln!(
        "{ROOMS} rooms are joined after {:?}, and take {} KiB in all",
        begun.elapsed(),
        resident().saturating_sub(before)
    );
    broker.kill();
    until("it is noticed", async || !one.cluster.is_connected()).await;
    broker.restart().await;
    let begun = Instant::now();
    connected(&one).await;
    eprintln!("restored after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20));
    connected(&two).await;
    for room in [0, 1, 4999, 9999] {
        assert_eq!(broker.subscribers(&Channel::Room(room.to_string().into())).await, 1, "{room}");
        whole(&two, &room.to_string(), &mut clients[room / 1000]).await;
    }
    // All rooms are asked about at first, and a call may find the node busy with that.
    until("the client is counted", async || two.cluster.count("77").await.ok() == Some(1)).await;
    // They are given up together.
    drop(clients);
    until("all are given up", async || one.cluster.stats().subscriptions == 0).await;
    let last = Channel::Room("9999".into());
    until("the broker knows", async || broker.subscribers(&last).await == 0).await;
    assert!(one.cluster.is_connected());
}

pub(crate) async fn a_slow_node_has_a_gap_and_recovers(broker: impl Broker) {
    const MOST: u64 = 5_000;
    let one = node(&broker).await;
    let two = TestNode::new(broker.connect().await, options().with_inbox(64 * 1024)).await;
    // Its queue is full soon.
    let _ignored = two.member("tea").await;
    let mut events = two.cluster.events();
    // Three fit, and more arrive at once.
    let pad = "x".repeat(20_000);
    let mut sent = 0;
    while two.cluster.stats().overflowed == 0 {
        assert!(sent < MOST, "nothing overflows");
        for _ in 0..100 {
            one.hub.publish("tea", format!("{sent} {pad}"));
            sent += 1;
        }
        while one.cluster.stats().published < sent {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let is_gap = |event| matches!(event, ClusterEvent::Gap(Gap::Room(_))).then_some(());
    event(&mut events, is_gap).await;
    let mut far = two.member("tea").await;
    whole(&one, "tea", &mut far).await;
    let stats = two.cluster.stats();
    eprintln!("{} of {sent} messages were dropped, {} gaps", stats.overflowed, stats.gaps);
    // What comes next does not report the gap again.
    let gaps = stats.gaps;
    one.hub.publish("tea", "next");
    while far.text().await != "next" {}
    assert_eq!(two.cluster.stats().gaps, gaps);
    assert!(two.cluster.is_connected());
}

/// Calls fail at once while there is no connection, and in time if the broker does not answer.
pub(crate) async fn calls_fail_in_time(mut broker: impl Broker) {
    let link = Arc::new(broker.connect().await);
    let one = TestNode::new(Shared(Arc::clone(&link)), options()).await;
    // More than fits into the buffers on the way, which may be some MiB.
    let channel = |n: usize| Channel::Room(n.to_string().into());
    let messages: Vec<_> = (0..20_000).map(|n| (channel(n), vec![0; 2000].into())).collect();
    let channels: Vec<_> = (0..1000).map(channel).collect();
    link.publish(&messages).await.expect("the broker is there");
    let check = async |limit: Duration| {
        let begun = Instant::now();
        link.probe().await.expect_err("the broker is away");
        assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
        let begun = Instant::now();
        link.publish(&messages).await.expect_err("the broker is away");
        assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
        let begun = Instant::now();
        link.subscribe(&channels).await.expect_err("the broker is away");
        assert!(begun.elapsed() < limit, "subscribe {:?}", begun.elapsed());
    };
    broker.freeze();
    // The signal takes a moment.
    sleep(Duration::from_millis(100)).await;
    check(Duration::from_secs(6)).await;
    broker.thaw();
    until("it is there again", async || link.probe().await.is_ok()).await;
    until("it takes messages again", async || link.publish(&messages).await.is_ok()).await;
    broker.kill();
    until("it is noticed", async || !one.cluster.is_connected()).await;
    check(Duration::from_millis(500)).await;
    broker.restart().await;
    until("it is there again", async || link.probe().await.is_ok()).await;
    link.subscribe(&channels).await.expect("the broker is there");
    link.publish(&messages).await.expect("the broker is there");
    assert_eq!(broker.subscribers(&channels[999]).await, 1);
    link.unsubscribe(&channels).await.expect("the broker is there");
    until("they are given up", async || broker.subscribers(&channels[999]).await == 0).await;
}

/// What a node gets back of its own takes no room in its inbox.
pub(crate) async fn own_messages_are_not_in_the_way(broker: impl Broker) {
    let one = TestNode::new(broker.connect().await, options().with_inbox(64 * 1024)).await;
    let _ignored = one.member("tea").await;
    let pad = "x".repeat(20_000);
    for round in 0..20 {
        for _ in 0..12 {
            one.hub.publish("tea", pad.clone());
        }
        until("it is published", async || one.cluster.stats().published == (round + 1) * 12).await;
    }
    assert_eq!((one.cluster.stats().overflowed, one.cluster.stats().gaps), (0, 0));
}

/// A connection over which nothing comes any more, and whose end nobody tells, is replaced.
pub(crate) async fn a_dead_connection_is_replaced<B: Broker>(
    broker: B,
    port: u16,
    link: impl AsyncFnOnce(u16) -> B::Link,
) {
    let network = Network::to(port).await;
    let one = TestNode::new(link(network.port).await, options()).await;
    let two = node(&broker).await;
    let (mut near, mut far) = (one.member("tea").await, two.member("tea").await);
    count(&one, "tea", 2).await;
    let mut events = one.cluster.events();
    network.swallow();
    let begun = Instant::now();
    lost(&mut events).await;
    eprintln!("noticed after {:?}", begun.elapsed());
    connected(&one).await;
    eprintln!("replaced after {:?}", begun.elapsed());
    whole(&one, "tea", &mut far).await;
    whole(&two, "tea", &mut near).await;
    count(&one, "tea", 2).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(two.cluster.stats().outages, 0);
}

/// Returns the memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
