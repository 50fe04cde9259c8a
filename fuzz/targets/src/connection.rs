//! A whole connection after its handshake: two ends, a program of calls for each, and a transport with faults.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use longwire_connection::testing::{Faults, Operation, Pipe, Tap, duplex, repeatable_keys};
use longwire_connection::{
    CloseFrame, Compress, Config, Error, Handover, Keepalive, Limits, Message, MessageKind, Pong,
    PreparedMessage, Receiver, Sender, Stats, WebSocket,
};

use crate::inbound::{agreement, compression};
use crate::input::Input;
use crate::virtual_time::{pause, run};

/// Runs a program of calls at both ends of a connection in memory, in virtual time.
///
/// - Nothing hangs: every call and every receiver ends, and so do the tasks that the connection leaves behind.
/// - Every accepted message arrives in order, whole, once. If the transport fails or an end is aborted, those that
///   arrive are the first ones, and the loss is reported to both ends.
/// - A message whose call was dropped arrives whole or not at all.
/// - The counters of the two ends add up.
pub fn target(data: &[u8]) {
    let plan = Plan::read(&mut Input::new(data));
    run(plan.run());
}

/// The program, and the conditions that it runs in.
#[derive(Debug)]
struct Plan {
    capacity: usize,
    ends: [EndPlan; 2],
    config: Config,
    compressed: Option<bool>,
}

#[derive(Debug, Default)]
struct EndPlan {
    faults: Faults,
    /// Whether the transport may fail in a way that loses bytes, or this end gives up.
    loses: bool,
    has_latency: bool,
    /// The receiver's pause after each message, in milliseconds.
    slow: u64,
    in_parts: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>, Compress),
    Feed(Vec<u8>),
    SendFlushed(Vec<u8>),
    TrySend(Vec<u8>),
    Prepared(Vec<u8>),
    /// The call is polled so many times and then dropped.
    Cancelled(Vec<u8>, u8),
    Parts(Vec<Vec<u8>>),
    Flush,
    Ping(Vec<u8>),
    Pong,
    Pause(u64),
    /// The transport takes and yields nothing for so long.
    Stall(u64),
    StartClose(u16),
    Abort,
}

impl Plan {
    fn read(input: &mut Input<'_>) -> Self {
        let (size, options) = (input.byte(), input.byte());
        let capacity = [1, 7, 64, 1000, 4096, 65_536][usize::from(size) % 6];
        let mut config = Config::default().with_send_queue([0, 200, 5000, 65_536][usize::from(options & 3)]);
        if options & 4 != 0 {
            config = config.with_keepalive(Keepalive::default());
        }
        let is_limited = options & 8 != 0;
        if is_limited {
            config = config.with_limits(Limits::default().with_max_message(1000));
        }
        let compressed = (options & 16 != 0).then_some(options & 32 != 0);
        let mut ends = [EndPlan::read(input), EndPlan::read(input)];
        while !input.is_empty() && ends.iter().all(|end| end.steps.len() < 40) {
            let choice = input.byte();
            let end = &mut ends[usize::from(choice & 1)];
            let step = Step::read(input, choice >> 1);
            end.loses |= matches!(step, Step::Abort);
            // It may be too long for the peer: as text, each byte may become a replacement character of three.
            end.loses |= is_limited && step.len() > 990 / 3;
            end.steps.push(step);
        }
        // If few bytes are on their way for long, or none, the closing handshake reaches its deadline.
        let has_latency = ends.iter().any(|end| end.has_latency);
        let stalled: u64 = ends.iter().flat_map(|end| &end.steps).map(Step::stalls_for).sum();
        ends[0].loses |= (has_latency && capacity < 4096) || stalled > 3000;
        Self { capacity, ends, config, compressed }
    }

