//! Who is in a room, over all nodes.
//!
//! Each node tells the others of a room when one of its clients enters or leaves. It numbers these changes, so that a
//! node which has missed one asks for the whole list. A node from which nothing was heard for its lease is taken for
//! dead, and its clients for gone.
//!
//! What a node tells on one channel arrives in order, and nothing of an earlier subscription to a room arrives after
//! the next: [`crate::node`] drops it. Nothing more is assumed: no order of different channels, and not that everything
//! arrives.
//!
//! There is no IO here and no clock: calls return nothing, and leave what is to be sent and told in [`Presence::take`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::channel::{Channel, NodeId};
use crate::envelope::{Body, Member, Order, Part};
use crate::history::History;
use crate::options::{MAX_LEASE, MIN_LEASE};

/// The state of presence at one node.
pub(crate) struct Presence {
    me: NodeId,
    lease: Duration,
    name: Arc<str>,
    history: Option<History>,
    nodes: HashMap<NodeId, Node>,
    /// Nodes that have said goodbye. What they said before that may arrive later.
    departed: HashMap<NodeId, Instant>,
    rooms: HashMap<Arc<str>, Room>,
    /// The time of the last call that has told it.
    now: Instant,
    /// The number of the last change.
    seq: u64,
    /// The number of times that this node has lost messages for rooms that it does not know.
    losses: u64,
    /// Set if another node has.
    has_lost_rooms: bool,
    /// Set while the broker is away. Silence says nothing about a node then.
    is_alone: bool,
    next_heartbeat: Instant,
    /// The time of the last question about everything, and whether another one is due.
    asked_at: Option<Instant>,
    must_ask: bool,
    /// The time at which something may have to be asked again, if there is anything.
    next_question: Option<Instant>,
    last_question: u64,
    queries: HashMap<u64, Query>,
    last_query: u64,
    out: Vec<Out>,
}

/// What a call leaves to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Out {
    Send(Channel, Body),
    Tell(Change),
    /// Nothing more comes from a node that has said goodbye.
    Forget(NodeId),
    /// The node with this name has a history with other bounds, or none.
    Differs(Arc<str>, Option<History>),
    Answered(u64, Vec<(NodeId, Member)>),
}

/// A change that an application may want to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    NodeCame { node: NodeId, name: Arc<str> },
    NodeWent { node: NodeId, name: Arc<str> },
    Entered { room: Arc<str>, node: NodeId, member: Member },
    Left { room: Arc<str>, node: NodeId, member: Member },
}

struct Node {
    name: Arc<str>,
    lease: Duration,
    losses: u64,
    heard: Instant,
}

impl Node {
    fn dies_at(&self) -> Instant {
        self.heard + self.lease
    }
}

/// A room in which this node has members, or to which it has subscribed.
#[derive(Default)]
struct Room {
    /// The number of the last question before the subscription; `None` without one.
    subscribed_after: Option<u64>,
    /// The time of the last question to everyone here, and whether another one is due.
    asked_at: Option<Instant>,
    must_ask: bool,
    /// The number of this node's last change; 0 if it has no member here and had none.
    seq: u64,
    own: BTreeMap<u64, Bytes>,
    others: HashMap<NodeId, View>,
}

/// Another node's members of a room, as far as this node knows them.
#[derive(Default)]
struct View {
    /// The number of the last change that is in it.
    seq: u64,
    /// The number of the last change that this node has heard of.
    newest: u64,
    asked_at: Option<Instant>,
    members: BTreeMap<u64, Bytes>,
    /// A list that is arriving in parts.
    coming: Option<Coming>,
}

struct Coming {
    answers: u64,
    next: u32,
    members: BTreeMap<u64, Bytes>,
}

/// A question to all nodes.
struct Query {
    /// The nodes that have not answered yet, and the part that is next.
    unanswered: HashMap<NodeId, u32>,
    members: Vec<(NodeId, Member)>,
}

