//! The binary form of what nodes send each other.
//!
//! An envelope is two bytes, the version and the kind, the identity of the sender, and a body that depends on the kind.
//! Numbers are little-endian; names have their length before them, in two bytes. A payload is the rest of the envelope,
//! and is not copied when it is read. A bundle has several bodies, each with its kind and its length before it, in one
//! and four bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use longwire_connection::Message;

use crate::channel::NodeId;
use crate::history::History;

/// A message from one node to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) from: NodeId,
    pub(crate) body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// A message for clients.
    Message(Post),
    /// Messages of the sender on this channel were lost on their way, the last of them with this number; on the channel
    /// for all, messages on any channel may have been lost, except those for rooms with a history.
    Lost { seq: u64 },
    /// The sender is there. It is dead if it is not heard for its lease. So many times, it has lost messages for rooms
    /// with a history, and did not know for which. `history` has the bounds that it uses, if it has one.
    Heartbeat { name: Arc<str>, lease: Duration, losses: u64, history: Option<History> },
    /// What the sender was asked or has told may have been lost, in this room or in all: whoever wants to know asks
    /// anew.
    Anew,
    /// The sender leaves the cluster.
    Bye,
    /// A client has entered the room.
    Entered { room: Arc<str>, order: Order, member: Member },
    /// A client has left the room.
    Left { room: Arc<str>, order: Order, id: u64 },
    /// The sender's members of a room, or a part of them, after its change with the number `seq`.
    ///
    /// With the number of the question that it answers, or 0.
    Members { room: Arc<str>, seq: u64, answers: u64, part: Part, members: Vec<Member> },
    /// The sender has no member in these rooms, after its change with the number `seq`. Answers a question.
    Nobody { seq: u64, answers: u64, rooms: Vec<Arc<str>> },
    /// The sender wants to know who is in these rooms.
    Wanted { question: u64, rooms: Vec<Arc<str>> },
    /// The sender wants to know who is in a room, whatever rooms the receiver's members are in.
    Query { query: u64, room: Arc<str> },
    /// The answer to a query, or a part of it.
    Answer { query: u64, part: Part, members: Vec<Member> },
    /// Several of the above on the same channel, in this order.
    Bundle(Vec<Body>),
}

/// A message for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Post {
    /// The number of this message among all of its sender.
    pub(crate) seq: u64,
    /// The number of the sender's previous message on the same channel; 0 if the sender does not know.
    pub(crate) previous: u64,
    /// The client of the sender that does not get it.
    pub(crate) except: Option<u64>,
    /// The key of a latest value.
    pub(crate) latest: Option<Arc<str>>,
    pub(crate) message: Message,
}

/// The place of a change among those of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The number of this change among all of its sender.
    pub(crate) seq: u64,
    /// The number of the sender's previous change of the same room; 0 if the room had no member of its before.
    pub(crate) previous: u64,
}

/// A client in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) data: Bytes,
}

/// The place of a part in a list that may be too long for one envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Counted from 0.
    pub(crate) index: u32,
    pub(crate) is_last: bool,
}

/// The reason why an envelope cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("version {0}, not {VERSION}")]
    Version(u8),
    #[error("unknown kind {0}")]
    Kind(u8),
    #[error("it ends too early")]
    Short,
    #[error("a bundle within a bundle")]
    Nested,
    #[error("invalid UTF-8")]
    Utf8,
}

/// The envelope of a message whose numbers are not known yet.
pub(crate) struct Unnumbered(BytesMut);

impl Unnumbered {
    /// Returns the length of the envelope.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Sets the numbers.
    pub(crate) fn numbered(mut self, seq: u64, previous: u64) -> Bytes {
        self.0[NUMBERS..NUMBERS + 8].copy_from_slice(&seq.to_le_bytes());
        self.0[NUMBERS + 8..NUMBERS + 16].copy_from_slice(&previous.to_le_bytes());
        self.0.freeze()
    }
}

/// Returns whether this is the envelope of a message for clients.
pub(crate) fn is_post(envelope: &[u8]) -> bool {
    matches!(envelope.get(1), Some(&(TEXT | BINARY)))
}

