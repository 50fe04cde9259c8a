//! The conditions at the end of a world.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::node::{Node, lock};
use super::plan::Plan;
use super::record::{Log, Moment, NodeNumber, Sent, Session, SessionNumber, Span, Stream, To};
use super::{Way, World};

/// Waits until each node knows who is in each room, and until losses were told.
pub(crate) async fn presence(world: &World, plan: &Plan) {
    let begin = Instant::now();
    let limit = plan.lease + BOUND;
    loop {
        let asked = begin.elapsed();
        let wrong = contradictions(world).await;
        if wrong.is_empty() {
            break;
        }
        assert!(asked < limit, "after {limit:?}, presence is wrong: {wrong:#?}");
        sleep(Duration::from_millis(200)).await;
    }
    // Reports of losses that the broker refuses come later and later.
    sleep(TELL_AT_LAST + plan.linger).await;
    let wrong = contradictions(world).await;
    assert!(wrong.is_empty(), "presence is wrong again: {wrong:#?}");
}

/// Compares what each node knows with what the clients have done.
async fn contradictions(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for node in world.nodes() {
        let cluster = node.cluster().expect("it runs");
        if cluster.nodes().len() != world.nodes().len() {
            wrong.push(format!("node {} sees {:?}", node.number, cluster.nodes()));
        }
        for room in 0..world.rooms {
            let there = world.record.lock().members(room);
            let name = To::Room(room).to_string();
            let members = match cluster.members(&name).await {
                Ok(members) => members,
                Err(error) => {
                    wrong.push(format!("node {}, room {room}: {error}", node.number));
                    continue;
                }
            };
            if members.iter().any(|member| member.data.is_empty()) {
                wrong.push(format!("node {}, room {room}: a client that has left", node.number));
                continue;
            }
            let known: BTreeSet<_> =
                members.iter().map(|it| (it.node, super::node::Tag::parse(&it.data))).collect();
            if known != there {
                wrong.push(format!("node {}, room {room}: {known:?} instead of {there:?}", node.number));
            }
            match cluster.count(&name).await {
                Ok(count) if count == there.len() => {}
                other => wrong.push(format!("node {}, room {room}: {other:?} members", node.number)),
            }
            // Of rooms without clients here, nothing is told.
            if !node.hub.room(&name).is_empty() {
                let mut seen = lock(&node.observer);
                seen.drain();
                let told = seen.members(room);
                if told != there {
                    wrong.push(format!("node {} has told {told:?} of {room}, not {there:?}", node.number));
                }
            }
        }
    }
    wrong
}

/// Checks everything else.
pub(crate) fn all(world: &World, plan: &Plan) {
    for node in world.nodes() {
        counters(world, plan, &node);
    }
    let log = world.record.lock();
    assert!(log.violations.is_empty(), "{:#?}", log.violations);
    if log.dropped_events > 0 {
        // Which gaps there were is not known.
        return;
    }
    let arrivals = Arrivals::new(&log);
    for (number, session) in log.sessions.iter().enumerate() {
        let view = View { log: &log, plan, arrivals: &arrivals, number, session };
        view.check();
    }
}

fn counters(world: &World, plan: &Plan, node: &Node) {
    let stats = node.cluster().expect("it runs").stats();
    let log = world.record.lock();
    let record = &log.nodes[node.number];
    let whose = format!("node {}: {stats:?}", node.number);
    assert_eq!(stats.published + stats.lost, record.posts, "{whose}: published or lost");
    let gaps = record.gaps.len() as u64;
    assert!((gaps..=gaps + log.dropped_events).contains(&stats.gaps), "{whose}: {gaps} gaps");
    assert_eq!(stats.outages, record.outages.len() as u64, "{whose}: outages");
    assert_eq!(stats.malformed, 0, "{whose}");
    assert_eq!(stats.nodes + 1, plan.nodes, "{whose}: nodes");
    // What is published, but for names that are too long, costs a broker nothing else.
    let wanted = node.hub.rooms().len() + node.hub.keys().len();
    assert_eq!(stats.subscriptions, wanted, "{whose}: subscriptions");
    if let Way::Wire(broker) = &world.way {
        let arrived = broker.arrived(node.id);
        let echoes = plan.broker.is_some_and(|broker| broker.echoes);
        assert!(stats.received <= arrived, "{whose}: {arrived} arrived");
        // Those that did not fit may be the nodes' own. What arrives before a subscription, or comes back, is not
        // counted.
        let is_all_counted = stats.received + stats.overflowed >= arrived;
        assert!(is_all_counted || echoes || plan.faults.is_some(), "{whose}: {arrived} arrived");
        for to in (0..plan.rooms).map(To::Room).chain((0..plan.users).map(To::User)) {
            let is_subscribed = broker.subscribers(&to.channel()).contains(&node.id);
            let is_wanted = match to {
                To::Room(_) => !node.hub.room(to.to_string()).is_empty(),
                _ => !node.hub.clients_of(to.to_string()).is_empty(),
            };
            assert_eq!(is_subscribed, is_wanted, "{whose}: {to}");
        }
    }
}