impl Presence {
    pub(crate) fn new(me: NodeId, name: Arc<str>, lease: Duration, now: Instant) -> Self {
        Self {
            me,
            lease,
            name,
            history: None,
            nodes: HashMap::new(),
            departed: HashMap::new(),
            rooms: HashMap::new(),
            now,
            seq: 0,
            losses: 0,
            has_lost_rooms: false,
            is_alone: false,
            next_heartbeat: now,
            asked_at: None,
            must_ask: false,
            next_question: None,
            last_question: 0,
            queries: HashMap::new(),
            last_query: 0,
            out: Vec::new(),
        }
    }

    /// Sets the bounds of the history that this node uses.
    pub(crate) fn with_history(mut self, history: Option<History>) -> Self {
        self.history = history;
        self
    }

    /// Takes what the calls so far have left to be done, in order.
    pub(crate) fn take(&mut self) -> Vec<Out> {
        std::mem::take(&mut self.out)
    }

    /// Notes that a client of this node has entered a room.
    pub(crate) fn entered(&mut self, room: &Arc<str>, member: Member) {
        let state = self.rooms.entry(Arc::clone(room)).or_default();
        if state.own.get(&member.id) == Some(&member.data) {
            return;
        }
        let is_new = state.own.insert(member.id, member.data.clone()).is_none();
        let order = next(&mut self.seq, &mut state.seq);
        if is_new {
            let change = Change::Entered { room: Arc::clone(room), node: self.me, member: member.clone() };
            self.out.push(Out::Tell(change));
        }
        self.send_room(room, Body::Entered { room: Arc::clone(room), order, member });
    }

    /// Notes that a client of this node has left a room.
    pub(crate) fn left(&mut self, room: &Arc<str>, id: u64) {
        let Some(state) = self.rooms.get_mut(room) else { return };
        let Some(data) = state.own.remove(&id) else { return };
        let order = next(&mut self.seq, &mut state.seq);
        let member = Member { id, data };
        self.out.push(Out::Tell(Change::Left { room: Arc::clone(room), node: self.me, member }));
        self.send_room(room, Body::Left { room: Arc::clone(room), order, id });
        self.forget_if_idle(room);
    }

    /// Returns the members of this node in a room.
    pub(crate) fn own(&self, room: &str) -> impl Iterator<Item = u64> {
        self.rooms.get(room).into_iter().flat_map(|state| state.own.keys().copied())
    }

    /// Returns the rooms in which this node has members.
    pub(crate) fn own_rooms(&self) -> Vec<Arc<str>> {
        let occupied = self.rooms.iter().filter(|(_, state)| !state.own.is_empty());
        occupied.map(|(room, _)| Arc::clone(room)).collect()
    }

    /// Notes that this node receives what is published in a room, and asks who is in it.
    pub(crate) fn subscribed(&mut self, room: &Arc<str>) {
        let state = self.rooms.entry(Arc::clone(room)).or_default();
        state.subscribed_after = Some(self.last_question);
        if !state.own.is_empty() {
            // A node that has asked before this one listened was not heard.
            self.send_room(room, Body::Anew);
        }
        self.ask_room(room);
    }

    /// Notes that this node does not receive what is published in a room any more.
    pub(crate) fn unsubscribed(&mut self, room: &Arc<str>) {
        if let Some(state) = self.rooms.get_mut(room) {
            state.subscribed_after = None;
            (state.asked_at, state.must_ask) = (None, false);
            state.others.clear();
            self.forget_if_idle(room);
        }
    }

    fn forget_if_idle(&mut self, room: &Arc<str>) {
        if self.rooms.get(room).is_some_and(|state| !state.is_subscribed() && state.own.is_empty()) {
            self.rooms.remove(room);
        }
    }

    /// Returns who is in a room; `None` if this node does not know, as it has not subscribed to the room.
    pub(crate) fn members(&self, room: &str) -> Option<Vec<(NodeId, Member)>> {
        let state = self.rooms.get(room).filter(|state| state.is_subscribed())?;
        let own = std::iter::once((&self.me, &state.own));
        let all = own.chain(state.others.iter().map(|(node, view)| (node, &view.members)));
        let mut members: Vec<_> = all.flat_map(|(node, members)| with_node(*node, members)).collect();
        sort(&mut members);
        Some(members)
    }

    /// Returns how many are in a room; `None` if this node does not know.
    pub(crate) fn count(&self, room: &str) -> Option<usize> {
        let state = self.rooms.get(room).filter(|state| state.is_subscribed())?;
        Some(state.own.len() + state.others.values().map(|view| view.members.len()).sum::<usize>())
    }

