//! Promises of the history of rooms, over every broker.
//!
//! [`everything_arrives_although_the_broker_is_killed_twice`] runs for `LONGWIRE_CLUSTER_SECONDS` (default 10).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use longwire_cluster::{
    Append, Backplane, ClusterError, ClusterEvent, ClusterEvents, ClusterOptions, ClusterState, Gap, History,
    Joined, Past, Position,
};
use longwire_connection::Message;
use tokio::time::{Instant, sleep, timeout};

use super::broker::Broker;
use super::{Client, Shared, TestNode, in_order};

/// Runs tests of this module as tests over a broker.
macro_rules! history_suite {
    ($broker:ty: $($name:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let broker = <$broker as $crate::support::broker::Broker>::start_with_history().await;
            if let Some(broker) = broker {
                $crate::support::history::$name(broker).await;
            }
        }
    )+};
}
pub(crate) use history_suite;

/// The text that precedes a message for clients, and the one for a gap.
pub(crate) const GAP: &str = "gap";

pub(crate) fn options(history: History) -> ClusterOptions {
    let gap = |_: &str| Some(Message::text(GAP));
    let message = |position: Position, message: &Message| match message {
        Message::Text(text) => format!("{position} {text}").into(),
        Message::Binary(_) => message.clone(),
    };
    let options = ClusterOptions::default().with_lease(Duration::from_secs(3)).with_gap_message(gap);
    options.with_history(history).with_history_message(message)
}

pub(crate) async fn node(broker: &impl Broker) -> TestNode {
    TestNode::new(broker.connect().await, options(History::default())).await
}

/// A client in a room with a history, and what it was told first.
pub(crate) async fn join(
    node: &TestNode,
    room: &str,
    since: impl Into<Option<Position>>,
) -> (Client, Joined) {
    let client = node.client();
    let joined = node.cluster.join_since(&client.handle(), room, since, |_| None).await;
    (client, joined.expect("the broker is there"))
}

/// Splits a text for a client into position and content.
fn split(text: &str) -> (Position, &str) {
    let (position, content) = text.split_once(' ').unwrap_or_else(|| panic!("no position: {text}"));
    (position.parse().expect("a position"), content)
}

impl Client {
    /// Receives a message of the history.
    pub(crate) async fn positioned(&mut self) -> (Position, String) {
        let text = self.text().await;
        let (position, content) = split(&text);
        (position, content.to_owned())
    }

