//! The users of a world: each connects to a node, enters and leaves rooms, publishes, asks, and moves to another node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use longwire::cluster::Member;
use longwire::hub::{ClientHandle, ClientInfo, Socket};
use longwire::testing::{Pipe, pair};
use longwire::{Config, Message, WebSocket};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::World;
use super::node::{Node, Tag};
use super::record::{Record, SessionNumber, To};
use crate::plan::part;

/// A client that is connected.
pub(crate) struct Session {
    number: SessionNumber,
    node: Arc<Node>,
    client: ClientHandle,
    handler: AbortHandle,
    reader: AbortHandle,
}

/// Lives until the end of the time. The last session stays.
pub(crate) async fn live(world: Arc<World>, user: usize, mut rng: Rng) {
    while Instant::now() < world.end {
        let Some(node) = world.pick(&mut rng) else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let session = Session::begin(&world, node, user);
        let most = Duration::from_secs([1, 10, 100][rng.usize(..3)]);
        let until = (Instant::now() + part(&mut rng, most)).min(world.end);
        let pause = Duration::from_millis([20, 300, 2000][rng.usize(..3)]);
        while Instant::now() < until && !session.node.is_over() {
            session.act(&world, &mut rng);
            sleep_until((Instant::now() + part(&mut rng, pause)).min(until)).await;
        }
        if Instant::now() >= world.end {
            return;
        }
        session.end(&world.record, &mut rng);
    }
}

impl Session {
    fn begin(world: &World, node: Arc<Node>, user: usize) -> Self {
        let (ws, server) = pair(Config::default());
        let number = world.record.lock().session_begins(node.number, user);
        let info = ClientInfo::default().key(To::User(user).to_string()).data(Tag(number));
        let socket = node.hub.admit(server, info).expect("the hub is open");
        let client = socket.client();
        let handler = node.spawn(handle(socket));
        let reader = tokio::spawn(read(ws, number, world.record.clone())).abort_handle();
        Self { number, node, client, handler, reader }
    }

    /// Ends the connection, from either side.
    fn end(self, record: &Record, rng: &mut Rng) {
        record.lock().session_ends(self.number);
        if rng.bool() { self.handler.abort() } else { self.reader.abort() }
    }

    fn act(&self, world: &World, rng: &mut Rng) {
        let room = rng.usize(..world.rooms);
        match rng.u8(..20) {
            0..5 => self.join(&world.record, room),
            5..7 => {
                world.record.lock().leaves(self.number, room);
                self.client.leave(To::Room(room).to_string());
            }
            7..9 => self.ask(world, room),
            _ => {
                let most = if rng.u8(..10) == 0 { 100 } else { 5 };
                for _ in 0..rng.usize(1..most) {
                    self.publish(&world.record, world.users, room, rng);
                }
            }
        }
    }

    fn join(&self, record: &Record, room: usize) {
        let Some(cluster) = self.node.cluster() else { return };
        let name = To::Room(room).to_string();
        let mut log = record.lock();
        // A second entry changes nothing.
        if self.client.rooms().iter().any(|it| **it == *name) {
            return;
        }
        log.joins(self.number, room);
        drop(log);
        assert_eq!(self.client.join(&name).ok(), Some(true), "a connected client enters a room");
        let (record, number) = (record.clone(), self.number);
        self.node.spawn(async move {
            if cluster.subscribed(&name).await.is_ok() {
                record.lock().confirmed(number, room);
            }
        });
    }

    /// Publishes the next message of this node.
    fn publish(&self, record: &Record, users: usize, room: usize, rng: &mut Rng) {
        let (to, is_for_others) = match rng.u8(..10) {
            0 => (To::All, rng.bool()),
            1 | 2 => (To::User(rng.usize(..users)), false),
            _ => (To::Room(room), rng.bool()),
        };
        let padding = if rng.u8(..30) == 0 { rng.usize(..4000) } else { rng.usize(..100) };
        let except = is_for_others.then_some(self.number);
        let text = record.lock().publishes(self.node.number, to, except, padding);
        let (hub, id, name) = (&self.node.hub, self.client.id(), to.to_string());
        match (to, is_for_others) {
            (To::All, false) => hub.broadcast(text),
            (To::All, true) => hub.broadcast_except(id, text),
            (To::Room(_), false) => hub.publish(name, text),
            (To::Room(_), true) => hub.publish_except(name, id, text),
            (To::User(_), _) => hub.send_to(name, text),
        };
    }

    /// Asks who is in a room. Whether the answer is the present is only known at the end.
    fn ask(&self, world: &World, room: usize) {
        let Some(cluster) = self.node.cluster() else { return };
        let record = world.record.clone();
        self.node.spawn(async move {
            let Ok(members) = cluster.members(To::Room(room).to_string()).await else { return };
            check_answer(&members, room, &record);
        });
    }
}

/// Checks that who is said to be in a room has been there, and is named once.
fn check_answer(members: &[Member], room: usize, record: &Record) {
    let mut log = record.lock();
    let mut named = BTreeSet::new();
    // One without data had left when its node asked for them.
    for member in members.iter().filter(|member| !member.data.is_empty()) {
        let number = Tag::parse(&member.data);
        let session = &log.sessions[number];
        let is_known = session.stays.contains_key(&room) && log.nodes[session.node].id == member.node;
        if !is_known || !named.insert(number) {
            log.violations.push(format!("{member:?} is said to be in room {room}"));
        }
    }
}

/// Receives until the connection ends.
async fn read(mut ws: WebSocket<Pipe>, session: SessionNumber, record: Record) {
    while let Ok(Some(message)) = ws.recv().await {
        let Message::Text(text) = message else {
            record.lock().violations.push(format!("session {session} has received {message:.80?}"));
            continue;
        };
        record.lock().receives(session, &text);
    }
}

/// The server's end of a client that only receives.
async fn handle(mut socket: Socket<Pipe>) {
    while let Ok(Some(_)) = socket.recv().await {}
}
