//! The history of rooms in NATS: a stream of `JetStream` for all of them.
//!
//! A message is published on a subject that the stream captures, and the server publishes it again on the room's
//! channel, with its number in the stream and that of the message before it in the room. The name of the stream ends
//! with a random number, the epoch, which each of these messages carries: a stream that was made anew cannot be taken
//! for the old one. The stream keeps one message more of each room than is asked for: if a room has fewer, none was
//! dropped because of their number. Those that are too old are dropped over all rooms alike, up to the first one that
//! is left.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::client::{PublishErrorKind, RequestErrorKind};
use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::Shared;
use crate::appends::Append;
use crate::backplane::BackplaneError;
use crate::channel::Channel;
use crate::history::{History, PAGE_BYTES, Past, Position, Record};

/// The state of the history.
#[derive(Default)]
pub(super) struct Kept {
    bounds: tokio::sync::OnceCell<History>,
    /// The stream, once it is known to be there.
    stream: tokio::sync::Mutex<Option<Stream>>,
    /// The numbers of the last messages that are stored of each room, until all of a batch are.
    stored: Mutex<HashMap<Arc<str>, u64>>,
}

impl Kept {
    /// Returns whether a history is kept.
    pub(super) fn is_on(&self) -> bool {
        self.bounds.get().is_some()
    }
}

#[derive(Clone)]
struct Stream {
    name: Arc<str>,
    epoch: u64,
}

/// The contents of a stream.
struct State {
    first: u64,
    last: u64,
    /// The messages of the room, and the most that are kept of each room.
    count: u64,
    limit: u64,
}

impl Stream {
    fn named(name: &str) -> Option<Self> {
        let (_, epoch) = name.rsplit_once('_')?;
        let is_ours = epoch.len() == 16;
        let epoch = u64::from_str_radix(epoch, 16).ok().filter(|_| is_ours)?;
        Some(Self { name: name.into(), epoch })
    }
}

impl Shared {
    /// Begins to keep a history.
    pub(super) async fn keep(&self, history: &History) -> Result<(), BackplaneError> {
        // It is called once.
        let _ = self.kept.bounds.set(*history);
        let stream = self.stream().await?;
        // It may have been made for other bounds.
        let info = self.ask(&format!("STREAM.INFO.{}", stream.name), &json!({})).await?;
        let (mut config, wanted) = (info["config"].clone(), self.config(&stream.name, history));
        let mut is_different = false;
        for name in ["max_msgs_per_subject", "max_age", "duplicate_window"] {
            is_different |= config[name] != wanted[name];
            config[name] = wanted[name].clone();
        }
        if is_different {
            self.ask(&format!("STREAM.UPDATE.{}", stream.name), &config).await?;
        }
        Ok(())
    }

    fn config(&self, name: &str, history: &History) -> Value {
        let prefix = &self.prefix;
        json!({
            "name": name,
            "subjects": [format!("{prefix}.h.>")],
            "retention": "limits",
            "discard": "old",
            "storage": "file",
            "num_replicas": 1,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_msgs_per_subject": history.messages + 1,
            "max_age": nanos(history.age),
            "duplicate_window": nanos(history.repetition()),
            "republish": { "src": format!("{prefix}.h.>"), "dest": format!("{prefix}.r.>") },
        })
    }

    /// Returns the stream, which is made if it is not there.
    async fn stream(&self) -> Result<Stream, BackplaneError> {
        let mut known = self.kept.stream.lock().await;
        if let Some(stream) = &*known {
            return Ok(stream.clone());
        }
        let bounds = self.kept.bounds.get().ok_or_else(|| BackplaneError::new("no history is kept"))?;
        let mut refused = None;
        for _ in 0..ATTEMPTS {
            let subject = json!({ "subject": format!("{}.h.>", self.prefix) });
            let found = self.ask("STREAM.NAMES", &subject).await?;
            if let Some(name) = found["streams"][0].as_str() {
                let stream = Stream::named(name).ok_or_else(|| {
                    BackplaneError::new(format!("the stream {name:?} has the subjects of the history"))
                })?;
                return Ok(known.insert(stream).clone());
            }
            if let Some(error) = refused {
                return Err(error);
            }
            let epoch = getrandom::u64().map_err(|_| BackplaneError::new("no random bytes"))?;
            let name = format!("{}_{epoch:016x}", self.prefix.replace('.', "_"));
            let made = self.ask(&format!("STREAM.CREATE.{name}"), &self.config(&name, bounds)).await;
            // Another node may have been faster.
            refused = made.err();
        }
        Err(BackplaneError::new("the stream of the history is not there"))
    }

    /// Looks for the stream again before the next call.
    async fn doubt(&self) {
        *self.kept.stream.lock().await = None;
    }

