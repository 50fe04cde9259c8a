//! The binary form of what nodes send each other.
//!
//! An envelope is two bytes, the version and the kind, the identity of the sender, and a body that depends on the kind.
//! Numbers are little-endian; names have their length before them, in two bytes. A payload is the rest of the envelope,
//! and is not copied when it is read.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use longwire_connection::Message;

use crate::channel::NodeId;

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
    /// with a history, and did not know for which.
    Heartbeat { name: Arc<str>, lease: Duration, losses: u64 },
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
        out.put_u8(VERSION);
        out.put_u8(self.body.kind());
        out.put_u64_le(self.from.0);
        match &self.body {
            Body::Message(post) => post.encode(&mut out),
            Body::Lost { seq } => out.put_u64_le(*seq),
            Body::Anew | Body::Bye => {}
            Body::Heartbeat { name, lease, losses } => {
                put_name(&mut out, name);
                // A lease is a day at most.
                out.put_u64_le(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
                out.put_u64_le(*losses);
            }
            Body::Entered { room, order, member } => {
                put_name(&mut out, room);
                order.encode(&mut out);
                member.encode(&mut out);
            }
            Body::Left { room, order, id } => {
                put_name(&mut out, room);
                order.encode(&mut out);
                out.put_u64_le(*id);
            }
            Body::Members { room, seq, answers, part, members } => {
                put_name(&mut out, room);
                out.put_u64_le(*seq);
                out.put_u64_le(*answers);
                put_members(&mut out, *part, members);
            }
            Body::Nobody { seq, answers, rooms } => {
                out.put_u64_le(*seq);
                out.put_u64_le(*answers);
                put_names(&mut out, rooms);
            }
            Body::Wanted { question, rooms } => {
                out.put_u64_le(*question);
                put_names(&mut out, rooms);
            }
            Body::Query { query, room } => {
                out.put_u64_le(*query);
                put_name(&mut out, room);
            }
            Body::Answer { query, part, members } => {
                out.put_u64_le(*query);
                put_members(&mut out, *part, members);
            }
        }
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
        let body = match kind {
            TEXT | BINARY => Body::Message(Post::decode(&mut input, kind)?),
            LOST => Body::Lost { seq: input.u64()? },
            HEARTBEAT => {
                let (name, lease) = (input.name()?, Duration::from_millis(input.u64()?));
                Body::Heartbeat { name, lease, losses: input.u64()? }
            }
            ANEW => Body::Anew,
            BYE => Body::Bye,
            ENTERED => {
                let (room, order) = (input.name()?, Order::decode(&mut input)?);
                Body::Entered { room, order, member: Member::decode(&mut input)? }
            }
            LEFT => {
                let (room, order) = (input.name()?, Order::decode(&mut input)?);
                Body::Left { room, order, id: input.u64()? }
            }
            MEMBERS => {
                let (room, seq, answers) = (input.name()?, input.u64()?, input.u64()?);
                let (part, members) = input.members()?;
                Body::Members { room, seq, answers, part, members }
            }
            NOBODY => Body::Nobody { seq: input.u64()?, answers: input.u64()?, rooms: input.names()? },
            WANTED => Body::Wanted { question: input.u64()?, rooms: input.names()? },
            QUERY => Body::Query { query: input.u64()?, room: input.name()? },
            ANSWER => {
                let query = input.u64()?;
                let (part, members) = input.members()?;
                Body::Answer { query, part, members }
            }
            kind => return Err(Malformed::Kind(kind)),
        };
        Ok(Self { from, body })
    }
}

impl Body {
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

const HAS_EXCEPT: u8 = 1;
const HAS_LATEST: u8 = 2;

/// The place of a message's two numbers in its envelope.
const NUMBERS: usize = 1 + 1 + 8;

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
        prop_oneof![
            post,
            presence,
            any::<u64>().prop_map(|seq| Body::Lost { seq }),
            (name(), lease(), any::<u64>()).prop_map(|(name, lease, losses)| Body::Heartbeat {
                name,
                lease,
                losses
            }),
            Just(Body::Anew),
            Just(Body::Bye),
        ]
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
        fn anything_can_be_read(mut bytes: Vec<u8>, kind in 0..15_u8, is_ours: bool) {
            if is_ours && bytes.len() >= 2 {
                (bytes[0], bytes[1]) = (VERSION, kind);
            }
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
    fn foreign_envelopes_are_refused() {
        let bytes = |bytes: &'static [u8]| Envelope::decode(Bytes::from_static(bytes));
        assert_eq!(bytes(b""), Err(Malformed::Short));
        assert_eq!(bytes(b"\x02"), Err(Malformed::Version(2)));
        assert_eq!(bytes(b"\x01\x030123456"), Err(Malformed::Short));
        assert_eq!(bytes(b"\x01\x6301234567"), Err(Malformed::Kind(99)));
        let text = b"\x01\x0101234567\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff";
        assert_eq!(bytes(text), Err(Malformed::Utf8));
    }
}
