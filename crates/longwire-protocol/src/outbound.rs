//! The sending half: messages of the application and replies owed to the peer, as bytes (RFC 6455 §5.4, §5.5, §6.1,
//! §7).
//!
//! Owns framing and masking of outgoing messages, the one pong that may be owed, and this end's part of the closing
//! handshake. Writing the bytes belongs to the caller, who takes them from [`Outbound::queue`].

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use longwire_frame::{CloseCode, FrameHeader, MaskingKey, Opcode, close::encode_close, mask};

use crate::compression::{COMPRESSOR_MEMORY, Deflating};
use crate::data_frame::{DataFrame, gather_frame};
use crate::{
    CloseFrame, Compress, CompressionStats, Event, Message, MessageKind, MessageRef, PreparedMessage,
    ProtocolError, SendError, WriteQueue,
};

/// The source of a client's masking keys.
///
/// Each call returns the key of one frame. RFC 6455 §10.3 demands keys that the application's data cannot predict: in
/// production this is a cryptographically secure generator, in tests any repeatable source.
pub type MaskingKeys = fn() -> MaskingKey;

/// The sending half of a connection.
///
/// # Examples
///
/// ```
/// use longwire_protocol::{CloseCode, CloseFrame, Outbound, SendError};
///
/// let mut server = Outbound::new(None);
/// server.message("Hello".into())?;
/// assert_eq!(server.queue().contiguous(), Some(&b"\x81\x05Hello"[..]));
///
/// server.close(Some(CloseFrame::new(CloseCode::NORMAL, "done")))?;
/// assert_eq!(server.message("more".into()), Err(SendError::Closing));
/// # Ok::<(), SendError>(())
/// ```
#[derive(Debug)]
pub struct Outbound {
    /// `Some` for a client: it masks, a server does not (RFC 6455 §5.1).
    keys: Option<MaskingKeys>,
    queue: WriteQueue,
    /// The message that is being sent in parts, with whether its first frame was queued.
    open: Option<OpenMessage>,
    /// Set if pings are answered automatically.
    auto_pong: bool,
    /// Set once a close frame was queued.
    closing: bool,
    /// `Some` if compression was negotiated and this end can compress.
    deflating: Option<Box<Deflating>>,
    /// State that most connections do not have most of the time.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    /// Prepared messages queued while a message in parts was open, oldest first.
    deferred: VecDeque<PreparedMessage>,
    /// The newest ping that could not be answered immediately.
    owed_pong: Option<Bytes>,
    /// The close frame that was queued; code 1005 if it was empty.
    close: Option<CloseFrame>,
}

/// A broadcast dropped by [`Outbound::drop_oldest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The length of its frame in bytes, by which [`Outbound::pending`] has shrunk.
    pub len: usize,
    /// Whether it was in the queue. If not, it was deferred until the open message ends, and no byte of it was ever
    /// part of [`Outbound::queue`].
    pub queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpenMessage {
    kind: MessageKind,
    compress: Compress,
    /// Whether the message is compressed, once its first frame was queued.
    begun: Option<bool>,
}

/// A part of a message in parts.
struct DataPart {
    data: Bytes,
    last: bool,
}

impl Outbound {
    /// Creates a client's sending half if there are masking keys, otherwise a server's.
    pub fn new(keys: Option<MaskingKeys>) -> Self {
        Self {
            keys,
            queue: WriteQueue::default(),
            open: None,
            auto_pong: true,
            closing: false,
            deflating: None,
            rare: None,
        }
    }

    /// Sets whether [`respond`](Self::respond) answers pings. Default: it does.
    ///
    /// "An endpoint MUST send a Pong frame in response" (RFC 6455 §5.5.2): if this is off, the application must do so.
    pub fn set_auto_pong(&mut self, auto_pong: bool) {
        self.auto_pong = auto_pong;
    }

    /// Compresses from here on, with the parameters agreed on in the handshake. The caller ensures that nothing was
    /// sent yet.
    #[cfg(feature = "deflate")]
    pub fn set_compression(&mut self, compression: &crate::Compression) {
        let role =
            if self.keys.is_some() { longwire_frame::Role::Client } else { longwire_frame::Role::Server };
        self.deflating = compression.deflating(role).map(Box::new);
    }

