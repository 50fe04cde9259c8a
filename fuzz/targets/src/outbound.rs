//! The sending half, and the receiving half of the peer that reads what it sends.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use longwire_connection::testing::repeatable_keys;
use longwire_protocol::deflate::{Agreement, DeflateOptions, verify};
use longwire_protocol::{
    CloseCode, CloseFrame, Compress, Event, Inbound, Limits, Message, MessageKind, Outbound, PreparedMessage,
    Role, SendError,
};

use crate::decoding::{Outcome, decode, message};
use crate::inbound::compression;
use crate::input::Input;

/// Sends messages, parts, control frames and prepared messages in any order, writes some of the bytes in between, and
/// decodes what was written.
///
/// - A call succeeds exactly if the rules allow it: one message in parts at a time, nothing after a close frame.
/// - What was sent arrives, whole and in order, whether compressed or not; prepared messages that were dropped are
///   missing, and nothing else is.
/// - Lengths and positions of the queue add up, and what is counted as sent is counted as received.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let options = input.byte();
    let role = if options & 1 == 0 { Role::Client } else { Role::Server };
    let agreement = (options & 2 == 0).then(|| agreement(&mut input));
    let way = input.byte();
    let mut session = Session::new(role, agreement);
    while !input.is_empty() && session.total < 150_000 {
        session.step(&mut input);
        session.check_queue();
    }
    session.finish(role, agreement, way);
}

/// Returns parameters that two ends may have agreed on.
fn agreement(input: &mut Input<'_>) -> Agreement {
    let (flags, bits) = (input.byte(), ["9", "10", "12", "15"]);
    let (server, client) = (bits[usize::from(flags >> 2 & 3)], bits[usize::from(flags >> 4 & 3)]);
    let answer = [
        ("server_no_context_takeover", None),
        ("client_no_context_takeover", None),
        ("server_max_window_bits", Some(server)),
        ("client_max_window_bits", Some(client)),
    ];
    let wanted = [flags & 1 != 0, flags & 2 != 0, true, true];
    let answer = answer.into_iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(param, _)| param);
    verify(answer, &DeflateOptions::default().offers()).expect("the answer fits the offer")
}

/// Something sent, and whether it may be dropped.
#[derive(Clone, Debug)]
struct Sent {
    event: Event,
    is_prepared: bool,
}

struct Session {
    outbound: Outbound,
    expected: Vec<Sent>,
    /// The message in parts: its kind and what was sent of it.
    open: Option<(MessageKind, Vec<u8>)>,
    /// Prepared messages that wait for it.
    deferred: VecDeque<Sent>,
    owed_pong: Option<Bytes>,
    closed: bool,
    dropped: usize,
    wire: Vec<u8>,
    /// Bytes of payloads so far.
    total: usize,
    spare: Vec<u8>,
}

impl Session {
    fn new(role: Role, agreement: Option<Agreement>) -> Self {
        let mut outbound = Outbound::new((role == Role::Client).then_some(repeatable_keys));
        if let Some(agreement) = agreement {
            outbound.set_compression(&compression(agreement));
        }
        Self {
            outbound,
            expected: Vec::new(),
            open: None,
            deferred: VecDeque::new(),
            owed_pong: None,
            closed: false,
            dropped: 0,
            wire: Vec::new(),
            total: 0,
            spare: Vec::new(),
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0 => {
                let message = self.message(input);
                self.send(message.clone(), |outbound| outbound.message(message));
            }
            1 => {
                let compress = input.choose(&[Compress::Auto, Compress::Always, Compress::Never]);
                let message = self.message(input);
                self.send(message.clone(), |outbound| outbound.message_with(message, compress));
            }
            2 => {
                let message = self.message(input);
                if self.outbound.gather_message(&message) {
                    self.send(message, |_| Ok(()));
                }
            }
            3 | 4 => self.prepared(input),
            5 => self.begin(input),
            6 | 7 => self.part(input, false),
            8 => self.part(input, true),
            9 => {
                let payload = input.chunk();
                let result = self.outbound.ping(payload);
                self.control(&result, payload, Event::Ping);
            }
            10 => {
                let payload = input.chunk();
                let result = self.outbound.pong(payload);
                self.control(&result, payload, Event::Pong);
            }
            11 => self.answer_ping(input),
            12 => {
                let most = usize::from(input.byte()) << input.below(10);
                self.write(most);
            }
            13 => self.drop_oldest(),
            14 => self.tidy(input),
            _ => self.close(input),
        }
    }

