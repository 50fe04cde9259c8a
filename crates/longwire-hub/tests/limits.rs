//! Limits on the number of clients, and places reserved for clients to come.

use std::net::SocketAddr;
use std::time::Duration;

use longwire_connection::testing::{Pipe, duplex, pair, pair_over};
use longwire_connection::{Config, Error, WebSocket};
use longwire_hub::{ClientInfo, Hub, HubConfig, HubError, RunError, SlowPolicy, Socket};

fn addr(addr: &str) -> SocketAddr {
    addr.parse().unwrap()
}

fn admit(hub: &Hub, info: ClientInfo) -> (WebSocket<Pipe>, Result<Socket<Pipe>, HubError>) {
    let (client, server) = pair(Config::default());
    (client, hub.admit(server, info))
}

/// Makes a connection that holds one byte until its peer reads.
fn pair_over_one_byte() -> (WebSocket<Pipe>, WebSocket<Pipe>) {
    let (client, server) = duplex(1);
    pair_over(client, server, &Config::default())
}

fn from(peer_addr: &str) -> ClientInfo {
    ClientInfo::default().peer_addr(addr(peer_addr))
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = HubConfig::default();
    assert_eq!(config.slow, SlowPolicy::Close);
    assert_eq!(config.queue, 256 * 1024);
    assert_eq!(config.leave_timeout, Duration::from_secs(5));
    assert_eq!((config.max_clients, config.max_clients_per_address), (None, None));
    assert_eq!(config.max_rooms_per_client, Some(1024));
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_clients_than_there_may_be() {
    let hub = Hub::new(HubConfig::default().with_max_clients(2));
    let (_peer, one) = admit(&hub, ClientInfo::default());
    let (_other_peer, other) = admit(&hub, ClientInfo::default());
    let other = other.unwrap();

    let (mut peer, refused) = admit(&hub, ClientInfo::default());
    assert!(matches!(refused, Err(HubError::Full { limit: 2 })), "{refused:?}");
    let error = peer.recv().await.unwrap_err();
    assert!(matches!(&error, Error::ClosedByPeer(frame) if frame.code == 1013.into()), "{error}");
    assert!(matches!(hub.reserve(None), Err(HubError::Full { limit: 2 })));
    let (_peer, server) = pair(Config::default());
    let ended = hub.run(server, ClientInfo::default(), |_| async { Ok::<_, Error>(()) }).await;
    assert!(matches!(ended, Err(RunError::Refused(HubError::Full { .. }))), "{ended:?}");
    assert_eq!((hub.len(), hub.stats().refused, hub.stats().admitted), (2, 3, 2));

    drop(one);
    let (_third_peer, third) = admit(&hub, ClientInfo::default());
    third.unwrap();
    hub.set_config(hub.config().with_max_clients(None));
    let (_fourth_peer, fourth) = admit(&hub, ClientInfo::default());
    fourth.unwrap();
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_clients_from_one_address_than_may_be() {
    let hub = Hub::new(HubConfig::default().with_max_clients_per_address(1));
    let mut clients = Vec::new();
    for (case, peer_addr, admitted) in [
        ("the first", "192.0.2.1:1", true),
        ("from the same host", "192.0.2.1:2", false),
        ("from the same host, over a socket for both families", "[::ffff:192.0.2.1]:3", false),
        ("from another host", "192.0.2.2:1", true),
        ("from a network", "[2001:db8::1]:1", true),
        ("from the same network", "[2001:db8::2:3:4:5]:1", false),
        ("from another network", "[2001:db8:0:1::1]:1", true),
    ] {
        let (peer, socket) = admit(&hub, from(peer_addr));
        match &socket {
            Ok(_) => assert!(admitted, "{case}"),
            Err(error) => {
                assert!(!admitted, "{case}: {error}");
                assert!(matches!(error, HubError::FullForAddress { limit: 1 }), "{case}: {error}");
            }
        }
        clients.push((peer, socket));
    }
    for _ in 0..3 {
        let (peer, socket) = admit(&hub, ClientInfo::default());
        clients.push((peer, Ok(socket.expect("without an address, nothing is counted"))));
    }
    clients.clear();
    let (_peer, again) = admit(&hub, from("192.0.2.1:9"));
    again.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_place_is_kept_until_it_is_dropped_or_used() {
    let config = HubConfig::default().with_max_clients(2).with_max_clients_per_address(1);
    let hub = Hub::new(config);
    let place = hub.reserve(addr("192.0.2.1:1")).unwrap();
    assert!(hub.is_empty(), "a place is no client");
    let again = hub.reserve(addr("192.0.2.1:2"));
    assert!(matches!(again, Err(HubError::FullForAddress { .. })), "{again:?}");
    drop(place);
    let place = hub.reserve(addr("192.0.2.1:1")).unwrap();
    let other_place = hub.reserve(addr("192.0.2.2:1")).unwrap();
    let (_peer, refused) = admit(&hub, from("192.0.2.3:1"));
    assert!(matches!(refused, Err(HubError::Full { .. })), "{refused:?}");

    // A reserved place remains valid whatever limits are set in the meantime.
    hub.set_config(config.with_max_clients(0).with_max_clients_per_address(0));
    let (_peer, socket) = admit(&hub, from("192.0.2.1:1").reservation(place));
    let socket = socket.unwrap();
    hub.set_config(config);
    assert!(matches!(hub.reserve(None), Err(HubError::Full { .. })), "one client and one place");
    drop(socket);
    let back = hub.reserve(addr("192.0.2.1:1")).expect("the client's place is free");
    drop((back, other_place));

    // Every place is free again, and none is freed twice.
    let one = hub.reserve(None).unwrap();
    let other = hub.reserve(None).unwrap();
    assert!(hub.reserve(None).is_err());
    drop((one, other));
}

#[tokio::test(start_paused = true)]
async fn a_place_is_of_use_only_where_it_was_kept() {
    let config = HubConfig::default().with_max_clients_per_address(1);
    let (hub, elsewhere) = (Hub::new(config), Hub::new(config));
    let (_peer, socket) = admit(&hub, from("192.0.2.1:1"));
    let socket = socket.unwrap();
    for (case, place) in [
        ("another hub's", elsewhere.reserve(addr("192.0.2.1:1")).unwrap()),
        ("for another client", hub.reserve(addr("192.0.2.2:1")).unwrap()),
    ] {
        let (_peer, refused) = admit(&hub, from("192.0.2.1:1").reservation(place));
        assert!(matches!(refused, Err(HubError::FullForAddress { .. })), "{case}: {refused:?}");
    }
    drop(elsewhere.reserve(addr("192.0.2.1:1")).expect("it was given back"));
    drop(hub.reserve(addr("192.0.2.2:1")).expect("it was given back"));
    drop(socket);
}

#[tokio::test(start_paused = true)]
async fn a_place_without_an_address_gets_it_later() {
    let hub = Hub::new(HubConfig::default().with_max_clients_per_address(1));
    let (here, elsewhere) = (addr("192.0.2.1:1"), addr("192.0.2.2:1"));
    let taken = hub.reserve(here).unwrap();
    let mut place = hub.reserve(None).unwrap();
    let refused = place.set_peer_addr(here);
    assert!(matches!(refused, Err(HubError::FullForAddress { limit: 1 })), "{refused:?}");
    assert_eq!(hub.stats().refused, 1);
    place.set_peer_addr(elsewhere).expect("the place still has no address");
    place.set_peer_addr(here).expect("this has no effect");
    let refused = hub.reserve(elsewhere);
    assert!(matches!(refused, Err(HubError::FullForAddress { .. })), "{refused:?}");
    drop((taken, place));

    // An admission assigns the place as well.
    let (one, other) = (hub.reserve(None).unwrap(), hub.reserve(None).unwrap());
    let (_peer, socket) = admit(&hub, from("192.0.2.1:1").reservation(one));
    let socket = socket.unwrap();
    assert!(hub.reserve(here).is_err(), "it counts for the address");
    let (mut peer, refused) = admit(&hub, from("192.0.2.1:1").reservation(other));
    assert!(matches!(refused, Err(HubError::FullForAddress { limit: 1 })), "{refused:?}");
    assert!(matches!(peer.recv().await, Err(Error::ClosedByPeer(frame)) if frame.code == 1013.into()));
    assert_eq!(hub.stats().refused, 4);
    drop(socket);
    drop(hub.reserve(here).expect("its place is back"));
    drop(hub.reserve(elsewhere).expect("its place is back"));

    let last = hub.reserve(None).unwrap();
    hub.set_config(hub.config().with_max_clients(0));
    let (_peer, socket) = admit(&hub, from("192.0.2.1:1").reservation(last));
    socket.expect("the place remains valid");
}

#[tokio::test(start_paused = true)]
async fn a_client_can_have_limits_of_its_own() {
    let hub = Hub::new(HubConfig::default().with_max_rooms_per_client(1).with_slow(SlowPolicy::DropNewest));
    let info = ClientInfo::default().max_rooms(2).queue(1);
    for (case, info, rooms, dropped) in
        [("its own", info, 2, 1), ("all clients'", ClientInfo::default(), 1, 0)]
    {
        let (_peer, server) = pair_over_one_byte();
        let socket = hub.admit(server, info).unwrap();
        for room in 0..rooms {
            assert!(socket.join(room.to_string()).unwrap(), "{case}");
        }
        let refused = socket.join("one more");
        assert!(
            matches!(refused, Err(HubError::TooManyRooms { limit }) if limit == rooms),
            "{case}: {refused:?}"
        );
        hub.broadcast("waits");
        assert_eq!(hub.broadcast("too much for a queue of one byte").dropped, dropped, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_place_is_given_or_used_once_the_hub_shuts_down() {
    let hub = Hub::default();
    let place = hub.reserve(None).unwrap();
    let drained = hub.shutdown(1001, "", Duration::from_secs(1)).await.unwrap();
    assert_eq!(drained.aborted, 0, "a place is not waited for");
    assert!(matches!(hub.reserve(None), Err(HubError::ShuttingDown)));
    let (mut peer, refused) = admit(&hub, ClientInfo::default().reservation(place));
    assert!(matches!(refused, Err(HubError::ShuttingDown)), "{refused:?}");
    drop(refused);
    assert_eq!(peer.recv().await.unwrap(), None);
    assert_eq!(peer.close_received().unwrap().code, 1001.into());
    assert_eq!(hub.stats().refused, 0, "that is no limit");
}