impl Envelope {
    /// Encodes a message, whose numbers are set later.
    pub(crate) fn unnumbered(from: NodeId, post: Post) -> Unnumbered {
        Unnumbered(Self { from, body: Body::Message(post) }.to_bytes())
    }

    pub(crate) fn encode(&self) -> Bytes {
        self.to_bytes().freeze()
    }

    fn to_bytes(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(self.size_hint());
        put_header(&mut out, self.body.kind(), self.from);
        self.body.encode(&mut out);
        out
    }

    /// Returns whether a node has sent an envelope, without reading the rest of it.
    pub(crate) fn is_from(bytes: &[u8], node: NodeId) -> bool {
        bytes.first() == Some(&VERSION) && bytes.get(2..10) == Some(&node.0.to_le_bytes())
    }

    fn size_hint(&self) -> usize {
        match &self.body {
            Body::Message(post) => 64 + post.message.len(),
            _ => 64,
        }
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, Malformed> {
        let mut input = Input(bytes);
        let version = input.u8()?;
        if version != VERSION {
            return Err(Malformed::Version(version));
        }
        let kind = input.u8()?;
        let from = NodeId(input.u64()?);
        let body = if kind == BUNDLE { Body::bundle(&mut input)? } else { Body::decode(&mut input, kind)? };
        Ok(Self { from, body })
    }
}

impl Body {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Message(post) => post.encode(out),
            Self::Lost { seq } => out.put_u64_le(*seq),
            Self::Anew | Self::Bye => {}
            Self::Heartbeat { name, lease, losses, history } => {
                put_name(out, name);
                // A lease is a day at most.
                out.put_u64_le(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
                out.put_u64_le(*losses);
                if let Some(History { messages, age }) = history {
                    // Both are limited.
                    out.put_u64_le(u64::try_from(*messages).unwrap_or(u64::MAX));
                    out.put_u64_le(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
                }
            }
            Self::Entered { room, order, member } => {
                put_name(out, room);
                order.encode(out);
                member.encode(out);
            }
            Self::Left { room, order, id } => {
                put_name(out, room);
                order.encode(out);
                out.put_u64_le(*id);
            }
            Self::Members { room, seq, answers, part, members } => {
                put_name(out, room);
                out.put_u64_le(*seq);
                out.put_u64_le(*answers);
                put_members(out, *part, members);
            }
            Self::Nobody { seq, answers, rooms } => {
                out.put_u64_le(*seq);
                out.put_u64_le(*answers);
                put_names(out, rooms);
            }
            Self::Wanted { question, rooms } => {
                out.put_u64_le(*question);
                put_names(out, rooms);
            }
            Self::Query { query, room } => {
                out.put_u64_le(*query);
                put_name(out, room);
            }
            Self::Answer { query, part, members } => {
                out.put_u64_le(*query);
                put_members(out, *part, members);
            }
            Self::Bundle(bodies) => {
                for body in bodies {
                    let mut bytes = BytesMut::new();
                    body.encode(&mut bytes);
                    put_part(out, body.kind(), &bytes);
                }
            }
        }
    }

    /// Decodes anything but a bundle.
    fn decode(input: &mut Input, kind: u8) -> Result<Self, Malformed> {
        Ok(match kind {
            TEXT | BINARY => Self::Message(Post::decode(input, kind)?),
            LOST => Self::Lost { seq: input.u64()? },
            HEARTBEAT => {
                let (name, lease) = (input.name()?, Duration::from_millis(input.u64()?));
                let (losses, mut history) = (input.u64()?, None);
                if input.0.has_remaining() {
                    let messages = usize::try_from(input.u64()?).unwrap_or(usize::MAX);
                    history = Some(History { messages, age: Duration::from_nanos(input.u64()?) });
                }
                Self::Heartbeat { name, lease, losses, history }
            }
            ANEW => Self::Anew,
            BYE => Self::Bye,
            ENTERED => {
                let (room, order) = (input.name()?, Order::decode(input)?);
                Self::Entered { room, order, member: Member::decode(input)? }
            }
            LEFT => {
                let (room, order) = (input.name()?, Order::decode(input)?);
                Self::Left { room, order, id: input.u64()? }
            }
            MEMBERS => {
                let (room, seq, answers) = (input.name()?, input.u64()?, input.u64()?);
                let (part, members) = input.members()?;
                Self::Members { room, seq, answers, part, members }
            }
            NOBODY => Self::Nobody { seq: input.u64()?, answers: input.u64()?, rooms: input.names()? },
            WANTED => Self::Wanted { question: input.u64()?, rooms: input.names()? },
            QUERY => Self::Query { query: input.u64()?, room: input.name()? },
            ANSWER => {
                let query = input.u64()?;
                let (part, members) = input.members()?;
                Self::Answer { query, part, members }
            }
            BUNDLE => return Err(Malformed::Nested),
            kind => return Err(Malformed::Kind(kind)),
        })
    }

