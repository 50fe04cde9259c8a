//! Features in company: a feature that works by itself must work while another task uses the same connection.
//!
//! Every pair of activities runs on one connection over a small, faulty pipe, in virtual time and on 2 and 4
//! threads. A watchdog names the task that waits and its last step. Rules that need more than a pair are in
//! `company_rules.rs`.

#![allow(clippy::similar_names, reason = "what is being received and what was received")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use longwire_connection::testing::{Faults, Pipe, duplex};
use longwire_connection::{
    Compress, Config, Error, Message, MessageKind, PreparedMessage, Receiver, Sender, WebSocket,
};
use support::{End, check_wire, socket};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

/// The limit in virtual time, where only the sleeps of the activities take time. Less than the close timeout of
/// 5 s.
const VIRTUAL_LIMIT: Duration = Duration::from_secs(3);

/// The watchdog's limit on real threads. A round takes some milliseconds.
const REAL_LIMIT: Duration = Duration::from_secs(20);

/// The current steps of named tasks, for the watchdog.
#[derive(Clone, Default)]
struct Steps(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Steps {
    fn set(&self, task: &'static str, step: impl Into<String>) {
        self.0.lock().unwrap().insert(task, step.into());
    }

    fn done(&self, task: &'static str) {
        self.0.lock().unwrap().remove(task);
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (task, step) in self.0.lock().unwrap().iter() {
            write!(text, "\n  {task} waits in {step}").unwrap();
        }
        text
    }
}

/// The place where a round runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    VirtualTime,
    Threads(usize),
}

/// Runs a round to its end.
///
/// # Panics
///
/// If it does not end in time. The message contains the steps in which its tasks wait.
fn run_round(
    place: Place,
    what: &str,
    steps: &Steps,
    round: impl Future<Output = ()> + Send + 'static,
) -> Result<(), String> {
    let waits = || format!("{what}, {place:?}: {}", steps.describe());
    match place {
        Place::VirtualTime => {
            let builder = &mut tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                match timeout(VIRTUAL_LIMIT, tokio::spawn(round)).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(format!("{what}, {place:?}: {error}")),
                    Err(_) => Err(waits()),
                }
            })
        }
        Place::Threads(workers) => {
            let builder = &mut tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(workers).enable_time().build().unwrap();
            let (done, ended) = mpsc::channel();
            runtime.spawn(async move {
                let _ = done.send(tokio::spawn(round).await.map_err(|error| error.to_string()));
            });
            let ended = ended.recv_timeout(REAL_LIMIT);
            // A task that hangs must not block the test.
            runtime.shutdown_background();
            match ended {
                Ok(result) => result.map_err(|error| format!("{what}, {place:?}: {error}")),
                Err(_) => Err(waits()),
            }
        }
    }
}

/// The work that one task does with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Activity {
    PlainSend,
    SendCompressed,
    SendFlushed,
    FeedAndFlush,
    TrySend,
    Writer,
    WriterAsIo,
    Broadcast,
    BroadcastDropping,
    BroadcastWaiting,
    Ping,
    Pong,
    CancelledSend,
    CancelledFlush,
    Stats,
}

use Activity::{
    Broadcast, BroadcastDropping, BroadcastWaiting, CancelledFlush, CancelledSend, FeedAndFlush, Ping,
    PlainSend, Pong, SendCompressed, SendFlushed, Stats, TrySend, Writer, WriterAsIo,
};

const ACTIVITIES: [Activity; 15] = [
    PlainSend,
    SendCompressed,
    SendFlushed,
    FeedAndFlush,
    TrySend,
    Writer,
    WriterAsIo,
    Broadcast,
    BroadcastDropping,
    BroadcastWaiting,
    Ping,
    Pong,
    CancelledSend,
    CancelledFlush,
    Stats,
];

/// The number of repetitions of an activity in a round.
const TURNS: usize = 12;

