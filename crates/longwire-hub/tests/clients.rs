//! Single clients: application data, and sending to one client with a result.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex, pair, pair_over};
use longwire_connection::{Compress, Config, Error, Excess, Rate, RateLimit, WebSocket};
use longwire_hub::{
    BoxError, ClientId, ClientInfo, HandlerResult, Handling, Hub, HubError, RunError, SlowPolicy, Socket,
};
use tokio::time::{Instant, sleep, timeout};

/// Admits a client whose connection holds 100 bytes.
fn admit(hub: &Hub) -> (WebSocket<Pipe>, Socket<Pipe>) {
    let (client, server) = duplex(100);
    let (client, server) = pair_over(client, server, &Config::default());
    (client, hub.admit(server, ClientInfo::default()).expect("the hub is open"))
}

#[derive(Debug, PartialEq)]
struct User(&'static str);

#[tokio::test(start_paused = true)]
async fn a_client_carries_what_the_application_gave_it() {
    let hub = Hub::default();
    let (_peer, server) = pair(Config::default());
    let given = hub.admit(server, ClientInfo::default().data(User("ann"))).unwrap();
    assert_eq!(given.client().data(), Some(&User("ann")));
    assert_eq!(given.data::<User>(), Some(&User("ann")));
    assert_eq!(given.data::<String>(), None, "another type");
    assert_eq!(given.set_data(User("eve")), Err(User("eve")), "once");
    assert_eq!(hub.clients()[0].data::<User>(), Some(&User("ann")));

    let (_other_peer, late) = admit(&hub);
    assert_eq!(late.data::<User>(), None);
    late.client().join("room").unwrap();
    assert_eq!(late.set_data(User("bob")), Ok(()));
    assert_eq!(late.client().set_data(7_u8), Ok(()), "of another type");
    assert_eq!(late.client().set_data(8_u8), Err(8));
    assert_eq!((late.data(), late.data()), (Some(&User("bob")), Some(&7_u8)));
}

#[tokio::test(start_paused = true)]
async fn a_message_may_be_made_of_what_the_socket_knows() {
    let hub = Hub::default();
    let (mut peer, mut ws) = admit(&hub);
    ws.feed(format!("{} of {}", ws.id(), ws.hub().len())).await.unwrap();
    ws.send(format!("{}", ws.id())).await.unwrap();
    ws.send_with(ws.id().to_string(), Compress::Never).await.unwrap();
    ws.start_close(1000, &ws.id().to_string()).unwrap();
    for message in ["1 of 1", "1", "1"] {
        assert_eq!(peer.recv().await.unwrap(), Some(message.into()));
    }
    let closing = async { ws.close(1000, &ws.id().to_string()).await };
    let (closed, ended) = tokio::join!(closing, peer.recv());
    closed.unwrap();
    assert_eq!(ended.unwrap(), None);
    let reason = peer.close_received().map(|frame| frame.reason.to_string());
    assert_eq!(reason.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn what_a_client_carries_is_dropped_with_its_last_handle() {
    let hub = Hub::default();
    let (_peer, socket) = admit(&hub);
    let data = Arc::new(());
    socket.set_data(Arc::clone(&data)).unwrap();
    let handle = socket.client();
    drop(socket);
    assert_eq!(Arc::strong_count(&data), 2);
    drop(handle);
    assert_eq!(Arc::strong_count(&data), 1);
}

#[tokio::test(start_paused = true)]
async fn a_send_to_one_client_ends_when_the_transport_has_the_message() {
    let hub = Hub::default();
    let (mut peer, mut socket) = admit(&hub);
    let client = socket.client();
    tokio::spawn(async move { while socket.recv().await.is_ok_and(|message| message.is_some()) {} });
    let start = Instant::now();
    client.send("short").await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    let reading = async {
        sleep(Duration::from_secs(3)).await;
        assert_eq!(peer.recv().await.unwrap(), Some("short".into()));
        assert_eq!(peer.recv().await.unwrap(), Some(vec![1; 1000].into()));
    };
    let sending = async {
        client.send(vec![1; 1000]).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    };
    tokio::join!(sending, reading);
}

#[tokio::test(start_paused = true)]
async fn a_flushed_send_of_a_socket_ends_when_the_transport_has_the_message() {
    let (mut peer, mut socket) = admit(&Hub::default());
    let start = Instant::now();
    let reading = async {
        sleep(Duration::from_secs(3)).await;
        assert_eq!(peer.recv().await.unwrap(), Some(vec![1; 1000].into()));
    };
    let sending = async {
        socket.send_flushed(vec![1; 1000]).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    };
    tokio::join!(sending, reading);
}

#[tokio::test(start_paused = true)]
async fn a_connection_can_leave_its_hub_and_go_on() {
    let hub = Hub::default();
    let (mut peer, socket) = admit(&hub);
    let mut ws = socket.into_inner();
    assert!(hub.is_empty());
    ws.send("still here").await.unwrap();
    assert_eq!(peer.recv().await.unwrap(), Some("still here".into()));
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_aborted_says_nothing() {
    let hub = Hub::default();
    let (mut peer, socket) = admit(&hub);
    socket.abort();
    assert!(hub.is_empty());
    let ended = peer.recv().await;
    assert!(matches!(ended, Err(Error::Lost)), "{ended:?}");
    assert_eq!(peer.close_received(), None);
}

#[tokio::test(start_paused = true)]
async fn a_send_to_one_client_says_why_the_message_did_not_get_there() {
    let hub = Hub::default();
    let (_peer, socket) = admit(&hub);
    let client = socket.client();
    let ending = async {
        sleep(Duration::from_secs(1)).await;
        socket.abort();
    };
    let (sent, ()) = tokio::join!(client.send(vec![1; 1000]), ending);
    assert!(matches!(sent, Err(Error::Closed)), "queued, and lost with the connection: {sent:?}");
    let sent = client.send("x").await;
    assert!(matches!(sent, Err(Error::Closed)), "never queued: {sent:?}");

    let (_peer, mut socket) = admit(&hub);
    socket.start_close(1000, "").unwrap();
    let sent = socket.client().send("x").await;
    assert!(matches!(sent, Err(Error::Closed)), "behind a close frame: {sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_can_wait_for_its_own_message_to_be_taken() {
    let hub = Hub::default();
    let (client, server) = duplex(100);
    let tap = client.tap();
    let (mut client, server) = pair_over(client, server, &Config::default());
    let run = tokio::spawn(hub.run(server, ClientInfo::default(), move |ws| async move {
        ws.client().send("x").await?;
        assert!(tap.peer().counts().writes > 0, "written within the handler's turn");
        ws.client().send(vec![1; 1000]).await
    }));
    assert_eq!(client.recv().await.unwrap(), Some("x".into()));
    assert_eq!(client.recv().await.unwrap(), Some(vec![1; 1000].into()));
    assert_eq!(timeout(Duration::from_secs(1), client.recv()).await.unwrap().unwrap(), None);
    run.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_and_its_hub_count_what_passes() {
    let hub = Hub::default();
    sleep(Duration::from_secs(7)).await;
    let (mut peer, mut socket) = admit(&hub);
    let (_other_peer, other) = admit(&hub);
    sleep(Duration::from_secs(3)).await;
    hub.broadcast("12345");
    other.join("room").unwrap();
    hub.publish("room", "123");
    hub.publish("nobody's", "1234567");
    peer.send("hello").await.unwrap();
    assert_eq!(socket.recv().await.unwrap(), Some("hello".into()));
    let _ = timeout(Duration::from_millis(1), socket.recv()).await;
    let stats = socket.client().stats();
    assert_eq!(stats.connected_for.as_secs(), 3);
    assert_eq!((stats.connection.messages_received, stats.connection.messages_sent), (1, 1));
    assert_eq!((stats.connection.bytes_received, stats.connection.bytes_sent), (11, 7));
    assert_eq!(stats.connection, socket.stats(), "as the socket counts");
    drop(other);
    let stats = hub.stats();
    assert_eq!((stats.clients, stats.peak, stats.admitted), (1, 2, 2));
    assert_eq!((stats.broadcasts, stats.broadcast_bytes, stats.delivered), (2, 8, 3));
    let traffic = hub.traffic();
    assert_eq!((traffic.messages_received, traffic.messages_sent), (1, 3), "who has left counts as well");
    assert_eq!(hub.close_codes(), [(1000, 1)].into());
}

#[tokio::test(start_paused = true)]
async fn what_a_rate_limit_refused_is_counted_when_the_client_has_left() {
    let hub = Hub::default();
    let messages = Some(Rate::per_second(1));
    let rate_limit = Some(RateLimit::default().with_messages(messages).with_excess(Excess::Drop));
    let (mut peer, server) = pair(Config::default().with_rate_limit(rate_limit));
    let run = tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
        while ws.recv().await?.is_some() {}
        Ok::<_, Error>(())
    }));
    peer.send("the one that passes").await.unwrap();
    for _ in 0..4 {
        peer.send("x").await.unwrap();
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(hub.clients()[0].stats().connection.messages_refused, 4);
    peer.close(1000, "").await.unwrap();
    run.await.unwrap().unwrap();
    assert_eq!(hub.stats().rate_limited, 4);
}

#[test]
fn an_id_is_a_number() {
    let id = ClientId::from(7);
    assert_eq!((id.value(), u64::from(id), id.to_string()), (7, 7, "7".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_its_own_can_be_read_and_taken_back() {
    let hub = Hub::default();
    let (_peer, socket) = admit(&hub);
    let client = socket.client();
    assert_eq!(client.slow_policy(), None);
    for slow_policy in
        [Some(SlowPolicy::DropNewest), Some(SlowPolicy::DropOldest), Some(SlowPolicy::Close), None]
    {
        client.set_slow_policy(slow_policy);
        assert_eq!(hub.clients()[0].slow_policy(), slow_policy);
    }
}

#[tokio::test(start_paused = true)]
async fn what_debugging_shows_names_the_client() {
    let hub = Hub::default();
    let addr = "192.0.2.1:80".parse::<SocketAddr>().unwrap();
    let info = ClientInfo::default().peer_addr(addr).queue(7);
    let shown = format!("{info:?}");
    assert!(shown.contains("peer_addr: Some(192.0.2.1:80), slow_policy: None, queue: Some(7)"), "{shown}");
    let (_peer, server) = pair(Config::default());
    let socket = hub.admit(server, info).unwrap();
    socket.client().join("room").unwrap();
    for (shown, expected) in [
        (format!("{hub:?}"), "Hub { clients: 1, .. }"),
        (format!("{:?}", hub.room("room")), "Room { name: \"room\", members: 1, .. }"),
        (
            format!("{:?}", socket.client()),
            "ClientHandle { id: ClientId(1), peer_addr: Some(192.0.2.1:80), .. }",
        ),
        (format!("{socket:?}"), "Socket { id: ClientId(1), state: Open, .. }"),
        (format!("{:?}", hub.reserve(None).unwrap()), "Reservation { source: None, .. }"),
    ] {
        assert_eq!(shown, expected);
    }
    let (_sender, receiver) = socket.split();
    assert!(format!("{receiver:?}").contains("Receiver"), "{receiver:?}");
}

#[tokio::test]
async fn a_handler_returns_nothing_or_a_result() {
    Handling::new(async {}).await.unwrap();
    Handling::new(async { HandlerResult::Ok(()) }).await.unwrap();
    let failed = Handling::new(async { HandlerResult::Err("failed".into()) }).await;
    assert_eq!(failed.unwrap_err().to_string(), "failed");
}

#[test]
fn only_a_lost_connection_is_a_disconnect() {
    let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    for (case, error, is_disconnect) in [
        ("a connection that was reset", RunError::Handler(BoxError::from(Error::from(lost))), true),
        ("a full queue", RunError::Handler(Error::QueueFull.into()), false),
        ("another error", RunError::Handler("another".into()), false),
        ("a refusal", RunError::Refused(HubError::NotConnected), false),
        ("a deadline", RunError::Aborted, false),
    ] {
        assert_eq!(error.is_disconnect(), is_disconnect, "{case}");
    }
    for (error, shown) in [
        (
            RunError::Refused(HubError::NotConnected),
            "the client was not admitted: the client is no longer connected",
        ),
        (RunError::Aborted, "the handler was dropped at the shutdown deadline"),
        (RunError::Handler(BoxError::from("another")), "the handler failed: \"another\""),
    ] {
        assert_eq!(format!("{error:?}"), shown);
    }
}