    /// Returns the other nodes that are alive.
    pub(crate) fn nodes(&self) -> Vec<(NodeId, Arc<str>)> {
        self.nodes.iter().map(|(id, node)| (*id, Arc::clone(&node.name))).collect()
    }

    /// Asks all nodes who is in a room. The answer is an [`Out::Answered`] with the returned number.
    pub(crate) fn query(&mut self, room: &Arc<str>) -> u64 {
        self.last_query += 1;
        let unanswered: HashMap<_, _> = self.nodes.keys().map(|node| (*node, 0)).collect();
        let own = self.rooms.get(room).map(|state| &state.own);
        let members = own.into_iter().flat_map(|own| with_node(self.me, own)).collect();
        if !unanswered.is_empty() {
            let body = Body::Query { query: self.last_query, room: Arc::clone(room) };
            self.out.push(Out::Send(Channel::Control, body));
        }
        self.queries.insert(self.last_query, Query { unanswered, members });
        self.finish_queries();
        self.last_query
    }

    /// Forgets a question for whose answer nobody waits any more.
    pub(crate) fn forget_query(&mut self, query: u64) {
        self.queries.remove(&query);
    }

    fn finish_queries(&mut self) {
        let out = &mut self.out;
        self.queries.retain(|id, query| {
            let is_open = !query.unanswered.is_empty();
            if !is_open {
                let mut members = std::mem::take(&mut query.members);
                sort(&mut members);
                out.push(Out::Answered(*id, members));
            }
            is_open
        });
    }

