//! The receiving half: frames of a peer that may break every rule.

use longwire_protocol::deflate::{Agreement, DeflateOptions, Pool, WindowBits, verify};
use longwire_protocol::{
    CloseFrame, Compression, Event, Inbound, Limits, MessageKind, Opcode, Outbound, ProtocolError, Role,
};

use crate::decoding::{Outcome, decode, join_parts, message};
use crate::header_model::{breaks_a_rule, read};
use crate::input::Input;
use crate::utf8::completable;

/// Decodes the bytes of a peer, of either role, with or without limits and compression.
///
/// - Every split, through every method of input, gives the same events and the same error; with compression, an error.
/// - Messages in parts are the same messages.
/// - Without compression, events and end are those of a model of RFC 6455 and of the limits.
/// - After a close frame or an error, nothing is interpreted and nothing is held.
/// - An error has one of the close codes that RFC 6455 §7.4.1 has for it, and the answer to an event can be read.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let setting = Setting::read(&mut input);
    let way = input.byte();
    let bytes = if setting.frames { frames(&mut input, setting.role) } else { input.rest().to_vec() };

    let mut inbound = setting.inbound();
    let whole = decode(&mut inbound, &bytes, 0);
    check_end(&mut inbound, &whole);
    for way in [1, way] {
        setting.compare(&decode(&mut setting.inbound(), &bytes, way), &whole);
    }
    let mut in_parts = setting.inbound();
    in_parts.set_parts(true);
    setting.compare(&join_parts(decode(&mut in_parts, &bytes, way)), &whole);
    if setting.compression.is_none() {
        let model = Model::decode(&bytes, setting.role, setting.limits);
        assert_eq!(whole.events, model.events, "{bytes:02x?}");
        assert_eq!(whole.error.is_some(), model.is_error, "{:?} of {bytes:02x?}", whole.error);
    }
    check_answers(&whole, setting.role);
}

struct Setting {
    role: Role,
    limits: Limits,
    compression: Option<Compression>,
    /// Whether the input describes frames, or is the bytes themselves.
    frames: bool,
}

impl Setting {
    fn read(input: &mut Input<'_>) -> Self {
        let options = input.byte();
        let role = if options & 1 == 0 { Role::Client } else { Role::Server };
        let limits = match options >> 1 & 3 {
            0 => Limits::default(),
            1 => Limits::default().with_max_message(300).with_max_frame(200).with_max_fragments(4),
            2 => Limits::default().with_max_message(0).with_max_frame(1),
            _ => Limits::default().with_max_message(None).with_max_frame(None).with_max_fragments(None),
        };
        let compression = match options >> 3 & 7 {
            0 => Some(compression(agreement(false))),
            1 => Some(compression(agreement(true))),
            _ => None,
        };
        Self { role, limits, compression, frames: options & 0x40 == 0 }
    }

    /// Compares the outcome for some split with that for the whole.
    fn compare(&self, split: &Outcome, whole: &Outcome) {
        assert_eq!(split.events, whole.events);
        if self.compression.is_some() {
            // Whether text, compression or length is found to be wrong first depends on how much is decompressed at
            // once.
            assert_eq!(split.error.is_some(), whole.error.is_some(), "{split:?} but {whole:?}");
        } else {
            assert_eq!(split.error, whole.error);
        }
    }

    fn inbound(&self) -> Inbound {
        let mut inbound = Inbound::new(self.role, self.limits);
        if let Some(compression) = &self.compression {
            inbound.set_compression(compression);
        }
        inbound
    }
}

/// Returns what two ends may have agreed on: with windows of full size, or of 512 bytes and without context takeover.
pub(crate) fn agreement(small: bool) -> Agreement {
    let options = if small { small_windows() } else { DeflateOptions::default() };
    let answer = [
        ("server_no_context_takeover", None),
        ("client_no_context_takeover", None),
        ("server_max_window_bits", Some("9")),
        ("client_max_window_bits", Some("9")),
    ];
    verify(answer.into_iter().filter(|_| small), &options.offers()).expect("the answer fits the offer")
}

fn small_windows() -> DeflateOptions {
    let bits = WindowBits::new(9).expect("9 is between 8 and 15");
    DeflateOptions::default()
        .with_server_no_context_takeover(true)
        .with_client_no_context_takeover(true)
        .with_server_max_window_bits(bits)
        .with_client_max_window_bits(bits)
}

pub(crate) fn compression(agreement: Agreement) -> Compression {
    let options = DeflateOptions::default().with_threshold(0);
    thread_local! {
        static POOL: Pool = Pool::default();
    }
    POOL.with(|pool| Compression::new(agreement, &options, pool))
}

/// Reads a list of frames: the first byte of each, the form of its length, and its payload.
fn frames(input: &mut Input<'_>, role: Role) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !input.is_empty() && bytes.len() < 200_000 {
        let (first, form) = (input.byte(), input.byte());
        let key = (role == Role::Server) != (form & 0x40 != 0);
        let key = key.then_some(if form & 0x20 == 0 { wire_model::ZERO } else { wire_model::KEY });
        let payload = if form & 0x10 == 0 { input.chunk().to_vec() } else { input.long() };
        match form & 0x0f {
            0 => bytes.extend(wire_model::frame_with_len(first, input.chunk_or(&[0]), &payload, key)),
            1 => bytes.extend(input.chunk()),
            2 => bytes.extend(wire_model::header(first, usize::from(input.pair()), key)),
            _ => bytes.extend(wire_model::frame(first, &payload, key)),
        }
    }
    bytes
}