/// The limit of the queue: less than most messages of an activity.
const QUEUE: usize = 600;

/// Returns the payload of a turn: its sender, the turn, and more bytes that depend on both.
fn payload(task: &'static str, turn: usize) -> Vec<u8> {
    let len = [0, 1, 20, 125, 126, 700, 3000][(turn * 5 + task.len()) % 7];
    let mut bytes = vec![task.as_bytes()[0], u8::try_from(turn).unwrap()];
    bytes.extend((0..len).map(|i| u8::try_from((i * 7 + turn) % 251).unwrap()));
    bytes
}

impl Activity {
    /// Returns whether all its messages arrive in the company of `others`. Otherwise, messages may be refused and
    /// broadcasts dropped.
    fn is_reliable(self, others: &[Self]) -> bool {
        match self {
            PlainSend | SendCompressed | SendFlushed | FeedAndFlush | Writer | WriterAsIo => true,
            BroadcastWaiting => !others.contains(&BroadcastDropping),
            _ => false,
        }
    }

    async fn turn(self, sender: &Sender, task: &'static str, turn: usize) -> Result<(), Error> {
        let bytes = payload(task, turn);
        match self {
            PlainSend => sender.send(bytes).await?,
            SendCompressed => sender.send_with(bytes, Compress::Always).await?,
            SendFlushed => sender.send_flushed(bytes).await?,
            FeedAndFlush => {
                sender.feed(bytes).await?;
                sender.flush().await?;
            }
            TrySend => allow_full(sender.try_send(bytes))?,
            Writer => {
                let mut writer = sender.message_writer(MessageKind::Binary).await?;
                for part in bytes.chunks(bytes.len().div_ceil(3)) {
                    writer.write(part.to_vec()).await?;
                }
                writer.finish().await?;
            }
            WriterAsIo => {
                let mut writer = sender.message_writer(MessageKind::Binary).await?;
                writer.write_all(&bytes).await?;
                writer.flush().await?;
                writer.shutdown().await?;
            }
            Broadcast => allow_full(sender.try_send_prepared(&PreparedMessage::new(bytes), QUEUE))?,
            BroadcastDropping => {
                allow_full(sender.send_prepared_dropping(&PreparedMessage::new(bytes), QUEUE).map(drop))?;
            }
            BroadcastWaiting => sender.send_prepared(&PreparedMessage::new(bytes), QUEUE).await?,
            Ping => drop(sender.ping()?.await?),
            Pong => sender.pong(b"unasked")?,
            CancelledSend => {
                let _ = pin!(sender.send(bytes)).poll(&mut Context::from_waker(Waker::noop()));
            }
            CancelledFlush => {
                let _ = pin!(sender.flush()).poll(&mut Context::from_waker(Waker::noop()));
            }
            Stats => {
                let stats = sender.stats();
                assert!(stats.bytes_queued < 1 << 20);
                assert!(!sender.is_closed());
            }
        }
        Ok(())
    }
}

fn allow_full(result: Result<(), Error>) -> Result<(), Error> {
    if matches!(result, Err(Error::QueueFull)) { Ok(()) } else { result }
}

/// One connection that several activities use at once.
#[derive(Clone, Debug)]
struct Round {
    end: End,
    activities: Vec<Activity>,
    capacity: usize,
    faults: [Faults; 2],
    seed: u64,
}

/// Names for the tasks of a round; the first letter marks their messages.
const TASKS: [&str; 15] = [
    "a task", "bee task", "c task", "d task", "e task", "f task", "g task", "h task", "i task", "j task",
    "k task", "l task", "m task", "n task", "o task",
];