    async fn run(self) {
        let pipes = duplex(self.capacity);
        let loses = self.ends.iter().any(|end| end.loses);
        let pipes = [pipes.0, pipes.1];
        let taps = pipes.each_ref().map(Pipe::tap);
        let mut running = Vec::new();
        for ((pipe, plan), is_client) in pipes.into_iter().zip(self.ends).zip([true, false]) {
            let mut handover = if is_client { Handover::client(repeatable_keys) } else { Handover::server() };
            if let Some(small) = self.compressed {
                handover = handover.compression(compression(agreement(small)));
            }
            let tap = pipe.tap();
            let socket = WebSocket::new(pipe.with_faults(plan.faults.clone()), handover, &self.config);
            running.push(tokio::spawn(run_end(socket, tap, plan)));
        }
        let [mut client, mut server] =
            [running.remove(0).await, running.remove(0).await].map(|end| end.expect("an end runs"));
        // A task may go on to close the connection of an end that has left.
        pause(300_000).await;
        client.complete();
        server.complete();
        check_direction(&client, &server, loses);
        check_direction(&server, &client, loses);
        assert!(taps.iter().all(Tap::is_dropped), "a connection is left");
    }
}

impl EndPlan {
    fn read(input: &mut Input<'_>) -> Self {
        let (kind, number) = (input.byte(), u64::from(input.byte()));
        let mut plan = Self { slow: u64::from(kind >> 6) * 7, in_parts: kind & 0x20 != 0, ..Self::default() };
        let faults = Faults::new();
        let kinds = [
            ErrorKind::ConnectionReset,
            ErrorKind::BrokenPipe,
            ErrorKind::TimedOut,
            ErrorKind::UnexpectedEof,
        ];
        plan.faults = match kind & 0x0f {
            0..=3 => faults,
            4 => faults.pend_each(),
            5 => faults.random(number),
            6 => faults.read_at_most(1 + (number % 40) as usize),
            7 => faults.write_at_most(1 + (number % 40) as usize),
            8 => faults.hold_until_flush(),
            9 => {
                plan.has_latency = true;
                faults.latency(Duration::from_millis(number))
            }
            10 => faults.split_reads_at((0..50).map(|n| n * (1 + number))),
            fatal => {
                plan.loses = true;
                let operation = Operation::Any(number % 64);
                match fatal {
                    11 => faults.eof_at(operation),
                    12 => faults.write_zero_at(number % 64),
                    13 => faults.fail_at(operation, kinds[usize::from(kind >> 4 & 1)]).random(number),
                    _ => faults.fail_at(operation, kinds[usize::from(number as u8 >> 6)]),
                }
            }
        };
        plan
    }
}

impl Step {
    fn read(input: &mut Input<'_>, choice: u8) -> Self {
        match choice % 16 {
            0 | 1 => Self::Send(payload(input), Compress::Auto),
            2 => Self::Send(payload(input), input.choose(&[Compress::Always, Compress::Never])),
            3 => Self::Feed(payload(input)),
            4 => Self::SendFlushed(payload(input)),
            5 => Self::TrySend(payload(input)),
            6 => Self::Prepared(payload(input)),
            7 | 8 => Self::Cancelled(payload(input), input.below(4)),
            9 => Self::Parts((0..input.below(4)).map(|_| payload(input)).collect()),
            10 => Self::Flush,
            11 => Self::Ping(input.chunk().iter().copied().take(125).collect()),
            12 => Self::Pong,
            13 => Self::Pause(u64::from(input.byte())),
            14 => Self::Stall(u64::from(input.byte()) * 8),
            _ => match input.byte() {
                0xf0.. => Self::Abort,
                code => Self::StartClose(3000 + u16::from(code)),
            },
        }
    }

    /// Returns for how many milliseconds the transport moves nothing.
    fn stalls_for(&self) -> u64 {
        if let Self::Stall(millis) = self { *millis } else { 0 }
    }

    /// Returns the length of what is sent.
    fn len(&self) -> usize {
        match self {
            Self::Send(payload, _)
            | Self::Feed(payload)
            | Self::SendFlushed(payload)
            | Self::TrySend(payload)
            | Self::Prepared(payload)
            | Self::Cancelled(payload, _) => payload.len(),
            Self::Parts(parts) => parts.iter().map(Vec::len).sum(),
            _ => 0,
        }
    }
}

fn payload(input: &mut Input<'_>) -> Vec<u8> {
    let kind = input.byte();
    if kind & 0xc0 == 0xc0 { input.long() } else { vec![kind; usize::from(kind & 0x3f)] }
}

/// The fate of a message that a program sent, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The call has succeeded.
    Sent,
    /// The call was dropped, or waited for more than the queue.
    Unknown,
    /// The call has failed. If the transport is what has failed, the message may have been written before.
    Failed,
}