    /// Notes the time: sends a heartbeat if one is due, gives up the nodes that were not heard, and asks again where an
    /// answer is missing.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.now = now;
        if self.next_heartbeat <= now {
            self.next_heartbeat = now + self.lease / HEARTBEATS;
            if !self.is_alone {
                self.send_heartbeat(Channel::Control);
            }
        }
        if self.is_alone {
            return;
        }
        let dead: Vec<_> =
            self.nodes.iter().filter(|(_, node)| node.dies_at() <= now).map(|(id, _)| *id).collect();
        for node in dead {
            self.remove(node);
        }
        let gone: Vec<_> = self.departed.extract_if(|_, until| *until <= now).map(|(node, _)| node).collect();
        self.out.extend(gone.into_iter().map(Out::Forget));
        if self.must_ask && self.is_patience_over(self.asked_at) {
            self.ask_all();
        }
        self.ask_again();
        self.plan_questions();
    }

    /// Returns the time of the next [`tick`](Self::tick) that has something to do.
    pub(crate) fn next_tick(&self) -> Instant {
        if self.is_alone {
            return self.next_heartbeat;
        }
        let ends = self.nodes.values().map(Node::dies_at);
        ends.chain(self.next_question).fold(self.next_heartbeat, Instant::min)
    }

    /// Determines the time of the next question, if something is missing and an answer may be on its way.
    fn plan_questions(&mut self) {
        let rooms = self.rooms.values();
        let of_rooms = rooms.clone().filter(|state| state.must_ask).map(|state| state.asked_at);
        let of_views = rooms.flat_map(|state| state.others.values());
        let of_views = of_views.filter(|view| view.newest > view.seq).map(|view| view.asked_at);
        let of_all = self.must_ask.then_some(self.asked_at);
        self.next_question =
            of_rooms.chain(of_views).chain(of_all).map(|asked_at| self.question_at(asked_at)).min();
    }

    fn question_at(&self, asked_at: Option<Instant>) -> Instant {
        // Not at once: one by one, many questions would each look at all rooms.
        (asked_at.unwrap_or(self.now) + PATIENCE).max(self.now + PATIENCE / 10)
    }

    /// Notes that something is missing and will have to be asked, unless an earlier question is answered.
    fn ask_later(&mut self, asked_at: Option<Instant>) {
        let at = self.question_at(asked_at);
        self.next_question = Some(self.next_question.map_or(at, |next| next.min(at)));
    }

    /// Returns the time of the next question, which may come nearer with each call.
    pub(crate) fn next_question(&self) -> Option<Instant> {
        self.next_question.filter(|_| !self.is_alone)
    }

    fn is_patience_over(&self, asked_at: Option<Instant>) -> bool {
        asked_at.is_none_or(|at| self.now.saturating_duration_since(at) >= PATIENCE)
    }

    /// Asks about rooms and nodes of which something is missing, if an earlier question is old enough.
    fn ask_again(&mut self) {
        let due =
            self.rooms.iter().filter(|(_, state)| state.must_ask && self.is_patience_over(state.asked_at));
        let rooms: Vec<_> = due.map(|(room, _)| Arc::clone(room)).collect();
        for room in rooms {
            self.missed(&room);
        }
        let mut behind: HashMap<NodeId, Vec<Arc<str>>> = HashMap::new();
        for (room, state) in &self.rooms {
            for (node, view) in &state.others {
                if view.newest > view.seq && self.is_patience_over(view.asked_at) {
                    behind.entry(*node).or_default().push(Arc::clone(room));
                }
            }
        }
        for (node, rooms) in behind {
            self.ask_node(node, rooms);
        }
    }

    fn send_heartbeat(&mut self, channel: Channel) {
        let (name, lease, losses, history) = (Arc::clone(&self.name), self.lease, self.losses, self.history);
        let body = Body::Heartbeat { name, lease, losses, history };
        self.out.push(Out::Send(channel, body));
    }

    /// Notes that this node has lost messages for rooms that it does not know. The others learn of it by its heartbeat,
    /// also those that miss the first one after it.
    pub(crate) fn lost_rooms(&mut self) {
        self.losses += 1;
        if !self.is_alone {
            self.send_heartbeat(Channel::Control);
        }
    }

    /// Returns whether another node has done so since the last call.
    pub(crate) fn take_lost_rooms(&mut self) -> bool {
        std::mem::take(&mut self.has_lost_rooms)
    }

    /// Notes that the broker is away.
    pub(crate) fn lost(&mut self, now: Instant) {
        self.now = now;
        self.is_alone = true;
    }

    /// Notes that the broker is there again.
    pub(crate) fn restored(&mut self, now: Instant) {
        self.now = now;
        self.is_alone = false;
        for node in self.nodes.values_mut() {
            node.heard = now;
        }
        self.next_heartbeat = now;
        self.tick(now);
        self.ask_all();
    }

    /// Notes that messages to this node or from it may have been lost, on any channel. Questions may have been among
    /// them.
    pub(crate) fn missed_anything(&mut self, now: Instant) {
        self.now = now;
        if self.is_alone {
            return;
        }
        if self.is_patience_over(self.asked_at) {
            self.ask_all();
        } else {
            self.must_ask = true;
            self.ask_later(self.asked_at);
        }
    }

    /// Notes that messages to this node in a room were lost.
    pub(crate) fn missed(&mut self, room: &Arc<str>) {
        let Some(state) = self.rooms.get(room).filter(|state| state.is_subscribed()) else { return };
        if self.is_alone || !self.is_patience_over(state.asked_at) {
            if let Some(state) = self.rooms.get_mut(room) {
                state.must_ask = true;
                let asked_at = state.asked_at;
                self.ask_later(asked_at);
            }
            return;
        }
        // A node that has left the room does not listen there any more.
        let believed: Vec<_> = state.believed().collect();
        // What was lost may have been a question.
        self.send_room(room, Body::Anew);
        self.ask_room(room);
        for node in believed {
            self.ask_node(node, vec![Arc::clone(room)]);
        }
    }

    /// Has the other nodes ask anew who is here, because they may have missed changes of this node, or its answers.
    fn resend(&mut self) {
        self.out.push(Out::Send(Channel::Control, Body::Anew));
    }

    /// Asks all nodes about all rooms, and has them ask.
    fn ask_all(&mut self) {
        (self.asked_at, self.must_ask) = (Some(self.now), false);
        self.resend();
        self.ask(&Channel::Control, self.subscriptions());
    }

    /// Asks the nodes that listen in a room who is there.
    fn ask_room(&mut self, room: &Arc<str>) {
        if let Some(state) = self.rooms.get_mut(room) {
            (state.asked_at, state.must_ask) = (Some(self.now), false);
            self.ask(&Channel::Room(Arc::clone(room)), vec![Arc::clone(room)]);
        }
    }

    fn ask_node(&mut self, node: NodeId, rooms: Vec<Arc<str>>) {
        for room in &rooms {
            if let Some(view) = view(&self.nodes, &mut self.rooms, node, room) {
                view.asked_at = Some(self.now);
            }
        }
        self.ask(&Channel::Node(node), rooms);
    }

    fn ask(&mut self, channel: &Channel, rooms: Vec<Arc<str>>) {
        for rooms in chunks(rooms, |room| 2 + room.len()) {
            self.last_question += 1;
            self.out.push(Out::Send(channel.clone(), Body::Wanted { question: self.last_question, rooms }));
        }
    }

    fn subscriptions(&self) -> Vec<Arc<str>> {
        let subscribed = self.rooms.iter().filter(|(_, state)| state.is_subscribed());
        subscribed.map(|(room, _)| Arc::clone(room)).collect()
    }

    fn send_room(&mut self, room: &Arc<str>, body: Body) {
        self.out.push(Out::Send(Channel::Room(Arc::clone(room)), body));
    }

    /// Answers a question.
    fn answer(&mut self, to: NodeId, answers: u64, rooms: Vec<Arc<str>>, even_if_empty: bool) {
        let mut empty = Vec::new();
        for room in rooms {
            let Some(state) = self.rooms.get(&room).filter(|state| !state.own.is_empty()) else {
                empty.push(room);
                continue;
            };
            let seq = state.seq;
            for (part, members) in parts(with_id(&state.own)) {
                let body = Body::Members { room: Arc::clone(&room), seq, answers, part, members };
                self.out.push(Out::Send(Channel::Node(to), body));
            }
        }
        if even_if_empty {
            for rooms in chunks(empty, |room| 2 + room.len()) {
                // No view of them is newer than the last change.
                self.out.push(Out::Send(Channel::Node(to), Body::Nobody { seq: self.seq, answers, rooms }));
            }
        }
    }

    /// Notes what another node has sent.
    pub(crate) fn receive(&mut self, from: NodeId, channel: &Channel, body: Body, now: Instant) {
        self.now = now;
        if from == self.me {
            return;
        }
        self.heard(from);
        match body {
            Body::Heartbeat { name, lease, losses, history } => {
                if history != self.history
                    && !self.nodes.contains_key(&from)
                    && !self.departed.contains_key(&from)
                {
                    self.out.push(Out::Differs(Arc::clone(&name), history));
                }
                self.heartbeat(from, channel, name, lease, losses);
            }
            Body::Bye => {
                self.departed.insert(from, now + self.lease);
                self.remove(from);
            }
            Body::Entered { room, order, member } => {
                self.change(from, &room, order, |view| {
                    let before = view.members.insert(member.id, member.data.clone());
                    before.is_none().then(|| Change::Entered { room: Arc::clone(&room), node: from, member })
                });
            }
            Body::Left { room, order, id } => self.change(from, &room, order, |view| {
                let data = view.members.remove(&id)?;
                let member = Member { id, data };
                Some(Change::Left { room: Arc::clone(&room), node: from, member })
            }),
            Body::Members { room, seq, answers, part, members } => {
                self.collect(from, &room, seq, answers, part, members);
            }
            Body::Nobody { seq, answers, rooms } => {
                for room in rooms {
                    self.replace(from, &room, seq, answers, BTreeMap::new());
                }
            }
            Body::Wanted { question, rooms } => {
                self.answer(from, question, rooms, !matches!(channel, Channel::Room(_)));
            }
            Body::Anew => {
                if self.nodes.contains_key(&from) {
                    let rooms =
                        channel.room().map_or_else(|| self.subscriptions(), |room| vec![Arc::clone(room)]);
                    self.ask_node(from, rooms);
                }
            }
            Body::Query { query, room } => {
                let own = self.rooms.get(&room).map(|state| with_id(&state.own)).unwrap_or_default();
                for (part, members) in parts(own) {
                    self.out.push(Out::Send(Channel::Node(from), Body::Answer { query, part, members }));
                }
            }
            Body::Answer { query, part, members } => self.answered(from, query, part, members),
            Body::Message(_) | Body::Lost { .. } | Body::Bundle(_) => {}
        }
    }

    fn answered(&mut self, from: NodeId, query: u64, part: Part, members: Vec<Member>) {
        let Some(query) = self.queries.get_mut(&query) else { return };
        // A part that comes after a lost one is no answer.
        let Some(next) = query.unanswered.get_mut(&from).filter(|next| **next == part.index) else { return };
        *next += 1;
        query.members.extend(members.into_iter().map(|member| (from, member)));
        if part.is_last {
            query.unanswered.remove(&from);
            self.finish_queries();
        }
    }

    /// Notes a sign of life of a node.
    pub(crate) fn heard(&mut self, from: NodeId) {
        if let Some(node) = self.nodes.get_mut(&from) {
            node.heard = self.now;
        }
    }

    fn heartbeat(&mut self, from: NodeId, channel: &Channel, name: Arc<str>, lease: Duration, losses: u64) {
        if let Some(node) = self.nodes.get_mut(&from) {
            self.has_lost_rooms |= losses > node.losses;
            node.losses = losses.max(node.losses);
            return;
        }
        if self.departed.contains_key(&from) {
            return;
        }
        self.out.push(Out::Tell(Change::NodeCame { node: from, name: Arc::clone(&name) }));
        // It may have been known until a moment ago, and have lost messages since.
        self.has_lost_rooms |= losses > 0;
        let lease = lease.clamp(MIN_LEASE, MAX_LEASE);
        self.nodes.insert(from, Node { name, lease, losses, heard: self.now });
        if *channel == Channel::Control {
            self.send_heartbeat(Channel::Node(from));
        }
        // What it has told before, nobody has listened to.
        self.ask_node(from, self.subscriptions());
    }

    fn remove(&mut self, id: NodeId) {
        let Some(node) = self.nodes.remove(&id) else { return };
        for (room, state) in &mut self.rooms {
            for (_, member) in with_node(id, &state.others.remove(&id).unwrap_or_default().members) {
                let change = Change::Left { room: Arc::clone(room), node: id, member };
                self.out.push(Out::Tell(change));
            }
        }
        self.out.push(Out::Tell(Change::NodeWent { node: id, name: node.name }));
        for query in self.queries.values_mut() {
            query.unanswered.remove(&id);
            query.members.retain(|(node, _)| *node != id);
        }
        self.finish_queries();
    }

    /// Applies a change to a view, or asks for the whole list if a change before it is missing.
    fn change(
        &mut self,
        from: NodeId,
        room: &Arc<str>,
        order: Order,
        apply: impl FnOnce(&mut View) -> Option<Change>,
    ) {
        let asked_room_at = self.rooms.get(room).and_then(|state| state.asked_at);
        let Some(view) = view(&self.nodes, &mut self.rooms, from, room) else { return };
        if order.seq <= view.seq {
            return;
        }
        view.newest = view.newest.max(order.seq);
        // Nothing has happened between its previous change here and this one.
        let is_next = if order.previous == 0 { view.members.is_empty() } else { order.previous <= view.seq };
        if is_next {
            view.seq = order.seq;
            self.out.extend(apply(view).map(Out::Tell));
        } else {
            // The answer to an earlier question may be on its way. If it is older than this, the next one follows it.
            let asked_at = view.asked_at.max(asked_room_at);
            if self.is_patience_over(asked_at) {
                self.ask_node(from, vec![Arc::clone(room)]);
            }
            self.ask_later(asked_at);
        }
    }

    /// Notes a part of a list.
    fn collect(
        &mut self,
        from: NodeId,
        room: &Arc<str>,
        seq: u64,
        answers: u64,
        part: Part,
        members: Vec<Member>,
    ) {
        let Some(view) = view(&self.nodes, &mut self.rooms, from, room) else { return };
        if part.index == 0 {
            view.coming = Some(Coming { answers, next: 0, members: BTreeMap::new() });
        }
        let fits = |coming: &&mut Coming| coming.answers == answers && coming.next == part.index;
        let Some(coming) = view.coming.as_mut().filter(fits) else { return };
        coming.next += 1;
        coming.members.extend(members.into_iter().map(|member| (member.id, member.data)));
        if part.is_last
            && let Some(coming) = view.coming.take()
        {
            self.replace(from, room, seq, answers, coming.members);
        }
    }

    /// Replaces a view by a list.
    fn replace(&mut self, from: NodeId, room: &Arc<str>, seq: u64, answers: u64, list: BTreeMap<u64, Bytes>) {
        // An answer from before the subscription is older than what happened meanwhile.
        let subscribed_after = self.rooms.get(room).and_then(|state| state.subscribed_after);
        if subscribed_after.is_none_or(|last| answers <= last) {
            return;
        }
        let Some(view) = view(&self.nodes, &mut self.rooms, from, room) else { return };
        if seq < view.seq {
            return;
        }
        let before = std::mem::replace(&mut view.members, list);
        view.seq = seq;
        let left = with_node(from, &before).filter(|(_, member)| !view.members.contains_key(&member.id));
        let entered = with_node(from, &view.members).filter(|(_, member)| !before.contains_key(&member.id));
        let name = || Arc::clone(room);
        self.out.extend(left.map(|(node, member)| Out::Tell(Change::Left { room: name(), node, member })));
        self.out
            .extend(entered.map(|(node, member)| Out::Tell(Change::Entered { room: name(), node, member })));
        if view.newest > seq {
            self.ask_node(from, vec![Arc::clone(room)]);
        }
    }
}