    fn bundle(input: &mut Input) -> Result<Self, Malformed> {
        let mut bodies = Vec::new();
        while input.0.has_remaining() {
            let kind = input.u8()?;
            let len = input.0.try_get_u32_le().map_err(|_| Malformed::Short)?;
            let len = usize::try_from(len).map_err(|_| Malformed::Short)?;
            let bytes = input.take(len)?;
            let mut body = Self::decode(&mut Input(bytes.clone()), kind)?;
            if matches!(body, Self::Message(Post { latest: Some(_), .. })) {
                // A latest value may wait for long, and would keep the memory of the others.
                body = Self::decode(&mut Input(Bytes::copy_from_slice(&bytes)), kind)?;
            }
            bodies.push(body);
        }
        Ok(Self::Bundle(bodies))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Message(Post { message: Message::Text(_), .. }) => TEXT,
            Self::Message(Post { message: Message::Binary(_), .. }) => BINARY,
            Self::Lost { .. } => LOST,
            Self::Heartbeat { .. } => HEARTBEAT,
            Self::Anew => ANEW,
            Self::Bye => BYE,
            Self::Entered { .. } => ENTERED,
            Self::Left { .. } => LEFT,
            Self::Members { .. } => MEMBERS,
            Self::Nobody { .. } => NOBODY,
            Self::Wanted { .. } => WANTED,
            Self::Query { .. } => QUERY,
            Self::Answer { .. } => ANSWER,
            Self::Bundle(_) => BUNDLE,
        }
    }
}

impl Post {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.seq);
        out.put_u64_le(self.previous);
        let flags = flag(self.except.is_some(), HAS_EXCEPT) | flag(self.latest.is_some(), HAS_LATEST);
        out.put_u8(flags);
        if let Some(except) = self.except {
            out.put_u64_le(except);
        }
        if let Some(latest) = &self.latest {
            put_name(out, latest);
        }
        out.put_slice(self.message.as_bytes());
    }

    fn decode(input: &mut Input, kind: u8) -> Result<Self, Malformed> {
        let (seq, previous, flags) = (input.u64()?, input.u64()?, input.u8()?);
        let except = if flags & HAS_EXCEPT == 0 { None } else { Some(input.u64()?) };
        let latest = if flags & HAS_LATEST == 0 { None } else { Some(input.name()?) };
        let payload = std::mem::take(&mut input.0);
        let message = if kind == TEXT {
            Message::Text(payload.try_into().map_err(|_| Malformed::Utf8)?)
        } else {
            Message::Binary(payload)
        };
        Ok(Self { seq, previous, except, latest, message })
    }
}

impl Order {
    fn encode(self, out: &mut BytesMut) {
        out.put_u64_le(self.seq);
        out.put_u64_le(self.previous);
    }

    fn decode(input: &mut Input) -> Result<Self, Malformed> {
        Ok(Self { seq: input.u64()?, previous: input.u64()? })
    }
}

