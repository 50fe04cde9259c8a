//! Shared by the suites: a model of the wire, independent of the library's own codec, that runs in virtual time.

#![allow(dead_code, reason = "each suite uses a part of this")]

use std::time::Duration;

use longwire_connection::testing::Pipe;
use longwire_connection::{Config, Error, Handover, MaskingKey, Message, MessageRef, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) use wire_model::{BINARY, CLOSE, CONTINUATION, KEY, PING, PONG, TEXT};

/// Returns the key of every frame that a client of these suites sends, so that runs can be compared byte by byte.
pub(crate) fn one_key() -> MaskingKey {
    MaskingKey::new(KEY)
}

/// One of the two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Server,
}

/// One frame on the wire, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn close_code(&self) -> Option<u16> {
        assert_eq!(self.opcode, CLOSE);
        self.payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }
}

/// Creates a socket from a pipe.
pub(crate) fn socket(end: End, pipe: Pipe, config: &Config) -> WebSocket<Pipe> {
    let handover = match end {
        End::Client => Handover::client(one_key),
        End::Server => Handover::server(),
    };
    WebSocket::new(pipe, handover, config)
}

/// Creates a client from one pipe and a server from the other.
pub(crate) fn sockets(pipes: (Pipe, Pipe), config: &Config) -> (WebSocket<Pipe>, WebSocket<Pipe>) {
    (socket(End::Client, pipes.0, config), socket(End::Server, pipes.1, config))
}

/// Encodes a frame as `from` sends it. `first` is its first byte.
pub(crate) fn frame(from: End, first: u8, payload: &[u8]) -> Vec<u8> {
    wire_model::frame(first, payload, (from == End::Client).then_some(KEY))
}

pub(crate) fn text_frame(from: End, text: &str) -> Vec<u8> {
    frame(from, 0x80 | TEXT, text.as_bytes())
}

pub(crate) fn close_frame(from: End, code: u16) -> Vec<u8> {
    frame(from, 0x80 | CLOSE, &code.to_be_bytes())
}

/// Takes one frame off `bytes`. Returns `None` if it is incomplete.
fn take_frame(bytes: &mut &[u8], from: End) -> Option<Frame> {
    let wire_model::Frame { first, key, payload } = wire_model::take_frame(bytes)?;
    assert_eq!(first & 0x70, 0, "no extension was negotiated");
    assert_eq!(key.is_some(), from == End::Client, "a client masks, a server does not");
    Some(Frame { fin: first & 0x80 != 0, opcode: first & 0x0f, payload })
}

/// Decodes the bytes that one end wrote. Returns its frames, and the number of bytes of an incomplete frame after
/// them.
///
/// # Panics
///
/// If the bytes break a rule of RFC 6455 §5 on masks, control frames, fragments or text, or if anything follows a
/// close frame.
pub(crate) fn check_wire(mut bytes: &[u8], from: End) -> (Vec<Frame>, usize) {
    let mut frames = Vec::new();
    let mut open: Option<(u8, Vec<u8>)> = None;
    while let Some(frame) = take_frame(&mut bytes, from) {
        match frame.opcode {
            CLOSE | PING | PONG => {
                assert!(frame.fin && frame.payload.len() <= 125, "a control frame: {frame:?}");
            }
            TEXT | BINARY => {
                assert!(open.is_none(), "a message inside another: {frame:?}");
                open = Some((frame.opcode, frame.payload.clone()));
            }
            CONTINUATION => {
                open.as_mut().expect("a continuation of nothing").1.extend(&frame.payload);
            }
            opcode => panic!("reserved opcode {opcode}"),
        }
        if frame.opcode < CLOSE && frame.fin {
            let (opcode, payload) = open.take().unwrap();
            assert!(opcode == BINARY || std::str::from_utf8(&payload).is_ok(), "text that is not UTF-8");
        }
        if frame.opcode == CLOSE {
            assert!(bytes.is_empty(), "{} bytes behind the close frame", bytes.len());
        }
        frames.push(frame);
    }
    (frames, bytes.len())
}