    /// Asks the server's `JetStream`. An error that it reports is one of the call.
    async fn ask(&self, what: &str, request: &Value) -> Result<Value, BackplaneError> {
        let answer = self.ask_for(what, request).await?;
        let Some(error) = answer.get("error") else { return Ok(answer) };
        let text = error["description"].as_str().unwrap_or("unknown error");
        Err(BackplaneError::new(format!("JetStream refuses {what}: {text}")))
    }

    async fn ask_for(&self, what: &str, request: &Value) -> Result<Value, BackplaneError> {
        self.check()?;
        let payload = Bytes::from(request.to_string());
        let answer = self.client.request(format!("$JS.API.{what}"), payload).await;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => BackplaneError::new("JetStream is not enabled in NATS"),
            _ => BackplaneError::new(error),
        })?;
        serde_json::from_slice(&answer.payload).map_err(BackplaneError::new)
    }

    fn subject(&self, room: &Arc<str>) -> String {
        let channel = Channel::Room(Arc::clone(room)).subject("");
        // It begins with ".r.".
        format!("{}.h.{}", self.prefix, &channel[3..])
    }

    /// Appends messages. What is stored when it fails is not handed over again by the next call.
    pub(super) async fn append(&self, messages: &[Append]) -> Result<(), BackplaneError> {
        self.check()?;
        self.stream().await?;
        if let Err(error) = self.store(messages).await {
            if error.refused().is_none() {
                self.doubt().await;
            }
            return Err(error);
        }
        self.stored().clear();
        Ok(())
    }

    /// Hands messages over, and waits until all are stored. Of each room, one at a time: the client keeps what it could
    /// not write, and would write the end of a batch to the next connection, before its beginning is handed over again.
    async fn store(&self, messages: &[Append]) -> Result<(), BackplaneError> {
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(format!("{inbox}.*")).await.map_err(BackplaneError::new)?;
        let mut rooms: HashMap<&Arc<str>, VecDeque<&Append>> = HashMap::new();
        {
            let stored = self.stored();
            let is_stored =
                |append: &Append| stored.get(&append.room).is_some_and(|last| append.number <= *last);
            for append in messages.iter().filter(|append| !is_stored(append)) {
                rooms.entry(&append.room).or_default().push_back(append);
            }
        }
        let mut next: Vec<_> = rooms.values_mut().filter_map(VecDeque::pop_front).collect();
        let (mut awaited, mut refused) = (HashMap::new(), None);
        loop {
            for append in next.drain(..) {
                match self.hand_over(append, &inbox).await {
                    Ok(()) => drop(awaited.insert(append.number, append)),
                    Err(error) => refused = Some(only_refused(error)?),
                }
            }
            if awaited.is_empty() {
                // Those of other rooms are stored.
                return refused.map_or(Ok(()), Err);
            }
            let ended = || BackplaneError::new("the connection to the server is lost");
            let answer = answers.next().await.ok_or_else(ended)?;
            let number = answer.subject.rsplit('.').next().and_then(|number| number.parse().ok());
            let Some(append) = number.and_then(|number: u64| awaited.remove(&number)) else { continue };
            match confirmed(append.number, &answer) {
                Ok(()) => {
                    self.stored().insert(Arc::clone(&append.room), append.number);
                    next.extend(rooms.get_mut(&append.room).and_then(VecDeque::pop_front));
                }
                Err(error) => refused = Some(only_refused(error)?),
            }
        }
    }

    /// Hands a message over. The answer comes to the inbox, on a subject that ends with the message's number.
    async fn hand_over(&self, append: &Append, inbox: &str) -> Result<(), BackplaneError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{}-{}", self.started()?.node, append.number));
        let (subject, reply) = (self.subject(&append.room), format!("{inbox}.{}", append.number));
        let handed =
            self.client.publish_with_reply_and_headers(subject, reply, headers, append.payload.clone());
        handed.await.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => BackplaneError::refusing(append.number, error),
            _ => BackplaneError::new(error),
        })
    }

    pub(super) fn stored(&self) -> MutexGuard<'_, HashMap<Arc<str>, u64>> {
        // No panic can leave it half changed.
        self.kept.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn history(
        &self,
        room: &Arc<str>,
        after: Option<Position>,
        most: usize,
    ) -> Result<Past, BackplaneError> {
        let read = self.read(room, after, most).await;
        if read.is_err() {
            self.doubt().await;
        }
        read
    }

    async fn read(
        &self,
        room: &Arc<str>,
        after: Option<Position>,
        most: usize,
    ) -> Result<Past, BackplaneError> {
        let (stream, subject) = (self.stream().await?, self.subject(room));
        let at = |offset| Position::new(stream.epoch, offset);
        let past = |last, is_whole| Past { last: at(last), is_whole, records: Vec::new() };
        let last = self.get(&stream, &json!({ "last_by_subj": subject })).await?;
        let Some(after) = after else {
            let last = match last {
                Some(last) => last,
                None => self.state(&stream, &subject).await?.last,
            };
            return Ok(past(last, true));
        };
        let is_known = after.epoch() == stream.epoch;
        let after = if is_known { after.offset() } else { 0 };
        if is_known && last == Some(after) {
            return Ok(past(after, true));
        }
        let records = match last {
            Some(last) if last > after => self.fetch(&stream, &subject, after, most).await?,
            _ => Vec::new(),
        };
        // After the fetch: what is not dropped by now was not dropped then.
        let state = self.state(&stream, &subject).await?;
        let mut is_whole = is_known && state.first <= after.saturating_add(1) && after <= state.last;
        if is_whole && state.count >= state.limit {
            let first = self.get(&stream, &json!({ "seq": 1, "next_by_subj": subject })).await?;
            is_whole = first.is_some_and(|first| first <= after);
        }
        let last = match last {
            Some(last) if !is_whole || !records.is_empty() => last,
            _ if is_whole => after,
            _ => state.last,
        };
        Ok(Past { last: at(last), is_whole, records })
    }

    /// Returns the number of a stored message.
    async fn get(&self, stream: &Stream, which: &Value) -> Result<Option<u64>, BackplaneError> {
        let answer = self.ask_for(&format!("STREAM.MSG.GET.{}", stream.name), which).await?;
        if let Some(number) = answer["message"]["seq"].as_u64() {
            return Ok(Some(number));
        }
        let error = &answer["error"];
        if error["err_code"] == NO_MESSAGE {
            return Ok(None);
        }
        let text = error["description"].as_str().unwrap_or("unknown error");
        Err(BackplaneError::new(format!("JetStream does not give a message: {text}")))
    }

    async fn state(&self, stream: &Stream, subject: &str) -> Result<State, BackplaneError> {
        let request = json!({ "subjects_filter": subject });
        let info = self.ask(&format!("STREAM.INFO.{}", stream.name), &request).await?;
        let state = &info["state"];
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        Ok(State {
            first: number(&state["first_seq"]),
            last: number(&state["last_seq"]),
            count: number(&state["subjects"][subject]),
            // The stream's own, which a node with other bounds may have changed.
            limit: info["config"]["max_msgs_per_subject"].as_u64().unwrap_or(u64::MAX),
        })
    }

    /// Fetches messages of a room that are stored after a number.
    async fn fetch(
        &self,
        stream: &Stream,
        subject: &str,
        after: u64,
        most: usize,
    ) -> Result<Vec<Record>, BackplaneError> {
        let consumer = json!({
            "stream_name": &*stream.name,
            "config": {
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": after + 1,
                "ack_policy": "none",
                "replay_policy": "instant",
                "filter_subject": subject,
                "inactive_threshold": nanos(super::ANSWER),
                "mem_storage": true,
            },
        });
        let made = self.ask(&format!("CONSUMER.CREATE.{}", stream.name), &consumer).await?;
        let consumer =
            made["name"].as_str().ok_or_else(|| BackplaneError::new("the consumer has no name"))?;
        let fetched = self.pull(stream, consumer, most, PAGE_BYTES).await;
        let fetched = match fetched {
            // One that is larger.
            Ok(records) if records.is_empty() => {
                self.pull(stream, consumer, 1, self.client.max_payload() + PAGE_BYTES).await
            }
            fetched => fetched,
        };
        // Nobody waits for the answer; if it is lost, the consumer ends by itself.
        let end = format!("$JS.API.CONSUMER.DELETE.{}.{consumer}", stream.name);
        let _ = self.client.publish_with_reply(end, self.client.new_inbox(), Bytes::new()).await;
        let records = fetched?;
        if records.is_empty() {
            return Err(BackplaneError::new("the history has changed"));
        }
        Ok(records)
    }

    async fn pull(
        &self,
        stream: &Stream,
        consumer: &str,
        most: usize,
        bytes: usize,
    ) -> Result<Vec<Record>, BackplaneError> {
        let inbox = self.client.new_inbox();
        let mut arriving = self.client.subscribe(inbox.clone()).await.map_err(BackplaneError::new)?;
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", stream.name);
        let request = json!({ "batch": most.max(1), "no_wait": true, "max_bytes": bytes });
        let asked = self.client.publish_with_reply(next, inbox, Bytes::from(request.to_string()));
        asked.await.map_err(BackplaneError::new)?;
        let mut records = Vec::new();
        while records.len() < most.max(1) {
            let ended = || BackplaneError::new("the connection to the server is lost");
            let message = arriving.next().await.ok_or_else(ended)?;
            // There are no more, or no more that fit.
            if message.status.is_some() {
                break;
            }
            let numbers = message.reply.as_deref().and_then(numbers);
            let numbers = numbers.ok_or_else(|| BackplaneError::new("a message has no number"))?;
            if !follows(&records, numbers) {
                break;
            }
            let position = Position::new(stream.epoch, numbers.stored);
            records.push(Record { position, previous: 0, payload: message.payload });
        }
        Ok(records)
    }
}

