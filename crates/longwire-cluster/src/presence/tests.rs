//! Tests of one node and of several, between which messages are lost, late, and out of order.

use std::collections::{HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

const LEASE: Duration = Duration::from_secs(15);

/// Nodes, and what is on its way between them: in order for each sender, receiver and channel, and in no order
/// beyond that.
struct World {
    now: Instant,
    nodes: Vec<Presence>,
    truth: Vec<HashMap<Arc<str>, BTreeMap<u64, Bytes>>>,
    listening: Vec<HashSet<Channel>>,
    ways: BTreeMap<(usize, usize, String), VecDeque<(Channel, Body)>>,
    /// Nodes that receive nothing and send nothing.
    cut: Vec<bool>,
    events: Vec<Vec<Change>>,
    answers: HashMap<(usize, u64), Vec<(NodeId, Member)>>,
}

fn id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

fn member(id: u64) -> Member {
    Member { id, data: Bytes::from(format!("data of {id}")) }
}

impl World {
    fn new(count: usize) -> Self {
        let now = Instant::now();
        let presence = |node| Presence::new(id(node), format!("node {node}").into(), LEASE, now);
        let mut world = Self {
            now,
            nodes: (0..count).map(presence).collect(),
            truth: vec![HashMap::new(); count],
            listening: (0..count).map(|node| [Channel::Control, Channel::Node(id(node))].into()).collect(),
            ways: BTreeMap::new(),
            cut: vec![false; count],
            events: vec![Vec::new(); count],
            answers: HashMap::new(),
        };
        world.pass(Duration::ZERO);
        world.settle();
        world
    }

    /// Takes what a node wants to send, and puts it on its ways.
    fn post(&mut self, node: usize) {
        for out in self.nodes[node].take() {
            match out {
                Out::Tell(change) => self.events[node].push(change),
                Out::Answered(query, members) => drop(self.answers.insert((node, query), members)),
                Out::Send(channel, body) if !self.cut[node] => {
                    for to in 0..self.nodes.len() {
                        if self.listening[to].contains(&channel) && !self.cut[to] {
                            let way = (node, to, channel.subject(""));
                            self.ways.entry(way).or_default().push_back((channel.clone(), body.clone()));
                        }
                    }
                }
                Out::Send(..) | Out::Forget(_) | Out::Differs(..) => {}
            }
        }
    }

    fn each(&mut self, act: impl Fn(&mut Presence)) {
        for node in 0..self.nodes.len() {
            act(&mut self.nodes[node]);
            self.post(node);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        self.each(|node| node.tick(now));
    }

    fn subscribe(&mut self, node: usize, room: &Arc<str>) {
        if self.listening[node].insert(Channel::Room(Arc::clone(room))) {
            self.nodes[node].subscribed(room);
            self.post(node);
        }
    }

    /// A client enters a room to which the node subscribes later.
    fn enter_only(&mut self, node: usize, room: &Arc<str>, client: u64) {
        let Member { id, data } = member(client);
        self.truth[node].entry(Arc::clone(room)).or_default().insert(id, data);
        self.nodes[node].entered(room, member(client));
        self.post(node);
    }

    fn enter(&mut self, node: usize, room: &Arc<str>, client: u64) {
        let Member { id, data } = member(client);
        self.truth[node].entry(Arc::clone(room)).or_default().insert(id, data);
        self.nodes[node].entered(room, member(client));
        self.post(node);
        self.subscribe(node, room);
    }

    fn leave(&mut self, node: usize, room: &Arc<str>, client: u64) {
        self.truth[node].entry(Arc::clone(room)).or_default().remove(&client);
        self.nodes[node].left(room, client);
        self.post(node);
    }

    fn unsubscribe_if_empty(&mut self, node: usize, room: &Arc<str>) {
        if self.truth[node].get(room).is_none_or(BTreeMap::is_empty)
            && self.listening[node].remove(&Channel::Room(Arc::clone(room)))
        {
            let subject = Channel::Room(Arc::clone(room)).subject("");
            self.ways.retain(|(_, to, way), _| *to != node || *way != subject);
            self.nodes[node].unsubscribed(room);
            self.post(node);
        }
    }

    /// Loses the next item of the way at this index, if there is one, and reports a gap to its receiver.
    fn lose(&mut self, at: usize) {
        self.ways.retain(|_, way| !way.is_empty());
        if self.ways.is_empty() {
            return;
        }
        let key = self.ways.keys().nth(at % self.ways.len()).cloned().expect("it is in range");
        let Some((channel, _)) = self.ways.get_mut(&key).and_then(VecDeque::pop_front) else { return };
        let (_, to, _) = key;
        let now = self.now;
        match &channel {
            Channel::Room(room) => self.nodes[to].missed(room),
            _ => self.nodes[to].missed_anything(now),
        }
        self.post(to);
    }

    /// Delivers the next item of the way at this index, if there is one.
    fn deliver(&mut self, at: usize) -> bool {
        self.ways.retain(|_, way| !way.is_empty());
        if self.ways.is_empty() {
            return false;
        }
        let key = self.ways.keys().nth(at % self.ways.len()).cloned().expect("it is in range");
        let Some((channel, body)) = self.ways.get_mut(&key).and_then(VecDeque::pop_front) else {
            return false;
        };
        let (from, to, _) = key;
        if self.listening[to].contains(&channel) {
            self.nodes[to].receive(id(from), &channel, body, self.now);
            self.post(to);
        }
        true
    }

    fn settle(&mut self) {
        for step in 0.. {
            assert!(step < 100_000, "they talk for ever");
            if !self.deliver(step * 7) {
                return;
            }
        }
    }

    fn cut(&mut self, node: usize) {
        if !std::mem::replace(&mut self.cut[node], true) {
            self.ways.retain(|(from, to, _), _| *from != node && *to != node);
            let now = self.now;
            self.nodes[node].lost(now);
        }
    }

    fn heal(&mut self, node: usize) {
        if std::mem::replace(&mut self.cut[node], false) {
            self.nodes[node].restored(self.now);
            self.post(node);
        }
    }

    fn expected(&self, room: &Arc<str>) -> Vec<(NodeId, Member)> {
        let of = |node: usize| self.truth[node].get(room).cloned().unwrap_or_default();
        (0..self.nodes.len()).flat_map(|node| with_node(id(node), &of(node)).collect::<Vec<_>>()).collect()
    }

    fn check(&self, rooms: &[Arc<str>]) {
        for room in rooms {
            for (at, node) in self.nodes.iter().enumerate() {
                if self.listening[at].contains(&Channel::Room(Arc::clone(room))) {
                    let members = node.members(room);
                    assert_eq!(members, Some(self.expected(room)), "room {room} at node {at}");
                    assert_eq!(node.count(room), members.map(|members| members.len()));
                } else {
                    assert_eq!(node.count(room), None);
                }
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    EnterOnly(usize, usize, u64),
    Subscribe(usize, usize),
    /// Loses what is next on this way, and tells the receiver.
    Lose(usize),
    Enter(usize, usize, u64),
    Leave(usize, usize, u64),
    Unsubscribe(usize, usize),
    Cut(usize),
    Heal(usize),
    Pass(u64),
    Deliver(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (node, room, client) = (0..3_usize, 0..2_usize, 0..9_u64);
    proptest::collection::vec(
        prop_oneof![
            4 => (node.clone(), room.clone(), client.clone()).prop_map(|(n, r, c)| Step::Enter(n, r, c)),
            2 => (node.clone(), room.clone(), client.clone()).prop_map(|(n, r, c)| Step::EnterOnly(n, r, c)),
            2 => (node.clone(), room.clone()).prop_map(|(n, r)| Step::Subscribe(n, r)),
            4 => (node.clone(), room.clone(), client).prop_map(|(n, r, c)| Step::Leave(n, r, c)),
            2 => (node.clone(), room).prop_map(|(n, r)| Step::Unsubscribe(n, r)),
            1 => node.clone().prop_map(Step::Cut),
            1 => node.prop_map(Step::Heal),
            1 => (0..12_u64).prop_map(Step::Pass),
            8 => any::<usize>().prop_map(Step::Deliver),
            1 => any::<usize>().prop_map(Step::Lose),
        ],
        0..80,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn all_nodes_agree_once_everything_has_arrived(steps in steps()) {
        let rooms: Vec<Arc<str>> = vec!["a".into(), "b".into()];
        let mut world = World::new(3);
        for step in steps {
            match step {
                Step::Enter(node, room, client) => world.enter(node, &rooms[room], client),
                Step::EnterOnly(node, room, client) => world.enter_only(node, &rooms[room], client),
                Step::Subscribe(node, room) => world.subscribe(node, &rooms[room]),
                Step::Leave(node, room, client) => world.leave(node, &rooms[room], client),
                Step::Unsubscribe(node, room) => world.unsubscribe_if_empty(node, &rooms[room]),
                Step::Cut(node) => world.cut(node),
                Step::Heal(node) => world.heal(node),
                Step::Pass(seconds) => world.pass(Duration::from_secs(seconds)),
                Step::Deliver(at) => drop(world.deliver(at)),
                Step::Lose(at) => world.lose(at),
            }
        }
        (0..3).for_each(|node| world.heal(node));
        // Each node subscribes to the rooms of its clients in the end.
        for node in 0..3 {
            for room in &rooms {
                if world.truth[node].get(room).is_some_and(|own| !own.is_empty()) {
                    world.subscribe(node, room);
                }
            }
        }
        world.settle();
        // Each node is heard again, and questions without an answer are asked again.
        for _ in 0..2 {
            world.pass(LEASE / 3);
            world.settle();
        }
        world.check(&rooms);
    }
}

#[test]
fn the_members_of_a_dead_node_are_gone_after_a_lease() {
    let room: Arc<str> = "a".into();
    let mut world = World::new(3);
    world.enter(0, &room, 1);
    world.enter(1, &room, 2);
    world.settle();
    world.check(&[Arc::clone(&room)]);
    world.cut(1);
    world.truth[1].clear();
    world.events[0].clear();
    for _ in 0..3 {
        assert_eq!(world.nodes[0].count(&room), Some(2));
        world.pass(LEASE / 3);
        world.settle();
    }
    assert_eq!(world.nodes[0].count(&room), Some(1));
    let left = Change::Left { room, node: id(1), member: member(2) };
    let went = Change::NodeWent { node: id(1), name: "node 1".into() };
    assert_eq!(world.events[0], [left, went]);
}

#[test]
fn a_node_that_says_goodbye_is_gone_at_once() {
    let room: Arc<str> = "a".into();
    let mut world = World::new(2);
    world.enter(0, &room, 1);
    world.enter(1, &room, 2);
    world.settle();
    let now = world.now;
    world.nodes[0].receive(id(1), &Channel::Control, Body::Bye, now);
    assert_eq!(world.nodes[0].count(&room), Some(1));
    assert!(world.nodes[0].nodes().is_empty());
}

#[test]
fn a_node_without_the_room_asks_all_others() {
    let room: Arc<str> = "a".into();
    let mut world = World::new(3);
    for client in 0..200 {
        world.enter(0, &room, client);
    }
    world.settle();
    world.enter(1, &room, 7);
    world.settle();
    world.check(&[Arc::clone(&room)]);
    let query = world.nodes[2].query(&room);
    world.post(2);
    world.settle();
    let mut members = world.answers.remove(&(2, query)).expect("all have answered");
    members.sort_by_key(|(node, member)| (*node, member.id));
    assert_eq!(members, world.expected(&room));
    // A node that dies meanwhile is not waited for.
    let query = world.nodes[2].query(&room);
    world.cut(0);
    world.post(2);
    world.settle();
    assert!(!world.answers.contains_key(&(2, query)));
    for _ in 0..3 {
        world.pass(LEASE / 3);
        world.settle();
    }
    assert_eq!(world.answers.remove(&(2, query)), Some(vec![(id(1), member(7))]));
}

#[test]
fn parts_are_small_and_whole() {
    let members: Vec<_> = (0..100).map(|id| Member { id, data: vec![0; 20].into() }).collect();
    let parts = parts(members.clone());
    assert!(parts.len() > 1);
    for (at, (part, members)) in parts.iter().enumerate() {
        assert_eq!((part.index as usize, part.is_last), (at, at == parts.len() - 1));
        assert!(members.iter().map(Member::encoded_len).sum::<usize>() <= PART);
    }
    assert_eq!(parts.into_iter().flat_map(|(_, members)| members).collect::<Vec<_>>(), members);
    assert_eq!(super::parts(Vec::new()).len(), 1);
}

fn rooms() -> Vec<Arc<str>> {
    vec!["a".into()]
}

#[test]
fn a_change_before_an_outage_is_told_after_the_second_one() {
    let rooms = rooms();
    let mut world = World::new(2);
    world.enter(1, &rooms[0], 9);
    world.enter(0, &rooms[0], 1);
    world.settle();
    world.cut(0);
    world.leave(0, &rooms[0], 1);
    world.unsubscribe_if_empty(0, &rooms[0]);
    world.heal(0);
    world.cut(0);
    world.heal(0);
    world.settle();
    world.check(&rooms);
}

#[test]
fn an_answer_from_before_the_subscription_is_none() {
    let rooms = rooms();
    let mut world = World::new(2);
    world.enter(0, &rooms[0], 1);
    world.settle();
    world.enter(1, &rooms[0], 2);
    // Node 0 answers, and the answer is delayed.
    while world.ways.keys().any(|(from, ..)| *from == 1) {
        let at = world.ways.keys().position(|(from, ..)| *from == 1).expect("there is one");
        world.deliver(at);
        world.ways.retain(|_, way| !way.is_empty());
    }
    world.leave(1, &rooms[0], 2);
    world.unsubscribe_if_empty(1, &rooms[0]);
    world.leave(0, &rooms[0], 1);
    world.unsubscribe_if_empty(0, &rooms[0]);
    world.enter(1, &rooms[0], 2);
    world.settle();
    world.check(&rooms);
}

#[test]
fn a_burst_of_changes_after_a_lost_one_is_one_question() {
    let rooms = rooms();
    let mut world = World::new(2);
    world.enter(1, &rooms[0], 9);
    world.settle();
    world.pass(PATIENCE);
    for client in 0..100 {
        world.enter(0, &rooms[0], client);
    }
    // The first change is lost, and nobody notices but by the numbers.
    let room = Channel::Room(Arc::clone(&rooms[0])).subject("");
    world.ways.get_mut(&(0, 1, room)).and_then(VecDeque::pop_front).expect("it was sent");
    let mut asked = 0;
    world.ways.retain(|_, way| !way.is_empty());
    while world.deliver(0) {
        asked += usize::from(world.ways.contains_key(&(1, 0, Channel::Node(id(0)).subject(""))));
        world.ways.retain(|_, way| !way.is_empty());
    }
    assert!((1..300).contains(&asked));
    world.check(&rooms);
}

#[test]
fn what_a_departed_node_said_before_does_not_bring_it_back() {
    let mut world = World::new(2);
    let now = world.now;
    let lease = LEASE;
    let name: Arc<str> = "node 1".into();
    world.nodes[0].receive(id(1), &Channel::Control, Body::Bye, now);
    let late = Body::Heartbeat { name: Arc::clone(&name), lease, losses: 0, history: None };
    world.nodes[0].receive(id(1), &Channel::Node(id(0)), late.clone(), now);
    assert!(world.nodes[0].nodes().is_empty());
    world.nodes[0].tick(now + LEASE);
    world.nodes[0].receive(id(1), &Channel::Node(id(0)), late, now + LEASE);
    assert_eq!(world.nodes[0].nodes().len(), 1);
}

fn heartbeat(name: &str, lease: Duration) -> Body {
    Body::Heartbeat { name: name.into(), lease, losses: 0, history: None }
}

#[test]
fn a_lost_answer_is_asked_for_again_soon_whatever_the_lease() {
    let now = Instant::now();
    let lease = Duration::from_secs(3600);
    let mut presence = Presence::new(id(0), "0".into(), lease, now);
    presence.tick(now);
    presence.receive(id(1), &Channel::Control, heartbeat("1", lease), now);
    let room: Arc<str> = "room".into();
    presence.subscribed(&room);
    assert_eq!(presence.next_tick(), now + lease / HEARTBEATS, "nothing is known to be missing");
    let order = Order { seq: 9, previous: 8 };
    let body = Body::Entered { room: Arc::clone(&room), order, member: member(1) };
    presence.receive(id(1), &Channel::Room(Arc::clone(&room)), body, now);
    for asked in 1..5 {
        let next = presence.next_tick();
        assert!(next <= now + asked * PATIENCE, "question {asked}");
        presence.take();
        presence.tick(next);
        let asks = |out: &Out| matches!(out, Out::Send(_, Body::Wanted { .. }));
        assert!(presence.take().iter().any(asks), "question {asked}");
    }
    let answer = Body::Members {
        room,
        seq: 9,
        answers: presence.last_question,
        part: Part { index: 0, is_last: true },
        members: vec![member(1)],
    };
    presence.receive(id(1), &Channel::Node(id(0)), answer, now);
    presence.tick(presence.next_tick());
    assert!(presence.next_tick() > now + lease / 4, "nothing is missing any more");
}

#[test]
fn what_a_node_lost_while_nobody_heard_it_is_told_when_it_comes_back() {
    let (now, lease) = (Instant::now(), Duration::from_secs(1));
    let mut presence = Presence::new(id(0), "0".into(), lease, now);
    presence.receive(id(1), &Channel::Control, heartbeat("1", lease), now);
    assert!(!presence.take_lost_rooms());
    presence.tick(now + lease);
    assert!(presence.nodes().is_empty());
    let body = Body::Heartbeat { name: "1".into(), lease, losses: 1, history: None };
    presence.receive(id(1), &Channel::Control, body, now + lease);
    assert!(presence.take_lost_rooms());
}

#[test]
fn each_node_is_measured_by_its_own_lease() {
    let now = Instant::now();
    let mut presence = Presence::new(id(0), "0".into(), Duration::from_secs(1), now);
    let lease = Duration::from_secs(60);
    presence.receive(id(1), &Channel::Control, heartbeat("1", lease), now);
    presence.tick(now + Duration::from_secs(59));
    assert_eq!(presence.nodes().len(), 1);
    presence.tick(now + lease);
    assert!(presence.nodes().is_empty());
    // Nobody sleeps for ever because of what another says.
    let lease = Duration::MAX;
    presence.receive(id(2), &Channel::Control, heartbeat("2", lease), now);
    presence.tick(now + MAX_LEASE);
    assert!(presence.nodes().is_empty());
}