    /// Receives the contents of so many messages, and checks that their positions grow.
    pub(crate) async fn contents(&mut self, count: usize) -> Vec<String> {
        let mut before: Option<Position> = None;
        let mut contents = Vec::new();
        for _ in 0..count {
            let (position, content) = self.positioned().await;
            assert!(before.is_none_or(|before| before.offset() < position.offset()), "{content}");
            before = Some(position);
            contents.push(content);
        }
        contents
    }
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn connected(node: &TestNode) {
    let mut state = node.cluster.state();
    let wait = state.wait_for(|state| matches!(state, ClusterState::Connected));
    timeout(Duration::from_secs(60), wait).await.expect("it connects").expect("the node is there");
}

async fn gap_of(events: &mut ClusterEvents, room: &str) {
    let search = async {
        loop {
            if let Some(ClusterEvent::Gap(Gap::Room(name))) = events.next().await.expect("it keeps up")
                && &*name == room
            {
                return;
            }
        }
    };
    timeout(Duration::from_secs(60), search).await.expect("the event comes");
}

/// All clients of a room get the same messages in the same order, with the same positions, wherever they are.
pub(crate) async fn a_room_has_one_order(broker: impl Broker) {
    let nodes = [node(&broker).await, node(&broker).await, node(&broker).await];
    let room = "tea & room.*>";
    let mut clients = Vec::new();
    for node in nodes.iter().chain(&nodes) {
        let (client, joined) = join(node, room, None).await;
        assert!(!joined.recovered, "nothing was asked for");
        clients.push(client);
    }
    let publishing = nodes.iter().zip(["a", "b", "c"]).map(|(node, name)| {
        let hub = node.hub.clone();
        tokio::spawn(async move {
            for number in 0..200 {
                assert_eq!(hub.publish(room, format!("{name} {number}")).accepted, 0, "it comes back");
                if number % 10 == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        })
    });
    for publisher in publishing.collect::<Vec<_>>() {
        publisher.await.expect("it does not panic");
    }
    let mut orders = Vec::new();
    for client in &mut clients {
        let mut texts = Vec::new();
        for _ in 0..600 {
            texts.push(client.text().await);
        }
        orders.push(texts);
    }
    for order in &orders {
        assert_eq!(*order, orders[0], "one order");
    }
    let contents: Vec<_> = orders[0].iter().map(|text| split(text).1.to_owned()).collect();
    assert!(in_order(&contents).values().all(|last| *last == 199));
    // The one who is excluded is a client of the publishing node.
    assert_eq!(clients[0].socket.id(), clients[1].socket.id());
    nodes[0].hub.publish_except(room, clients[0].socket.id(), "except");
    for client in &mut clients[1..] {
        assert_eq!(client.contents(1).await, ["except"]);
    }
    nodes[1].hub.publish_latest(room, "key", "latest");
    for client in &mut clients {
        assert_eq!(client.contents(1).await, ["latest"]);
    }
    // What is in no history has no position.
    nodes[2].hub.broadcast("to all");
    assert_eq!(clients[0].text().await, "to all");
    for node in &nodes {
        let stats = node.cluster.stats();
        assert_eq!((stats.gaps, stats.malformed, stats.lost), (0, 0, 0));
    }
}

pub(crate) async fn a_client_resumes_after_a_position(broker: impl Broker) {
    let (one, two) = (node(&broker).await, node(&broker).await);
    let (mut near, joined) = join(&one, "tea", None).await;
    // An empty room has a position as well.
    let (_, again) = join(&two, "tea", joined.position).await;
    assert_eq!((again.position, again.recovered), (joined.position, true));
    for number in 0..300 {
        one.hub.publish("tea", number.to_string());
        two.hub.publish("coffee", number.to_string());
    }
    let mut positions = Vec::new();
    for _ in 0..300 {
        positions.push(near.positioned().await.0);
    }
    // On a node that has the room, and on one that does not have it yet.
    let third = node(&broker).await;
    let mut expected: Vec<_> = (0..300).map(|number| number.to_string()).collect();
    for (node, since, first) in [
        (&one, joined.position, 0),
        (&two, positions[9], 10),
        (&third, positions[0], 1),
        (&third, positions[298], 299),
        (&one, positions[299], 300),
    ] {
        let mut client = node.client();
        let welcome = |joined: &Joined| Some(format!("welcome {}", joined.recovered).into());
        let joined = node.cluster.join_since(&client.handle(), "tea", since, welcome).await.expect("it can");
        assert_eq!((joined.position, joined.recovered), (since, true));
        assert_eq!(client.text().await, "welcome true");
        assert_eq!(client.contents(expected.len() - first).await, expected[first..]);
        assert_eq!(client.texts().await, [""; 0]);
        let again = node.cluster.join_since(&client.handle(), "tea", since, |_| None).await;
        assert!(matches!(again, Err(ClusterError::InRoom)), "{again:?}");
        two.hub.publish("tea", "live");
        expected.push("live".into());
        assert_eq!(client.contents(1).await, ["live"]);
    }
    assert_eq!(one.cluster.stats().gaps, 0);
}

/// Some brokers count over all rooms. In a quiet room, the position of a node that has subscribed a moment ago is then
/// ahead of that of another node, which has nothing to wait for.
pub(crate) async fn a_client_ahead_of_a_quiet_node_does_not_wait(broker: impl Broker) {
    let (one, two) = (node(&broker).await, node(&broker).await);
    let (mut near, _) = join(&one, "tea", None).await;
    let (mut elsewhere, _) = join(&one, "coffee", None).await;
    for number in 0..10 {
        two.hub.publish("coffee", number.to_string());
    }
    elsewhere.contents(10).await;
    let (_, ahead) = join(&two, "tea", None).await;
    let begun = Instant::now();
    let (mut again, joined) = join(&one, "tea", ahead.position).await;
    assert_eq!((joined.position, joined.recovered), (ahead.position, true));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    two.hub.publish("tea", "live");
    for client in [&mut near, &mut again] {
        assert_eq!(client.contents(1).await, ["live"]);
    }
}

pub(crate) async fn what_is_not_kept_is_not_recovered(broker: impl Broker) {
    let bounds = History::default().with_messages(10).with_age(Duration::from_secs(2));
    let one = TestNode::new(broker.connect().await, options(bounds)).await;
    let two = TestNode::new(broker.connect().await, options(bounds)).await;
    let (mut near, joined) = join(&one, "tea", None).await;
    let publish = async |count: usize, near: &mut Client| {
        let mut positions = Vec::new();
        for number in 0..count {
            one.hub.publish("tea", number.to_string());
            positions.push(near.positioned().await.0);
        }
        positions
    };
    // As many as are kept, and one more.
    let positions = publish(10, &mut near).await;
    for node in [&one, &two] {
        let (mut client, again) = join(node, "tea", joined.position).await;
        assert!(again.recovered);
        assert_eq!(client.contents(10).await.len(), 10);
    }
    publish(1, &mut near).await;
    for node in [&one, &two] {
        let (mut client, again) = join(node, "tea", joined.position).await;
        assert!(!again.recovered && again.position.offset() > positions[9].offset(), "{again:?}");
        let (_, again) = join(node, "tea", positions[0]).await;
        assert!(again.recovered);
        assert_eq!(client.texts().await, [""; 0], "it begins now");
    }
    // What is too old, although there would be room for it.
    let last = publish(1, &mut near).await[0];
    publish(3, &mut near).await;
    sleep(Duration::from_secs(3)).await;
    publish(1, &mut near).await;
    let (_, again) = join(&two, "tea", last).await;
    assert!(!again.recovered, "{again:?}");
    // A position that nobody was given.
    for nowhere in [u64::MAX / 4, u64::MAX] {
        let (_, again) = join(&two, "tea", Position::new(last.epoch(), nowhere)).await;
        assert!(!again.recovered, "{again:?}");
    }
    let (_, again) = join(&two, "tea", Position::new(!last.epoch(), last.offset())).await;
    assert!(!again.recovered, "{again:?}");
    assert_eq!(one.cluster.stats().gaps, 0);
}

/// If the nodes keep histories of different lengths, no client is told that it has everything while a message is
/// missing.
pub(crate) async fn a_node_with_less_history_hides_no_loss_from_one_with_more(broker: impl Broker) {
    let one = node(&broker).await;
    // A room in which nothing is dropped.
    let (mut quiet, _) = join(&one, "quiet", None).await;
    one.hub.publish("quiet", "it stays");
    quiet.positioned().await;
    let (mut near, joined) = join(&one, "tea", None).await;
    let bounds = History::default().with_messages(10);
    let two = TestNode::new(broker.connect().await, options(bounds)).await;
    let (_far, _) = join(&two, "tea", None).await;
    for number in 0..30 {
        let node = if number % 2 == 0 { &one } else { &two };
        node.hub.publish("tea", number.to_string());
        near.positioned().await;
    }
    let (mut again, resumed) = join(&one, "tea", joined.position).await;
    if resumed.recovered {
        assert_eq!(again.contents(30).await.len(), 30);
    }
}

pub(crate) async fn a_history_that_is_lost_is_a_gap_and_a_new_start(broker: impl Broker) {
    let (one, two) = (node(&broker).await, node(&broker).await);
    let (mut near, _) = join(&one, "tea", None).await;
    let (mut far, _) = join(&two, "tea", None).await;
    let mut events = two.cluster.events();
    for number in 0..20 {
        one.hub.publish("tea", number.to_string());
    }
    let since = near.positioned().await.0;
    assert_eq!((near.contents(19).await.len(), far.contents(20).await.len()), (19, 20));
    broker.forget_history().await;
    one.hub.publish("tea", "after");
    for client in [&mut near, &mut far] {
        assert_eq!(client.text().await, GAP);
        assert_eq!(client.contents(1).await, ["after"]);
    }
    gap_of(&mut events, "tea").await;
    let (mut late, joined) = join(&two, "tea", since).await;
    assert!(!joined.recovered);
    assert_ne!(joined.position.epoch(), since.epoch());
    one.hub.publish("tea", "again");
    for client in [&mut near, &mut far, &mut late] {
        while client.positioned().await.1 != "again" {}
    }
}

/// Messages of more bytes than are fetched at once, and others.
pub(crate) async fn large_messages_are_fetched(broker: impl Broker) {
    let (one, two) = (node(&broker).await, node(&broker).await);
    let (mut near, joined) = join(&one, "tea", None).await;
    let texts: Vec<_> = [200_000, 10, 40_000, 40_000, 200_000, 200_000, 10].map(|len| "x".repeat(len)).into();
    for text in &texts {
        one.hub.publish("tea", text.clone());
        assert!(near.positioned().await.1 == *text);
    }
    // Joining waits until the client has read so much.
    let mut far = two.client();
    let handle = far.handle();
    let joining = two.cluster.join_since(&handle, "tea", joined.position, |_| None);
    let (again, contents) = tokio::join!(joining, far.contents(texts.len()));
    assert!(again.expect("the broker is there").recovered && contents == texts);
}

/// A node that has missed more than is kept, or another history, fetches what is kept.
pub(crate) async fn what_is_kept_can_be_fetched_although_more_was_missed(broker: impl Broker) {
    let link = Arc::new(broker.connect().await);
    let bounds = History::default().with_messages(10);
    let one = TestNode::new(Shared(Arc::clone(&link)), options(bounds)).await;
    let (mut near, joined) = join(&one, "tea", None).await;
    for number in 0..15 {
        one.hub.publish("tea", number.to_string());
    }
    let mut positions = Vec::new();
    for _ in 0..15 {
        positions.push(near.positioned().await.0);
    }
    let begin = joined.position;
    let stale = Position::new(!begin.epoch(), u64::MAX);
    for (after, most, range) in [
        (begin, 100, 5..15),
        (stale, 100, 5..15),
        (positions[3], 100, 5..15),
        (begin, 4, 5..9),
        (Position::new(begin.epoch(), u64::MAX / 4), 100, 0..0),
    ] {
        let past = link.history(&"tea".into(), Some(after), most).await.expect("the broker is there");
        assert!(!past.is_whole);
        let found: Vec<_> = past.records.iter().map(|record| record.position).collect();
        // NATS keeps one more, which may take the place of the last one.
        let found = found.strip_prefix(&positions[4..5]).unwrap_or(&found);
        let expected = &positions[range];
        assert!(found == expected || most < 10 && *found == expected[..most - 1], "{after}: {found:?}");
        assert_eq!(past.last, positions[14]);
    }
}

/// Clients join from all positions while messages flow, on all nodes: there is no hole and no repetition.
pub(crate) async fn the_seam_has_no_hole_and_no_repetition(broker: impl Broker) {
    const CLIENTS: usize = 150;
    let nodes = Arc::new([node(&broker).await, node(&broker).await, node(&broker).await]);
    let (mut first, joined) = join(&nodes[0], "tea", None).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let flowing: Vec<_> = (0..2)
        .map(|index| {
            let (nodes, is_over) = (Arc::clone(&nodes), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    nodes[index].hub.publish("tea", format!("{index} {number}"));
                    number += 1;
                    if number % 3 == 0 {
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        })
        .collect();
    let mut positions = vec![joined.position];
    let mut watching: Vec<tokio::task::JoinHandle<Vec<String>>> = Vec::new();
    let end = "end";
    for number in 0..CLIENTS {
        for _ in 0..3 {
            positions.push(first.positioned().await.0);
        }
        // Some from far behind, most from just before.
        let back = if number % 10 == 0 { positions.len() / 2 } else { number % 3 };
        let since = positions[positions.len() - 1 - back];
        let nodes = Arc::clone(&nodes);
        watching.push(tokio::spawn(async move {
            let (mut client, joined) = join(&nodes[number % 3], "tea", since).await;
            assert!(joined.recovered);
            let mut texts = vec![since.to_string()];
            loop {
                let text = client.text().await;
                if split(&text).1 == end {
                    return texts;
                }
                texts.push(text);
            }
        }));
    }
    sleep(Duration::from_millis(100)).await;
    is_over.store(true, Ordering::Relaxed);
    for flow in flowing {
        flow.await.expect("it does not panic");
    }
    nodes[2].hub.publish("tea", end);
    // The first client has seen everything: the others must have seen the rest of it.
    let mut all: Vec<String> = positions.iter().map(Position::to_string).collect();
    loop {
        let (position, content) = first.positioned().await;
        if content == end {
            break;
        }
        all.push(position.to_string());
    }
    for watch in watching {
        let texts = watch.await.expect("it does not panic");
        let positions: Vec<_> =
            texts.iter().map(|text| text.split(' ').next().unwrap_or_default().to_owned()).collect();
        let from = all.iter().position(|position| *position == positions[0]).expect("it is there");
        assert_eq!(positions, all[from..], "after {}", positions[0]);
    }
    eprintln!("{} messages while {CLIENTS} clients joined", all.len());
}

/// What 300 clients in 50 rooms on three nodes get while `harm` is done: everything, once, in one order for each room.
async fn everything_arrives<B: Broker>(broker: B, harm: impl AsyncFnOnce(B) -> B) {
    const ROOMS: usize = 50;
    const CLIENTS: usize = 300;
    const END: &str = "end 0";
    let nodes = [node(&broker).await, node(&broker).await, node(&broker).await];
    let mut receiving = Vec::new();
    for number in 0..CLIENTS {
        let room = number / 3 % ROOMS;
        let (mut client, _) = join(&nodes[number % 3], &room.to_string(), None).await;
        receiving.push(tokio::spawn(async move {
            let mut texts = Vec::new();
            loop {
                let text = client.text().await;
                assert_ne!(text, GAP);
                if split(&text).1 == END {
                    return (room, texts);
                }
                texts.push(text);
            }
        }));
    }
    let begun = Instant::now();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut publishing = Vec::new();
    for (name, node) in ["a", "b", "c"].into_iter().zip(&nodes) {
        let (hub, is_over) = (node.hub.clone(), Arc::clone(&is_over));
        publishing.push(tokio::spawn(async move {
            let mut sent = [0_u64; ROOMS];
            let mut room = 0;
            while !is_over.load(Ordering::Relaxed) {
                for number in 0..20 {
                    room = (room + number % 2 * 7) % ROOMS;
                    hub.publish(room.to_string(), format!("{name} {}", sent[room]));
                    sent[room] += 1;
                }
                sleep(Duration::from_millis(25)).await;
            }
            (name, sent)
        }));
    }
    let broker = harm(broker).await;
    is_over.store(true, Ordering::Relaxed);
    let mut sent = Vec::new();
    for publisher in publishing {
        sent.push(publisher.await.expect("it does not panic"));
    }
    for node in &nodes {
        connected(node).await;
    }
    let total: u64 = sent.iter().flat_map(|(_, sent)| sent).sum();
    until("everything is appended", async || {
        nodes.iter().map(|node| node.cluster.stats().published).sum::<u64>() >= total
    })
    .await;
    for room in 0..ROOMS {
        nodes[0].hub.publish(room.to_string(), END);
    }
    let mut orders: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for client in receiving {
        let (room, texts) = client.await.expect("nothing is lost");
        let contents: Vec<_> = texts.iter().map(|text| split(text).1.to_owned()).collect();
        let expected: BTreeMap<_, _> =
            sent.iter().map(|(name, sent)| ((*name).to_owned(), sent[room] - 1)).collect();
        assert_eq!(in_order(&contents), expected, "room {room}");
        assert_eq!(contents.len() as u64, sent.iter().map(|(_, sent)| sent[room]).sum::<u64>());
        assert_eq!(*orders.entry(room).or_insert_with(|| texts.clone()), texts, "room {room}");
    }
    eprintln!("{total} messages, each to 6 clients, in {:?}", begun.elapsed());
    let lost: Vec<_> = nodes.iter().map(|node| node.cluster.stats().lost).collect();
    assert_eq!(lost, [0; 3]);
    drop(broker);
}

pub(crate) async fn everything_arrives_although_the_broker_is_killed_twice(broker: impl Broker) {
    const AWAY: Duration = Duration::from_secs(1);
    let seconds =
        std::env::var("LONGWIRE_CLUSTER_SECONDS").map_or(10.0, |text| text.parse().expect("seconds"));
    let there = Duration::from_secs_f64(seconds).saturating_sub(2 * AWAY) / 4;
    everything_arrives(broker, async |mut broker| {
        for _ in 0..2 {
            sleep(there).await;
            broker.kill();
            sleep(AWAY).await;
            broker.restart().await;
            sleep(there).await;
        }
        broker
    })
    .await;
}

pub(crate) async fn everything_arrives_although_the_broker_is_frozen(broker: impl Broker) {
    everything_arrives(broker, async |broker| {
        sleep(Duration::from_secs(1)).await;
        broker.freeze();
        sleep(Duration::from_secs(7)).await;
        broker.thaw();
        sleep(Duration::from_secs(2)).await;
        broker
    })
    .await;
}

/// The same messages are handed over several times, also with a new one.
pub(crate) async fn a_repetition_is_delivered_once(broker: impl Broker) {
    let link = Arc::new(broker.connect().await);
    let one = TestNode::new(Shared(Arc::clone(&link)), options(History::default())).await;
    let two = node(&broker).await;
    let (mut near, _) = join(&one, "tea", None).await;
    let (mut far, _) = join(&two, "tea", None).await;
    let (mut other, _) = join(&two, "coffee", None).await;
    // What another node publishes serves as a template.
    let room: Arc<str> = "tea".into();
    let begin = link.history(&room, None, 0).await.expect("it is there").last;
    two.hub.publish("tea", "x");
    for client in [&mut near, &mut far] {
        assert_eq!(client.contents(1).await, ["x"]);
    }
    let Past { records, is_whole, .. } =
        link.history(&room, Some(begin), 10).await.expect("the broker is there");
    assert!(is_whole && records.len() == 1);
    // The same offset in a history that was lost.
    let stale = Position::new(!begin.epoch(), begin.offset());
    let past = link.history(&room, Some(stale), 10).await.expect("the broker is there");
    assert!(!past.is_whole && past.last.epoch() == begin.epoch());
    assert_eq!(past.records.len(), 1, "those that are kept");
    let append =
        |room: &str, number| Append { room: room.into(), number, payload: records[0].payload.clone() };
    let batch = [append("tea", 101), append("coffee", 102), append("tea", 103)];
    for _ in 0..3 {
        link.append(&batch).await.expect("the broker is there");
    }
    link.append(&[append("tea", 103), append("tea", 104)]).await.expect("the broker is there");
    // Another node has numbers of its own.
    two.hub.publish("tea", "end");
    for client in [&mut near, &mut far] {
        assert_eq!(client.contents(4).await, ["x", "x", "x", "end"]);
    }
    assert_eq!(other.contents(1).await, ["x"]);
    assert_eq!(other.texts().await, [""; 0]);
}

pub(crate) async fn a_full_outbox_is_counted_and_told_in_its_place(mut broker: impl Broker) {
    let one = TestNode::new(broker.connect().await, options(History::default()).with_outbox(20_000)).await;
    let two = node(&broker).await;
    let (mut near, joined) = join(&one, "tea", None).await;
    let (mut far, _) = join(&two, "tea", None).await;
    broker.kill();
    until("it is noticed", async || !one.cluster.is_connected()).await;
    let pad = "x".repeat(1000);
    for number in 0..30 {
        one.hub.publish("tea", format!("{number} {pad}"));
    }
    let lost = one.cluster.stats().lost;
    assert!((10..15).contains(&lost), "{lost}");
    sleep(Duration::from_secs(1)).await;
    broker.restart().await;
    connected(&two).await;
    until("the rest is appended", async || one.cluster.stats().published >= 30 - lost).await;
    one.hub.publish("tea", "next");
    let (mut late, again) = join(&two, "tea", joined.position).await;
    assert!(again.recovered);
    for client in [&mut near, &mut far, &mut late] {
        let kept = client.contents(usize::try_from(30 - lost).expect("it is small")).await;
        assert!(kept[0].starts_with("0 ") && kept.iter().all(|text| text.len() > 1000));
        assert_eq!(client.text().await, GAP);
        assert_eq!(client.contents(1).await, ["next"]);
    }
    // One of them is for all.
    until("each has two gaps", async || [&one, &two].iter().all(|it| it.cluster.stats().gaps == 2)).await;
}

/// The clients of a node that dies go on at another, and get what they have missed.
pub(crate) async fn a_node_dies_and_its_clients_go_on(broker: impl Broker) {
    const CLIENTS: usize = 20;
    let (one, two) = (node(&broker).await, Arc::new(node(&broker).await));
    let received = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let (mut client, joined) = join(&one, "tea", None).await;
        let (two, received) = (Arc::clone(&two), Arc::clone(&received));
        clients.push(tokio::spawn(async move {
            assert!(!joined.recovered);
            let mut contents = Vec::new();
            while contents.len() < 100 {
                let (since, content) = client.positioned().await;
                contents.push(content);
                received.fetch_add(1, Ordering::Relaxed);
                // Each has seen something else when its node dies.
                if contents.len() == 10 + number {
                    drop(client);
                    let again;
                    (client, again) = join(&two, "tea", since).await;
                    assert!(again.recovered);
                }
            }
            contents
        }));
    }
    let mut one = Some(one);
    for number in 0..100 {
        two.hub.publish("tea", number.to_string());
        sleep(Duration::from_millis(5)).await;
        if number == 50 {
            until("all have moved", async || received.load(Ordering::Relaxed) > CLIENTS * 31).await;
            one.take();
        }
    }
    let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    for client in clients {
        assert_eq!(client.await.expect("nothing is missing"), expected);
    }
}

/// A node that is served more slowly than messages arrive drops them, and fetches them afterwards.
pub(crate) async fn a_slow_node_catches_up(broker: impl Broker) {
    // Of one room, NATS gets one message at a time.
    const ROOMS: usize = 10;
    const COUNT: usize = 500;
    let one = node(&broker).await;
    let bounds = options(History::default()).with_inbox(4 * 1024);
    let two = TestNode::new(broker.connect().await, bounds).await;
    let mut reading = Vec::new();
    for room in 0..ROOMS {
        let (mut far, _) = join(&two, &room.to_string(), None).await;
        reading.push(tokio::spawn(async move { far.contents(COUNT / ROOMS).await }));
    }
    let pad = "x".repeat(1000);
    for number in 0..COUNT {
        one.hub.publish((number % ROOMS).to_string(), format!("{number} {pad}"));
    }
    for (room, reading) in reading.into_iter().enumerate() {
        let contents = reading.await.expect("nothing is lost");
        for (content, number) in contents.iter().zip((room..).step_by(ROOMS)) {
            assert!(content.starts_with(&format!("{number} ")), "{number}: {}", &content[..9]);
        }
    }
    let stats = two.cluster.stats();
    eprintln!("{} messages were dropped, and fetched", stats.overflowed);
    assert!(stats.overflowed > 0 && stats.gaps == 0, "{stats:?}");
}
