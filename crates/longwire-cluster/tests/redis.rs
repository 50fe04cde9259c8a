//! Clusters over Redis, in real time.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use longwire_cluster::{
    Backplane, BrokerOptions, Channel, Cluster, ClusterEvent, ClusterOptions, Gap, History, Position, Redis,
};
use longwire_hub::Hub;
use redis::aio::MultiplexedConnection;
use redis::{Client, cmd};
use rustix::process::Signal;
use support::TestNode;
use support::broker::{Broker, Process, free_port};
use support::history::{GAP, connected, history_suite, join, node, options};
use support::suite::suite;
use tokio::time::{sleep, timeout};

struct Server<const IS_VALKEY: bool> {
    process: Process,
    password: &'static str,
}

type RedisServer = Server<false>;

/// Its tests run if `LONGWIRE_VALKEY` is the path of the program.
type ValkeyServer = Server<true>;

impl<const IS_VALKEY: bool> Server<IS_VALKEY> {
    async fn with_arguments(more: &str, password: &'static str) -> Option<Self> {
        let program = if IS_VALKEY { valkey()? } else { "redis-server" };
        let port = free_port();
        let arguments = format!("--port {port} --bind 127.0.0.1 --save  {more}");
        // "--save" has an empty argument.
        let mut arguments: Vec<_> = arguments.split(' ').map(str::to_owned).collect();
        arguments.retain({
            let mut was_save = false;
            move |argument| {
                let keeps = !argument.is_empty() || was_save;
                was_save = argument == "--save";
                keeps
            }
        });
        Some(Self { process: Process::start(program, port, arguments).await?, password })
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.process.port)
    }

    /// Returns a connection to ask the server.
    async fn asking(&self) -> MultiplexedConnection {
        let url = match self.password {
            "" => self.url(),
            password => format!("redis://:{password}@127.0.0.1:{}", self.process.port),
        };
        let client = Client::open(url).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("the server is there")
    }

    /// Returns a number from the server's information.
    async fn number(&self, name: &str) -> u64 {
        let info: String = cmd("INFO").query_async(&mut self.asking().await).await.expect("it answers");
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.expect("it is known").parse().expect("a number")
    }
}

fn valkey() -> Option<&'static str> {
    static PATH: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("LONGWIRE_VALKEY").ok());
    if PATH.is_none() {
        eprintln!("SKIPPED: LONGWIRE_VALKEY is not set");
    }
    PATH.as_deref()
}

impl<const IS_VALKEY: bool> Broker for Server<IS_VALKEY> {
    type Link = Redis;

    async fn start() -> Option<Self> {
        Self::with_arguments("--appendonly no", "").await
    }

    async fn start_with_history() -> Option<Self> {
        // With the default, Redis puts writes off while the disk is slow, and loses them when it is killed.
        Self::with_arguments("--appendonly yes --appendfsync no", "").await
    }

    async fn forget_history(&self) {
        cmd("FLUSHALL").exec_async(&mut self.asking().await).await.expect("it answers");
    }

    async fn connect(&self) -> Redis {
        Redis::connect(self.url()).await.expect("the server is there")
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
        let name = channel.subject("longwire");
        let counts: (String, usize) = cmd("PUBSUB")
            .arg("NUMSUB")
            .arg(name)
            .query_async(&mut self.asking().await)
            .await
            .expect("it answers");
        counts.1
    }

    async fn sent(&self) -> Option<u64> {
        Some(self.number("total_net_output_bytes").await)
    }
}

