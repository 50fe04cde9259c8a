//! Clusters over NATS, in real time.

mod support;

use std::sync::Arc;
use std::time::Duration;

use longwire_cluster::{
    Append, Backplane, BrokerOptions, Channel, Cluster, ClusterEvent, ClusterOptions, Gap, History, Nats,
    Position,
};
use longwire_hub::Hub;
use rustix::process::Signal;
use serde_json::Value;
use support::broker::{Broker, Network, Process, free_port};
use support::history::{GAP, history_suite, join, options, until};
use support::suite::suite;
use support::{Shared, TestNode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

struct NatsServer {
    process: Process,
    monitor: u16,
}

impl NatsServer {
    async fn with_arguments(more: &[&str]) -> Option<Self> {
        let (port, monitor) = (free_port(), free_port());
        let mut arguments = format!("-a 127.0.0.1 -p {port} -m {monitor}");
        for argument in more {
            arguments.push(' ');
            arguments.push_str(argument);
        }
        let arguments = arguments.split(' ').map(str::to_owned).collect();
        Some(Self { process: Process::start("nats-server", port, arguments).await?, monitor })
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.process.port)
    }

    /// Asks the server's monitor.
    async fn ask(&self, path: &str) -> Value {
        let asking = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.monitor)).await?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
            let mut response = Vec::new();
            stream.read_to_end(&mut response).await?;
            std::io::Result::Ok(response)
        };
        let response =
            timeout(Duration::from_secs(10), asking).await.expect("it answers").expect("it answers");
        let body = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
        serde_json::from_slice(&response[body..]).expect("JSON")
    }
}

impl Broker for NatsServer {
    type Link = Nats;

    async fn start() -> Option<Self> {
        Self::with_arguments(&[]).await
    }

    async fn start_with_history() -> Option<Self> {
        Self::with_arguments(&["-js", "-sd", "store"]).await
    }

    async fn forget_history(&self) {
        let client = async_nats::connect(self.url()).await.expect("the server is there");
        let found = client.request("$JS.API.STREAM.NAMES", "".into()).await.expect("it answers");
        let found: Value = serde_json::from_slice(&found.payload).expect("JSON");
        let name = found["streams"][0].as_str().expect("there is one");
        let deleted = client.request(format!("$JS.API.STREAM.DELETE.{name}"), "".into()).await;
        deleted.expect("it answers");
    }

    async fn connect(&self) -> Nats {
        Nats::connect(self.url()).await.expect("the server is there")
    }

    fn kill(&mut self) {
        self.process.kill();
    }

    async fn restart(&mut self) {
        self.process.restart().await;
    }

    fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    async fn subscribers(&self, channel: &Channel) -> usize {
        let subject = Value::String(channel.subject("longwire"));
        let connections = self.ask("/connz?subs=1").await;
        let subscribed = |connection: &&Value| {
            connection["subscriptions_list"].as_array().is_some_and(|list| list.contains(&subject))
        };
        connections["connections"].as_array().expect("a list").iter().filter(subscribed).count()
    }

    async fn sent(&self) -> Option<u64> {
        self.ask("/varz").await["out_bytes"].as_u64()
    }
}

suite!(NatsServer:
    messages_reach_the_clients_of_all_nodes,
    a_message_to_a_user_reaches_it_wherever_it_is,
    messages_arrive_in_order,
    a_node_without_members_gets_nothing,
    presence_is_the_same_on_all_nodes,
    a_broker_that_starts_again_is_noticed,
    a_broker_that_answers_nothing_is_noticed,
    ten_thousand_rooms_are_subscribed_to_again,
    a_slow_node_has_a_gap_and_recovers,
    own_messages_are_not_in_the_way,
    calls_fail_in_time,
);

mod history {
    use super::*;

    history_suite!(NatsServer:
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
        everything_arrives_although_the_broker_is_frozen,
        a_repetition_is_delivered_once,
        a_full_outbox_is_counted_and_told_in_its_place,
        a_node_dies_and_its_clients_go_on,
        a_slow_node_catches_up,
    );

    /// A node whose link the test uses as well, and messages for it.
    async fn shared(port: u16, history: History) -> (Arc<Nats>, TestNode) {
        let link = Nats::connect(format!("nats://127.0.0.1:{port}")).await.expect("the server is there");
        let link = Arc::new(link);
        (Arc::clone(&link), TestNode::new(Shared(link), options(history)).await)
    }