    /// Returns whether a compressor is kept for this connection until [`park`](Self::park).
    #[inline]
    pub fn keeps_compressor(&self) -> bool {
        self.deflating.as_ref().is_some_and(|deflating| deflating.is_live())
    }

    /// Returns the compressor to its pool and keeps only the end of its window, for the next message. Intended for
    /// connections that have been idle: taking a compressor again costs about 10 µs at level 1, and more at higher
    /// ones.
    #[cold]
    pub fn park(&mut self) {
        if let Some(deflating) = &mut self.deflating {
            deflating.park();
        }
    }

    /// Returns the compressor to its pool, even within a message. For connections that send nothing more.
    #[cold]
    pub fn abandon(&mut self) {
        if let Some(deflating) = &mut self.deflating {
            deflating.abandon();
        }
    }

    /// The most memory that a compressor takes, in bytes; 0 in a build without compression.
    pub const COMPRESSOR_MEMORY: usize = COMPRESSOR_MEMORY;

    /// Returns the statistics of compressed messages so far, including those still waiting to be written.
    pub fn compression_stats(&self) -> CompressionStats {
        self.deflating.as_ref().map(|deflating| deflating.stats()).unwrap_or_default()
    }

    /// Returns the bytes waiting to be written.
    #[inline]
    pub fn queue(&self) -> &WriteQueue {
        &self.queue
    }

    /// Returns the bytes waiting to be written, to remove what was written.
    #[inline]
    pub fn queue_mut(&mut self) -> &mut WriteQueue {
        &mut self.queue
    }

    /// Records that `n` bytes were written; a pong that had to wait for room is queued now.
    #[inline]
    pub fn written(&mut self, n: usize) {
        self.queue.advance(n);
        if self.rare.is_some() {
            self.settle_pong();
        }
    }

    /// The same as [`written`](Self::written), with [`WriteQueue::advance_sparing`].
    #[inline]
    pub fn written_sparing(&mut self, n: usize, spare: &mut Vec<u8>) {
        self.queue.advance_sparing(n, spare);
        if self.rare.is_some() {
            self.settle_pong();
        }
    }

