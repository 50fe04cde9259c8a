//! The receiving half: the peer's bytes in, [`Event`]s out (RFC 6455 §5.2 to §5.6, §6.2).
//!
//! Owns the order of frames, the assembly of messages, UTF-8 across frames, and every limit on what a peer may send.
//! Owed replies to events belong to [`crate::outbound`]; the rules of a single header to `longwire-frame`.

mod shortcut;

use bytes::{BufMut, Bytes};
use longwire_frame::{FrameHeader, MaskingKey, Opcode, Role, close::parse_close, mask};

use crate::assembly::{Admitted, Appended, Assembly, Payload, extend_unmasked, grow, grow_ahead};
use crate::compression::{CONTEXT_MEMORY, Inflating};
use crate::queue::SPARED;
use crate::spill::Spill;
use crate::{CloseFrame, CompressionStats, Event, Limits, Message, MessageKind, Part, ProtocolError};

/// The receiving half of a connection.
///
/// It takes bytes in any split and yields the same events for every split. After an error or a close frame it
/// interprets nothing: further input is taken and dropped.
///
/// # Examples
///
/// ```
/// use longwire_protocol::{Event, Inbound, Limits, Message, Role};
///
/// let mut inbound = Inbound::new(Role::Client, Limits::default());
/// // "Hel" and "lo" as two frames of one message (RFC 6455 §5.7), cut in the middle of the second header.
/// let mut first = &b"\x01\x03Hel\x80"[..];
/// assert_eq!(inbound.decode(&mut first), Ok(None));
/// let mut second = &b"\x02lo"[..];
/// assert_eq!(inbound.decode(&mut second), Ok(Some(Event::Message(Message::text("Hello")))));
/// ```
#[derive(Debug)]
pub struct Inbound {
    role: Role,
    limits: Limits,
    /// The smallest length at which `admit` refuses an uncompressed message of one frame.
    too_long: u64,
    /// The frame and the message that have arrived in part. `None` between messages, which is most of the time.
    arriving: Option<Box<Arriving>>,
    /// `Some` if compression was negotiated.
    inflating: Option<Box<Inflating>>,
    /// The number of bytes that decompression has yielded since [`take_inflated`](Self::take_inflated) was called.
    inflated: usize,
    /// Set if messages are handed out in pieces.
    parts: bool,
    /// Set after an error or a close frame: nothing more is interpreted.
    ended: bool,
    /// Whether a message may begin with the next byte, and is wanted whole: see [`look_between`](Self::look_between).
    is_between: bool,
}

/// A frame and a message that have not arrived in full.
#[derive(Debug, Default)]
struct Arriving {
    /// The frame whose payload is arriving; `None` while a header is awaited.
    frame: Option<Payload>,
    /// The beginning of a header that has not arrived in full. Empty while a payload is arriving.
    spill: Spill,
    /// The message in progress; `None` between messages.
    message: Option<Assembly>,
    /// The part of a control frame's payload that has arrived.
    control: Vec<u8>,
}