/// The messages that have arrived at the clients of each node.
struct Arrivals(BTreeMap<(NodeNumber, Stream), Vec<(Moment, u64)>>);

impl Arrivals {
    fn new(log: &Log) -> Self {
        let mut arrivals: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for session in &log.sessions {
            for (moment, stream, number) in &session.received {
                arrivals.entry((session.node, *stream)).or_default().push((*moment, *number));
            }
        }
        for list in arrivals.values_mut() {
            list.sort_unstable();
        }
        Self(arrivals)
    }

    /// Returns the last time before which a message with a lower number has arrived at a client of a node.
    fn last_before(&self, node: NodeNumber, stream: Stream, number: u64) -> Option<Moment> {
        let list = self.0.get(&(node, stream))?;
        list.iter().filter(|(_, other)| *other < number).map(|(moment, _)| *moment).max()
    }
}

/// A client, and all that is known.
struct View<'a> {
    log: &'a Log,
    plan: &'a Plan,
    arrivals: &'a Arrivals,
    number: SessionNumber,
    session: &'a Session,
}

impl View<'_> {
    fn check(&self) {
        let mut received: BTreeMap<Stream, Vec<(Moment, u64)>> = BTreeMap::new();
        for (moment, stream, number) in &self.session.received {
            received.entry(*stream).or_default().push((*moment, *number));
        }
        for (stream, list) in &received {
            self.received(*stream, list);
        }
        for (stream, sent) in &self.log.published {
            let list = received.get(stream).map_or(&[][..], Vec::as_slice);
            let user = To::User(self.session.user);
            match stream.1 {
                To::Room(room) => {
                    for stay in self.session.stays.get(&room).into_iter().flatten() {
                        let list: Vec<_> =
                            list.iter().filter(|(at, _)| stay.span.touches(*at)).copied().collect();
                        self.missing(*stream, sent, &list, stay.span, stay.confirmed);
                    }
                }
                to if to == To::All || to == user => {
                    let span = self.session.life;
                    self.missing(*stream, sent, list, span, Some(span.from));
                }
                _ => {}
            }
        }
        self.told();
    }

    fn whose(&self, stream: Stream, number: u64) -> String {
        let (from, to) = stream;
        format!(
            "session {} on node {}: message {number} of node {from} to {to}",
            self.number, self.session.node
        )
    }

    /// Checks what has arrived: in order, once, sent, and meant.
    fn received(&self, stream: Stream, list: &[(Moment, u64)]) {
        let sent = self.log.published.get(&stream).map_or(&[][..], Vec::as_slice);
        for pair in list.windows(2) {
            assert!(pair[0].1 < pair[1].1, "{}: after {}", self.whose(stream, pair[1].1), pair[0].1);
        }
        for (moment, number) in list {
            let whose = || format!("{} at {moment:?}", self.whose(stream, *number));
            let sent = index(*number).and_then(|index| sent.get(index));
            let sent = sent.unwrap_or_else(|| panic!("{}: not sent", whose()));
            assert!(sent.except != Some(self.number), "{}: from itself", whose());
            assert!(self.session.life.touches(*moment), "{}: not connected", whose());
            assert!(sent.is_shared || stream.0 == self.session.node, "{}: from another", whose());
            match stream.1 {
                To::All => {}
                To::User(user) => assert_eq!(user, self.session.user, "{}: another user", whose()),
                To::Room(room) => {
                    let stays = self.session.stays.get(&room).map_or(&[][..], Vec::as_slice);
                    let is_in = stays.iter().any(|stay| stay.span.touches(*moment));
                    assert!(is_in, "{}: not in the room", whose());
                }
            }
        }
    }

    /// Checks that what has not arrived in a span of time was not due, or is covered by a gap.
    fn missing(
        &self,
        stream: Stream,
        sent: &[Sent],
        list: &[(Moment, u64)],
        span: Span,
        confirmed: Option<Moment>,
    ) {
        let (from, to) = stream;
        let node = &self.log.nodes[self.session.node];
        let is_local = from == self.session.node;
        for (number, message) in (1..).zip(sent) {
            let is_due = span.contains(message.when) && message.except != Some(self.number);
            if !is_due || list.binary_search_by_key(&number, |(_, number)| *number).is_ok() {
                continue;
            }
            let whose = || format!("{}, sent at {:?}", self.whose(stream, number), message.when);
            if is_local {
                let is_cut_short = span.until.is_some_and(|until| until.at == message.when.at);
                assert!(is_cut_short, "{}: missing on its own node", whose());
                continue;
            }
            let is_expected = message.is_shared
                && confirmed.is_some_and(|confirmed| confirmed < message.when)
                && node.life.contains(message.when)
                && self.is_subscribed(to, message.when);
            if !is_expected {
                continue;
            }
            let next = list.iter().find(|(_, other)| *other > number).map(|(moment, _)| *moment);
            // A node that leaves still delivers, and says nothing any more.
            let next = next.filter(|next| node.life.contains(*next));
            if next.is_none() && (span.until.is_some() || node.life.until.is_some() || self.is_cut_off(from))
            {
                continue;
            }
            let before = list.iter().rev().find(|(_, other)| *other < number).map(|(moment, _)| *moment);
            let before = before
                .or_else(|| self.arrivals.last_before(self.session.node, stream, number))
                .filter(|before| self.subscribed_at(to, message.when) <= before.at)
                .filter(|before| !self.has_given_up(from, *before, next));
            // Of the first message after a subscription, or of a node that was given up, nobody knows that there were
            // some before it, until their node says so.
            let next = next.filter(|_| before.is_some());
            let is_one_gone = node.life.until.is_some() || self.log.nodes[from].life.until.is_some();
            if before.is_none() && (self.plan.is_silent || is_one_gone) {
                continue;
            }
            let covers = |(at, gap): &(Moment, To)| {
                *gap == to
                    && before.is_none_or(|before| before.at <= at.at)
                    && next.is_none_or(|next| at.at <= next.at || node.is_of_outage(*at, next))
            };
            let near = |(at, gap): &&(Moment, To)| *gap == to && at.at.abs_diff(message.when.at) < 2_000_000;
            assert!(
                node.gaps.iter().any(covers) && !self.is_calm(),
                "{}: no gap between {before:?} and {next:?}, in the room since {span:?}, confirmed {confirmed:?}: {:?}",
                whose(),
                node.gaps.iter().filter(near).collect::<Vec<_>>()
            );
        }
    }

    /// Returns whether nothing can be lost in this world.
    fn is_calm(&self) -> bool {
        let is_large = |size| size > 1 << 20;
        self.plan.faults.is_none()
            && is_large(self.plan.inbox)
            && is_large(self.plan.outbox)
            && self.plan.broker.is_none_or(|broker| is_large(broker.max_payload))
    }

    /// Returns whether the last words of a node may be lost without a word.
    fn is_cut_off(&self, node: NodeNumber) -> bool {
        let node = &self.log.nodes[node];
        node.has_vanished || node.life.until.is_some() && self.plan.faults.is_some()
    }

    /// Returns the subscription of this client's node at a time. Each has one for all.
    fn subscription(&self, to: To, when: Moment) -> Option<&Span> {
        let spans = self.log.nodes[self.session.node].subscriptions.get(&to.channel());
        spans.into_iter().flatten().find(|span| span.contains(when))
    }

    /// Returns whether this client's node has given up another one in a span of time.
    fn has_given_up(&self, other: NodeNumber, from: Moment, until: Option<Moment>) -> bool {
        let id = self.log.nodes[other].id;
        let mut given_up = self.log.nodes[self.session.node].given_up.iter().filter(|(_, node)| *node == id);
        given_up.any(|(at, _)| from.at <= at.at && until.is_none_or(|until| at.at <= until.at))
    }

    fn is_subscribed(&self, to: To, when: Moment) -> bool {
        self.subscription(to, when).is_some()
    }

    /// Returns the beginning of the subscription, in microseconds.
    fn subscribed_at(&self, to: To, when: Moment) -> u64 {
        self.subscription(to, when).map_or(0, |span| span.from.at)
    }

    /// Checks that a member is told of each gap in its rooms.
    fn told(&self) {
        for (room, stays) in &self.session.stays {
            // A node that leaves may still find gaps, and tells nobody but its clients.
            let life = self.log.nodes[self.session.node].life;
            // At the instant of its end, its events may have ended before.
            let is_in = |at: Moment| life.touches(at) && life.until.is_none_or(|until| at.at < until.at);
            let told = self.session.told.iter().filter(|(at, it)| it == room && is_in(*at)).count();
            let gaps = || {
                let gaps = self.log.nodes[self.session.node].gaps.iter();
                gaps.filter(|(at, to)| *to == To::Room(*room) && is_in(*at))
            };
            let count = |is_in: fn(&Span, Moment) -> bool| {
                gaps().filter(|(at, _)| stays.iter().any(|stay| is_in(&stay.span, *at))).count()
            };
            let (least, most) = (count(Span::surrounds), count(Span::touches));
            assert!(
                (least..=most).contains(&told),
                "session {}: was told of {told} gaps in room {room}, not {least} to {most}",
                self.number
            );
        }
    }
}

fn index(number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

/// The longest time between reports of a loss.
const TELL_AT_LAST: Duration = Duration::from_secs(31);

/// The time in which presence is right again, beyond a lease.
const BOUND: Duration = Duration::from_secs(30);
