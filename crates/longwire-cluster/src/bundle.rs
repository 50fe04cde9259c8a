//! Short messages of one batch on the same channel travel as one: broker and nodes spend their time on each message,
//! hardly on its bytes.

use std::collections::HashMap;

use bytes::Bytes;

use crate::channel::{Channel, NodeId};
use crate::envelope::{self, HEADER, bundled_len};

/// Puts short envelopes on the same channel together, each bundle of at most `most` bytes.
///
/// The order on each channel stays, and what follows word of losses on all channels. A bundle stands where the first of
/// its envelopes stood.
pub(crate) fn bundled(from: NodeId, messages: Vec<(Channel, Bytes)>, most: usize) -> Vec<(Channel, Bytes)> {
    if messages.len() < 2 {
        return messages;
    }
    let most = most.min(LONGEST);
    let mut groups: Vec<Group> = Vec::with_capacity(messages.len());
    // The group of each channel that may get more.
    let mut open: HashMap<Channel, usize> = HashMap::new();
    for (channel, envelope) in messages {
        let len = bundled_len(&envelope);
        if channel == Channel::All && !envelope::is_post(&envelope) {
            // Word of losses on any channel: no message on any of them must overtake it.
            open.clear();
        }
        if len > SHORT {
            // What follows must not overtake it.
            open.remove(&channel);
            groups.push(Group { channel, len, envelopes: vec![envelope] });
            continue;
        }
        match open.get(&channel).map(|index| &mut groups[*index]) {
            Some(group) if HEADER + group.len + len <= most => {
                group.len += len;
                group.envelopes.push(envelope);
            }
            _ => {
                open.insert(channel.clone(), groups.len());
                groups.push(Group { channel, len, envelopes: vec![envelope] });
            }
        }
    }
    let whole = |Group { channel, envelopes, .. }| match <[Bytes; 1]>::try_from(envelopes) {
        Ok([alone]) => (channel, alone),
        Err(several) => (channel, envelope::bundle(from, several.iter())),
    };
    groups.into_iter().map(whole).collect()
}

struct Group {
    channel: Channel,
    /// The bytes of the envelopes in a bundle.
    len: usize,
    envelopes: Vec<Bytes>,
}

/// The longest bundle, in bytes. The messages of a bundle share its memory until the last of them is gone.
const LONGEST: usize = 16 * 1024;

/// The longest message that is put in a bundle, in bytes.
const SHORT: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use longwire_connection::Message;
    use proptest::prelude::*;

    use super::*;
    use crate::envelope::{Body, Envelope, Post};

    const ME: NodeId = NodeId(7);

    fn post(seq: u64, len: usize) -> Body {
        Body::Message(Post {
            seq,
            previous: 0,
            except: None,
            latest: None,
            message: Message::binary(vec![0; len]),
        })
    }

    proptest! {
        #[test]
        fn each_channel_gets_its_messages_in_order(
            sent in proptest::collection::vec((0..4_u8, 0..6000_usize), 0..40),
            most in 100..20_000_usize,
        ) {
            let room = |name: u8| Channel::Room(name.to_string().into());
            let numbered = sent.iter().zip(1..).map(|((name, len), seq)| (room(*name), post(seq, *len)));
            let numbered: Vec<_> = numbered.collect();
            let encode = |(channel, body): &(Channel, Body)| {
                (channel.clone(), Envelope { from: ME, body: body.clone() }.encode())
            };
            let bundled = bundled(ME, numbered.iter().map(encode).collect(), most);
            let mut arrived = Vec::new();
            for (channel, bytes) in bundled {
                let len = bytes.len();
                match Envelope::decode(bytes).expect("it was written here").body {
                    Body::Bundle(bodies) => {
                        prop_assert!(len <= most.min(LONGEST) && bodies.len() > 1);
                        arrived.extend(bodies.into_iter().map(|body| (channel.clone(), body)));
                    }
                    body => arrived.push((channel, body)),
                }
            }
            for name in 0..4 {
                let of = |all: &[(Channel, Body)]| {
                    all.iter().filter(|(channel, _)| *channel == room(name)).cloned().collect::<Vec<_>>()
                };
                prop_assert_eq!(of(&arrived), of(&numbered));
            }
        }
    }

    #[test]
    fn no_message_overtakes_the_word_that_some_are_lost_anywhere() {
        let envelope = |body| Envelope { from: ME, body }.encode();
        let room = || Channel::Room("a".into());
        let messages = vec![
            (room(), envelope(post(1, 10))),
            (Channel::All, envelope(post(2, 10))),
            (Channel::All, envelope(Body::Lost { seq: 3 })),
            (room(), envelope(post(4, 10))),
        ];
        let bundled = bundled(ME, messages.clone(), 1 << 20);
        let channels: Vec<_> = bundled.iter().map(|(channel, _)| channel.clone()).collect();
        assert_eq!(channels, [room(), Channel::All, Channel::All, room()]);
        assert_eq!(bundled, messages);
    }

    #[test]
    fn short_messages_travel_together() {
        let envelope = |seq, len| Envelope { from: ME, body: post(seq, len) }.encode();
        let on = |name: &str, bytes| (Channel::Room(name.into()), bytes);
        let messages = (1..=20).map(|seq| on(if seq % 2 == 0 { "a" } else { "b" }, envelope(seq, 100)));
        assert_eq!(bundled(ME, messages.collect(), 1 << 20).len(), 2);
        let long = vec![on("a", envelope(1, 10)), on("a", envelope(2, 5000)), on("a", envelope(3, 10))];
        assert_eq!(bundled(ME, long, 1 << 20).len(), 3);
    }
}
