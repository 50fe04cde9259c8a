//! The history of rooms in Redis: a stream for each room, which two scripts write and read.
//!
//! Offsets are counted for each room by 1. The entry of a message has the offset and the time in milliseconds as its
//! ID. A hash beside the stream has the epoch (`e`), the last offset (`n`), and the run ID of the server that has given
//! it (`r`). It outlives the messages, so that positions stay valid in a quiet room.
//!
//! A server that starts again may have lost the last messages, and would give their offsets to others. So the first
//! message of each run of the server jumps ahead, to the time in microseconds or by 2^32, and its entry has the offset
//! of its predecessor (`p`): what lies between the two is the position of no message that is there. A run whose
//! messages are all lost has begun at an earlier time than the next one.
//!
//! A further key for each node that publishes in the room has the number of its last message, for as long as
//! repetitions are recognized. The names of all of these have the name of the room's channel in braces, which is what a
//! Redis Cluster would distribute them by.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, ServerErrorKind, Value};

use super::{BATCH, Shared};
use crate::appends::Append;
use crate::backplane::BackplaneError;
use crate::channel::Channel;
use crate::history::{History, PAGE_BYTES, Past, Position, Record};

/// The scripts that the server has, by their digests, and the bounds of the history.
#[derive(Clone)]
pub(super) struct Kept {
    bounds: History,
    append: Arc<str>,
    read: Arc<str>,
}

/// A connection for calls of scripts.
struct Session {
    number: u64,
    handle: MultiplexedConnection,
    /// The run ID of the server; empty if the user may not ask for it.
    run: Arc<str>,
}

/// Takes the keys of the stream, the hash and the publisher; the channel, the bounds (messages, milliseconds), the
/// times in milliseconds for which the publisher and the epoch are kept, a new epoch, the server's run ID (empty:
/// unknown), and messages as pairs of number and payload.
const APPEND: &str = r"
if redis.replicate_commands then redis.replicate_commands() end
local stream, meta, publisher = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = redis.call('HGET', meta, 'e')
if not epoch then
  redis.call('DEL', stream)
  epoch = ARGV[6]
  redis.call('HSET', meta, 'e', epoch, 'n', 0, 'r', ARGV[7])
end
local last, number = tonumber(redis.call('GET', publisher) or 0), nil
local previous = tonumber(redis.call('HGET', meta, 'n'))
local n = previous + 1
if ARGV[7] ~= '' and redis.call('HGET', meta, 'r') ~= ARGV[7] then
  n = math.max(previous + 4294967296, time[1] * 1000000 + time[2])
end
for i = 8, #ARGV, 2 do
  if tonumber(ARGV[i]) > last then
    number = ARGV[i]
    last = tonumber(number)
    redis.call('HSET', meta, 'n', string.format('%.0f', n))
    if ARGV[7] ~= '' then redis.call('HSET', meta, 'r', ARGV[7]) end
    local id = string.format('%.0f-%.0f', n, now)
    if n == previous + 1 then
      redis.call('XADD', stream, 'MAXLEN', ARGV[2], id, 'd', ARGV[i + 1])
    else
      redis.call('XADD', stream, 'MAXLEN', ARGV[2], id, 'd', ARGV[i + 1], 'p', string.format('%.0f', previous))
    end
    redis.call('PUBLISH', ARGV[1], '\2' .. epoch .. struct.pack('<I8', n) .. ARGV[i + 1])
    previous, n = n, n + 1
  end
end
if number then redis.call('SET', publisher, number, 'PX', ARGV[4]) end
for _ = 1, 100 + #ARGV do
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not first or tonumber(string.match(first[1], '%d+$')) >= now - ARGV[3] then break end
  redis.call('XDEL', stream, first[1])
end
redis.call('PEXPIRE', stream, ARGV[3])
redis.call('PEXPIRE', meta, ARGV[5])
return 1
";