    /// Queues one message as one frame.
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`] after a close frame, [`SendError::MessageOpen`] while a message in parts is open.
    #[inline]
    pub fn message(&mut self, message: Message) -> Result<(), SendError> {
        self.message_with(message, Compress::Auto)
    }

    /// Queues one message as one frame, compressed or not according to `compress`.
    ///
    /// # Errors
    ///
    /// As for [`message`](Self::message).
    #[inline]
    pub fn message_with(&mut self, message: Message, compress: Compress) -> Result<(), SendError> {
        self.check_idle()?;
        let frame = DataFrame { opcode: message.opcode(), fin: true, rsv1: false };
        let compressed = match &mut self.deflating {
            Some(deflating) if deflating.wants(message.len(), compress) => {
                deflating.message(message.as_bytes())
            }
            _ => None,
        };
        match compressed {
            Some(payload) => self.data_frame(DataFrame { rsv1: true, ..frame }, payload.into()),
            None => self.data_frame(frame, message.into_payload()),
        }
        Ok(())
    }

    /// Queues one message whose payload is only borrowed, as one frame. Equivalent to [`message`](Self::message), but
    /// the payload is copied into the queue, however long it is.
    ///
    /// # Errors
    ///
    /// As for [`message`](Self::message).
    #[inline]
    pub fn message_ref(&mut self, message: MessageRef<'_>) -> Result<(), SendError> {
        self.check_idle()?;
        let frame = DataFrame { opcode: message.kind().opcode(), fin: true, rsv1: false };
        if let Some(deflating) = &mut self.deflating
            && deflating.wants(message.len(), Compress::Auto)
            && let Some(payload) = deflating.message(message.as_bytes())
        {
            self.data_frame(DataFrame { rsv1: true, ..frame }, payload.into());
        } else {
            self.gather_data(frame, message.as_bytes());
        }
        Ok(())
    }

    /// Returns whether [`gather_message`](Self::gather_message) would queue this message.
    #[inline]
    pub fn can_gather(&self, message: &Message) -> bool {
        message.len() < SHARE_FROM
            && self.check_idle().is_ok()
            && self.deflating.as_ref().is_none_or(|deflating| !deflating.wants(message.len(), Compress::Auto))
    }

    /// Queues one message as one frame if it is short enough to be copied and nothing prevents it; returns whether it
    /// did.
    ///
    /// This is [`message`](Self::message) for the most frequent case, without the cost of the others. If it does
    /// nothing, call `message`.
    #[inline]
    pub fn gather_message(&mut self, message: &Message) -> bool {
        let can = self.can_gather(message);
        if can {
            let frame = DataFrame { opcode: message.opcode(), fin: true, rsv1: false };
            self.gather_data(frame, message.payload());
        }
        can
    }

    /// Queues a message that was framed before, for a server: its bytes are shared, not copied, if there are many or
    /// others wait before them, and may then be dropped by [`WriteQueue::drop_oldest`].
    ///
    /// A client masks each message individually, so it frames the payload anew. While a message in parts is open,
    /// prepared ones wait for its end.
    ///
    /// # Errors
    ///
    /// [`SendError::Closing`] after a close frame.
    pub fn prepared(&mut self, prepared: &PreparedMessage) -> Result<(), SendError> {
        self.prepared_with(prepared, |queue, frame| {
            if queue.is_empty() && frame.len() < SHARE_FROM {
                queue.gather(|tail| tail.extend_from_slice(frame));
            } else {
                queue.share_droppable(frame.clone());
            }
        })
    }

    /// Queues a message that was framed before, as [`prepared`](Self::prepared) does, for a queue that is written
    /// later: several messages are copied into one buffer as long as they are all that waits, and the queue has at most
    /// `most` bytes with them. Those cannot be dropped. `lend` yields the buffer, unless the queue has one. Frames of
    /// more than 640 bytes are not copied: many connections that wait for their turn would have copies of the same
    /// bytes, which no cache holds.
    ///
    /// # Errors
    ///
    /// As for [`prepared`](Self::prepared).
    #[inline]
    pub fn prepared_copying(
        &mut self,
        prepared: &PreparedMessage,
        most: usize,
        lend: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), SendError> {
        if self.keys.is_some() && prepared.server_frame().len() <= most {
            // A client's frame is always copied.
            self.queue.lend(lend);
            return self.prepared(prepared);
        }
        self.prepared_with(prepared, |queue, frame| queue.gather_or_share(frame, most, lend))
    }

    /// Queues a message that was framed before: `queue` appends its frame.
    #[inline]
    fn prepared_with(
        &mut self,
        prepared: &PreparedMessage,
        queue: impl FnOnce(&mut WriteQueue, &Bytes),
    ) -> Result<(), SendError> {
        if self.closing {
            return Err(SendError::Closing);
        }
        if self.open.is_some() {
            self.rare_mut().deferred.push_back(prepared.clone());
            return Ok(());
        }
        if self.keys.is_some() {
            return self.message(prepared.message());
        }
        let compressed = self.deflating.as_mut().and_then(|deflating| deflating.prepared(prepared));
        queue(&mut self.queue, compressed.unwrap_or(prepared.server_frame()));
        Ok(())
    }

    /// Opens a message that is sent in parts. Until it ends, no other message can be sent, but control frames can (RFC
    /// 6455 §5.4).
    ///
    /// # Errors
    ///
    /// As for [`message`](Self::message).
    pub fn begin(&mut self, kind: MessageKind) -> Result<(), SendError> {
        self.begin_with(kind, Compress::Auto)
    }

    /// Opens a message that is sent in parts, compressed or not according to `compress`; [`Compress::Auto`] decides by
    /// the length of the first part.
    ///
    /// # Errors
    ///
    /// As for [`message`](Self::message).
    pub fn begin_with(&mut self, kind: MessageKind, compress: Compress) -> Result<(), SendError> {
        self.check_idle()?;
        self.open = Some(OpenMessage { kind, compress, begun: None });
        Ok(())
    }

    /// Queues one part of the open message as a frame.
    ///
    /// The parts of a text message must be UTF-8 together: the caller ensures that.
    ///
    /// # Errors
    ///
    /// [`SendError::NoMessageOpen`], or [`SendError::Closing`] after a close frame.
    pub fn part(&mut self, data: Bytes) -> Result<(), SendError> {
        self.part_frame(DataPart { data, last: false })
    }

    /// Queues the last part of the open message as a frame, which ends the message.
    ///
    /// # Errors
    ///
    /// As for [`part`](Self::part).
    pub fn last_part(&mut self, data: Bytes) -> Result<(), SendError> {
        self.part_frame(DataPart { data, last: true })
    }

    fn part_frame(&mut self, DataPart { data, last }: DataPart) -> Result<(), SendError> {
        if self.closing {
            return Err(SendError::Closing);
        }
        let open = self.open.ok_or(SendError::NoMessageOpen)?;
        let opcode = if open.begun.is_some() { Opcode::Continuation } else { open.kind.opcode() };
        let deflating = self
            .deflating
            .as_mut()
            .filter(|deflating| open.begun.unwrap_or_else(|| deflating.wants(data.len(), open.compress)));
        let compressed = deflating.map(|deflating| Bytes::from(deflating.part(&data, last)));
        self.open = (!last).then_some(OpenMessage { begun: Some(compressed.is_some()), ..open });
        // RSV1 is set on the first frame of a message only (RFC 7692 §6.1).
        let rsv1 = compressed.is_some() && open.begun.is_none();
        self.data_frame(DataFrame { opcode, fin: last, rsv1 }, compressed.unwrap_or(data));
        if last && let Some(rare) = &mut self.rare {
            for prepared in std::mem::take(&mut rare.deferred) {
                self.prepared(&prepared)?;
            }
            self.drop_rare();
        }
        Ok(())
    }

    /// Returns the number of bytes waiting to be written, including those that wait for a message in parts to end.
    #[inline]
    pub fn pending(&self) -> usize {
        let deferred =
            if self.rare.is_some() { self.deferred(|prepared| prepared.server_frame().len()) } else { 0 };
        self.queue.len() + deferred
    }

    /// Returns the approximate memory of everything that is [`pending`](Self::pending), in bytes: many small pieces
    /// take more than their bytes. Compare a limit on the queue with this.
    #[inline]
    pub fn cost(&self) -> usize {
        let deferred = if self.rare.is_some() { self.deferred(deferred_cost) } else { 0 };
        self.queue_cost() + deferred
    }

    /// Returns the part of [`cost`](Self::cost) that is in the queue, excluding the broadcasts deferred until the open
    /// message ends.
    ///
    /// A part of the open message is written before those, so it must wait for this much only.
    #[inline]
    pub fn queue_cost(&self) -> usize {
        self.queue.cost()
    }

    /// Returns the part of [`cost`](Self::cost) that repeated calls of [`drop_oldest`](Self::drop_oldest) can free.
    pub fn droppable_cost(&self) -> usize {
        self.queue.droppable_cost() + self.deferred(deferred_cost)
    }

    /// Returns whether `len` more bytes would fit into `limit` after every droppable broadcast is dropped.
    ///
    /// An empty queue takes any message, as the limit applies to what is waiting. Ask before dropping: if the answer is
    /// no, the broadcasts would be lost for nothing.
    pub fn fits_by_dropping(&self, len: usize, limit: usize) -> bool {
        let remaining = self.cost() - self.droppable_cost();
        remaining == 0 || remaining.saturating_add(len) <= limit
    }

    /// Drops the oldest broadcast of which nothing was written: from the queue, or, if there is none in it, from those
    /// deferred until the open message ends. Returns `None` if there is nothing to drop.
    pub fn drop_oldest(&mut self) -> Option<Dropped> {
        if let Some(len) = self.queue.drop_oldest() {
            return Some(Dropped { len, queued: true });
        }
        let dropped = self.rare.as_mut()?.deferred.pop_front()?;
        self.drop_rare();
        Some(Dropped { len: dropped.server_frame().len(), queued: false })
    }

    /// Measures the broadcasts that wait for the end of a message in parts.
    #[cold]
    fn deferred(&self, measure: fn(&PreparedMessage) -> usize) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.deferred.iter().map(measure).sum())
    }

    /// Frees the rare state once it is empty.
    fn drop_rare(&mut self) {
        if let Some(Rare { deferred, owed_pong: None, close: None }) = self.rare.as_deref()
            && deferred.is_empty()
        {
            self.rare = None;
        }
    }

    #[cold]
    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Returns whether a message in parts is open.
    pub fn is_message_open(&self) -> bool {
        self.open.is_some()
    }

    /// Queues a ping of at most 125 bytes (RFC 6455 §5.5.2).
    ///
    /// # Errors
    ///
    /// [`SendError::Frame`] for a longer payload, [`SendError::Closing`] after a close frame.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.control(Opcode::Ping, payload)
    }

    /// Queues an unsolicited pong of at most 125 bytes, or one that answers a ping manually (RFC 6455 §5.5.3).
    ///
    /// # Errors
    ///
    /// As for [`ping`](Self::ping).
    pub fn pong(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.control(Opcode::Pong, payload)
    }

    /// Queues the close frame, after everything already queued. No frame follows it.
    ///
    /// `None` sends an empty close frame.
    ///
    /// # Errors
    ///
    /// [`SendError::Frame`] for a code that must not be sent or a reason above 123 bytes, [`SendError::Closing`] if one
    /// was sent before.
    pub fn close(&mut self, frame: Option<CloseFrame>) -> Result<(), SendError> {
        match &frame {
            None => self.control(Opcode::Close, &[])?,
            Some(CloseFrame { code, reason }) => {
                let payload = encode_close(*code, reason)?;
                self.control(Opcode::Close, &payload)?;
            }
        }
        self.open = None;
        self.closing = true;
        self.rare =
            Some(Box::new(Rare { close: Some(frame.unwrap_or_else(CloseFrame::empty)), ..Rare::default() }));
        Ok(())
    }

    /// Returns the close frame that was sent, if any; code 1005 if it was empty.
    pub fn close_sent(&self) -> Option<&CloseFrame> {
        self.rare.as_ref()?.close.as_ref()
    }

    /// Returns whether a close frame was sent.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Queues the reply that an event of the peer requires: a pong for a ping, the answer to a close frame.
    ///
    /// Pings are answered one by one as long as little is waiting to be written. Beyond that one pong is owed, for the
    /// newest ping: "it MAY elect to send a Pong frame for only the most recently processed Ping frame" (RFC 6455
    /// §5.5.3). A peer that pings and never reads costs that much memory and no more.
    ///
    /// # Panics
    ///
    /// Never for an event produced by [`Inbound`](crate::Inbound).
    pub fn respond(&mut self, event: &Event) {
        match event {
            Event::Ping(payload) if self.auto_pong && !self.closing => {
                if self.queue.len() <= PONG_ROOM {
                    self.pong(payload).expect("a ping's payload fits a pong, and nothing was closed");
                } else {
                    self.rare_mut().owed_pong = Some(payload.clone());
                }
            }
            Event::Close(frame) if !self.closing => {
                // "the endpoint typically echos the status code it received" (RFC 6455 §5.5.1)
                let answer = CloseFrame::new(frame.code, "").on_wire();
                self.close(answer).expect("a code that may be received may be sent");
            }
            _ => {}
        }
    }

    /// Queues the close frame due for a violation by the peer, unless one was already sent.
    pub fn fail(&mut self, error: &ProtocolError) {
        self.fail_with(error.close_code());
    }

    /// Queues a close frame with `code` and no reason, unless one was already sent.
    ///
    /// # Panics
    ///
    /// If `code` must not be sent.
    pub fn fail_with(&mut self, code: CloseCode) {
        if !self.closing {
            self.close(Some(CloseFrame::new(code, ""))).expect("the code may be sent");
        }
    }

    #[inline]
    fn check_idle(&self) -> Result<(), SendError> {
        if self.closing {
            Err(SendError::Closing)
        } else if self.open.is_some() {
            Err(SendError::MessageOpen)
        } else {
            Ok(())
        }
    }

    #[cold]
    fn settle_pong(&mut self) {
        if self.queue.len() <= PONG_ROOM
            && let Some(rare) = &mut self.rare
            && let Some(payload) = rare.owed_pong.take()
        {
            self.pong(&payload).expect("a ping's payload fits a pong, and nothing was closed");
        }
        self.drop_rare();
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), SendError> {
        if self.closing {
            return Err(SendError::Closing);
        }
        let key = self.keys.map(|next| next());
        let header = FrameHeader::control(opcode, payload.len() as u64, key)?;
        self.queue.gather(|tail| gather_frame(tail, header, payload));
        Ok(())
    }

    fn data_frame(&mut self, frame: DataFrame, payload: Bytes) {
        if payload.len() < SHARE_FROM {
            self.gather_data(frame, &payload);
        } else {
            self.share_data(frame, payload);
        }
    }

    #[inline]
    fn gather_data(&mut self, frame: DataFrame, payload: &[u8]) {
        let key = self.keys.map(|next| next());
        let header = frame.header(payload.len(), key);
        self.queue.gather(|tail| gather_frame(tail, header, payload));
    }

    /// Queues a frame whose payload is too long to be worth copying.
    fn share_data(&mut self, frame: DataFrame, payload: Bytes) {
        let key = self.keys.map(|next| next());
        let header = frame.header(payload.len(), key);
        let Some(key) = key else {
            self.queue.gather(|tail| header.append_to(tail));
            self.queue.share(payload);
            return;
        };
        // If nobody else holds the payload, it is masked in place; otherwise the copy is masked.
        match payload.try_into_mut() {
            Ok(mut own) => {
                mask::apply(&mut own, key, 0);
                self.queue.gather(|tail| header.append_to(tail));
                self.queue.share(BytesMut::freeze(own));
            }
            Err(payload) => self.queue.gather(|tail| gather_frame(tail, header, &payload)),
        }
    }
}

/// The approximate memory of a deferred broadcast.
fn deferred_cost(prepared: &PreparedMessage) -> usize {
    prepared.server_frame().len() + size_of::<PreparedMessage>()
}

/// The payload length from which a frame is queued by reference and written with `writev`. Below it, copying into one
/// buffer is cheaper than a second I/O slice.
const SHARE_FROM: usize = 16 * 1024;

/// If no more than this is waiting to be written, each ping is answered individually.
const PONG_ROOM: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_state_is_freed_once_it_is_empty() {
        // Broadcasts that wait for a message in parts to end, and are sent or dropped.
        for is_dropped in [false, true] {
            let mut outbound = Outbound::new(None);
            outbound.begin(MessageKind::Binary).unwrap();
            outbound.prepared(&PreparedMessage::new("news")).unwrap();
            assert!(outbound.rare.is_some());
            if is_dropped {
                assert_eq!(outbound.drop_oldest(), Some(Dropped { len: 6, queued: false }));
            } else {
                outbound.last_part(Bytes::new()).unwrap();
            }
            assert!(outbound.rare.is_none(), "dropped: {is_dropped}");
        }
        // A pong that is owed.
        let mut outbound = Outbound::new(None);
        outbound.message(vec![1; PONG_ROOM].into()).unwrap();
        outbound.respond(&Event::Ping(Bytes::from_static(b"ping")));
        assert!(outbound.rare.is_some());
        outbound.written(outbound.pending());
        assert_eq!(outbound.queue().contiguous(), Some(&b"\x8a\x04ping"[..]));
        assert!(outbound.rare.is_none());
    }
}
