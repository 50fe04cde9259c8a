//! Each method that sends reaches the clients that it names, and no others.

use std::time::Duration;

use longwire_connection::testing::{Pipe, pair};
use longwire_connection::{Config, PreparedMessage, WebSocket};
use longwire_hub::{ClientId, ClientInfo, Delivery, Hub, Room, Socket};
use tokio::time::timeout;

const WAIT: Duration = Duration::from_secs(1);

/// The clients 1 and 2 are in the room "tea", 3 has the key "ada", and 4 has neither.
async fn check(
    case: &str,
    expected: (&str, &[u64]),
    send: impl AsyncFnOnce(&Hub, &Room, ClientId) -> Delivery,
) {
    let hub = Hub::default();
    let admit = |info| {
        let (client, server) = pair(Config::default());
        (client, hub.admit(server, info).expect("the hub is open"))
    };
    let none = ClientInfo::default;
    let mut clients: [(WebSocket<Pipe>, Socket<Pipe>); 4] =
        [admit(none()), admit(none()), admit(none().key("ada")), admit(none())];
    for (_, socket) in &clients[..2] {
        socket.join("tea").unwrap();
    }
    let delivery = send(&hub, &hub.room("tea"), clients[0].1.id()).await;
    let (message, expected) = expected;
    assert_eq!((delivery.accepted, delivery.dropped, delivery.replaced), (expected.len(), 0, 0), "{case}");
    for (peer, socket) in &mut clients {
        let is_named = expected.contains(&socket.id().value());
        let received = timeout(WAIT, peer.recv()).await.ok();
        let received = received.map(|received| received.unwrap().expect("it is open").to_string());
        assert_eq!(received.as_deref(), is_named.then_some(message), "{case}: client {}", socket.id());
    }
}

#[tokio::test(start_paused = true)]
async fn broadcasts_reach_everybody() {
    let (all, others) = (("m", &[1, 2, 3, 4][..]), ("m", &[2, 3, 4][..]));
    check("all", all, async |hub, _, _| hub.broadcast("m")).await;
    check("local", all, async |hub, _, _| hub.broadcast_local("m")).await;
    check("latest", all, async |hub, _, _| hub.broadcast_latest("key", "m")).await;
    check("waiting", all, async |hub, _, _| hub.broadcast_waiting("m", WAIT).await).await;
    check("but one", others, async |hub, _, one| hub.broadcast_except(one, "m")).await;
    let prepared = PreparedMessage::new("m");
    check("prepared", others, async |hub, _, one| {
        hub.broadcast_prepared(&prepared, |client| client.id() != one)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn publications_reach_the_room() {
    let (all, other) = (("m", &[1, 2][..]), ("m", &[2][..]));
    check("all", all, async |hub, _, _| hub.publish("tea", "m")).await;
    check("local", all, async |hub, _, _| hub.publish_local("tea", "m")).await;
    check("latest", all, async |hub, _, _| hub.publish_latest("tea", "key", "m")).await;
    check("waiting", all, async |hub, _, _| hub.publish_waiting("tea", "m", WAIT).await).await;
    check("but one", other, async |hub, _, one| hub.publish_except("tea", one, "m")).await;
    check("by the room", all, async |_, tea, _| tea.publish("m")).await;
    check("by the room, local", all, async |_, tea, _| tea.publish_local("m")).await;
    check("by the room, latest", all, async |_, tea, _| tea.publish_latest("key", "m")).await;
    check("by the room, but one", other, async |_, tea, one| tea.publish_except(one, "m")).await;
    let prepared = PreparedMessage::new("m");
    check("by the room, prepared", other, async |_, tea, one| {
        tea.publish_prepared(&prepared, |client| client.id() != one)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn messages_reach_a_key() {
    check("a key", ("m", &[3]), async |hub, _, _| hub.send_to("ada", "m")).await;
    check("a room is no key", ("m", &[]), async |hub, _, _| hub.send_to("tea", "m")).await;
    check("a key is no room", ("m", &[]), async |hub, _, _| hub.publish("ada", "m")).await;
}

#[cfg(feature = "json")]
#[tokio::test(start_paused = true)]
async fn values_are_sent_as_json() {
    let value = ("tea", 3);
    check("all", (r#"["tea",3]"#, &[1, 2, 3, 4]), async |hub, _, _| hub.broadcast_json(&value).unwrap())
        .await;
    check("a room", (r#"["tea",3]"#, &[1, 2]), async |hub, _, _| hub.publish_json("tea", &value).unwrap())
        .await;
    check("by the room", (r#"["tea",3]"#, &[1, 2]), async |_, tea, _| tea.publish_json(&value).unwrap())
        .await;

    let hub = Hub::default();
    let (mut client, server) = pair(Config::default());
    let mut socket = hub.admit(server, ClientInfo::default()).unwrap();
    socket.send_json(&value).await.unwrap();
    assert_eq!(client.recv().await.unwrap(), Some(r#"["tea",3]"#.into()));
}