impl Round {
    async fn run(self, steps: Steps) {
        let (pipe, peer) = duplex(self.capacity);
        let [faults, peer_faults] = self.faults.clone();
        let (pipe, peer) = (pipe.with_faults(faults), peer.with_faults(peer_faults));
        let tap = pipe.tap();
        let config = Config::default().with_send_queue(QUEUE);
        let other = if self.end == End::Client { End::Server } else { End::Client };
        let (sender, receiver) = socket(self.end, pipe, &config).split();
        let receiving = tokio::spawn(receive(receiver, steps.clone()));
        let peering = tokio::spawn(answer(socket(other, peer, &config), steps.clone()));

        let mut tasks = Vec::new();
        for (&activity, name) in self.activities.iter().zip(TASKS) {
            let (sender, steps) = (sender.clone(), steps.clone());
            tasks.push(tokio::spawn(async move {
                for turn in 0..TURNS {
                    steps.set(name, format!("{activity:?}, turn {turn}"));
                    activity.turn(&sender, name, turn).await.unwrap_or_else(|error| {
                        panic!("{activity:?}, turn {turn}: {error}");
                    });
                    if turn % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                steps.done(name);
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        steps.set("closing", "flush");
        sender.flush().await.unwrap();
        let sent = sender.stats();
        assert_eq!(sent.bytes_queued, 0);
        sender.start_close(1000, "").unwrap();
        steps.done("closing");
        receiving.await.unwrap();
        let received = peering.await.unwrap();

        let (frames, left) = check_wire(&tap.written(), self.end);
        assert_eq!(left, 0, "a frame is cut short");
        assert_eq!(frames.last().unwrap().close_code(), Some(1000));
        assert_eq!(sender.stats().bytes_sent, tap.written().len() as u64, "bytes that the peer got");
        for (&activity, name) in self.activities.iter().zip(TASKS) {
            let turns = received.get(&name.as_bytes()[0]).cloned().unwrap_or_default();
            assert!(turns.is_sorted(), "{activity:?}: {turns:?}");
            for &turn in &turns {
                assert!(turn < TURNS, "{activity:?}");
            }
            assert!(
                !activity.is_reliable(&self.activities) || turns.len() == TURNS,
                "{activity:?} lost some: {turns:?}"
            );
        }
    }
}

/// Runs the receiving task of the connection.
async fn receive(mut receiver: Receiver<Pipe>, steps: Steps) {
    steps.set("receiver", "recv");
    while receiver.recv().await.unwrap().is_some() {}
    steps.done("receiver");
}

/// Runs the peer, which checks the messages that it receives and answers some of them. Returns the turns by task.
async fn answer(mut ws: WebSocket<Pipe>, steps: Steps) -> BTreeMap<u8, Vec<usize>> {
    let mut received: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    let mut count = 0;
    steps.set("peer", "recv");
    while let Some(message) = ws.recv().await.unwrap() {
        let bytes = message.as_bytes();
        let task = TASKS.iter().find(|task| task.as_bytes()[0] == bytes[0]).unwrap();
        let turn = usize::from(bytes[1]);
        assert!(bytes == payload(task, turn), "{task} sent something else in turn {turn}");
        received.entry(bytes[0]).or_default().push(turn);
        count += 1;
        if count % 4 == 0 {
            // Without waiting: if two ends wait for each other to read, the application is at fault.
            let _ = ws.sender().try_send("answer");
        }
    }
    steps.done("peer");
    received
}

/// Runs all rounds and fails with the list of those that failed.
fn run_rounds(place: Place, rounds: impl Iterator<Item = Round>) {
    let mut faults = Vec::new();
    let mut count = 0;
    for round in rounds {
        count += 1;
        let steps = Steps::default();
        let what = format!("{:?} of a {:?}, seed {}", round.activities, round.end, round.seed);
        if let Err(fault) = run_round(place, &what, &steps, round.run(steps.clone())) {
            faults.push(fault);
            // Each one that hangs takes the whole limit.
            if place != Place::VirtualTime && faults.len() == 3 {
                break;
            }
        }
    }
    assert!(faults.is_empty(), "{} of {count} rounds fail:\n{}", faults.len(), faults.join("\n"));
}

fn pairs() -> impl Iterator<Item = Vec<Activity>> {
    ACTIVITIES.into_iter().flat_map(|first| {
        ACTIVITIES.into_iter().filter(move |second| *second >= first).map(move |second| vec![first, second])
    })
}

fn rounds(
    activities: impl Iterator<Item = Vec<Activity>>,
    seeds: std::ops::Range<u64>,
) -> impl Iterator<Item = Round> {
    activities.flat_map(move |activities| {
        seeds.clone().flat_map({
            let activities = activities.clone();
            move |seed| {
                let activities = activities.clone();
                [End::Client, End::Server].map(move |end| Round {
                    end,
                    activities: activities.clone(),
                    capacity: [40, 300, 2000][usize::try_from(seed % 3).unwrap()],
                    faults: [
                        if seed % 2 == 0 { Faults::new().random(seed) } else { Faults::new().pend_each() },
                        Faults::new().random(seed + 100).hold_until_flush(),
                    ],
                    seed,
                })
            }
        })
    })
}

#[test]
fn every_pair_of_activities_in_virtual_time() {
    run_rounds(Place::VirtualTime, rounds(pairs(), 0..6));
}

#[test]
fn every_pair_of_activities_on_two_threads() {
    run_rounds(Place::Threads(2), rounds(pairs(), 0..2));
}

#[test]
fn every_pair_of_activities_on_four_threads() {
    run_rounds(Place::Threads(4), rounds(pairs(), 0..2));
}

#[test]
fn all_activities_at_once() {
    for place in [Place::VirtualTime, Place::Threads(2), Place::Threads(4)] {
        run_rounds(place, rounds(std::iter::once(ACTIVITIES.to_vec()), 0..20));
    }
}

/// Dropping the receiving side and closing at the same time: one close frame, and an end.
#[test]
fn drop_and_close_at_once() {
    for place in [Place::VirtualTime, Place::Threads(2), Place::Threads(4)] {
        for number in 0..200 {
            let steps = Steps::default();
            let round = drop_and_close(number, steps.clone());
            run_round(place, &format!("drop and close, {number}"), &steps, round).unwrap();
        }
    }
}

async fn drop_and_close(number: u64, steps: Steps) {
    let (pipe, peer) = duplex(64);
    let tap = pipe.tap();
    let pipe = pipe.with_faults(Faults::new().random(number));
    let end = if number.is_multiple_of(2) { End::Client } else { End::Server };
    let other = if number.is_multiple_of(2) { End::Server } else { End::Client };
    let (sender, mut receiver) = socket(end, pipe, &Config::default()).split();
    let mut peer = socket(other, peer, &Config::default());
    // Every third round polls the receiver first.
    if number.is_multiple_of(3) {
        let _ = poll_fn(|cx| Poll::Ready(pin!(receiver.recv()).poll(cx).is_ready())).await;
    }
    let dropping = tokio::spawn(async move { drop(receiver) });
    let closing = {
        let (sender, steps) = (sender.clone(), steps.clone());
        tokio::spawn(async move {
            steps.set("sender", "send_flushed");
            let sent = sender.send_flushed("last words").await;
            // Either of the two may be first.
            let closed = sender.start_close(1000, "");
            assert!(matches!(closed, Ok(()) | Err(Error::Closed)), "{closed:?}");
            steps.done("sender");
            sent
        })
    };
    steps.set("peer", "recv");
    let mut received = Vec::new();
    while let Some(message) = peer.recv().await.unwrap() {
        received.push(message);
    }
    steps.done("peer");
    dropping.await.unwrap();
    let sent = closing.await.unwrap();
    assert!(sent.is_err() || received == [Message::from("last words")], "{sent:?}, {received:?}");
    drop(peer);
    steps.set("transport", "drop");
    while !tap.is_dropped() {
        sleep(Duration::from_millis(1)).await;
    }
    steps.done("transport");
    check_wire(&tap.written(), end);
}