suite!(RedisServer:
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

    history_suite!(RedisServer:
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

    /// A node whose user may not ask which run of the server it is leaves what another node knows of that.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn positions_stay_close_if_one_node_may_not_ask_for_the_run() {
        let Some(server) = RedisServer::start().await else { return };
        let one = node(&server).await;
        let rules = ["SETUSER", "mute", "on", ">secret", "~*", "&*", "+@all", "-info"];
        cmd("ACL").arg(&rules).exec_async(&mut server.asking().await).await.expect("it can");
        let url = server.url().replace("redis://", "redis://mute:secret@");
        let link = Redis::connect(url).await.expect("the user may");
        let other = TestNode::new(link, options(History::default())).await;
        let (mut near, _) = join(&one, "tea", None).await;
        let mut last = None;
        for number in 0..10 {
            let node = if number % 2 == 0 { &one } else { &other };
            node.hub.publish("tea", number.to_string());
            let position = near.positioned().await.0;
            assert!(last.is_none_or(|last: Position| position.offset() == last.offset() + 1), "{number}");
            last = Some(position);
        }
    }

    /// The server comes back with a dump that lacks the last messages, twice, and then with one that has all.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn positions_of_messages_that_the_server_has_lost_are_not_given_again() {
        let Some(mut server) = RedisServer::start().await else { return };
        let node = node(&server).await;
        let (mut near, joined) = join(&node, "tea", None).await;
        let publish = async |near: &mut support::Client, name: &str, count: usize| {
            let mut positions = Vec::new();
            for number in 0..count {
                node.hub.publish("tea", format!("{name} {number}"));
                positions.push(near.positioned().await.0);
            }
            positions
        };
        let saved = publish(&mut near, "saved", 10).await;
        cmd("SAVE").exec_async(&mut server.asking().await).await.expect("it can");
        let mut lost = Vec::new();
        for name in ["lost", "lost again"] {
            lost.extend(publish(&mut near, name, 5).await);
            server.kill();
            server.restart().await;
            connected(&node).await;
            // At once, and where other nodes and clients that resume have it.
            assert_eq!([near.text().await, near.text().await], [GAP, GAP]);
        }
        let new = publish(&mut near, "new", 20).await;
        let largest = lost.iter().map(|position| position.offset()).max();
        assert!(largest < Some(new[0].offset()), "{lost:?} {}", new[0]);
        for since in &lost {
            let (_, again) = join(&node, "tea", *since).await;
            assert!(!again.recovered, "{since}");
        }
        for (since, before, after) in [
            (joined.position, 10, Some(20)),
            (saved[4], 5, Some(20)),
            (saved[9], 0, Some(20)),
            (new[9], 10, None),
            (new[19], 0, None),
        ] {
            let (mut client, again) = join(&node, "tea", since).await;
            assert!(again.recovered, "{since}");
            client.contents(before).await;
            if let Some(after) = after {
                assert_eq!(client.text().await, GAP, "{since}");
                client.contents(after).await;
            }
            assert_eq!(client.texts().await, [""; 0], "{since}");
        }
        cmd("SAVE").exec_async(&mut server.asking().await).await.expect("it can");
        server.kill();
        server.restart().await;
        connected(&node).await;
        publish(&mut near, "next", 3).await;
        let (mut client, again) = join(&node, "tea", new[19]).await;
        assert!(again.recovered);
        assert_eq!(client.contents(3).await, ["next 0", "next 1", "next 2"]);
    }

    /// If one node had got a message that is lost, the nodes and clients that had not get a gap.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_server_has_lost_is_a_gap_for_those_that_had_not_got_it() {
        let Some(mut server) = RedisServer::start().await else { return };
        let one = node(&server).await;
        let (mut near, _) = join(&one, "tea", None).await;
        one.hub.publish("tea", "saved");
        let saved = near.positioned().await.0;
        cmd("SAVE").exec_async(&mut server.asking().await).await.expect("it can");
        one.hub.publish("tea", "lost");
        near.contents(1).await;
        server.kill();
        server.restart().await;
        connected(&one).await;
        assert_eq!(near.text().await, GAP);
        let other = node(&server).await;
        let (mut far, again) = join(&other, "tea", saved).await;
        assert!(again.recovered);
        assert_eq!(far.text().await, GAP);
        assert_eq!(near.text().await, GAP, "where the others have it");
        one.hub.publish("tea", "new");
        for client in [&mut near, &mut far] {
            assert_eq!(client.contents(1).await, ["new"]);
        }
    }

    /// It is seen by what comes next, too: a node may publish before the one that knows of the loss asks.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_follows_a_loss_names_what_was_before_it() {
        let Some(mut server) = RedisServer::start().await else { return };
        let link = Arc::new(server.connect().await);
        let one = TestNode::new(support::Shared(Arc::clone(&link)), options(History::default())).await;
        let (mut near, _) = join(&one, "tea", None).await;
        one.hub.publish("tea", "saved");
        let saved = near.positioned().await.0;
        cmd("SAVE").exec_async(&mut server.asking().await).await.expect("it can");
        one.hub.publish("tea", "lost");
        let lost = near.positioned().await.0;
        server.kill();
        server.restart().await;
        connected(&one).await;
        one.hub.publish("tea", "new");
        while !near.text().await.ends_with("new") {}
        let past = link.history(&"tea".into(), Some(lost), 256).await.expect("the server is there");
        let previous = past.records.first().expect("one follows").previous;
        assert_eq!((past.is_whole, previous), (false, saved.offset()));
    }

    /// More of them than fit a page, of which none is removed until somebody publishes.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_kept_is_found_after_many_messages_that_are_too_old() {
        let Some(server) = RedisServer::start_with_history().await else { return };
        let link = Arc::new(server.connect().await);
        let options = options(History::default().with_age(Duration::from_secs(4)));
        let one = TestNode::new(support::Shared(Arc::clone(&link)), options).await;
        let (mut near, joined) = join(&one, "tea", None).await;
        for number in 0..600 {
            one.hub.publish("tea", number.to_string());
        }
        near.contents(600).await;
        sleep(Duration::from_secs(2)).await;
        let mut kept = Vec::new();
        for number in 0..3 {
            one.hub.publish("tea", format!("kept {number}"));
            kept.push(near.positioned().await.0);
        }
        sleep(Duration::from_millis(2500)).await;
        let past =
            link.history(&"tea".into(), Some(joined.position), 256).await.expect("the server is there");
        let found: Vec<_> = past.records.iter().map(|record| record.position).collect();
        assert_eq!((past.is_whole, past.last, found), (false, kept[2], kept));
    }

    /// Clients choose the names of rooms: one without messages must not occupy memory for a day.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_room_without_messages_is_forgotten_unless_somebody_is_there() {
        let Some(server) = RedisServer::start_with_history().await else { return };
        let options = options(History::default().with_age(Duration::from_secs(1)));
        let node = TestNode::new(server.connect().await, options.with_linger(Duration::ZERO)).await;
        let (_, joined) = join(&node, "left", None).await;
        let (mut near, _) = join(&node, "tea", None).await;
        let (mut talking, _) = join(&node, "coffee", None).await;
        node.hub.publish("coffee", "hello");
        talking.contents(1).await;
        // In milliseconds; -2 if it is not there.
        let left = async |room: &str| -> i64 {
            let key = format!("{{{}}}.m", Channel::Room(room.into()).subject("longwire"));
            cmd("PTTL").arg(key).query_async(&mut server.asking().await).await.expect("it answers")
        };
        let day = 24 * 60 * 60 * 1000;
        assert!((1..20_000).contains(&left("left").await) && (1..20_000).contains(&left("tea").await));
        assert!(left("coffee").await > day);
        sleep(Duration::from_secs(12)).await;
        assert_eq!(left("left").await, -2);
        // Also later than it was set by the message.
        assert!(left("coffee").await > day - 8_000);
        node.hub.publish("tea", "first");
        assert_eq!(near.contents(1).await, ["first"]);
        assert!(left("tea").await > day);
        let (_, again) = join(&node, "left", joined.position).await;
        assert!(!again.recovered);
    }

    /// An operator may do that at any time, and a server may do it when it is short of memory.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn scripts_that_the_server_has_dropped_are_loaded_again() {
        let Some(server) = RedisServer::start_with_history().await else { return };
        let node = node(&server).await;
        let (mut near, joined) = join(&node, "tea", None).await;
        let flush = async || {
            let flushed = cmd("SCRIPT").arg("FLUSH").exec_async(&mut server.asking().await).await;
            flushed.expect("it answers");
        };
        flush().await;
        node.hub.publish("tea", "appended");
        assert_eq!(near.contents(1).await, ["appended"]);
        flush().await;
        let (mut late, again) = join(&node, "tea", joined.position).await;
        assert!(again.recovered);
        assert_eq!(late.contents(1).await, ["appended"]);
        flush().await;
        join(&node, "coffee", None).await;
        assert_eq!(node.cluster.stats().outages, 0);
    }
}