/// Reads the server's answer to the message with this number.
fn confirmed(number: u64, answer: &Message) -> Result<(), BackplaneError> {
    if answer.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(BackplaneError::new("the stream of the history is not there"));
    }
    let answer: Value = serde_json::from_slice(&answer.payload).map_err(BackplaneError::new)?;
    let Some(error) = answer.get("error") else { return Ok(()) };
    let text = error["description"].as_str().unwrap_or("unknown error");
    let text = format!("JetStream refuses a message: {text}");
    Err(if error["err_code"] == TOO_LARGE {
        BackplaneError::refusing(number, text)
    } else {
        BackplaneError::new(text)
    })
}

/// Returns an error that concerns one message only.
fn only_refused(error: BackplaneError) -> Result<BackplaneError, BackplaneError> {
    if error.refused().is_some() { Ok(error) } else { Err(error) }
}

/// The numbers of a message in the stream, and among those that its consumer delivers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Numbers {
    stored: u64,
    delivered: u64,
}

/// Reads the numbers from the subject on which a message of a consumer would be acknowledged.
fn numbers(reply: &str) -> Option<Numbers> {
    let parts: Vec<_> = reply.split('.').collect();
    // "$JS.ACK.STREAM.CONSUMER.COUNT.STORED.DELIVERED…", or with two more parts before the stream.
    let at = if parts.len() > 9 { 7 } else { 5 };
    Some(Numbers { stored: parts.get(at)?.parse().ok()?, delivered: parts.get(at + 1)?.parse().ok()? })
}

