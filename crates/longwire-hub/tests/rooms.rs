//! Rooms: their members, delivery to them, and their removal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use longwire_connection::testing::{Pipe, pair};
use longwire_connection::{Config, Error, Message, PreparedMessage, WebSocket};
use longwire_hub::{ClientHandle, ClientId, ClientInfo, Hub, HubConfig, HubError, Room, Socket};
use tokio::time::timeout;

fn admit(hub: &Hub) -> (WebSocket<Pipe>, Socket<Pipe>) {
    let (client, server) = pair(Config::default());
    let socket = hub.admit(server, ClientInfo::default()).expect("the hub is open");
    (client, socket)
}

/// Returns all messages that have arrived.
async fn received(client: &mut WebSocket<Pipe>) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Ok(Ok(Some(message))) = timeout(Duration::from_millis(10), client.recv()).await {
        messages.push(message);
    }
    messages
}

fn ids(members: &[ClientHandle]) -> Vec<ClientId> {
    members.iter().map(ClientHandle::id).collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_reaches_who_is_in_the_room_and_nobody_else() {
    let hub = Hub::default();
    let mut peers = Vec::new();
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let (peer, socket) = admit(&hub);
        peers.push(peer);
        sockets.push(socket);
    }
    for socket in &sockets[..3] {
        assert!(socket.join("tea").unwrap(), "came in");
        assert!(!socket.client().join("tea").unwrap(), "is in there already");
    }
    sockets[3].join(String::from("coffee")).unwrap();

    assert_eq!(hub.publish("tea", "all").accepted, 3);
    assert_eq!(hub.publish_except("tea", sockets[0].id(), "but one").accepted, 2);
    assert_eq!(hub.publish_except("tea", sockets[3].id(), "from outside").accepted, 3);
    let prepared = PreparedMessage::new("prepared");
    let last = sockets[2].id();
    assert_eq!(hub.room("tea").publish_prepared(&prepared, |client| client.id() == last).accepted, 1);
    assert_eq!(hub.publish("water", "nobody").accepted, 0);
    assert_eq!(hub.room("coffee").publish(vec![1]).accepted, 1);

    let got = [
        vec!["all".into(), "from outside".into()],
        vec!["all".into(), "but one".into(), "from outside".into()],
        vec!["all".into(), "but one".into(), "from outside".into(), "prepared".into()],
        vec![Message::binary(vec![1])],
    ];
    for (peer, expected) in peers.iter_mut().zip(got) {
        assert_eq!(received(peer).await, expected);
    }
    assert!(sockets[1].leave("tea"));
    assert!(!sockets[1].leave("tea"), "was out already");
    assert!(!sockets[1].leave("coffee"), "was never in there");
    assert_eq!(hub.publish("tea", "after").accepted, 2);
    assert_eq!(received(&mut peers[1]).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_room_lists_its_members_and_a_client_its_rooms() {
    let hub = Hub::default();
    let (_one_peer, one) = admit(&hub);
    let (_other_peer, other) = admit(&hub);
    let room = hub.room("tea");
    assert_eq!((room.name(), room.len(), room.is_empty()), ("tea", 0, true));
    other.join("tea").unwrap();
    one.join("tea").unwrap();
    one.join("coffee").unwrap();
    assert_eq!(ids(&room.members()), [one.id(), other.id()], "in the order in which they connected");
    assert_eq!((room.len(), room.is_empty(), room.contains(one.id())), (2, false, true));
    let mut rooms = one.client().rooms();
    rooms.sort();
    assert_eq!(rooms, ["coffee".into(), "tea".into()]);
    assert_eq!(other.client().rooms(), ["tea".into()]);
    assert!(Arc::ptr_eq(&room.members(), &room.members()), "the list is made anew only after a change");
    other.leave("tea");
    assert_eq!(ids(&room.members()), [one.id()]);
    assert!(!room.contains(other.id()));
}

#[tokio::test(start_paused = true)]
async fn a_room_is_gone_with_its_last_member() {
    let hub = Hub::default();
    let handle = hub.room("tea");
    assert!(hub.rooms().is_empty(), "a handle makes no room");
    let (_peer, socket) = admit(&hub);
    for round in 0..3 {
        socket.join("tea").unwrap();
        assert_eq!((hub.rooms(), hub.stats().rooms), (vec!["tea".into()], 1), "round {round}");
        assert_eq!(handle.publish("x").accepted, 1, "the handle knows the new room: round {round}");
        socket.leave("tea");
        assert_eq!((hub.rooms(), hub.stats().rooms), (vec![], 0), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn membership_ends_with_the_client_however_it_ends() {
    let hub = Hub::default();

    let (_peer, socket) = admit(&hub);
    let client = socket.client();
    for room in ["one", "other"] {
        client.join(room).unwrap();
    }
    drop(socket);
    assert!(hub.rooms().is_empty(), "dropped");
    assert!(matches!(client.join("one"), Err(HubError::NotConnected)));
    assert!(!client.leave("one"));
    assert!(hub.rooms().is_empty(), "a client that has left opens no room");

    let (_peer, socket) = admit(&hub);
    let client = socket.client();
    drop(socket);
    assert!(matches!(client.join("one"), Err(HubError::NotConnected)), "the first after it has left");
    assert!(hub.rooms().is_empty());

    let (mut peer, server) = pair(Config::default());
    let run = tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
        ws.join("one").unwrap();
        ws.send("joined").await?;
        while ws.recv().await?.is_some() {}
        Ok::<_, Error>(())
    }));
    assert_eq!(peer.recv().await.unwrap(), Some("joined".into()));
    assert_eq!(hub.room("one").len(), 1);
    peer.close(1000, "").await.unwrap();
    run.await.unwrap().unwrap();
    assert!(hub.rooms().is_empty(), "closed by the peer");

    let (mut peer, server) = pair(Config::default());
    let run = tokio::spawn(hub.run(server, ClientInfo::default(), |mut ws| async move {
        ws.join("one").unwrap();
        ws.send("joined").await?;
        assert!(ws.recv().await?.is_none(), "a panic on purpose");
        Ok::<_, Error>(())
    }));
    peer.send("panic").await.unwrap();
    assert!(run.await.unwrap_err().is_panic());
    assert!(hub.rooms().is_empty(), "panicked");
}

#[tokio::test(start_paused = true)]
async fn a_client_is_in_a_bounded_number_of_rooms() {
    let limit = 3;
    let hub = Hub::new(HubConfig::default().with_max_rooms_per_client(limit));
    let (_peer, socket) = admit(&hub);
    for room in ["1", "2", "3"] {
        socket.join(room).unwrap();
    }
    assert!(matches!(socket.join("4"), Err(HubError::TooManyRooms { limit: 3 })));
    assert!(!hub.rooms().contains(&"4".into()), "a refusal leaves no room behind");
    assert!(!socket.join("2").unwrap(), "it is there already");
    let (_other_peer, other) = admit(&hub);
    other.join("4").unwrap();
    assert!(
        matches!(socket.join("4"), Err(HubError::TooManyRooms { .. })),
        "a room that is there counts as well"
    );
    socket.leave("1");
    assert!(socket.join("4").unwrap());

    hub.set_config(hub.config().with_max_rooms_per_client(None));
    for number in 0..2000 {
        socket.join(number.to_string()).unwrap();
    }
    assert_eq!(socket.client().rooms().len(), 2000, "three of which it was in");
}

#[tokio::test(start_paused = true)]
async fn the_name_of_a_room_is_bounded() {
    let hub = Hub::default();
    let (_peer, socket) = admit(&hub);
    // In bytes: the second character has two.
    for character in ["x", "é"] {
        let longest = character.repeat(Room::MAX_NAME / character.len());
        assert!(socket.join(&*longest).unwrap());
        let refused = socket.join(longest + "x");
        assert!(matches!(refused, Err(HubError::RoomName { len: 1025 })), "{refused:?}");
    }
    assert!(socket.join("").unwrap(), "a name like any other");
}

#[tokio::test(start_paused = true)]
async fn publishing_looks_at_members_only_and_holds_no_lock() {
    let hub = Hub::default();
    let all: Vec<_> = (0..50).map(|_| admit(&hub)).collect();
    for (_, socket) in &all[..2] {
        socket.join("small").unwrap();
    }
    let asked = AtomicUsize::new(0);
    let newcomer = all[2].1.client();
    let delivery = hub.room("small").publish_prepared(&PreparedMessage::new("x"), |client| {
        asked.fetch_add(1, Ordering::Relaxed);
        // All of these acquire a lock, so they would deadlock if the hub held one here.
        newcomer.join("small").unwrap();
        client.leave("small");
        client.join("other").unwrap();
        hub.publish("small", "y");
        assert_eq!(hub.len(), 50);
        true
    });
    assert_eq!((asked.into_inner(), delivery.accepted), (2, 2));
    assert_eq!(ids(&hub.room("small").members()), [newcomer.id()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rooms_that_many_tasks_enter_and_leave_lose_nobody() {
    const TASKS: usize = 8;
    const ROUNDS: usize = 500;
    let hub = Hub::default();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let hub = hub.clone();
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let (_peer, socket) = admit(&hub);
                    for room in ["a", "b", "c"] {
                        assert!(socket.join(room).unwrap());
                        let room = hub.room(room);
                        assert!(room.contains(socket.id()), "task {task}, round {round}");
                        assert!(room.members().iter().any(|client| client.id() == socket.id()));
                    }
                    hub.publish("a", "x");
                    assert!(socket.leave("b"));
                    assert!(!hub.room("b").contains(socket.id()));
                    if round % 16 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        timeout(Duration::from_secs(60), task).await.expect("nobody waits for ever").unwrap();
    }
    assert_eq!((hub.rooms().len(), hub.len()), (0, 0));
}