/// Takes the keys of the stream and the hash; the age of messages, and the times for which the epoch is kept with and
/// without messages, all in milliseconds; a new epoch, the server's run ID, the epoch (empty: none) and the offset
/// after which to read, the most messages, and the most bytes. Returns the epoch, the last offset, whether all is
/// there, the offset before the first message after that one, and pairs of offset and payload. If all entries of a page
/// are too old, the first one that is not is searched for by halves.
const READ: &str = r"
if redis.replicate_commands then redis.replicate_commands() end
local stream, meta = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local epoch = redis.call('HGET', meta, 'e')
if not epoch then
  redis.call('DEL', stream)
  epoch = ARGV[4]
  redis.call('HSET', meta, 'e', epoch, 'n', 0, 'r', ARGV[5])
end
local last = tonumber(redis.call('HGET', meta, 'n'))
redis.call('PEXPIRE', meta, last > 0 and ARGV[2] or ARGV[3])
local after = tonumber(ARGV[7])
if ARGV[6] == '' or (ARGV[6] == epoch and after == last) then return {epoch, last, 1, 0} end
local out, bytes = {epoch, last, 1, 0}, 0
if ARGV[6] ~= epoch then out[3], after = 0, 0 end
if after > last then return {epoch, last, 0, 0} end
local function from(offset, most)
  return redis.call('XRANGE', stream, string.format('%.0f-0', offset), '+', 'COUNT', most)
