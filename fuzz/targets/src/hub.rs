//! A hub: clients that come, go, stop reading and start again, and messages for all, for rooms, and for keys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longwire_connection::testing::{Pipe, Tap, duplex, pair_over};
use longwire_connection::{Config, Message, WebSocket};
use longwire_hub::{ClientHandle, ClientInfo, Delivery, Hub, HubConfig, SlowPolicy};
use tokio::task::JoinHandle;

use crate::input::Input;
use crate::virtual_time::{pause, run};

/// Runs a program of calls of one hub in virtual time, with one publisher.
///
/// - A client gets what was sent to it in order, each message once, and nothing that was sent when it was not in the
///   room, or after it had left. The values of a key stay in order, and the last one arrives.
/// - A client that stays gets everything except what is counted as dropped or replaced.
/// - What the calls return, the counters of the hub and those of its clients add up.
/// - After the shutdown nothing is left: no client, no room, no key, no handler, and no connection.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let (policy, size) = (input.byte(), input.byte());
    let policy = [SlowPolicy::Close, SlowPolicy::DropNewest, SlowPolicy::DropOldest][usize::from(policy) % 3];
    let config = HubConfig::default()
        .with_slow(policy)
        .with_queue([300, 3000, 30_000, 300_000][usize::from(size) % 4])
        .with_leave_timeout(Duration::from_secs(2));
    run(async move {
        let mut program =
            Program { hub: Hub::new(config), clients: Vec::new(), sent: 0, totals: Totals::default() };
        let mut steps = 0;
        while !input.is_empty() && steps < 200 {
            program.step(&mut input).await;
            steps += 1;
        }
        program.finish(&mut input).await;
    });
}

const ROOMS: [&str; 3] = ["a", "b", "c"];

/// The sums of what the calls have returned.
#[derive(Debug, Default)]
struct Totals {
    accepted: u64,
    dropped: u64,
    replaced: u64,
    messages: u64,
}

/// A client, as the program sees it.
struct Client {
    handle: ClientHandle,
    /// The rooms that it is in, for as long as it is connected.
    rooms: BTreeSet<&'static str>,
    /// The numbers of the messages sent to it, and the key of those that have one.
    due: BTreeMap<usize, Option<u8>>,
    handler: JoinHandle<()>,
    /// The other end, which receives the numbers of messages until the connection ends.
    peer: JoinHandle<Vec<usize>>,
    peer_tap: Tap,
    own_tap: Tap,
    /// Set once the program did something that ends the connection.
    is_leaving: bool,
}

struct Program {
    hub: Hub,
    clients: Vec<Client>,
    sent: usize,
    totals: Totals,
}

impl Program {
    async fn step(&mut self, input: &mut Input<'_>) {
        let (choice, argument) = (input.byte(), input.byte());
        let room = ROOMS[usize::from(argument) % ROOMS.len()];
        match choice % 16 {
            0 | 1 => self.connect(argument),
            2 | 3 => self.with_client(input, |client| {
                let joined = client.handle.join(room);
                if let Ok(new) = joined {
                    assert_eq!(new, client.rooms.insert(room), "{room}");
                }
            }),
            4 => self.with_client(input, |client| {
                let was_in = client.handle.leave(room);
                assert!(!was_in || client.rooms.contains(room), "{room}");
                client.rooms.remove(room);
            }),
            5 | 6 => self.send(argument, None, |_| true, Hub::broadcast),
            7 | 8 => {
                let is_in = |client: &Client| client.rooms.contains(room);
                self.send(argument, None, is_in, |hub, message| hub.publish(room, message));
            }
            9 => {
                let key = argument >> 4;
                let is_in = |client: &Client| client.rooms.contains(room);
                let send = |hub: &Hub, message| hub.publish_latest(room, key.to_string(), message);
                self.send(argument, Some(key), is_in, send);
            }
            10 => {
                let key = argument >> 4;
                self.send(
                    argument,
                    Some(key),
                    |_| true,
                    |hub, message| hub.broadcast_latest(key.to_string(), message),
                );
            }
            11 => {
                let except = self.clients.get(usize::from(argument) % self.clients.len().max(1));
                let Some(except) = except.map(|client| client.handle.id()) else { return };
                let others = |client: &Client| client.handle.id() != except;
                self.send(argument, None, others, |hub, message| hub.broadcast_except(except, message));
            }
            12 => self.with_client(input, |client| client.peer_tap.stall_reads()),
            13 => self.with_client(input, |client| client.peer_tap.resume()),
            14 => self.with_client(input, |client| {
                client.is_leaving = true;
                match argument % 3 {
                    0 => drop(client.handle.sender().start_close(1000, "")),
                    1 => client.handle.sender().abort(),
                    _ => client.peer_tap.reset(),
                }
            }),
            _ => pause(u64::from(argument)).await,
        }
        if choice & 0x10 != 0 {
            tokio::task::yield_now().await;
        }
        self.check();
    }