    fn message(&mut self, input: &mut Input<'_>) -> Message {
        let kind = input.byte();
        let payload = if kind & 2 == 0 { input.chunk().to_vec() } else { input.long() };
        self.total += payload.len() + 1;
        if kind & 1 == 0 { payload.into() } else { String::from_utf8_lossy(&payload).into_owned().into() }
    }

    fn expect(&mut self, event: Event) {
        self.expected.push(Sent { event, is_prepared: false });
    }

    fn send(&mut self, message: Message, send: impl FnOnce(&mut Outbound) -> Result<(), SendError>) {
        let result = send(&mut self.outbound);
        let refused = match (self.closed, &self.open) {
            (true, _) => Some(SendError::Closing),
            (false, Some(_)) => Some(SendError::MessageOpen),
            (false, None) => None,
        };
        assert_eq!(result.err(), refused);
        if refused.is_none() {
            self.expect(Event::Message(message));
        }
    }

    fn prepared(&mut self, input: &mut Input<'_>) {
        // Unlike all others, so that it is clear which ones were dropped.
        let id = format!("prepared {} ", self.expected.len() + self.deferred.len());
        let payload = [id.as_bytes(), self.message(input).as_bytes()].concat();
        let message = Message::binary(payload);
        let prepared = PreparedMessage::new(message.clone());
        let result = match input.choose(&[None, Some(0), Some(100), Some(4096)]) {
            None => self.outbound.prepared(&prepared),
            Some(most) => self.outbound.prepared_copying(&prepared, most, || Vec::with_capacity(most)),
        };
        assert_eq!(result.is_ok(), !self.closed);
        if result.is_ok() {
            let sent = Sent { event: Event::Message(message), is_prepared: true };
            match self.open {
                Some(_) => self.deferred.push_back(sent),
                None => self.expected.push(sent),
            }
        }
    }

    fn begin(&mut self, input: &mut Input<'_>) {
        let kind = input.choose(&[MessageKind::Text, MessageKind::Binary]);
        let compress = input.choose(&[Compress::Auto, Compress::Always, Compress::Never]);
        let result = self.outbound.begin_with(kind, compress);
        assert_eq!(result.is_ok(), !self.closed && self.open.is_none());
        if result.is_ok() {
            self.open = Some((kind, Vec::new()));
        }
    }

    fn part(&mut self, input: &mut Input<'_>, last: bool) {
        let mut data = if input.byte() & 1 == 0 { input.chunk().to_vec() } else { input.long() };
        self.total += data.len() + 1;
        if matches!(self.open, Some((MessageKind::Text, _))) {
            // The parts of a text are UTF-8 together: these are, each by itself.
            for byte in &mut data {
                *byte &= 0x7f;
            }
        }
        let (part, outbound) = (Bytes::from(data.clone()), &mut self.outbound);
        let result = if last { outbound.last_part(part) } else { outbound.part(part) };
        assert_eq!(result.is_ok(), !self.closed && self.open.is_some(), "{result:?}");
        let Some((_, so_far)) = self.open.as_mut().filter(|_| result.is_ok()) else { return };
        so_far.extend(data);
        if last && let Some((kind, payload)) = self.open.take() {
            self.expect(Event::Message(message(kind, payload)));
            self.expected.extend(self.deferred.drain(..));
        }
        assert_eq!(self.outbound.is_message_open(), self.open.is_some());
    }

    fn control(&mut self, result: &Result<(), SendError>, payload: &[u8], event: fn(Bytes) -> Event) {
        assert_eq!(result.is_ok(), !self.closed && payload.len() <= 125, "{result:?}");
        if result.is_ok() {
            self.expect(event(Bytes::copy_from_slice(payload)));
        }
    }

    fn answer_ping(&mut self, input: &mut Input<'_>) {
        let payload = Bytes::copy_from_slice(input.chunk().get(..125).unwrap_or_default());
        let is_room = self.outbound.queue().len() <= PONG_ROOM;
        self.outbound.respond(&Event::Ping(payload.clone()));
        match (self.closed, is_room) {
            (true, _) => {}
            (false, true) => self.expect(Event::Pong(payload)),
            // Only the newest one is answered.
            (false, false) => self.owed_pong = Some(payload),
        }
    }

    /// Writes up to `most` bytes.
    fn write(&mut self, most: usize) {
        let taken = take(&self.outbound, most);
        let (before, left) = (self.outbound.queue().position(), self.outbound.queue().len() - taken.len());
        self.outbound.written_sparing(taken.len(), &mut self.spare);
        assert!(self.outbound.queue().position() >= before + taken.len() as u64, "positions go back");
        self.wire.extend(taken);
        if left <= PONG_ROOM
            && let Some(payload) = self.owed_pong.take()
        {
            self.expect(Event::Pong(payload));
        }
    }