end
local function is_old(entry) return tonumber(string.match(entry[1], '%d+$')) < now - ARGV[1] end
local function offset_of(entry) return tonumber(string.match(entry[1], '^%d+')) end
local found = from(after + 1, ARGV[8])
if #found > 0 then
  out[4] = tonumber(found[1][2][4] or offset_of(found[1]) - 1)
  if is_old(found[1]) or out[4] ~= after then out[3] = 0 end
  if is_old(found[#found]) then
    out[3] = 0
    local low, high = offset_of(found[#found]), last + 1
    while high - low > 1 do
      local middle = math.floor((low + high) / 2)
      local entry = from(middle, 1)[1]
      if entry and is_old(entry) then low = offset_of(entry) else high = middle end
    end
    found = from(low + 1, ARGV[8])
  end
end
for _, entry in ipairs(found) do
  if #out > 4 or not is_old(entry) then
    bytes = bytes + #entry[2][2]
    if #out > 4 and bytes > tonumber(ARGV[9]) then break end
    out[#out + 1] = offset_of(entry)
    out[#out + 1] = entry[2][2]
  end
end
if #out == 4 then out[3] = 0 end
return out
";

impl Shared {
    /// Begins to keep a history.
    pub(super) async fn keep(&self, history: &History) -> Result<(), BackplaneError> {
        let (number, mut handle) = self.connection()?;
        let failed = |error| self.failed(number, error);
        // Whoever may not ask learns it from the first message.
        let info: Result<String, RedisError> =
            redis::cmd("INFO").arg("cluster").query_async(&mut handle).await;
        if info.is_ok_and(|info| info.contains("cluster_enabled:1")) {
            return Err(BackplaneError::new("a history in a Redis Cluster is not supported"));
        }
        let kept = load(&mut handle, *history).await.map_err(failed)?;
        self.state().kept = Some(kept);
        Ok(())
    }

    /// Gives a new connection what it needs for the history.
    pub(super) async fn prepare(&self, handle: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let bounds = self.state().kept.as_ref().map(|kept| kept.bounds);
        if let Some(bounds) = bounds {
            load(handle, bounds).await?;
        }
        Ok(())
    }

    /// Returns the connection, and the run ID of the server at its other end.
    async fn session(&self) -> Result<Session, BackplaneError> {
        let (number, mut handle) = self.connection()?;
        let known =
            self.state().connection.as_ref().filter(|it| it.number == number).and_then(|it| it.run.clone());
        if let Some(run) = known {
            return Ok(Session { number, handle, run });
        }
        let info: Result<String, _> = redis::cmd("INFO").arg("server").query_async(&mut handle).await;
        let run: Arc<str> = match info {
            Ok(info) => info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().into(),
            Err(error) if error.kind() == ServerErrorKind::NoPerm.into() => "".into(),
            Err(error) => return Err(self.failed(number, error)),
        };
        if let Some(connection) = self.state().connection.as_mut().filter(|it| it.number == number) {
            connection.run = Some(Arc::clone(&run));
        }
        Ok(Session { number, handle, run })
    }

    fn kept(&self) -> Result<Kept, BackplaneError> {
        self.state().kept.clone().ok_or_else(|| BackplaneError::new("no history is kept"))
    }

    /// Calls scripts, and once more with the scripts loaded again if the server does not have them any more.
    async fn call(&self, session: Session, calls: &redis::Pipeline) -> Result<Vec<Value>, BackplaneError> {
        let Session { number, mut handle, .. } = session;
        let mut answers = calls.query_async(&mut handle).await;
        if answers.as_ref().is_err_and(|error: &RedisError| error.kind() == ServerErrorKind::NoScript.into())
        {
            self.prepare(&mut handle).await.map_err(|error| self.failed(number, error))?;
            answers = calls.query_async(&mut handle).await;
        }
        answers.map_err(|error| self.failed(number, error))
    }

    /// Appends messages, those of each room in one call of a script: all of them, or none.
    pub(super) async fn append(&self, messages: &[Append]) -> Result<(), BackplaneError> {
        let Kept { bounds, append: script, .. } = self.kept()?;
        let (node, session) = (self.started()?.node, self.session().await?);
        let mut rooms: HashMap<&Arc<str>, Vec<&Append>> = HashMap::new();
        for append in messages {
            rooms.entry(&append.room).or_default().push(append);
        }
        let mut pipeline = redis::pipe();
        for (room, appends) in rooms {
            let name = Channel::Room(Arc::clone(room)).subject(&self.prefix);
            let call = pipeline.cmd("EVALSHA").arg(&*script).arg(3);
            call.arg(key(&name, "s")).arg(key(&name, "m")).arg(key(&name, &format!("p.{node}")));
            call.arg(name).arg(bounds.messages).arg(millis(bounds.age)).arg(millis(bounds.repetition()));
            call.arg(millis(forgotten(bounds))).arg(&new_epoch()[..]).arg(&*session.run);
            for append in appends {
                call.arg(append.number).arg(&append.payload[..]);
            }
        }
        self.call(session, &pipeline).await.map(drop)
    }

    /// Adds a call of the script that reads, without its last two arguments.
    fn read<'a>(
        &self,
        pipeline: &'a mut redis::Pipeline,
        Kept { bounds, read: script, .. }: &Kept,
        session: &Session,
        room: &Arc<str>,
        after: Option<Position>,
    ) -> &'a mut redis::Pipeline {
        let name = Channel::Room(Arc::clone(room)).subject(&self.prefix);
        let (epoch, offset) = match after {
            Some(after) => (after.epoch().to_be_bytes().to_vec(), after.offset()),
            None => (Vec::new(), 0),
        };
        let call = pipeline.cmd("EVALSHA").arg(&**script).arg(2).arg(key(&name, "s")).arg(key(&name, "m"));
        call.arg(millis(bounds.age)).arg(millis(forgotten(*bounds))).arg(millis(quiet(*bounds)));
        call.arg(&new_epoch()[..]).arg(&*session.run).arg(epoch).arg(offset)
    }

    /// Returns how often the rooms to which this node has subscribed must be [refreshed](Self::refresh), if there is a
    /// history.
    pub(super) fn refresh_interval(&self) -> Option<Duration> {
        Some(quiet(self.kept().ok()?.bounds) / 3)
    }

    /// Keeps the epochs of the rooms to which this node has subscribed.
    pub(super) async fn refresh(&self) -> Result<(), BackplaneError> {
        let kept = self.kept()?;
        let rooms: Vec<_> = self.state().channels.values().filter_map(Channel::room).cloned().collect();
        for rooms in rooms.chunks(BATCH) {
            let session = self.session().await?;
            let mut pipeline = redis::pipe();
            for room in rooms {
                self.read(&mut pipeline, &kept, &session, room, None).arg(1).arg(1);
            }
            self.call(session, &pipeline).await?;
        }
        Ok(())
    }

    pub(super) async fn history(
        &self,
        room: &Arc<str>,
        after: Option<Position>,
        most: usize,
    ) -> Result<Past, BackplaneError> {
        let (kept, session) = (self.kept()?, self.session().await?);
        let mut pipeline = redis::pipe();
        self.read(&mut pipeline, &kept, &session, room, after).arg(most.max(1)).arg(PAGE_BYTES);
        let past = match self.call(session, &pipeline).await?.pop() {
            Some(Value::Array(values)) => past(values),
            _ => None,
        };
        past.ok_or_else(|| BackplaneError::new("the history is malformed"))
    }
}

async fn load(handle: &mut MultiplexedConnection, bounds: History) -> Result<Kept, RedisError> {
    let mut load = async |script: &str| {
        let loaded: Result<String, _> =
            redis::cmd("SCRIPT").arg("LOAD").arg(script).query_async(handle).await;
        loaded.map(Arc::from)
    };
    Ok(Kept { bounds, append: load(APPEND).await?, read: load(READ).await? })
}

/// Returns the name of a key that belongs to a room's channel.
fn key(channel: &str, kind: &str) -> String {
    format!("{{{channel}}}.{kind}")
}

fn new_epoch() -> [u8; 8] {
    // Without random bytes from the operating system, the node would have no identity either.
    getrandom::u64().expect("the operating system has random bytes").to_be_bytes()
}

/// Returns the time for which the epoch of a room is kept in which there was no message yet.
fn quiet(bounds: History) -> Duration {
    bounds.age.max(QUIET)
}

/// Returns the time for which the epoch of a room is kept after a message.
fn forgotten(bounds: History) -> Duration {
    bounds.age.saturating_add(EPOCH)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reads the answer of the script that reads.
fn past(values: Vec<Value>) -> Option<Past> {
    let mut values = values.into_iter();
    let epoch = match values.next()? {
        Value::BulkString(bytes) => u64::from_be_bytes(bytes.try_into().ok()?),
        _ => return None,
    };
    let number = |value: Value| match value {
        Value::Int(number) => u64::try_from(number).ok(),
        _ => None,
    };
    let last = Position::new(epoch, number(values.next()?)?);
    let is_whole = number(values.next()?)? == 1;
    let mut previous = Some(number(values.next()?)?);
    let mut records = Vec::new();
    while let Some(offset) = values.next() {
        let offset = number(offset)?;
        let Value::BulkString(payload) = values.next()? else { return None };
        let record = record(epoch, offset, payload.into());
        records.push(Record { previous: previous.take().unwrap_or(record.previous), ..record });
    }
    Some(Past { last, is_whole, records })
}

fn record(epoch: u64, offset: u64, payload: Bytes) -> Record {
    Record { position: Position::new(epoch, offset), previous: offset.saturating_sub(1), payload }
}

/// Reads what the script that appends has published. `None` if it is something else.
pub(super) fn arrived(payload: &Bytes) -> Option<Record> {
    let number = |range| payload.get::<std::ops::Range<usize>>(range)?.try_into().ok();
    if payload.first() != Some(&MARK) {
        return None;
    }
    let (epoch, offset) = (u64::from_be_bytes(number(1..9)?), u64::from_le_bytes(number(9..17)?));
    Some(record(epoch, offset, payload.slice(17..)))
}

/// The first byte of a message of a history. The envelope of another begins with its version, 1.
const MARK: u8 = 2;

/// The shortest time for which positions stay valid in a room without any message. It is not long, because clients
/// choose the names of rooms.
const QUIET: Duration = Duration::from_secs(10);

/// The time for which positions stay valid after the last message of a room is gone.
const EPOCH: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_without_end_does_not_overflow() {
        let bounds = |age| History::default().with_age(age);
        assert_eq!(forgotten(bounds(Duration::MAX)), Duration::MAX);
        assert_eq!(forgotten(bounds(Duration::from_secs(1))), EPOCH + Duration::from_secs(1));
    }

    #[test]
    fn what_is_published_is_read() {
        let bytes = b"\x02\x01\x02\x03\x04\x05\x06\x07\x08\x05\0\0\0\0\0\0\0payload";
        let read = arrived(&Bytes::from_static(bytes));
        assert_eq!(read, Some(record(0x0102_0304_0506_0708, 5, Bytes::from_static(b"payload"))));
        for other in [&b""[..], b"\x01", b"\x02\x01\x02", &bytes[..16]] {
            assert_eq!(arrived(&Bytes::copy_from_slice(other)), None);
        }
    }
}