    fn connect(&mut self, argument: u8) {
        if self.clients.len() >= 12 {
            return;
        }
        let (peer, own) = duplex([64, 1000, 10_000, 65_536][usize::from(argument) % 4]);
        let (peer_tap, own_tap) = (peer.tap(), own.tap());
        let (peer, own) = pair_over(peer, own, &Config::default());
        let socket = self.hub.admit(own, ClientInfo::default()).expect("there is a place");
        let handle = socket.client();
        let handler = tokio::spawn(async move {
            let handler = socket.run(|mut socket| async move {
                while socket.recv().await?.is_some() {}
                Ok::<(), longwire_connection::Error>(())
            });
            // How it ends is the connection's affair.
            let _ = handler.await;
        });
        let peer = tokio::spawn(receive(peer));
        let (rooms, due) = (BTreeSet::new(), BTreeMap::new());
        self.clients.push(Client { handle, rooms, due, handler, peer, peer_tap, own_tap, is_leaving: false });
    }

    fn with_client(&mut self, input: &mut Input<'_>, call: impl FnOnce(&mut Client)) {
        let number = usize::from(input.byte());
        if let Some(len @ 1..) = Some(self.clients.len()) {
            call(&mut self.clients[number % len]);
        }
    }

    /// Sends the next message, and notes for whom it is.
    fn send(
        &mut self,
        argument: u8,
        key: Option<u8>,
        to: impl Fn(&Client) -> bool,
        send: impl FnOnce(&Hub, Message) -> Delivery,
    ) {
        let number = self.sent;
        self.sent += 1;
        let padding = [0, 10, 120, 900, 5000, 20_000][usize::from(argument) % 6];
        let before = self.hub.stats().broadcasts;
        let delivery = send(&self.hub, format!("{number} {}", "-".repeat(padding)).into());
        let is_counted = self.hub.stats().broadcasts > before;
        let mut most = 0;
        for client in self.clients.iter_mut().filter(|client| to(client)) {
            client.due.insert(number, key);
            most += 1;
        }
        assert!(delivery.accepted <= most, "{delivery:?} of {most}");
        assert!(is_counted || delivery.accepted + delivery.dropped == 0, "{delivery:?} is not counted");
        self.totals.accepted += delivery.accepted as u64;
        self.totals.dropped += delivery.dropped as u64;
        self.totals.replaced += delivery.replaced as u64;
        // A message for a room without members is not counted.
        self.totals.messages += u64::from(is_counted);
    }