impl Inbound {
    /// Creates the receiving half of the end with the given role.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            limits,
            too_long: limits.too_long(),
            arriving: None,
            inflating: None,
            inflated: 0,
            parts: false,
            ended: false,
            is_between: true,
        }
    }

    /// Accepts compressed messages from here on, with the parameters agreed on in the handshake. The caller ensures
    /// that nothing has been received yet.
    #[cfg(feature = "deflate")]
    pub fn set_compression(&mut self, compression: &crate::Compression) {
        self.inflating = Some(Box::new(compression.inflating(self.role)));
    }

    /// Returns whether a decompressor is kept for this connection until [`park`](Self::park).
    #[inline]
    pub fn keeps_decompressor(&self) -> bool {
        self.inflating.as_ref().is_some_and(|inflating| inflating.is_live())
    }

    /// Returns the decompressor to its pool and keeps only its window, which the next message needs. Intended for
    /// connections that have been idle.
    #[cold]
    pub fn park(&mut self) {
        if let Some(inflating) = &mut self.inflating {
            inflating.park();
        }
    }

    /// Returns the statistics of compressed messages received so far.
    pub fn compression_stats(&self) -> CompressionStats {
        self.inflating.as_ref().map(|inflating| inflating.stats()).unwrap_or_default()
    }

    /// Takes bytes off the front of `input` until an event is complete, the input is used up, or much was decompressed.
    ///
    /// `None` with an empty `input` means that more is needed. `None` with some of `input` left means that this call
    /// has decompressed 64 KiB or a little more: call again, now or after others have had their turn. Without
    /// compression all of the input is taken.
    ///
    /// Only an incomplete header, control payload or message is kept between calls, and the memory follows the bytes
    /// that have arrived, never the length that a header announces.
    ///
    /// # Errors
    ///
    /// The peer's violation. The connection has failed: the rest of the input and all later input is dropped
    /// uninterpreted.
    #[inline]
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Event>, ProtocolError> {
        self.decode_lending(input, &mut Vec::new())
    }

    /// The same as [`decode`](Self::decode), but uses the memory of `spare` for a large payload that fits into it well.
    ///
    /// This reuses the memory left by [`WriteQueue::advance_sparing`](crate::WriteQueue::advance_sparing).
    #[inline]
    pub fn decode_lending(
        &mut self,
        input: &mut &[u8],
        spare: &mut Vec<u8>,
    ) -> Result<Option<Event>, ProtocolError> {
        if self.ended {
            *input = &[];
            return Ok(None);
        }
        // Until it is looked at, in case that this panics.
        self.is_between = false;
        let result = self.decode_frames(input, spare);
        if result.is_err() {
            self.end();
            *input = &[];
        }
        self.look_between();
        result
    }

    /// Looks whether the next byte is the first of a message of which nothing has arrived. To be called whenever that
    /// may have changed.
    #[inline]
    fn look_between(&mut self) {
        if let Some(Arriving { frame: None, spill, message: None, .. }) = self.arriving.as_deref()
            && spill.is_empty()
        {
            self.arriving = None;
        }
        self.is_between = !self.ended && !self.parts && self.arriving.is_none();
    }

    /// Returns the frame whose payload is arriving.
    #[inline]
    fn frame(&self) -> Option<&Payload> {
        self.arriving.as_ref()?.frame.as_ref()
    }

    /// Returns the message in progress.
    #[inline]
    fn message(&self) -> Option<&Assembly> {
        self.arriving.as_ref()?.message.as_ref()
    }

    fn message_mut(&mut self) -> Option<&mut Assembly> {
        self.arriving.as_mut()?.message.as_mut()
    }

    /// Requests messages in pieces, as they arrive, from now on; or whole messages again.
    ///
    /// If pieces are requested in the middle of a message, the first piece is the part that has arrived so far. If
    /// whole messages are requested in the middle of a message of which pieces were handed out, the rest of that
    /// message is skipped.
    #[inline]
    pub fn set_parts(&mut self, parts: bool) {
        if self.parts != parts {
            self.change_parts(parts);
        }
    }

    #[cold]
    fn change_parts(&mut self, parts: bool) {
        if !parts {
            self.skip_rest();
        }
        self.parts = parts;
        self.look_between();
    }

    /// Checks and drops the rest of a message of which pieces were handed out.
    #[cold]
    pub fn skip_rest(&mut self) {
        if let Some(message) = self.message_mut()
            && message.in_parts
        {
            message.skipped = true;
        }
    }

    /// Returns the number of bytes of the current data frame's payload still to come: the most that
    /// [`read_payload`](Self::read_payload) takes.
    ///
    /// Zero while a header or a control frame is awaited and while messages are handed out in pieces.
    pub fn payload_left(&self) -> usize {
        match self.frame() {
            Some(frame) if frame.opcode.is_data() && !self.parts && !self.is_in_parts_or_compressed() => {
                frame.left
            }
            _ => 0,
        }
    }

    /// Returns the number of bytes still to come of the current data frame if its message is assembled, else 0.
    /// Receiving that many leaves nothing undecoded.
    #[inline]
    pub fn frame_left(&self) -> usize {
        if self.arriving.is_none() { 0 } else { self.arriving_frame_left() }
    }

    #[inline(never)]
    fn arriving_frame_left(&self) -> usize {
        match self.frame() {
            Some(frame) if frame.opcode.is_data() && !self.parts => frame.left,
            _ => 0,
        }
    }

    /// Returns whether the beginning of a compressed message was decompressed and its end has not arrived: a moment at
    /// which a connection holds much, whatever arrived.
    #[inline]
    pub fn is_inflating(&self) -> bool {
        !self.parts
            && self.message().is_some_and(|message| message.is_compressed() && !message.buf.is_empty())
    }

    /// Lets `read` append to the current message's own buffer, which saves one copy of a large payload.
    ///
    /// `read` gets a buffer that takes no more than [`payload_left`](Self::payload_left) bytes. The bytes that it
    /// appends are then treated as [`decode`](Self::decode) treats input; a completed message is returned as an event.
    /// If `read` panics, the bytes that it appended are dropped.
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode).
    ///
    /// # Examples
    ///
    /// ```
    /// use longwire_protocol::{Event, Inbound, Limits, Message, Role};
    ///
    /// let mut inbound = Inbound::new(Role::Client, Limits::default());
    /// assert_eq!(inbound.decode(&mut &b"\x81\x05Hel"[..]), Ok(None));
    /// let (_, result) = inbound.read_payload(|buf| buf.put_slice(b"lo"));
    /// assert_eq!(result, Ok(Some(Event::Message(Message::text("Hello")))));
    /// ```
    ///
    /// The buffer can only be appended to. Bytes that were validated as UTF-8 are not accessible:
    ///
    /// ```compile_fail
    /// # use longwire_protocol::{Inbound, Limits, Role};
    /// # let mut inbound = Inbound::new(Role::Client, Limits::default());
    /// # let _ = inbound.decode(&mut &b"\x81\x05Hel"[..]);
    /// inbound.read_payload(|buf| buf.get_mut()[0] = 0xff);
    /// ```
    pub fn read_payload<R>(
        &mut self,
        read: impl FnOnce(&mut dyn BufMut) -> R,
    ) -> (R, Result<Option<Event>, ProtocolError>) {
        let left = self.payload_left();
        let mut nothing = Vec::new();
        let buf = match self.message_mut() {
            Some(message) if left > 0 => {
                grow_ahead(&mut message.buf, left);
                &mut message.buf
            }
            _ => &mut nothing,
        };
        let appended = Appended::to(buf);
        let room = left.min(appended.buf.capacity() - appended.checked);
        let out = read(&mut (&mut *appended.buf).limit(room));
        let arrived = appended.keep();
        if let Some(Arriving { frame: Some(frame), message: Some(message), .. }) =
            self.arriving.as_deref_mut()
            && let Some(key) = frame.key
            && arrived > 0
        {
            let start = message.buf.len() - arrived;
            mask::apply(&mut message.buf[start..], key, frame.done);
        }
        let result = self.payload_arrived(arrived, arrived);
        if result.is_err() {
            self.end();
        }
        self.look_between();
        (out, result)
    }

    fn is_in_parts_or_compressed(&self) -> bool {
        self.message().is_some_and(|message| message.in_parts || message.is_compressed())
    }

    /// Returns the memory held for incomplete data, in bytes: the reserved buffers of the message and of a control
    /// frame, and the decompressor of a compressed message (48 KiB).
    #[inline]
    pub fn held(&self) -> usize {
        let Some(Arriving { message, control, .. }) = self.arriving.as_deref() else { return 0 };
        let message = message.as_ref().map_or(0, |message| {
            let context =
                if message.is_compressed() && self.keeps_decompressor() { CONTEXT_MEMORY } else { 0 };
            message.buf.capacity() + context
        });
        message + control.capacity()
    }

    /// Returns the number of bytes that decompression has yielded since the last call: work that the length of the
    /// input does not show.
    #[inline]
    pub fn take_inflated(&mut self) -> usize {
        std::mem::take(&mut self.inflated)
    }

    /// Returns whether the bytes at the front of `input` belong to a control frame, or `None` if the next frame has not
    /// begun.
    ///
    /// A caller that must not receive messages now can handle the control frames before the next message.
    pub fn is_control_next(&self, input: &[u8]) -> Option<bool> {
        if let Some(frame) = self.frame() {
            return Some(frame.opcode.is_control());
        }
        let begun = self.arriving.as_ref().and_then(|arriving| arriving.spill.first());
        // "Control frames are identified by opcodes where the most significant bit of the opcode is 1" (RFC 6455 §5.5)
        begun.or(input.first().copied()).map(|byte| byte & 0x08 != 0)
    }

    /// Returns whether a close frame or an error has ended interpretation.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Drops incomplete data and interprets nothing more.
    pub fn end(&mut self) {
        self.ended = true;
        self.is_between = false;
        self.arriving = None;
        if let Some(inflating) = &mut self.inflating {
            inflating.discard();
        }
    }

    fn decode_frames(
        &mut self,
        input: &mut &[u8],
        spare: &mut Vec<u8>,
    ) -> Result<Option<Event>, ProtocolError> {
        let most = self.inflated.saturating_add(INFLATE_STEP);
        loop {
            let arriving = self.arriving.get_or_insert_default();
            if arriving.frame.is_none() {
                let Some(header) = arriving.spill.take_header(input, self.role)? else { return Ok(None) };
                let admitted = self.admit(&header)?;
                self.begin_frame(&header, admitted);
                self.borrow(spare);
            }
            if let Some(event) = self.take_payload(input, most)? {
                return Ok(Some(event));
            }
            if input.is_empty() || self.inflated >= most {
                return Ok(None);
            }
        }
    }

    /// Checks a header against the rules of fragmentation and the limits, before any of its payload is looked at.
    #[inline]
    fn admit(&self, header: &FrameHeader) -> Result<Admitted, ProtocolError> {
        if header.rsv1() && self.inflating.is_none() {
            return Err(ProtocolError::UnexpectedRsv1);
        }
        let (announced, fragments) = match (self.message(), header.opcode()) {
            // The limit of 125 bytes is checked when the header is parsed.
            (_, Opcode::Close | Opcode::Ping | Opcode::Pong) => return Ok(Admitted::default()),
            (None, Opcode::Text | Opcode::Binary) => (0, 1),
            // Empty fragments count as well: they cost the peer two bytes each and make work for this end.
            (Some(message), Opcode::Continuation) => (message.announced, message.fragments.saturating_add(1)),
            (None, Opcode::Continuation) => return Err(ProtocolError::UnexpectedContinuation),
            (Some(_), Opcode::Text | Opcode::Binary) => return Err(ProtocolError::UnfinishedMessage),
        };
        let len = header.len();
        let Limits { max_message, max_frame, max_fragments } = self.limits;
        if let Some(max) = max_fragments
            && fragments > max
        {
            return Err(ProtocolError::TooManyFragments { max });
        }
        if let Some(max) = max_frame
            && len > max as u64
        {
            return Err(ProtocolError::FrameTooLong { len, max });
        }
        let max = max_message.unwrap_or(Limits::ADDRESSABLE);
        let total = (announced as u64).saturating_add(len);
        let within =
            |max: usize| usize::try_from(total).ok().filter(|total| *total <= max.min(Limits::ADDRESSABLE));
        match within(max).or_else(|| within(self.wire_max(header, max))) {
            Some(announced) => Ok(Admitted { announced, fragments }),
            None => Err(ProtocolError::MessageTooLong { len: total, max }),
        }
    }

    /// Returns the maximum length on the wire of a message of at most `max` bytes: incompressible data grows by less
    /// than an eighth. The decompressed size has its own limit.
    #[cold]
    fn wire_max(&self, header: &FrameHeader, max: usize) -> usize {
        let is_compressed = header.rsv1() || self.message().is_some_and(Assembly::is_compressed);
        if is_compressed { max.saturating_add(max / 8).saturating_add(64) } else { max }
    }

    /// Remembers a frame whose payload has not arrived in full, or that is one of several.
    fn begin_frame(&mut self, header: &FrameHeader, admitted: Admitted) {
        let arriving = self.arriving.get_or_insert_default();
        let opcode = header.opcode();
        if opcode.is_data() {
            let message = arriving.message.get_or_insert_with(|| Assembly::new(header));
            message.announced = admitted.announced;
            message.fragments = admitted.fragments;
        }
        let left =
            usize::try_from(header.len()).expect("an admitted length is within a limit that is a usize");
        arriving.frame = Some(Payload { opcode, fin: header.fin(), key: header.mask(), done: 0, left });
    }

    /// Uses `spare` instead of the memory that the new frame would need.
    #[inline]
    fn borrow(&mut self, spare: &mut Vec<u8>) {
        if let Some(Arriving { frame: Some(frame), message: Some(message), .. }) =
            self.arriving.as_deref_mut()
            && message.buf.capacity() == 0
            && (frame.left..=frame.left.saturating_mul(2)).contains(&spare.capacity())
            && SPARED.contains(&frame.left)
        {
            message.buf = std::mem::take(spare);
            message.buf.clear();
        }
    }

    /// Moves payload from the input to its destination; returns an event if that completes one. Decompression stops
    /// once the total `inflated` reaches `most`, and then leaves some of the input.
    fn take_payload(&mut self, input: &mut &[u8], most: usize) -> Result<Option<Event>, ProtocolError> {
        let Some(Arriving { frame: Some(frame), message, control, .. }) = self.arriving.as_deref_mut() else {
            return Ok(None);
        };
        let take = frame.left.min(input.len());
        let (arrived, rest) = input.split_at(take);
        let buf = match message {
            Some(message) if frame.opcode.is_data() && message.is_compressed() => {
                let (key, phase) = (frame.key, frame.done);
                let (taken, yielded) = self.inflate(arrived, key, phase, most)?;
                *input = &input[taken..];
                return self.payload_arrived(taken, yielded);
            }
            Some(message) if frame.opcode.is_data() => {
                grow(&mut message.buf, take, frame.left, frame.fin);
                &mut message.buf
            }
            _ => control,
        };
        extend_unmasked(buf, arrived, frame.key, frame.done);
        *input = rest;
        self.payload_arrived(take, take)
    }

    /// Decompresses some of a piece of the message in progress; returns how many bytes of it are consumed and how many
    /// they yielded.
    fn inflate(
        &mut self,
        piece: &[u8],
        key: Option<MaskingKey>,
        phase: usize,
        most: usize,
    ) -> Result<(usize, usize), ProtocolError> {
        let Self { inflating, arriving, .. } = self;
        let (Some(inflating), Some(Arriving { message: Some(message), .. })) =
            (inflating, arriving.as_deref_mut())
        else {
            return Ok((piece.len(), 0));
        };
        let max = self.limits.max_message.unwrap_or(Limits::ADDRESSABLE);
        let inflated = message.inflated.get_or_insert(0);
        let before = message.buf.len();
        let taken = inflating
            .inflate(piece, key, phase, &mut message.buf, max - *inflated, most - self.inflated)
            .map_err(|error| ProtocolError::of_inflating(error, max))?;
        let yielded = message.buf.len() - before;
        *inflated += yielded;
        self.inflated += yielded;
        Ok((taken, yielded))
    }

    /// Checks the last `arrived` bytes of the buffer that they were appended to; returns an event if that completes
    /// one.
    fn payload_arrived(&mut self, arrived: usize, yielded: usize) -> Result<Option<Event>, ProtocolError> {
        let Some(arriving) = self.arriving.as_deref_mut() else { return Ok(None) };
        let Some(frame) = &mut arriving.frame else { return Ok(None) };
        frame.done += arrived;
        frame.left -= arrived;
        let Payload { opcode, fin, left, .. } = *frame;
        let complete = left == 0;
        if complete {
            arriving.frame = None;
        }
        if opcode.is_control() {
            return if complete { self.finish_control(opcode).map(Some) } else { Ok(None) };
        }
        let Some(message) = &mut arriving.message else { return Ok(None) };
        let complete = complete && fin;
        if complete
            && message.is_compressed()
            && let Some(inflating) = &mut self.inflating
        {
            let max = self.limits.max_message.unwrap_or(Limits::ADDRESSABLE);
            inflating
                .finish(message.inflated.unwrap_or(0))
                .map_err(|error| ProtocolError::of_inflating(error, max))?;
        }
        if message.kind == MessageKind::Text {
            let start = message.buf.len() - yielded;
            message.utf8.feed(&message.buf[start..])?;
            if complete {
                message.utf8.finish()?;
            }
        }
        if self.parts || message.in_parts {
            return Ok(self.hand_out_part(complete));
        }
        if !complete {
            return Ok(None);
        }
        let Some(message) = arriving.message.take() else {
            return Ok(None);
        };
        Ok(Some(Event::Message(Message::from_validated(message.kind, message.buf.into()))))
    }

    /// Hands out what has arrived since the last piece, unless the message is skipped.
    #[cold]
    fn hand_out_part(&mut self, last: bool) -> Option<Event> {
        let arriving = self.arriving.as_mut()?;
        let message = arriving.message.as_mut()?;
        let (kind, skipped) = (message.kind, message.skipped);
        let data = Bytes::from(std::mem::take(&mut message.buf));
        if last {
            arriving.message = None;
        } else if data.is_empty() {
            return None;
        } else {
            message.in_parts = true;
        }
        (!skipped).then_some(Event::Part(Part { kind, data, last }))
    }

    #[cold]
    fn finish_control(&mut self, opcode: Opcode) -> Result<Event, ProtocolError> {
        let control = self.arriving.as_mut().map(|arriving| std::mem::take(&mut arriving.control));
        let payload = control.unwrap_or_default();
        match opcode {
            Opcode::Ping => Ok(Event::Ping(payload.into())),
            Opcode::Pong => Ok(Event::Pong(payload.into())),
            _ => {
                let frame = match parse_close(&payload)? {
                    Some((code, reason)) => CloseFrame::new(code, reason),
                    None => CloseFrame::empty(),
                };
                // "the application MUST NOT send any more data frames", and nothing that follows is interpreted (RFC
                // 6455 §5.5.1, §1.4)
                self.end();
                Ok(Event::Close(frame))
            }
        }
    }
}

/// The number of bytes that one call may decompress before it returns: as long as it takes to copy what a read brings.
const INFLATE_STEP: usize = 64 * 1024;