impl Room {
    fn is_subscribed(&self) -> bool {
        self.subscribed_after.is_some()
    }

    /// Returns the other nodes that have members here, as far as this node knows.
    fn believed(&self) -> impl Iterator<Item = NodeId> {
        self.others.iter().filter(|(_, view)| !view.members.is_empty()).map(|(node, _)| *node)
    }
}

/// Returns what is known of a living node's members of a room, if this node has subscribed to the room.
fn view<'a>(
    nodes: &HashMap<NodeId, Node>,
    rooms: &'a mut HashMap<Arc<str>, Room>,
    node: NodeId,
    room: &Arc<str>,
) -> Option<&'a mut View> {
    // What a node told while it was unknown is asked for once it is heard.
    if !nodes.contains_key(&node) {
        return None;
    }
    let state = rooms.get_mut(room).filter(|state| state.is_subscribed())?;
    Some(state.others.entry(node).or_default())
}

/// Returns the place of the next change of a room.
fn next(last: &mut u64, of_room: &mut u64) -> Order {
    *last += 1;
    Order { seq: *last, previous: std::mem::replace(of_room, *last) }
}

fn sort(members: &mut [(NodeId, Member)]) {
    members.sort_by_key(|(node, member)| (*node, member.id));
}

fn with_id(members: &BTreeMap<u64, Bytes>) -> Vec<Member> {
    members.iter().map(|(id, data)| Member { id: *id, data: data.clone() }).collect()
}