/// The record of one end.
#[derive(Debug)]
struct Record {
    sent: Vec<(Message, Fate)>,
    received: Vec<Message>,
    end: Result<(), Error>,
    close_sent: Option<CloseFrame>,
    close_received: Option<CloseFrame>,
    in_parts: bool,
    sender: Sender,
    stats: Stats,
}

impl Record {
    /// Takes the final counts. Only the receiver, whose counts there are so far, knows what was compressed.
    fn complete(&mut self) {
        let received_compressed = self.stats.received_compressed;
        self.stats = self.sender.stats();
        self.stats.received_compressed = received_compressed;
    }
}

async fn run_end(socket: WebSocket<Pipe>, tap: Tap, plan: EndPlan) -> Record {
    let (sender, receiver) = socket.split();
    let receiving = tokio::spawn(receive(receiver, plan.slow, plan.in_parts));
    let mut caller = Caller { sender: sender.clone(), tap, sent: Vec::new(), pongs: Vec::new() };
    for step in plan.steps {
        caller.call(step).await;
    }
    let _ = sender.start_close(1000, "the program has ended");
    let (received, end, close_received, receiver_stats) = receiving.await.expect("a receiver runs");
    for pong in caller.pongs {
        let _ = pong.await;
    }
    assert!(sender.send("late").await.is_err(), "sends after the end");
    assert!(sender.is_closed());
    let close_sent = sender.close_sent();
    Record {
        sent: caller.sent,
        received,
        end,
        close_sent,
        close_received,
        in_parts: plan.in_parts,
        sender,
        stats: receiver_stats,
    }
}

async fn receive(
    mut receiver: Receiver<Pipe>,
    slow: u64,
    in_parts: bool,
) -> (Vec<Message>, Result<(), Error>, Option<CloseFrame>, Stats) {
    let mut received = Vec::new();
    let end = loop {
        let message = if in_parts { receive_parts(&mut receiver).await } else { receiver.recv().await };
        match message {
            Ok(Some(message)) => received.push(message),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
        if slow > 0 {
            pause(slow).await;
        }
    };
    assert!(matches!(receiver.recv().await, Ok(None)), "an end comes once");
    (received, end, receiver.close_received().cloned(), receiver.stats())
}

async fn receive_parts(receiver: &mut Receiver<Pipe>) -> Result<Option<Message>, Error> {
    let Some(mut reader) = receiver.recv_parts().await? else { return Ok(None) };
    let (kind, mut payload) = (reader.kind(), Vec::new());
    while let Some(part) = reader.next().await? {
        payload.extend_from_slice(&part);
    }
    Ok(Some(crate::decoding::message(kind, payload)))
}

struct Caller {
    sender: Sender,
    tap: Tap,
    sent: Vec<(Message, Fate)>,
    pongs: Vec<Pong>,
}

impl Caller {
    async fn call(&mut self, step: Step) {
        let sender = self.sender.clone();
        match step {
            Step::Send(payload, compress) => {
                let message = self.numbered(&payload);
                let result = sender.send_with(message.clone(), compress).await;
                self.note(message, &result);
            }
            Step::Feed(payload) => {
                let message = self.numbered(&payload);
                let result = sender.feed(message.clone()).await;
                self.note(message, &result);
            }
            Step::SendFlushed(payload) => {
                let message = self.numbered(&payload);
                // An error does not say whether it was queued.
                let result = sender.send_flushed(message.clone()).await;
                self.sent.push((message, if result.is_ok() { Fate::Sent } else { Fate::Unknown }));
            }
            Step::TrySend(payload) => {
                let message = self.numbered(&payload);
                let result = sender.try_send(message.clone());
                self.note(message, &result);
            }
            Step::Prepared(payload) => {
                let message = self.numbered(&payload);
                let result = sender.send_prepared(&PreparedMessage::new(message.clone()), 10_000).await;
                self.note(message, &result);
            }
            Step::Cancelled(payload, polls) => self.cancelled(&payload, polls).await,
            Step::Parts(parts) => self.parts(parts).await,
            Step::Flush => drop(sender.flush().await),
            Step::Ping(payload) => self.pongs.extend(sender.ping_with(payload)),
            Step::Pong => drop(sender.pong(b"unasked")),
            Step::Pause(millis) => pause(millis).await,
            Step::Stall(millis) => {
                self.tap.stall();
                pause(millis).await;
                self.tap.resume();
            }
            Step::StartClose(code) => drop(sender.start_close(code, "")),
            Step::Abort => sender.abort(),
        }
    }

    /// Returns a message that is unlike all others of this end.
    fn numbered(&self, payload: &[u8]) -> Message {
        let number = self.sent.len();
        match number % 2 {
            0 => [&[number as u8], payload].concat().into(),
            _ => format!("{number} {}", String::from_utf8_lossy(payload)).into(),
        }
    }

    fn note(&mut self, message: Message, result: &Result<(), Error>) {
        self.sent.push((message, if result.is_ok() { Fate::Sent } else { Fate::Failed }));
    }

    async fn cancelled(&mut self, payload: &[u8], polls: u8) {
        let message = self.numbered(payload);
        let sender = self.sender.clone();
        let mut left = polls;
        let mut call = pin!(sender.send(message.clone()));
        let result = poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        });
        match result.await {
            Some(result) => self.note(message, &result),
            None => self.sent.push((message, Fate::Unknown)),
        }
    }

    async fn parts(&mut self, parts: Vec<Vec<u8>>) {
        let Ok(mut writer) = self.sender.message_writer(MessageKind::Binary).await else { return };
        let mut payload = vec![self.sent.len() as u8];
        let mut result = writer.write(payload.clone()).await;
        for part in parts {
            payload.extend_from_slice(&part);
            result = result.and(writer.write(part).await);
        }
        let is_sent = result.is_ok() && writer.finish().await.is_ok();
        self.sent.push((payload.into(), if is_sent { Fate::Sent } else { Fate::Unknown }));
    }
}

