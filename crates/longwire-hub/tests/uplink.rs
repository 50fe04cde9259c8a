//! The link of a hub to other hubs: the calls that it gets, and the messages that it delivers.
#![cfg(feature = "cluster")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longwire_connection::testing::{Pipe, pair};
use longwire_connection::{Config, Message, PreparedMessage, WebSocket};
use longwire_hub::{ClientId, ClientInfo, Delivery, Hub, Published, Socket, Target, Uplink};
use tokio::time::timeout;

const WAIT: Duration = Duration::from_secs(1);

/// Records its calls, and delivers nothing.
#[derive(Default)]
struct Link {
    heard: Mutex<Vec<String>>,
    /// Whether it leaves the messages to the hub.
    declines: AtomicBool,
}

impl Link {
    fn hear(&self, what: String) {
        self.heard.lock().unwrap().push(what);
    }

    /// Returns the calls since the last time.
    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

impl Uplink for Link {
    fn publish(&self, published: Published<'_>) -> bool {
        let Published { target, latest, except, message } = published;
        self.hear(format!("{target:?} {latest:?} {:?} {message}", except.map(ClientId::value)));
        !self.declines.load(Ordering::Relaxed)
    }

    fn moved(&self, room: &Arc<str>, client: ClientId, has_entered: bool) {
        self.hear(format!("{client} in {room}: {has_entered}"));
    }