fn check_end(inbound: &mut Inbound, outcome: &Outcome) {
    let closed = matches!(outcome.events.last(), Some(Event::Close(_)));
    assert_eq!(inbound.is_ended(), closed || outcome.error.is_some());
    if inbound.is_ended() {
        assert_eq!(
            (inbound.payload_left(), inbound.frame_left(), inbound.held()),
            (0, 0, 0),
            "after the end"
        );
        for follows in [&b"\x81\x01a"[..], b"\x81\x81\0\0\0\0a", b"\xff"] {
            assert_eq!(decode(inbound, follows, 0), Outcome::default(), "after the end");
        }
    }
}

/// Checks that the peer can read every answer, and that nothing follows a close frame.
fn check_answers(outcome: &Outcome, role: Role) {
    let keys = longwire_connection::testing::repeatable_keys;
    let mut outbound = Outbound::new((role == Role::Client).then_some(keys));
    let mut expected = Vec::new();
    for event in &outcome.events {
        outbound.respond(event);
        match event {
            Event::Ping(payload) => expected.push(Event::Pong(payload.clone())),
            Event::Close(frame) => expected.push(Event::Close(CloseFrame::new(frame.code, ""))),
            _ => {}
        }
    }
    if let Some(error) = &outcome.error {
        let code = error.close_code();
        let is_text = matches!(error, ProtocolError::InvalidUtf8 | ProtocolError::MalformedCompression);
        assert_eq!(code.value() == 1007, is_text || is_reason(error), "{error}");
        assert!(matches!(code.value(), 1002 | 1007..=1009), "{error}: {code}");
        outbound.fail(error);
        expected.push(Event::Close(CloseFrame::new(code, "")));
    }
    let closed = outcome.error.is_some() || matches!(outcome.events.last(), Some(Event::Close(_)));
    assert_eq!(outbound.is_closing(), closed);
    let wire = crate::outbound::take(&outbound, usize::MAX);
    // Beyond 16 KiB one pong is owed, which would be queued later.
    if wire.len() < 16 * 1024 {
        let mut peer = Inbound::new(role.peer(), Limits::default());
        assert_eq!(decode(&mut peer, &wire, 0), Outcome { events: expected, error: None });
    }
}

fn is_reason(error: &ProtocolError) -> bool {
    matches!(error, ProtocolError::Frame(longwire_protocol::FrameError::InvalidCloseReason))
}

/// A reader of whole inputs without compression.
#[derive(Default)]
struct Model {
    events: Vec<Event>,
    is_error: bool,
}

impl Model {
    fn decode(bytes: &[u8], role: Role, limits: Limits) -> Self {
        let mut model = Self::default();
        model.is_error = model.read(bytes, role, limits).is_none();
        model
    }

    /// Reads up to the end or a close frame; `None` if a rule is broken.
    fn read(&mut self, mut bytes: &[u8], role: Role, limits: Limits) -> Option<()> {
        let mut open: Option<(MessageKind, Vec<u8>, u64, u32)> = None;
        loop {
            if breaks_a_rule(bytes, role) {
                return None;
            }
            let Some(header) = read(bytes) else { return Some(()) };
            bytes = &bytes[header.own_len..];
            let opcode = Opcode::from_bits(header.first & 0x0f)?;
            let (is_last, kind) = (header.first & 0x80 != 0, kind(opcode));
            if header.first & 0x40 != 0 {
                return None;
            }
            if opcode.is_data() {
                if open.is_some() == kind.is_some() {
                    return None;
                }
                let (.., announced, fragments) =
                    open.get_or_insert_with(|| (kind.unwrap_or(MessageKind::Binary), Vec::new(), 0, 0));
                (*announced, *fragments) = (announced.checked_add(header.len)?, *fragments + 1);
                let over = |limit: Option<usize>, len: u64| limit.is_some_and(|limit| len > limit as u64);
                let is_refused = over(limits.max_frame, header.len)
                    || over(limits.max_message, *announced)
                    || limits.max_fragments.is_some_and(|limit| *fragments > limit)
                    // More than an address can say.
                    || *announced > i64::MAX as u64;
                if is_refused {
                    return None;
                }
            }
            let len = usize::try_from(header.len).unwrap_or(usize::MAX).min(bytes.len());
            let is_complete = len as u64 == header.len;
            let (masked, rest) = bytes.split_at(len);
            bytes = rest;
            let key = header.key.unwrap_or_default();
            let payload = masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
            if let (true, Some((kind, buf, ..))) = (opcode.is_data(), &mut open) {
                buf.extend(payload);
                let is_whole = is_complete && is_last;
                if *kind == MessageKind::Text
                    && (completable(buf) < buf.len() || (is_whole && std::str::from_utf8(buf).is_err()))
                {
                    return None;
                }
                if is_whole {
                    let (kind, buf, ..) = open.take()?;
                    self.events.push(Event::Message(message(kind, buf)));
                }
            } else if is_complete {
                let payload: Vec<u8> = payload.collect();
                match opcode {
                    Opcode::Ping => self.events.push(Event::Ping(payload.into())),
                    Opcode::Pong => self.events.push(Event::Pong(payload.into())),
                    _ => {
                        self.events.push(Event::Close(close_frame(&payload)?));
                        return Some(());
                    }
                }
            }
            if bytes.is_empty() {
                return Some(());
            }
        }
    }
}

fn kind(opcode: Opcode) -> Option<MessageKind> {
    match opcode {
        Opcode::Text => Some(MessageKind::Text),
        Opcode::Binary => Some(MessageKind::Binary),
        _ => None,
    }
}

/// Reads the payload of a close frame, whose own rules are checked by another target.
fn close_frame(payload: &[u8]) -> Option<CloseFrame> {
    let (code, reason) = longwire_frame::close::parse_close(payload).ok()?.unwrap_or((1005.into(), ""));
    Some(CloseFrame::new(code, reason))
}