impl Member {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64_le(self.id);
        put_length(out, self.data.len());
        out.put_slice(&self.data);
    }

    fn decode(input: &mut Input) -> Result<Self, Malformed> {
        // A copy, because it is kept for long, and the envelope may be large.
        Ok(Self { id: input.u64()?, data: Bytes::copy_from_slice(&input.bytes()?) })
    }

    /// The number of bytes in an envelope.
    pub(crate) fn encoded_len(&self) -> usize {
        8 + 2 + self.data.len()
    }
}

/// The bytes that are not read yet.
struct Input(Bytes);

impl Input {
    fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| Malformed::Short)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64_le().map_err(|_| Malformed::Short)
    }

    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let len = self.0.try_get_u16_le().map_err(|_| Malformed::Short)?.into();
        self.take(len)
    }

    fn take(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if len > self.0.len() {
            return Err(Malformed::Short);
        }
        Ok(self.0.split_to(len))
    }

    fn name(&mut self) -> Result<Arc<str>, Malformed> {
        let bytes = self.bytes()?;
        str::from_utf8(&bytes).map(Arc::from).map_err(|_| Malformed::Utf8)
    }

    /// Reads names to the end.
    fn names(&mut self) -> Result<Vec<Arc<str>>, Malformed> {
        let mut names = Vec::new();
        while self.0.has_remaining() {
            names.push(self.name()?);
        }
        Ok(names)
    }

    fn members(&mut self) -> Result<(Part, Vec<Member>), Malformed> {
        let index = self.0.try_get_u32_le().map_err(|_| Malformed::Short)?;
        let part = Part { index, is_last: self.u8()? != 0 };
        let mut members = Vec::new();
        while self.0.has_remaining() {
            members.push(Member::decode(self)?);
        }
        Ok((part, members))
    }
}

/// Puts envelopes of one sender into one, except for the first bytes, which are the same.
///
/// # Panics
///
/// If one of them has no header.
pub(crate) fn bundle<'a>(from: NodeId, envelopes: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
    let len: usize = envelopes.clone().map(|envelope| bundled_len(envelope)).sum();
    let mut out = BytesMut::with_capacity(HEADER + len);
    put_header(&mut out, BUNDLE, from);
    for envelope in envelopes {
        debug_assert!(Envelope::is_from(envelope, from) && envelope[1] != BUNDLE);
        put_part(&mut out, envelope[1], &envelope[HEADER..]);
    }
    out.freeze()
}

/// Returns the number of envelopes in what may be a bundle, without reading them; 1 if it is none.
pub(crate) fn count(bytes: &[u8]) -> u64 {
    let Some((&[_, BUNDLE, ..], mut rest)) = bytes.split_at_checked(HEADER) else { return 1 };
    let mut count = 0;
    while let Some((&[_, len @ ..], parts)) = rest.split_first_chunk::<5>() {
        count += 1;
        rest = parts.get(u32::from_le_bytes(len) as usize..).unwrap_or_default();
    }
    count
}

/// Returns the bytes that an envelope takes in a bundle.
pub(crate) fn bundled_len(envelope: &[u8]) -> usize {
    envelope.len() - HEADER + 1 + 4
}

fn put_header(out: &mut BytesMut, kind: u8, from: NodeId) {
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u64_le(from.0);
}

fn put_part(out: &mut BytesMut, kind: u8, body: &[u8]) {
    out.put_u8(kind);
    debug_assert!(u32::try_from(body.len()).is_ok(), "a bundle is short");
    out.put_u32_le(u32::try_from(body.len()).unwrap_or(u32::MAX));
    out.put_slice(body);
}

fn put_name(out: &mut BytesMut, name: &str) {
    put_length(out, name.len());
    out.put_slice(name.as_bytes());
}

fn put_length(out: &mut BytesMut, len: usize) {
    debug_assert!(u16::try_from(len).is_ok(), "names and data of members are limited");
    out.put_u16_le(u16::try_from(len).unwrap_or(u16::MAX));
}

fn put_names(out: &mut BytesMut, names: &[Arc<str>]) {
    for name in names {
        put_name(out, name);
    }
}

fn put_members(out: &mut BytesMut, part: Part, members: &[Member]) {
    out.put_u32_le(part.index);
    out.put_u8(part.is_last.into());
    for member in members {
        member.encode(out);
    }
}