    fn keyed(&self, key: &Arc<str>, is_taken: bool) {
        self.hear(format!("{key} taken: {is_taken}"));
    }
}

fn admit(hub: &Hub, info: ClientInfo) -> (WebSocket<Pipe>, Socket<Pipe>) {
    let (client, server) = pair(Config::default());
    (client, hub.admit(server, info).expect("the hub is open"))
}

fn linked() -> (Hub, Arc<Link>) {
    let (hub, link) = (Hub::default(), Arc::<Link>::default());
    let uplink: Arc<dyn Uplink> = link.clone();
    assert!(hub.link(&uplink));
    (hub, link)
}

/// Returns the message that has arrived, if there is one.
async fn received(client: &mut WebSocket<Pipe>) -> Option<Message> {
    let received = timeout(WAIT, client.recv()).await.ok()?;
    Some(received.expect("the connection is well").expect("the connection is open"))
}

#[tokio::test(start_paused = true)]
async fn a_hub_has_one_link() {
    let (hub, link) = linked();
    let other = Arc::<Link>::default();
    let uplink: Arc<dyn Uplink> = other.clone();
    assert!(!hub.link(&uplink));
    hub.broadcast("m");
    assert_eq!((link.heard().len(), other.heard().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_link_hears_what_is_published_and_delivers_it() {
    let (hub, link) = linked();
    let (mut peer, socket) = admit(&hub, ClientInfo::default().key("ada"));
    socket.join("tea").unwrap();
    link.heard();
    let (id, tea) = (ClientId::from(7), hub.room("tea"));
    let calls = [
        (hub.broadcast("m"), "All None None m"),
        (hub.broadcast_except(id, "m"), "All None Some(7) m"),
        (hub.broadcast_latest("key", "m"), r#"All Some("key") None m"#),
        (hub.broadcast_waiting("m", WAIT).await, "All None None m"),
        (hub.publish("tea", "m"), r#"Room("tea") None None m"#),
        (hub.publish_except("tea", id, "m"), r#"Room("tea") None Some(7) m"#),
        (hub.publish_latest("tea", "key", "m"), r#"Room("tea") Some("key") None m"#),
        (hub.publish_waiting("tea", "m", WAIT).await, r#"Room("tea") None None m"#),
        (tea.publish("m"), r#"Room("tea") None None m"#),
        (hub.send_to("ada", "m"), r#"Key("ada") None None m"#),
        (hub.publish("nobody's", "m"), r#"Room("nobody's") None None m"#),
    ];
    let heard = link.heard();
    assert_eq!(heard, calls.map(|(_, expected)| expected));
    assert!(calls.iter().all(|(delivery, _)| *delivery == Delivery::default()), "{calls:?}");
    assert_eq!(received(&mut peer).await, None, "the link delivers all of them");
}

#[tokio::test(start_paused = true)]
async fn the_hub_delivers_what_the_link_declines() {
    let (hub, link) = linked();
    let (mut peer, _socket) = admit(&hub, ClientInfo::default());
    link.declines.store(true, Ordering::Relaxed);
    assert_eq!(hub.broadcast("m").accepted, 1);
    assert_eq!((received(&mut peer).await, link.heard().len()), (Some("m".into()), 1));
}

#[tokio::test(start_paused = true)]
async fn local_messages_do_not_reach_the_link() {
    let (hub, link) = linked();
    let (_peer, socket) = admit(&hub, ClientInfo::default());
    socket.join("tea").unwrap();
    link.heard();
    let (tea, prepared) = (hub.room("tea"), PreparedMessage::new("m"));
    for delivery in [
        hub.broadcast_local("m"),
        hub.broadcast_prepared(&prepared, |_| true),
        hub.publish_local("tea", "m"),
        tea.publish_local("m"),
        tea.publish_prepared(&prepared, |_| true),
    ] {
        assert_eq!(delivery.accepted, 1);
    }
    assert!(link.heard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn messages_of_other_hubs_reach_the_clients_that_they_are_for() {
    let (hub, link) = linked();
    let mut clients = [
        admit(&hub, ClientInfo::default()),
        admit(&hub, ClientInfo::default().key("ada")),
        admit(&hub, ClientInfo::default()),
    ];
    clients[0].1.join("tea").unwrap();
    clients[1].1.join("tea").unwrap();
    link.heard();
    let first = clients[0].1.id();
    for (target, latest, except, expected) in [
        (Target::All, None, None, &[1, 2, 3][..]),
        (Target::All, None, Some(first), &[2, 3]),
        (Target::All, Some("key"), None, &[1, 2, 3]),
        (Target::Room("tea"), None, None, &[1, 2]),
        (Target::Room("tea"), None, Some(first), &[2]),
        (Target::Room("tea"), Some("key"), None, &[1, 2]),
        (Target::Room("ada"), None, None, &[]),
        (Target::Key("ada"), None, None, &[2]),
        (Target::Key("tea"), None, None, &[]),
    ] {
        let message = Message::from("m");
        let published = Published::new(target, &message).except(except);
        let published = latest.map_or(published, |key| published.latest(key));
        assert_eq!(hub.deliver_incoming(published).accepted, expected.len(), "{published:?}");
        for (peer, socket) in &mut clients {
            let is_meant = expected.contains(&socket.id().value());
            assert_eq!(received(peer).await.is_some(), is_meant, "{published:?}: client {}", socket.id());
        }
    }
    assert!(link.heard().is_empty(), "it does not go back");
}

#[tokio::test(start_paused = true)]
async fn the_link_hears_of_each_member_and_of_the_first_and_last_with_a_key() {
    let (hub, link) = linked();
    let (_one_peer, one) = admit(&hub, ClientInfo::default().key("ada"));
    let (_other_peer, other) = admit(&hub, ClientInfo::default().key("ada"));
    assert_eq!(link.heard(), ["ada taken: true"]);
    assert_eq!(hub.keys(), ["ada".into()]);
    for socket in [&one, &other] {
        socket.join("tea").unwrap();
        socket.join("tea").unwrap();
    }
    assert_eq!(link.heard(), ["1 in tea: true", "2 in tea: true"]);
    one.leave("tea");
    one.leave("tea");
    assert_eq!(link.heard(), ["1 in tea: false"]);
    one.set_key("grace").unwrap();
    assert_eq!(link.heard(), ["grace taken: true"]);
    other.set_key("grace").unwrap();
    assert_eq!(link.heard(), ["ada taken: false"]);
    one.client().remove_key();
    assert_eq!(link.heard(), [""; 0]);
    drop(other);
    let mut heard = link.heard();
    heard.sort();
    assert_eq!(heard, ["2 in tea: false", "grace taken: false"]);
    assert!(hub.keys().is_empty());
}
