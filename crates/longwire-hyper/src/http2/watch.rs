//! Frames about the whole connection, observed on their way to hyper (RFC 9113 §6.5, §6.8).
//!
//! hyper does not report when the settings arrive, or why a connection takes no more requests. This module reads
//! the headers of frames, and SETTINGS and GOAWAY; it knows nothing else of HTTP/2. hyper gets every byte
//! unchanged, and validates it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// The server's frames so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    said: Mutex<Said>,
    settings_came: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Said {
    /// Whether the first settings allow extended CONNECT.
    allows_connect: Option<bool>,
    /// The error code of the last GOAWAY.
    goaway: Option<u32>,
}

impl Seen {
    /// Returns whether the server allows extended CONNECT; `None` until its settings have arrived.
    pub(super) fn allows_connect(&self) -> Option<bool> {
        self.said().allows_connect
    }

    /// Waits until the settings arrive. Returns at once if they have arrived since the last call.
    pub(super) async fn settings_came(&self) {
        self.settings_came.notified().await;
    }

    /// Returns the error code of the last GOAWAY, if there was one.
    pub(super) fn goaway(&self) -> Option<u32> {
        self.said().goaway
    }

    fn said(&self) -> Said {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, frame: &Frame) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match frame.kind {
            // Only the first settings count: no caller waits for later ones that might allow the extension.
            SETTINGS if frame.flags & ACK == 0 && said.allows_connect.is_none() => {
                // If the setting is repeated, the last value counts (RFC 9113 §6.5.3).
                let setting =
                    frame.payload.chunks_exact(6).rfind(|setting| setting[..2] == ENABLE_CONNECT[..2]);
                said.allows_connect = Some(setting.is_some_and(|setting| setting == ENABLE_CONNECT));
                self.settings_came.notify_one();
            }
            GOAWAY => {
                said.goaway = frame
                    .payload
                    .get(4..8)
                    .map(|code| code.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
            }
            _ => {}
        }
    }
}

/// A stream whose incoming bytes are observed.
pub(super) struct Watched<T> {
    io: T,
    frames: Frames,
    seen: Arc<Seen>,
}

impl<T> Watched<T> {
    pub(super) fn new(io: T) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        (Self { io, frames: Frames::default(), seen: Arc::clone(&seen) }, seen)
    }
}

/// The observed part of a frame.
#[derive(Debug, Default)]
struct Frame {
    kind: u8,
    flags: u8,
    /// The start of the payload of SETTINGS and GOAWAY, of at most [`KEPT`] bytes; empty for other frames.
    payload: Vec<u8>,
}

/// Finds frames in bytes.
#[derive(Debug, Default)]
struct Frames {
    /// The part of the current frame's header that has arrived.
    header: Vec<u8>,
    frame: Frame,
    /// The number of bytes of the payload still to come.
    left: usize,
}

impl Frames {
    fn handle_bytes(&mut self, mut bytes: &[u8], seen: &Seen) {
        while !bytes.is_empty() {
            if self.header.len() < HEADER {
                let (header, rest) = bytes.split_at(bytes.len().min(HEADER - self.header.len()));
                self.header.extend_from_slice(header);
                bytes = rest;
                let &[a, b, c, kind, flags, ..] = &self.header[..] else { continue };
                if self.header.len() < HEADER {
                    continue;
                }
                self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.frame = Frame { kind, flags, payload: Vec::new() };
            }
            let (payload, rest) = bytes.split_at(bytes.len().min(self.left));
            bytes = rest;
            self.left -= payload.len();
            if matches!(self.frame.kind, SETTINGS | GOAWAY) {
                let room = KEPT - self.frame.payload.len();
                self.frame.payload.extend_from_slice(&payload[..payload.len().min(room)]);
            }
            if self.left == 0 {
                seen.note(&self.frame);
                self.header.clear();
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        this.frames.handle_bytes(&buf.filled()[before..], &this.seen);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// The length of a frame's header (RFC 9113 §4.1).
const HEADER: usize = 9;

/// The number of bytes of a payload that are kept: enough for more settings than are defined.
const KEPT: usize = 1024;

const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

/// `SETTINGS_ENABLE_CONNECT_PROTOCOL`, 1 (RFC 8441 §3).
const ENABLE_CONNECT: [u8; 6] = [0, 8, 0, 0, 0, 1];

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&len[1..], &[kind, flags, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn finds_settings_and_goaway_in_any_split() {
        let allows = frame(SETTINGS, 0, &[&[0, 4, 0, 0, 255, 255][..], &ENABLE_CONNECT].concat());
        let goaway = |code: u8| frame(GOAWAY, 0, &[&[0, 0, 0, 1, 0, 0, 0, code][..], b"debug data"].concat());
        // A payload that looks like frames itself.
        let data = frame(0, 0, &[allows.clone(), goaway(9)].concat());
        for (case, said, allowed, code) in [
            ("nothing", vec![], None, None),
            ("allowed", allows.clone(), Some(true), None),
            ("no settings in it", frame(SETTINGS, 0, b""), Some(false), None),
            ("switched off", frame(SETTINGS, 0, &[0, 8, 0, 0, 0, 0]), Some(false), None),
            ("not aligned", frame(SETTINGS, 0, &[0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0]), Some(false), None),
            (
                "an acknowledgement first",
                [frame(SETTINGS, ACK, b""), allows.clone()].concat(),
                Some(true),
                None,
            ),
            ("the first counts", [frame(SETTINGS, 0, b""), allows.clone()].concat(), Some(false), None),
            ("in data alone", data.clone(), None, None),
            ("behind data", [data, allows.clone(), goaway(0)].concat(), Some(true), Some(0)),
            ("two of them", [goaway(0), goaway(11)].concat(), None, Some(11)),
            ("cut off", allows[..allows.len() - 1].to_vec(), None, None),
            ("more than is kept", frame(SETTINGS, 0, &[7; 6 * 300]), Some(false), None),
        ] {
            for step in [1, 2, 7, 9, usize::MAX] {
                let (seen, mut frames) = (Seen::default(), Frames::default());
                for piece in said.chunks(step) {
                    frames.handle_bytes(piece, &seen);
                }
                assert_eq!((seen.allows_connect(), seen.goaway()), (allowed, code), "{case}, by {step}");
            }
        }
    }
}