mod valkey {
    use super::*;

    suite!(ValkeyServer:
        messages_reach_the_clients_of_all_nodes,
        messages_arrive_in_order,
        a_node_without_members_gets_nothing,
        presence_is_the_same_on_all_nodes,
        a_broker_that_starts_again_is_noticed,
    );

    mod history {
        use super::*;

        history_suite!(ValkeyServer:
            a_room_has_one_order,
            a_client_resumes_after_a_position,
            what_is_not_kept_is_not_recovered,
            a_history_that_is_lost_is_a_gap_and_a_new_start,
            everything_arrives_although_the_broker_is_killed_twice,
            a_repetition_is_delivered_once,
        );
    }

    /// Otherwise, these tests would be those of Redis.
    #[tokio::test]
    async fn it_is_valkey() {
        let Some(server) = ValkeyServer::start().await else { return };
        let info: String = cmd("INFO").query_async(&mut server.asking().await).await.expect("it answers");
        assert!(info.contains("server_name:valkey"), "{info}");
    }
}

/// Three servers that share the keys. Each node uses another one.
struct RedisCluster {
    servers: Vec<RedisServer>,
    nodes: AtomicUsize,
}

impl RedisCluster {
    /// Waits until the servers know each other, and who has which keys, and each has a link to each: what is published
    /// before is lost on its way to the others.
    async fn meet(&self) {
        let meeting = async {
            for server in &self.servers {
                let is_ready = async || {
                    let info: String =
                        cmd("CLUSTER").arg("INFO").query_async(&mut server.asking().await).await?;
                    let nodes: String =
                        cmd("CLUSTER").arg("NODES").query_async(&mut server.asking().await).await?;
                    redis::RedisResult::Ok(
                        info.contains("cluster_state:ok")
                            && info.contains("cluster_known_nodes:3")
                            && nodes.matches(" connected").count() == 3,
                    )
                };
                while !is_ready().await.expect("it answers") {
                    sleep(Duration::from_millis(50)).await;
                }
            }
        };
        timeout(Duration::from_secs(30), meeting).await.expect("they meet");
    }
}