/// Checks what one end has sent against what the other has received.
fn check_direction(from: &Record, to: &Record, loses: bool) {
    let mut sent = from.sent.iter().enumerate();
    for message in &to.received {
        // Before it, only messages may be missing whose calls were dropped.
        loop {
            let Some((at, (next, fate))) = sent.next() else {
                panic!("{message:?} was not sent, or not then")
            };
            if next == message {
                assert!(
                    loses || *fate != Fate::Failed,
                    "message {at}, {next:?}, was sent by a call that failed"
                );
                break;
            }
            assert!(*fate != Fate::Sent, "message {at}, {next:?}, is missing before {message:?}");
        }
    }
    assert_eq!(to.stats.messages_received, to.received.len() as u64);
    let most = from.sent.len() as u64;
    assert!(from.stats.messages_sent <= most, "{} of {most} were sent", from.stats.messages_sent);
    if loses {
        assert!(to.stats.bytes_received <= from.stats.bytes_sent);
        return;
    }
    if let Some((at, (message, _))) = sent.find(|(_, (_, fate))| *fate == Fate::Sent) {
        panic!("message {at}, {message:?}, is missing at the end");
    }
    match &to.end {
        Ok(()) => {}
        Err(Error::ClosedByPeer(frame)) => {
            assert_eq!(Some(frame), to.close_received.as_ref());
            assert!(frame.code.value() >= 3000, "{frame} is a clean end");
        }
        // Between the parts of a message, the end is one in any case.
        Err(Error::Lost) => assert!(to.in_parts && to.close_received.is_some()),
        Err(error) => panic!("the end is not clean: {error}"),
    }
    assert_eq!(from.close_sent, to.close_received, "the close frame");
    assert_eq!(from.stats.bytes_sent, to.stats.bytes_received);
    assert_eq!(from.stats.messages_sent, to.stats.messages_received);
    if from.sent.iter().any(|(_, fate)| *fate == Fate::Unknown) {
        // The beginning of a message in parts may have been sent.
        return;
    }
    let (sent, received) = (from.stats.sent_compressed, to.stats.received_compressed);
    assert_eq!(sent.messages, received.messages, "compressed messages");
    assert_eq!(sent.payload_bytes, received.payload_bytes, "bytes of compressed messages");
    assert_eq!(sent.wire_bytes, received.wire_bytes, "compressed bytes");
}
