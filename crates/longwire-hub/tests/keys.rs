//! Clients by a key of the application, and data for a client.

use longwire_connection::testing::{Pipe, pair};
use longwire_connection::{Config, Error, WebSocket};
use longwire_hub::{ClientData, ClientId, ClientInfo, Hub, HubError, Socket};

fn connect(hub: &Hub, info: ClientInfo) -> (WebSocket<Pipe>, Socket<Pipe>) {
    let (client, server) = pair(Config::default());
    (client, hub.admit(server, info).unwrap())
}

#[tokio::test]
async fn a_message_reaches_all_sockets_of_a_user() {
    let hub = Hub::default();
    let (mut one, socket_one) = connect(&hub, ClientInfo::default().key("ada"));
    let (mut two, socket_two) = connect(&hub, ClientInfo::default());
    let (_other, socket_other) = connect(&hub, ClientInfo::default().key("grace"));
    socket_two.set_key("ada").unwrap();
    assert_eq!(socket_two.client().key().as_deref(), Some("ada"));
    assert_eq!(hub.send_to("ada", "hello").accepted, 2);
    assert_eq!(one.recv().await.unwrap(), Some("hello".into()));
    assert_eq!(two.recv().await.unwrap(), Some("hello".into()));
    let ids = |key: &str| hub.clients_of(key).iter().map(longwire_hub::ClientHandle::id).collect::<Vec<_>>();
    assert_eq!(ids("ada"), [socket_one.id(), socket_two.id()]);
    assert_eq!(hub.send_to("nobody", "hello").accepted, 0);

    // A client has one key.
    socket_two.set_key("grace").unwrap();
    socket_two.set_key("grace").unwrap();
    assert_eq!((ids("ada"), ids("grace")), (vec![socket_one.id()], vec![socket_two.id(), socket_other.id()]));
    socket_two.client().remove_key();
    assert_eq!((socket_two.client().key(), ids("grace")), (None, vec![socket_other.id()]));
    // Keys are not rooms.
    assert!(hub.rooms().is_empty() && socket_one.client().rooms().is_empty());

    let gone = socket_one.client();
    drop(socket_one);
    assert!(ids("ada").is_empty());
    assert!(matches!(gone.set_key("ada"), Err(HubError::NotConnected)));
    assert!(ids("ada").is_empty());
}

#[tokio::test]
async fn a_key_has_a_maximum_length() {
    let hub = Hub::default();
    let (_one, socket) = connect(&hub, ClientInfo::default().key("k".repeat(1024)));
    assert!(matches!(socket.set_key("k".repeat(1025)), Err(HubError::Key { len: 1025 })));
    assert_eq!(socket.client().key().map(|key| key.len()), Some(1024), "the old one stays");

    let (mut client, server) = pair(Config::default());
    let refused = hub.admit(server, ClientInfo::default().key("k".repeat(1025)));
    assert!(matches!(refused, Err(HubError::Key { len: 1025 })));
    let error = client.recv().await.unwrap_err();
    assert!(matches!(error, Error::ClosedByPeer(frame) if u16::from(frame.code) == 1011));
    assert_eq!(hub.len(), 1, "it is not registered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_on_several_threads() {
    let hub = Hub::default();
    let sockets: Vec<_> = (0..4).map(|_| connect(&hub, ClientInfo::default())).collect();
    let tasks: Vec<_> = sockets
        .iter()
        .flat_map(|(_, socket)| [socket.client(), socket.client()])
        .enumerate()
        .map(|(task, client)| {
            tokio::spawn(async move {
                for n in 0..1000 {
                    client.set_key(((task + n) % 3).to_string()).unwrap();
                    if n % 50 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let listed: usize = ["0", "1", "2"].iter().map(|key| hub.clients_of(key).len()).sum();
    assert_eq!(listed, 4, "each client is listed under one key");
    drop(sockets);
    assert!(["0", "1", "2"].iter().all(|key| hub.clients_of(key).is_empty()));
}

#[tokio::test]
async fn data_is_one_store() {
    let hub = Hub::default();
    let data = ClientData::default();
    data.set("from the handshake").unwrap();
    let info = ClientInfo::default().all_data(data.clone());
    assert_eq!(info.client_data().get::<&str>(), Some(&"from the handshake"));
    let (_client, socket) = connect(&hub, info);
    assert_eq!(socket.data::<&str>(), Some(&"from the handshake"));
    assert_eq!(socket.set_data(7_u32), Ok(()));
    assert_eq!((data.get::<u32>(), socket.client().data::<u32>()), (Some(&7), Some(&7)));
    assert_eq!(socket.set_data("again"), Err("again"));
}

#[test]
fn ids_are_numbers() {
    let id = ClientId::from(7);
    assert_eq!((u64::from(id), id.value(), id.to_string()), (7, 7, "7".to_owned()));
}