    fn drop_oldest(&mut self) {
        let (pending, queued) = (self.outbound.pending(), self.outbound.queue().len());
        let Some(dropped) = self.outbound.drop_oldest() else { return };
        self.dropped += 1;
        assert_eq!(self.outbound.pending(), pending - dropped.len);
        assert_eq!(self.outbound.queue().len(), queued - if dropped.queued { dropped.len } else { 0 });
        if !dropped.queued {
            let first = self.deferred.pop_front();
            assert!(first.is_some(), "nothing was deferred");
            self.dropped -= 1;
        }
    }

    /// Calls that must not change what is sent.
    fn tidy(&mut self, input: &mut Input<'_>) {
        match input.below(6) {
            0 => self.outbound.park(),
            1 => self.outbound.queue_mut().shrink(),
            2 => drop(self.outbound.queue_mut().settle()),
            3 => drop(self.outbound.queue_mut().reclaim()),
            4 => self.outbound.queue_mut().lend(|| Vec::with_capacity(100_000)),
            _ => self.spare = Vec::with_capacity(70_000),
        }
    }

    fn close(&mut self, input: &mut Input<'_>) {
        let code = CloseCode::new(input.choose(&[1000, 1001, 1005, 3000, 4999, 999, 1006, 1011]));
        let reason = String::from_utf8_lossy(input.chunk()).into_owned();
        let frame = CloseFrame::new(code, reason);
        let frame = if code == CloseCode::NO_STATUS_RECEIVED { None } else { Some(frame) };
        let is_valid = frame.as_ref().is_none_or(|frame| frame.check().is_ok());
        let result = self.outbound.close(frame.clone());
        assert_eq!(result.is_ok(), !self.closed && is_valid, "{result:?}");
        if result.is_ok() {
            self.closed = true;
            self.open = None;
            self.deferred.clear();
            self.owed_pong = None;
            let frame = frame.unwrap_or_else(|| CloseFrame::new(CloseCode::NO_STATUS_RECEIVED, ""));
            assert_eq!(self.outbound.close_sent(), Some(&frame));
            self.expect(Event::Close(frame));
        }
        assert_eq!(self.outbound.is_closing(), self.closed);
    }

    fn check_queue(&self) {
        let (outbound, queue) = (&self.outbound, self.outbound.queue());
        assert!(outbound.pending() >= queue.len());
        assert!(outbound.cost() >= outbound.pending() && outbound.cost() >= outbound.droppable_cost());
        assert!(queue.position() <= queue.end() && queue.end() >= self.wire.len() as u64);
    }

    fn finish(mut self, role: Role, agreement: Option<Agreement>, way: u8) {
        while !self.outbound.queue().is_empty() {
            self.write(usize::MAX);
        }
        assert_eq!(self.outbound.queue().position(), self.outbound.queue().end());
        let limits = Limits::default().with_max_message(None).with_max_frame(None);
        let mut peer = Inbound::new(role.peer(), limits);
        if let Some(agreement) = agreement {
            peer.set_compression(&compression(agreement));
        }
        let Outcome { events, error } = decode(&mut peer, &self.wire, way);
        assert_eq!(error, None);

        let mut received = events.iter().peekable();
        let mut missing = 0;
        for Sent { event, is_prepared } in &self.expected {
            if received.next_if(|received| *received == event).is_none() {
                assert!(*is_prepared, "{event:?} is missing, next is {:?}", received.peek());
                missing += 1;
            }
        }
        assert_eq!(received.next(), None, "was not sent");
        assert_eq!(missing, self.dropped, "the number of messages dropped");
        if self.dropped == 0 && self.open.is_none() {
            let (sent, received) = (self.outbound.compression_stats(), peer.compression_stats());
            assert_eq!(sent.messages, received.messages, "compressed messages");
        }
    }
}

/// Returns the next bytes to be written, at most `most`.
pub(crate) fn take(outbound: &Outbound, most: usize) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 64];
    let filled = outbound.queue().chunks(&mut slices);
    let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(most).collect();
    if let Some(contiguous) = outbound.queue().contiguous() {
        assert_eq!(bytes, contiguous[..most.min(contiguous.len())]);
    }
    bytes
}

/// The length of the queue beyond which one pong is owed.
const PONG_ROOM: usize = 16 * 1024;