    fn check(&self) {
        let stats = self.hub.stats();
        assert_eq!(self.hub.clients().len(), self.hub.len());
        assert!(self.hub.len() <= self.clients.len());
        assert_eq!((stats.admitted, stats.broadcasts), (self.clients.len() as u64, self.totals.messages));
        assert_eq!(stats.delivered, self.totals.accepted);
        assert_eq!(stats.replaced, self.totals.replaced);
        let connected: BTreeSet<_> = self.hub.clients().iter().map(ClientHandle::id).collect();
        for room in ROOMS {
            let members: BTreeSet<_> = self.hub.room(room).members().iter().map(ClientHandle::id).collect();
            assert!(members.is_subset(&connected), "somebody who has left is in {room}");
            let expected = self.clients.iter().filter(|client| client.rooms.contains(room));
            let expected: BTreeSet<_> =
                expected.map(|client| client.handle.id()).filter(|id| connected.contains(id)).collect();
            assert_eq!(members, expected, "the members of {room}");
        }
    }

    fn resume_all(&self) {
        for client in &self.clients {
            client.peer_tap.resume();
        }
    }

    async fn finish(mut self, input: &mut Input<'_>) {
        let resumes = input.byte() & 1 == 0;
        if resumes {
            self.resume_all();
            pause(1000).await;
        }
        let closed_slow = self.hub.stats().closed_slow;
        let drained = self.hub.shutdown(1001, "", Duration::from_secs(20)).await.expect("a valid frame");
        assert!(drained.aborted == 0 || !resumes, "{drained:?}");
        assert!(self.hub.is_empty() && self.hub.is_shutting_down());
        assert_eq!((self.hub.rooms().len(), self.hub.stats().rooms, self.hub.stats().clients), (0, 0, 0));
        self.resume_all();
        let (mut dropped, mut replaced, mut taps) = (0, 0, Vec::new());
        for client in self.clients.drain(..) {
            client.handler.await.expect("a handler ends");
            let received = client.peer.await.expect("the other end ends");
            let stats = client.handle.stats();
            check_received(&received, &client.due);
            let lost = client.handle.dropped() + stats.replaced;
            if resumes && !client.is_leaving && closed_slow == 0 {
                assert_eq!(
                    received.len() as u64 + lost,
                    client.due.len() as u64,
                    "received {received:?} of {:?}",
                    client.due
                );
                check_last_values(&received, &client.due, client.handle.dropped());
            }
            assert!(received.len() <= client.due.len());
            assert!(client.handle.rooms().is_empty() && client.handle.join("a").is_err());
            dropped += client.handle.dropped();
            replaced += stats.replaced;
            taps.push(client.own_tap);
        }
        let stats = self.hub.stats();
        assert_eq!((stats.dropped, stats.replaced), (dropped, replaced), "the counters of the hub");
        assert!(stats.dropped >= self.totals.dropped);
        // A task may close the connection of a client that has left.
        pause(300_000).await;
        assert!(taps.iter().all(Tap::is_dropped), "a connection is left");
    }
}

/// Receives the numbers of messages until the connection ends.
async fn receive(mut peer: WebSocket<Pipe>) -> Vec<usize> {
    let mut numbers = Vec::new();
    while let Ok(Some(message)) = peer.recv().await {
        let number = message.as_text().and_then(|text| text.split(' ').next()?.parse().ok());
        numbers.push(number.expect("a message begins with its number"));
    }
    numbers
}

/// Checks what a client has received: only what was sent to it, once and in order.
fn check_received(received: &[usize], due: &BTreeMap<usize, Option<u8>>) {
    let mut newest: BTreeMap<Option<u8>, usize> = BTreeMap::new();
    for number in received {
        let Some(key) = due.get(number) else {
            panic!("{number} was not for this client: {received:?} of {due:?}")
        };
        let before = newest.insert(*key, *number);
        assert!(before.is_none_or(|before| before < *number), "{number} after {before:?}: {received:?}");
    }
}

/// Checks that the last value of each key has arrived, unless values were dropped.
fn check_last_values(received: &[usize], due: &BTreeMap<usize, Option<u8>>, dropped: u64) {
    let last: BTreeMap<_, _> = due.iter().filter_map(|(number, key)| Some(((*key)?, number))).collect();
    for (key, number) in last {
        assert!(dropped > 0 || received.contains(number), "the last value of {key}, {number}, is missing");
    }
}