impl Broker for RedisCluster {
    type Link = Redis;

    async fn start() -> Option<Self> {
        let mut servers: Vec<RedisServer> = Vec::new();
        for slots in [["0", "5460"], ["5461", "10922"], ["10923", "16383"]] {
            let bus = free_port();
            let arguments = format!("--appendonly no --cluster-enabled yes --cluster-port {bus}");
            let server = RedisServer::with_arguments(&arguments, "").await?;
            let mut asking = server.asking().await;
            let adding = cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(&slots).exec_async(&mut asking).await;
            adding.expect("nobody has them");
            if let Some(first) = servers.first() {
                let meeting = cmd("CLUSTER")
                    .arg("MEET")
                    .arg("127.0.0.1")
                    .arg(server.process.port)
                    .arg(bus)
                    .exec_async(&mut first.asking().await)
                    .await;
                meeting.expect("it answers");
            }
            servers.push(server);
        }
        let cluster = Self { servers, nodes: AtomicUsize::new(0) };
        cluster.meet().await;
        Some(cluster)
    }

    async fn connect(&self) -> Redis {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed);
        self.servers[number % self.servers.len()].connect().await
    }

    fn kill(&mut self) {
        self.servers.iter_mut().for_each(Broker::kill);
    }

    async fn restart(&mut self) {
        for server in &mut self.servers {
            server.restart().await;
        }
        self.meet().await;
    }

    fn freeze(&self) {
        self.servers.iter().for_each(Broker::freeze);
    }

    fn thaw(&self) {
        self.servers.iter().for_each(Broker::thaw);
    }

    async fn subscribers(&self, channel: &Channel) -> usize {
        let mut sum = 0;
        for server in &self.servers {
            sum += server.subscribers(channel).await;
        }
        sum
    }

    async fn sent(&self) -> Option<u64> {
        let mut sum = 0;
        for server in &self.servers {
            sum += server.sent().await?;
        }
        Some(sum)
    }
}

mod redis_cluster {
    use super::*;

    suite!(RedisCluster:
        messages_reach_the_clients_of_all_nodes,
        a_message_to_a_user_reaches_it_wherever_it_is,
        messages_arrive_in_order,
        presence_is_the_same_on_all_nodes,
        a_broker_that_starts_again_is_noticed,
    );