fn flag(is_set: bool, flag: u8) -> u8 {
    if is_set { flag } else { 0 }
}

const VERSION: u8 = 1;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const LOST: u8 = 3;
const HEARTBEAT: u8 = 4;
const BYE: u8 = 5;
const ENTERED: u8 = 6;
const LEFT: u8 = 7;
const MEMBERS: u8 = 8;
const WANTED: u8 = 9;
const QUERY: u8 = 10;
const ANSWER: u8 = 11;
const NOBODY: u8 = 12;
const ANEW: u8 = 13;
const BUNDLE: u8 = 14;

const HAS_EXCEPT: u8 = 1;
const HAS_LATEST: u8 = 2;

/// The length of what precedes the body: version, kind and sender.
pub(crate) const HEADER: usize = 1 + 1 + 8;

/// The place of a message's two numbers in its envelope.
const NUMBERS: usize = HEADER;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bodies() -> impl Strategy<Value = Body> {
        let name = || ".{0,12}".prop_map(|name: String| Arc::from(name));
        let names = || proptest::collection::vec(name(), 0..5);
        let member =
            || (any::<u64>(), any::<Vec<u8>>()).prop_map(|(id, data)| Member { id, data: data.into() });
        let members = || proptest::collection::vec(member(), 0..5);
        let order = || any::<(u64, u64)>().prop_map(|(seq, previous)| Order { seq, previous });
        let part = || any::<(u32, bool)>().prop_map(|(index, is_last)| Part { index, is_last });
        let message = prop_oneof![
            ".{0,40}".prop_map(|text: String| Message::text(text)),
            any::<Vec<u8>>().prop_map(Message::binary),
        ];
        let post = (any::<u64>(), any::<u64>(), any::<Option<u64>>(), proptest::option::of(name()), message)
            .prop_map(|(seq, previous, except, latest, message)| {
                Body::Message(Post { seq, previous, except, latest, message })
            });
        let presence = prop_oneof![
            (name(), order(), member()).prop_map(|(room, order, member)| Body::Entered {
                room,
                order,
                member
            }),
            (name(), order(), any::<u64>()).prop_map(|(room, order, id)| Body::Left { room, order, id }),
            (name(), any::<(u64, u64)>(), part(), members()).prop_map(
                |(room, (seq, answers), part, members)| {
                    Body::Members { room, seq, answers, part, members }
                }
            ),
            (any::<(u64, u64)>(), names()).prop_map(|((seq, answers), rooms)| Body::Nobody {
                seq,
                answers,
                rooms
            }),
            (any::<u64>(), names()).prop_map(|(question, rooms)| Body::Wanted { question, rooms }),
            (any::<u64>(), name()).prop_map(|(query, room)| Body::Query { query, room }),
            (any::<u64>(), part(), members()).prop_map(|(query, part, members)| Body::Answer {
                query,
                part,
                members
            }),
        ];
        let lease = || any::<u64>().prop_map(Duration::from_millis);
        let single = prop_oneof![
            post,
            presence,
            any::<u64>().prop_map(|seq| Body::Lost { seq }),
            (name(), lease(), any::<u64>(), any::<Option<(u32, u64)>>()).prop_map(
                |(name, lease, losses, history)| {
                    let bounds = |(messages, age)| History {
                        messages: messages as usize,
                        age: Duration::from_nanos(age),
                    };
                    Body::Heartbeat { name, lease, losses, history: history.map(bounds) }
                }
            ),
            Just(Body::Anew),
            Just(Body::Bye),
        ]
        .boxed();
        let several = proptest::collection::vec(single.clone(), 0..5).prop_map(Body::Bundle);
        prop_oneof![5 => single, 1 => several]
    }

    proptest! {
        #[test]
        fn envelopes_are_read_as_they_were_written(from: u64, body in bodies()) {
            let envelope = Envelope { from: NodeId(from), body };
            prop_assert_eq!(Envelope::decode(envelope.encode()), Ok(envelope));
        }

        #[test]
        fn numbers_can_be_set_later(from: u64, seq: u64, previous: u64, latest: Option<u8>, text: String) {
            let latest = latest.map(|key| Arc::from(key.to_string()));
            let post = Post { seq: 0, previous: 0, except: latest.as_ref().map(|_| 7), latest, message: text.into() };
            let numbered = Envelope::unnumbered(NodeId(from), post.clone()).numbered(seq, previous);
            let body = Body::Message(Post { seq, previous, ..post });
            prop_assert_eq!(Envelope::decode(numbered), Ok(Envelope { from: NodeId(from), body }));
        }

        #[test]
        fn envelopes_can_be_put_into_one(from: u64, bodies in proptest::collection::vec(bodies(), 1..6)) {
            let is_single = |body: &Body| !matches!(body, Body::Bundle(_));
            let bodies: Vec<_> = bodies.into_iter().filter(is_single).collect();
            let encode = |body: &Body| Envelope { from: NodeId(from), body: body.clone() }.encode();
            let envelopes: Vec<_> = bodies.iter().map(encode).collect();
            let bundle = bundle(NodeId(from), envelopes.iter());
            let len: usize = envelopes.iter().map(|envelope| bundled_len(envelope)).sum();
            prop_assert_eq!(bundle.len(), HEADER + len);
            prop_assert!(!is_post(&bundle));
            prop_assert_eq!(count(&bundle), bodies.len() as u64);
            prop_assert!(envelopes.iter().all(|envelope| count(envelope) == 1));
            let body = Body::Bundle(bodies);
            prop_assert_eq!(Envelope::decode(bundle), Ok(Envelope { from: NodeId(from), body }));
        }

        #[test]
        fn anything_can_be_read(mut bytes: Vec<u8>, kind in 0..16_u8, is_ours: bool) {
            if is_ours && bytes.len() >= 2 {
                (bytes[0], bytes[1]) = (VERSION, kind);
            }
            let _ = count(&bytes);
            let _ = Envelope::decode(bytes.into());
        }

        #[test]
        fn a_shortened_envelope_is_no_other_kind(from: u64, body in bodies(), cut: prop::sample::Index) {
            let whole = Envelope { from: NodeId(from), body: body.clone() };
            let bytes = whole.encode();
            let shorter = Envelope::decode(bytes.slice(..cut.index(bytes.len())));
            prop_assert_ne!(shorter, Ok(whole));
        }
    }

    #[test]
    fn a_latest_value_does_not_keep_its_bundle() {
        let post = |latest: Option<&str>| {
            let latest = latest.map(Arc::from);
            Body::Message(Post { seq: 1, previous: 0, except: None, latest, message: "hello".into() })
        };
        let encode = |body| Envelope { from: NodeId(1), body }.encode();
        let bundle = bundle(NodeId(1), [encode(post(None)), encode(post(Some("key")))].iter());
        let place = bundle.as_ptr_range();
        let Ok(Envelope { body: Body::Bundle(bodies), .. }) = Envelope::decode(bundle.clone()) else {
            panic!()
        };
        let is_within = bodies.iter().map(|body| match body {
            Body::Message(post) => place.contains(&post.message.as_bytes().as_ptr()),
            _ => false,
        });
        assert_eq!(is_within.collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn foreign_envelopes_are_refused() {
        let bytes = |bytes: &'static [u8]| Envelope::decode(Bytes::from_static(bytes));
        assert_eq!(bytes(b""), Err(Malformed::Short));
        assert_eq!(bytes(b"\x02"), Err(Malformed::Version(2)));
        assert_eq!(bytes(b"\x01\x030123456"), Err(Malformed::Short));
        assert_eq!(bytes(b"\x01\x6301234567"), Err(Malformed::Kind(99)));
        let text = b"\x01\x0101234567\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff";
        assert_eq!(bytes(text), Err(Malformed::Utf8));
        assert_eq!(bytes(b"\x01\x0e01234567\x05\x01\0\0\0"), Err(Malformed::Short));
        assert_eq!(bytes(b"\x01\x0e01234567\x0e\0\0\0\0"), Err(Malformed::Nested));
    }
}