    fn appends(room: &str, count: u64, bytes: usize) -> Vec<Append> {
        let payload = |number: u64| format!("{number:<bytes$}").into();
        (1..=count).map(|number| Append { room: room.into(), number, payload: payload(number) }).collect()
    }

    /// Hands messages over until they are confirmed.
    async fn append(link: &Nats, messages: &[Append]) {
        let appending = async {
            while link.append(messages).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(60), appending).await.expect("the server is there");
    }

    /// Returns the numbers of the messages in the room "tea".
    async fn stored(link: &Nats) -> Vec<u64> {
        let room = "tea".into();
        let begin = link.history(&room, None, 0).await.expect("the server is there").last;
        let mut after = Position::new(begin.epoch(), 0);
        let mut numbers = Vec::new();
        loop {
            let past = link.history(&room, Some(after), 256).await.expect("the server is there");
            assert!(past.is_whole);
            let Some(last) = past.records.last() else { return numbers };
            after = last.position;
            let number = |payload: &[u8]| std::str::from_utf8(payload).expect("a text").trim().parse::<u64>();
            numbers.extend(past.records.iter().map(|record| number(&record.payload).expect("a number")));
        }
    }

    /// The client keeps what it could not write, and writes it to the next connection.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn messages_keep_their_order_although_the_server_dies_under_load() {
        const COUNT: u64 = 3000;
        let Some(mut server) = NatsServer::start_with_history().await else { return };
        let (link, _node) = shared(server.process.port, History::default().with_messages(5000)).await;
        let messages = appends("tea", COUNT, 4000);
        server.freeze();
        link.append(&messages).await.expect_err("nobody answers");
        server.kill();
        server.restart().await;
        append(&link, &messages).await;
        assert_eq!(stored(&link).await, (1..=COUNT).collect::<Vec<_>>());
    }

    /// The server recognizes a repetition only while it has the message, once it has started again.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn messages_are_stored_once_although_few_are_kept() {
        let Some(mut server) = NatsServer::start_with_history().await else { return };
        let network = Network::to(server.process.port).await;
        let (link, _node) = shared(network.port, History::default().with_messages(1)).await;
        let (watch, _watching) = shared(server.process.port, History::default().with_messages(1)).await;
        let messages = appends("tea", 10, 10);
        network.swallow_answers();
        link.append(&messages).await.expect_err("nobody answers");
        server.kill();
        server.restart().await;
        append(&link, &messages).await;
        let last = async || watch.history(&"tea".into(), None, 0).await;
        let last = timeout(Duration::from_secs(20), async {
            loop {
                if let Ok(past) = last().await {
                    return past.last.offset();
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        assert_eq!(last.await.expect("the server is there"), 10, "that many were ever stored");
    }

    /// Publishes a message that the server refuses in one room, before and after others, and checks what arrives.
    async fn refused_alone(node: &TestNode, harm: impl AsyncFnOnce()) {
        let (mut near, _) = join(node, "tea", None).await;
        let (mut other, _) = join(node, "coffee", None).await;
        harm().await;
        for (room, bytes) in
            [("tea", 1), ("tea", 20_000), ("tea", 2), ("coffee", 3), ("tea", 20_000), ("tea", 4)]
        {
            node.hub.publish(room, "x".repeat(bytes));
        }
        assert_eq!(other.contents(1).await, ["xxx"]);
        assert_eq!(near.contents(1).await, ["x"]);
        for next in ["xx", "xxxx"] {
            assert_eq!(near.text().await, GAP, "in its place");
            assert_eq!(near.contents(1).await, [next]);
        }
        node.hub.publish("tea", "next");
        assert_eq!(near.contents(1).await, ["next"]);
        until("they are counted", async || {
            let stats = node.cluster.stats();
            (stats.lost, stats.published) == (2, 5)
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_message_that_the_stream_refuses_is_lost_alone() {
        let Some(server) = NatsServer::start_with_history().await else { return };
        let (_link, node) = shared(server.process.port, History::default()).await;
        let client = async_nats::connect(server.url()).await.expect("the server is there");
        let ask = async |what: String, request: Value| -> Value {
            let answer = client.request(format!("$JS.API.STREAM.{what}"), request.to_string().into()).await;
            serde_json::from_slice(&answer.expect("it answers").payload).expect("JSON")
        };
        refused_alone(&node, async || {
            let names = ask("NAMES".into(), Value::Null).await;
            let name = names["streams"][0].as_str().expect("there is one");
            let mut config = ask(format!("INFO.{name}"), Value::Null).await["config"].clone();
            config["max_msg_size"] = 10_000.into();
            let updated = ask(format!("UPDATE.{name}"), config).await;
            assert_eq!(updated["config"]["max_msg_size"], 10_000, "{updated}");
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_message_for_which_the_server_is_too_small_now_is_lost_alone() {
        let path = std::env::temp_dir().join(format!("longwire-max-payload-{}.conf", std::process::id()));
        let write =
            |bytes: usize| std::fs::write(&path, format!("max_payload: {bytes}")).expect("it can be written");
        write(1 << 20);
        let arguments = ["-js", "-sd", "store", "-c", path.to_str().expect("a text")];
        let Some(mut server) = NatsServer::with_arguments(&arguments).await else { return };
        let (_link, node) = shared(server.process.port, History::default()).await;
        let cluster = node.cluster.clone();
        refused_alone(&node, async || {
            server.kill();
            write(10_000);
            server.restart().await;
            cluster.subscribed("tea").await.expect("it comes back");
        })
        .await;
        std::fs::remove_file(&path).expect("it is there");
    }

    #[tokio::test]
    async fn without_jetstream_no_node_joins() {
        let Some(server) = NatsServer::start().await else { return };
        let options = ClusterOptions::default().with_history(History::default());
        let joined = Cluster::join(&Hub::default(), server.connect().await, options).await;
        let error = joined.expect_err("it has no JetStream").to_string();
        assert!(error.contains("JetStream is not enabled"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_connection_is_replaced() {
    let Some(server) = NatsServer::start().await else { return };
    let port = server.process.port;
    let link =
        async |port| Nats::connect(format!("nats://127.0.0.1:{port}")).await.expect("the network is there");
    support::suite::a_dead_connection_is_replaced(server, port, link).await;
}

/// They are handed over without waiting for the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_were_handed_to_a_dead_connection_are_a_gap() {
    let Some(server) = NatsServer::start().await else { return };
    let network = Network::to(server.process.port).await;
    let link = Nats::connect(format!("nats://127.0.0.1:{}", network.port)).await;
    let one = TestNode::new(link.expect("the network is there"), ClusterOptions::default()).await;
    let two = TestNode::new(server.connect().await, ClusterOptions::default()).await;
    let mut far = two.member("tea").await;
    let (mut near_events, mut far_events) = (one.cluster.events(), two.cluster.events());
    network.swallow();
    for _ in 0..10 {
        one.hub.publish("tea", "lost");
    }
    let told = async {
        while !matches!(near_events.next().await, Ok(Some(ClusterEvent::Restored))) {}
        while !matches!(far_events.next().await, Ok(Some(ClusterEvent::Gap(Gap::Room(room)))) if &*room == "tea")
        {
        }
    };
    timeout(Duration::from_secs(30), told).await.expect("the loss is reported");
    one.hub.publish("tea", "next");
    assert_eq!(far.text().await, "next");
    assert_eq!(one.cluster.stats().outages, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_waits_for_a_server_that_takes_nothing() {
    let Some(server) = NatsServer::start().await else { return };
    let link = Arc::new(server.connect().await);
    let _node = TestNode::new(Shared(Arc::clone(&link)), ClusterOptions::default()).await;
    server.freeze();
    let batch = [(Channel::Room("tea".into()), vec![0; 200 * 1024].into())];
    link.publish(&batch).await.expect("this much may wait");
    link.publish(&batch).await.expect_err("and no more");
    link.publish(&batch).await.expect_err("and no more");
    server.thaw();
    let taken = async {
        while link.publish(&batch).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), taken).await.expect("it is there again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_leaves_nothing() {
    let Some(server) = NatsServer::start().await else { return };
    let link = Arc::new(server.connect().await);
    let _node = TestNode::new(Shared(Arc::clone(&link)), ClusterOptions::default()).await;
    server.freeze();
    for _ in 0..3 {
        timeout(Duration::from_millis(100), link.probe()).await.expect_err("nobody answers");
    }
    let shown = format!("{link:?}");
    assert!(shown.contains("awaited_echoes: 0"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_for_confirmations_is_replaced_without_an_outage() {
    let Some(server) = NatsServer::start().await else { return };
    let network = Network::to(server.process.port).await;
    let link = Nats::connect(format!("nats://127.0.0.1:{}", network.port)).await;
    let one = TestNode::new(link.expect("the network is there"), ClusterOptions::default()).await;
    let two = TestNode::new(server.connect().await, ClusterOptions::default()).await;
    for (round, harm) in [Network::cut_last, Network::cut_last, Network::swallow_last].into_iter().enumerate()
    {
        harm(&network);
        // It is subscribed to, which has to be confirmed.
        let room = round.to_string();
        let mut near = one.member(&room).await;
        timeout(Duration::from_secs(3), one.cluster.subscribed(&room))
            .await
            .expect("soon")
            .expect("it is there");
        two.hub.publish(&room, "hello");
        assert_eq!(near.text().await, "hello");
    }
    assert_eq!((one.cluster.stats().outages, one.cluster.stats().gaps), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_on_which_nothing_arrives_is_noticed() {
    let Some(server) = NatsServer::start().await else { return };
    let network = Network::to(server.process.port).await;
    let link = Nats::connect(format!("nats://127.0.0.1:{}", network.port)).await;
    let options = ClusterOptions::default().with_lease(Duration::from_secs(3));
    let one = TestNode::new(link.expect("the network is there"), options).await;
    let mut events = one.cluster.events();
    network.swallow_answers_of_first();
    let lost = async { while !matches!(events.next().await, Ok(Some(ClusterEvent::Lost(_)))) {} };
    // Before the client notices it.
    timeout(Duration::from_secs(4), lost).await.expect("it is noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_again_before_the_node_joins_is_no_loss() {
    let Some(mut server) = NatsServer::start().await else { return };
    let link = server.connect().await;
    server.kill();
    server.restart().await;
    // The server has both connections again; the client may not know it yet.
    while server.ask("/connz").await["num_connections"] != 2 {
        sleep(Duration::from_millis(10)).await;
    }
    let joined = Cluster::join(&Hub::default(), link, ClusterOptions::default()).await;
    let cluster = joined.expect("the server is there");
    assert_eq!(cluster.stats().outages, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_publishes_does_not_return_to_it() {
    let Some(server) = NatsServer::start().await else { return };
    let one = TestNode::new(server.connect().await, ClusterOptions::default()).await;
    let mut near = one.member("tea").await;
    let before = server.sent().await.expect("it is counted");
    for _ in 0..100 {
        one.hub.publish("tea", "x".repeat(10_000));
        near.text().await;
    }
    // Its last confirmation.
    one.cluster.leave().await;
    let sent = server.sent().await.expect("it is counted") - before;
    assert!(sent < 10_000, "{sent} bytes");
}

#[tokio::test]
async fn credentials_and_prefixes() {
    let Some(server) = NatsServer::with_arguments(&["--user", "ada", "--pass", "a:b@c"]).await else {
        return;
    };
    let port = server.process.port;
    let refused = Nats::connect(server.url()).await.expect_err("it has no password");
    assert!(refused.to_string().contains("authorization"), "{refused}");
    let url = format!("nats://127.0.0.1:1, nats://ada:a%3Ab%40c@127.0.0.1:{port}");
    let (one, other) = (Nats::connect(&url).await, Nats::connect(&url).await);
    let stranger = Nats::with_options(&url, BrokerOptions::default().with_prefix("another.app")).await;
    let join = async |link: Result<Nats, _>| {
        TestNode::new(link.expect("the password is right"), ClusterOptions::default()).await
    };
    let (one, other, stranger) = (join(one).await, join(other).await, join(stranger).await);
    let (mut far, mut strange) = (other.member("tea").await, stranger.member("tea").await);
    one.hub.publish("tea", "hello");
    assert_eq!(far.text().await, "hello");
    assert_eq!(strange.texts().await, [""; 0]);

    for (url, prefix) in
        [("http://127.0.0.1", "longwire"), ("nats://127.0.0.1", "long wire"), ("nats://", "a")]
    {
        let options = BrokerOptions::default().with_prefix(prefix);
        Nats::with_options(url, options).await.expect_err("it is malformed");
    }
    let nobody = Nats::connect(format!("nats://127.0.0.1:{}", free_port())).await;
    nobody.expect_err("nobody listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_is_a_gap_and_no_outage() {
    let Some(server) = NatsServer::start().await else { return };
    let one = TestNode::new(server.connect().await, ClusterOptions::default()).await;
    let other = TestNode::new(server.connect().await, ClusterOptions::default()).await;
    let mut far = other.member("tea").await;
    one.hub.publish("tea", "before");
    one.hub.publish("tea", vec![0_u8; 2 * 1024 * 1024]);
    one.hub.publish("tea", "after");
    assert_eq!((far.text().await, far.text().await), ("before".into(), "after".into()));
    assert_eq!((other.cluster.stats().gaps, one.cluster.stats().outages), (1, 0));
}

#[tokio::test]
async fn connections_are_for_one_node_and_end_with_it() {
    let Some(server) = NatsServer::start().await else { return };
    let hub = Hub::default();
    let cluster =
        Cluster::join(&hub, server.connect().await, ClusterOptions::default()).await.expect("it is there");
    let connections = async || server.ask("/connz").await["num_connections"].as_u64().expect("a number");
    assert_eq!(connections().await, 2, "one of them for confirmations");
    cluster.leave().await;
    assert_eq!(connections().await, 0);
    let node = TestNode::new(server.connect().await, ClusterOptions::default()).await;
    let client = node.member("tea").await;
    assert_eq!(connections().await, 2);
    // Without a farewell.
    drop(node);
    drop(client);
    for _ in 0..500 {
        if connections().await == 0 {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("a connection stays");
}

#[cfg(feature = "ring")]
#[tokio::test]
async fn tls() {
    let port = free_port();
    let config = support::broker::certificate("nats-server", port);
    let arguments = format!("-a 127.0.0.1 -p {port} --tls --tlscert cert.pem --tlskey key.pem");
    let arguments = arguments.split(' ').map(str::to_owned).collect();
    let Some(_server) = Process::start("nats-server", port, arguments).await else { return };
    let stranger = Nats::connect(format!("tls://localhost:{port}")).await;
    stranger.expect_err("the system does not know the certificate");
    let options = BrokerOptions::default().with_tls(config);
    // The second one does not know that the server wants TLS.
    let one = Nats::with_options(format!("tls://localhost:{port}"), options.clone()).await;
    let other = Nats::with_options(format!("nats://localhost:{port}"), options.clone()).await;
    let one = TestNode::new(one.expect("it is trusted"), ClusterOptions::default()).await;
    let other = TestNode::new(other.expect("it is trusted"), ClusterOptions::default()).await;
    let mut far = other.member("tea").await;
    one.hub.publish("tea", "hello");
    assert_eq!(far.text().await, "hello");
    let mismatch = Nats::with_options(format!("tls://127.0.0.1:{port}"), options).await;
    mismatch.expect_err("the certificate is for another name");
}

/// The client of NATS drops messages itself if the runtime has no time for the task that takes them.
#[tokio::test]
async fn messages_that_the_client_drops_are_a_gap() {
    const COUNT: u64 = 100_000;
    let Some(server) = NatsServer::start().await else { return };
    let two = TestNode::new(server.connect().await, ClusterOptions::default()).await;
    let mut events = two.cluster.events();
    let client = two.member("tea").await;
    let url = server.url();
    let flood = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let link = Nats::connect(url).await.expect("the server is there");
            let one = TestNode::new(link, ClusterOptions::default()).await;
            for _ in 0..COUNT / 1000 {
                for _ in 0..1000 {
                    one.hub.publish("tea", "x");
                }
                sleep(Duration::from_millis(5)).await;
            }
            one.cluster.leave().await;
        });
    });
    // Nothing else runs in this runtime meanwhile.
    flood.join().expect("it does not panic");
    let is_complete = || {
        let stats = two.cluster.stats();
        stats.received + stats.overflowed == COUNT
    };
    let gap = async {
        // How much the client drops depends on whose turn it is. On some runs, it is nothing.
        while !is_complete() {
            let event = timeout(Duration::from_millis(100), events.next()).await;
            if matches!(event, Ok(Ok(Some(ClusterEvent::Gap(Gap::All))))) {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), gap).await.expect("the loss is reported");
    let stats = two.cluster.stats();
    assert_eq!(stats.outages, 0);
    drop(client);
}