    #[tokio::test]
    async fn with_a_history_no_node_joins() {
        let Some(servers) = RedisCluster::start().await else { return };
        let options = ClusterOptions::default().with_history(History::default());
        let joined = Cluster::join(&Hub::default(), servers.connect().await, options).await;
        let error = joined.expect_err("it is not supported").to_string();
        assert!(error.contains("a history in a Redis Cluster is not supported"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_connection_is_replaced() {
    let Some(server) = RedisServer::start().await else { return };
    let port = server.process.port;
    let link =
        async |port| Redis::connect(format!("redis://127.0.0.1:{port}")).await.expect("the network is there");
    support::suite::a_dead_connection_is_replaced(server, port, link).await;
}

#[tokio::test]
async fn credentials_and_prefixes() {
    let Some(server) = RedisServer::with_arguments("--requirepass a:b@c", "a%3Ab%40c").await else { return };
    Redis::connect(server.url()).await.expect_err("it has no password");
    let url = format!("redis://:a%3Ab%40c@127.0.0.1:{}/0", server.process.port);
    let (one, other) = (Redis::connect(&url).await, Redis::connect(&url).await);
    let stranger = Redis::with_options(&url, BrokerOptions::default().with_prefix("another.app")).await;
    let join = async |link: Result<Redis, _>| {
        TestNode::new(link.expect("the password is right"), ClusterOptions::default()).await
    };
    let (one, other, stranger) = (join(one).await, join(other).await, join(stranger).await);
    let (mut far, mut strange) = (other.member("tea").await, stranger.member("tea").await);
    one.hub.publish("tea", "hello");
    assert_eq!(far.text().await, "hello");
    assert_eq!(strange.texts().await, [""; 0]);
    let malformed = Redis::with_options(&url, BrokerOptions::default().with_prefix("long wire")).await;
    malformed.expect_err("a space");
    let nobody = Redis::connect(format!("redis://127.0.0.1:{}", free_port())).await;
    nobody.expect_err("nobody listens");
}

#[tokio::test]
async fn a_connection_is_for_one_node_and_ends_with_it() {
    let Some(server) = RedisServer::start().await else { return };
    let hub = Hub::default();
    let cluster =
        Cluster::join(&hub, server.connect().await, ClusterOptions::default()).await.expect("it is there");
    // One more asks.
    let is = async |expected: u64| {
        for _ in 0..500 {
            if server.number("connected_clients").await == expected + 1 {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("there are {} connections", server.number("connected_clients").await - 1);
    };
    is(1).await;
    cluster.leave().await;
    is(0).await;
    let node = TestNode::new(server.connect().await, ClusterOptions::default()).await;
    let client = node.member("tea").await;
    is(1).await;
    // Without a farewell.
    drop(node);
    drop(client);
    is(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_server_closes_is_a_gap_on_that_node() {
    let Some(server) = RedisServer::start().await else { return };
    let one = TestNode::new(server.connect().await, ClusterOptions::default()).await;
    let other = TestNode::new(server.connect().await, ClusterOptions::default()).await;
    let mut far = other.member("tea").await;
    let mut events = [one.cluster.events(), other.cluster.events()];
    let killed: u64 = cmd("CLIENT")
        .arg("KILL")
        .arg("TYPE")
        .arg("pubsub")
        .query_async(&mut server.asking().await)
        .await
        .expect("it can");
    assert_eq!(killed, 2);
    for events in &mut events {
        let restored = async {
            let mut gaps = 0;
            loop {
                match events.next().await.expect("it keeps up").expect("the node is there") {
                    ClusterEvent::Gap(Gap::Room(_)) => gaps += 1,
                    ClusterEvent::Restored => return gaps,
                    _ => {}
                }
            }
        };
        timeout(Duration::from_secs(20), restored).await.expect("it connects again");
    }
    assert_eq!((one.cluster.stats().gaps, other.cluster.stats().gaps), (1, 2), "for all, and for the room");
    one.hub.publish("tea", "again");
    assert_eq!(far.text().await, "again");
}

#[cfg(feature = "ring")]
#[tokio::test]
async fn tls() {
    let port = free_port();
    let config = support::broker::certificate("redis-server", port);
    let arguments = format!(
        "--tls-port {port} --port 0 --bind 127.0.0.1 --tls-cert-file cert.pem --tls-key-file key.pem \
         --tls-ca-cert-file cert.pem --tls-auth-clients no"
    );
    let arguments = arguments.split(' ').map(str::to_owned).collect();
    let Some(_server) = Process::start("redis-server", port, arguments).await else { return };
    let stranger = Redis::connect(format!("rediss://localhost:{port}")).await;
    stranger.expect_err("the system does not know the certificate");
    let options = BrokerOptions::default().with_tls(config);
    let join = async || {
        let link = Redis::with_options(format!("rediss://localhost:{port}"), options.clone()).await;
        TestNode::new(link.expect("it is trusted"), ClusterOptions::default()).await
    };
    let (one, other) = (join().await, join().await);
    let mut far = other.member("tea").await;
    one.hub.publish("tea", "hello");
    assert_eq!(far.text().await, "hello");
    let mismatch = Redis::with_options(format!("rediss://127.0.0.1:{port}"), options.clone()).await;
    mismatch.expect_err("the certificate is for another name");
    let plain = Redis::with_options(format!("redis://127.0.0.1:{port}"), options).await;
    plain.expect_err("the server wants TLS");
}