fn with_node(node: NodeId, members: &BTreeMap<u64, Bytes>) -> impl Iterator<Item = (NodeId, Member)> + use<> {
    with_id(members).into_iter().map(move |member| (node, member))
}

/// Divides a list of members into parts that fit into an envelope: at least one.
fn parts(members: Vec<Member>) -> Vec<(Part, Vec<Member>)> {
    let mut chunks = chunks(members, Member::encoded_len);
    if chunks.is_empty() {
        chunks.push(Vec::new());
    }
    let last = chunks.len() - 1;
    let numbered = (0_u32..).zip(chunks).enumerate();
    numbered.map(|(at, (index, chunk))| (Part { index, is_last: at == last }, chunk)).collect()
}

/// Divides a list into parts of at most [`PART`] bytes.
fn chunks<T>(list: Vec<T>, len: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut chunks: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for item in list {
        let cost = len(&item);
        match chunks.last_mut() {
            Some(chunk) if cost <= room => {
                room -= cost;
                chunk.push(item);
            }
            _ => {
                room = PART.saturating_sub(cost);
                chunks.push(vec![item]);
            }
        }
    }
    chunks
}

/// The bytes of a list in one envelope: well below what brokers accept, and little in tests, so that lists have parts.
const PART: usize = if cfg!(test) { 64 } else { 64 * 1024 };

/// The heartbeats in a lease.
const HEARTBEATS: u32 = 3;

/// The time in which an answer may still be on its way.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