/// Returns whether a message is the next one that a new consumer delivers. If the connection is replaced meanwhile,
/// some may be lost before it; then it is fetched again.
fn follows(records: &[Record], numbers: Numbers) -> bool {
    numbers.delivered == records.len() as u64 + 1
}

/// Reads a message that the stream has published again. `None` if it is something else.
pub(super) fn arrived(message: &Message) -> Option<Record> {
    let headers = message.headers.as_ref()?;
    let number = |name: &str| headers.get(name)?.as_str().parse().ok();
    let stream = Stream::named(headers.get("Nats-Stream")?.as_str())?;
    let position = Position::new(stream.epoch, number("Nats-Sequence")?);
    let previous = number("Nats-Last-Sequence").unwrap_or_default();
    Some(Record { position, previous, payload: message.payload.clone() })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The attempts to find or make the stream, while other nodes do the same.
const ATTEMPTS: usize = 3;

/// The number of the error that there is no such message.
const NO_MESSAGE: u64 = 10037;

/// The number of the error that a message is larger than the stream takes.
const TOO_LARGE: u64 = 10054;

/// The bytes that the headers of a message may take.
pub(super) const HEADERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_both_forms() {
        let expected = Some(Numbers { stored: 42, delivered: 3 });
        assert_eq!(numbers("$JS.ACK.lw_00.abc.1.42.3.1700000000000000000.7"), expected);
        assert_eq!(numbers("$JS.ACK._.hash.lw_00.abc.1.42.3.1700000000000000000.7.token"), expected);
        for short in ["$JS.ACK.lw", "$JS.ACK.lw_00.abc.1.42"] {
            assert_eq!(numbers(short), None);
        }
    }

    #[test]
    fn what_follows_a_hole_is_not_taken() {
        let record = Record { position: Position::new(1, 40), previous: 0, payload: Bytes::new() };
        let records = [record.clone(), record];
        for (before, delivered, is_next) in
            [(0, 1, true), (0, 2, false), (2, 3, true), (2, 4, false), (2, 2, false)]
        {
            assert_eq!(
                follows(&records[..before], Numbers { stored: 42, delivered }),
                is_next,
                "{delivered}"
            );
        }
    }

    #[test]
    fn streams_are_known_by_their_names() {
        let epoch = |name: &str| Stream::named(name).map(|stream| stream.epoch);
        assert_eq!(epoch("my_app_00000000000000ff"), Some(255));
        for name in ["", "my_app", "my_app_ff", "my_app_00000000000000zz", "00000000000000ff"] {
            assert_eq!(epoch(name), None, "{name}");
        }
    }
}