/// Decodes the bytes that one end wrote, all of them whole frames.
pub(crate) fn whole_frames(bytes: &[u8], from: End) -> Vec<Frame> {
    let (frames, left) = check_wire(bytes, from);
    assert_eq!(left, 0, "a frame is cut short");
    frames
}

/// Returns the messages in these frames.
pub(crate) fn messages(frames: &[Frame]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut open = (0, Vec::new());
    for frame in frames.iter().filter(|frame| frame.opcode < CLOSE) {
        if frame.opcode != CONTINUATION {
            open = (frame.opcode, Vec::new());
        }
        open.1.extend(&frame.payload);
        if frame.fin {
            messages.push(match open.0 {
                TEXT => Message::text(String::from_utf8(open.1.clone()).unwrap()),
                _ => Message::binary(open.1.clone()),
            });
        }
    }
    messages
}

/// Returns the code of the close frame at the end of these frames. `None` if there is none.
pub(crate) fn close_code(frames: &[Frame]) -> Option<u16> {
    let last = frames.last()?;
    (last.opcode == CLOSE).then(|| last.close_code().unwrap_or(1005))
}

/// Formats a message as a line of a test's record.
pub(crate) fn show(message: &Message) -> String {
    match message.as_text() {
        Some(text) => format!("text {text}"),
        None => format!("binary {:02x?}", message.as_bytes()),
    }
}

/// Formats the end of a connection as a line of a test's record.
pub(crate) fn show_end(end: &Result<Option<Message>, Error>) -> String {
    match end {
        Ok(Some(message)) => show(message),
        Ok(None) => "end".to_owned(),
        Err(error) => format!("error {error}"),
    }
}

/// Receives to the end.
pub(crate) async fn recv_all(ws: &mut WebSocket<Pipe>) -> (Vec<Message>, Result<(), Error>) {
    let mut messages = Vec::new();
    loop {
        match ws.recv().await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, Ok(())),
            Err(error) => return (messages, Err(error)),
        }
    }
}

/// Copies a message that is lent.
pub(crate) fn keep(message: MessageRef<'_>) -> Message {
    message.to_message()
}

/// The most common echo handler.
pub(crate) async fn echo(mut ws: WebSocket<Pipe>) -> Result<(), Error> {
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}

/// Reads the next `n` frames that `from` wrote, as a peer without the library.
pub(crate) async fn read_frames(pipe: &mut Pipe, from: End, n: usize) -> Vec<Frame> {
    let mut bytes = Vec::new();
    loop {
        let (frames, _) = check_wire(&bytes, from);
        if frames.len() >= n || pipe.read_buf(&mut bytes).await.unwrap() == 0 {
            return frames;
        }
    }
}

/// Reads to the end.
pub(crate) async fn read_to_end(pipe: &mut Pipe) -> Vec<u8> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).await.unwrap();
    bytes
}

pub(crate) async fn write(pipe: &mut Pipe, bytes: impl AsRef<[u8]>) {
    pipe.write_all(bytes.as_ref()).await.unwrap();
    pipe.flush().await.unwrap();
}

/// Lets every task that can run do so, without time passing.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Runs a test in virtual time.
///
/// # Panics
///
/// If the test waits forever, or leaves a task that does.
pub(crate) fn run<O>(what: &str, test: impl Future<Output = O>) -> O {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    runtime.block_on(async {
        let deadline = Duration::from_secs(600);
        let output = tokio::time::timeout(deadline, test).await;
        let output = output.unwrap_or_else(|_| panic!("{what} waits for ever"));
        let metrics = tokio::runtime::Handle::current().metrics();
        for _ in 0..60 {
            if metrics.num_alive_tasks() == 0 {
                return output;
            }
            settle().await;
            if metrics.num_alive_tasks() > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        panic!("{what} leaves {} tasks behind", metrics.num_alive_tasks());
    })
}
