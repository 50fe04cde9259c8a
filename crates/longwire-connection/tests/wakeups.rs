//! Wake-ups: a transport keeps one waker, and it may become ready at any moment.
//!
//! Each scenario runs over a [`Gated`] transport that becomes writable (or flushable) during poll number N, for N
//! from 1 to 16. A call that waits must then complete, whichever task displaced its waker.

mod support;

use std::fmt::Write as _;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use longwire_connection::testing::{Gate, Gated, gated};
use longwire_connection::{
    Config, Error, Handover, Message, MessageKind, PreparedMessage, Receiver, Sender, WebSocket,
};
use support::{
    CLOSE, End, PING, TEXT, close_frame, frame, messages, one_key, settle, text_frame, whole_frames,
};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Far below the close timeout of 5 s, and far above the virtual time that a woken task takes, which is none.
const PROMPTLY: Duration = Duration::from_secs(1);

/// The last poll during which the gate opens. A closing connection makes up to twelve polls before it waits.
const LAST_POLL: u64 = 16;

/// The operations that are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Writes,
    /// Writes succeed; flushes are held back.
    Flushes,
}

/// An event that makes the connection poll the transport once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nudge {
    /// A frame from the peer, which the receiving task reads.
    Frame,
    /// A flush that is polled once and dropped.
    DroppedFlush,
    /// A flush in another task, which waits.
    Flush,
    /// A ping from this end.
    Ping,
}

const NUDGES: [Nudge; 4] = [Nudge::Frame, Nudge::DroppedFlush, Nudge::Flush, Nudge::Ping];

#[derive(Clone, Copy, Debug)]
struct Case {
    end: End,
    form: Form,
    n: u64,
    nudge: Nudge,
}

/// One connection in a case.
struct Setup {
    case: Case,
    gate: Gate,
    sender: Sender,
    receiver: Option<Receiver<Gated>>,
    /// Flushes that wait.
    flushing: Vec<JoinHandle<Result<(), Error>>>,
}

type Outcome = Result<(), String>;

impl Setup {
    fn new(case: Case, send_queue: usize) -> Self {
        let (io, gate) = gated();
        match case.form {
            Form::Writes => {
                gate.shut_writes();
                gate.open_at_write_poll(case.n);
            }
            Form::Flushes => {
                gate.shut_flushes();
                gate.open_at_flush_poll(case.n);
            }
        }
        let handover = match case.end {
            End::Client => Handover::client(one_key),
            End::Server => Handover::server(),
        };
        let config = Config::default().with_send_queue(send_queue);
        let (sender, receiver) = WebSocket::new(io, handover, &config).split();
        Self { case, gate, sender, receiver: Some(receiver), flushing: Vec::new() }
    }

    fn peer(&self) -> End {
        if self.case.end == End::Client { End::Server } else { End::Client }
    }

    /// Starts the receiving task, which ends with the connection.
    async fn receiving(&mut self) -> JoinHandle<Result<(), Error>> {
        let mut receiver = self.receiver.take().expect("it receives in one task only");
        let receiving = tokio::spawn(async move {
            while receiver.recv().await?.is_some() {}
            Ok(())
        });
        settle().await;
        receiving
    }

    /// Starts a task that uses a sender.
    async fn task<F>(&self, act: impl FnOnce(Sender) -> F) -> JoinHandle<Result<(), Error>>
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let task = tokio::spawn(act(self.sender.clone()));
        settle().await;
        task
    }

    async fn nudge(&mut self) {
        match self.case.nudge {
            Nudge::Frame => self.gate.feed(text_frame(self.peer(), "x")),
            Nudge::DroppedFlush => {
                let flush = pin!(self.sender.flush());
                let _ = flush.poll(&mut Context::from_waker(Waker::noop()));
            }
            Nudge::Flush => {
                let sender = self.sender.clone();
                self.flushing.push(tokio::spawn(async move { sender.flush().await }));
            }
            // After a close frame it is refused, which is correct.
            Nudge::Ping => drop(self.sender.ping()),
        }
        settle().await;
    }

    /// Nudges until poll N was made and the gate is open. If the connection does not poll that often, opens the
    /// gate.
    async fn open(&mut self) {
        for _ in 0..2 * LAST_POLL {
            if self.gate.is_open() {
                return;
            }
            self.nudge().await;
        }
        if !self.gate.is_open() {
            self.gate.open();
        }
    }

    /// Waits for the tasks and names those that are still waiting.
    async fn check<const N: usize>(
        &mut self,
        tasks: [(&'static str, JoinHandle<Result<(), Error>>); N],
    ) -> Outcome {
        let mut fault = String::new();
        let flushing = std::mem::take(&mut self.flushing).into_iter().map(|task| ("flush of a nudge", task));
        for (name, mut task) in tasks.into_iter().chain(flushing) {
            match timeout(PROMPTLY, &mut task).await {
                Ok(Ok(Ok(()))) => {}
                // A flush may also be too late for the connection.
                Ok(Ok(Err(Error::Closed))) if name == "flush of a nudge" => {}
                Ok(Ok(Err(error))) => write!(fault, "{name} fails: {error}; ").unwrap(),
                Ok(Err(error)) => write!(fault, "{name} panics: {error}; ").unwrap(),
                Err(_) => {
                    task.abort();
                    write!(fault, "{name} waits; ").unwrap();
                }
            }
        }
        if fault.is_empty() { Ok(()) } else { Err(format!("{fault}{:?}", self.gate)) }
    }

    /// Checks the messages that were written and flushed, once everything is.
    fn check_messages(&self, expected: &[&str]) -> Outcome {
        let written = self.gate.written();
        if self.gate.flushed() != written.len() {
            return Err(format!("{} of {} bytes are flushed", self.gate.flushed(), written.len()));
        }
        let found = messages(&whole_frames(&written, self.case.end));
        let expected: Vec<_> = expected.iter().map(|text| Message::from(*text)).collect();
        if found == expected { Ok(()) } else { Err(format!("wrote {found:?}")) }
    }
}

/// Runs a scenario in every case and fails with the list of all that failed.
fn check_all<F: Future<Output = Outcome>>(name: &str, nudges: &[Nudge], scenario: impl Fn(Case) -> F) {
    let mut faults = String::new();
    let mut count = 0;
    let mut runs = 0;
    for end in [End::Client, End::Server] {
        for form in [Form::Writes, Form::Flushes] {
            for &nudge in nudges {
                for n in 1..=LAST_POLL {
                    let case = Case { end, form, n, nudge };
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .start_paused(true)
                        .build()
                        .expect("a runtime without I/O");
                    runs += 1;
                    if let Err(fault) = runtime.block_on(scenario(case)) {
                        count += 1;
                        writeln!(faults, "  {end:?}, {form:?}, {nudge:?}, N = {n}: {fault}").unwrap();
                    }
                }
            }
        }
    }
    assert!(count == 0, "{name}: {count} of {runs} cases fail:\n{faults}");
}

const ROOM: usize = 64 * 1024;

#[test]
fn a_send_is_woken_whoever_polled_last() {
    check_all("send", &NUDGES, async |case| {
        let mut setup = Setup::new(case, ROOM);
        let _receiving = setup.receiving().await;
        let send = setup.task(async |sender: Sender| sender.send("hello").await).await;
        setup.open().await;
        setup.check([("send", send)]).await?;
        let written = setup.gate.written();
        let hello = text_frame(case.end, "hello");
        assert_eq!(hello.len(), if case.end == End::Client { 11 } else { 7 });
        if written.starts_with(&hello) {
            setup.check_messages(&["hello"])
        } else {
            Err(format!("{written:02x?}"))
        }
    });
}

/// The input that revealed the bug: one frame, and nothing else happens.
#[test]
fn a_send_is_woken_after_one_frame() {
    check_all("send and one frame", &[Nudge::Frame], async |case| {
        let mut setup = Setup::new(case, ROOM);
        let _receiving = setup.receiving().await;
        let send = setup.task(async |sender: Sender| sender.send("hello").await).await;
        setup.nudge().await;
        if !setup.gate.is_open() {
            setup.gate.open();
        }
        setup.check([("send", send)]).await?;
        setup.check_messages(&["hello"])
    });
}

#[test]
fn a_spurious_wake_up_changes_nothing() {
    check_all("spurious wake-up", &NUDGES, async |case| {
        let mut setup = Setup::new(case, ROOM);
        setup.gate.wake_at_write_poll(1);
        setup.gate.wake_at_flush_poll(1);
        let _receiving = setup.receiving().await;
        let send = setup.task(async |sender: Sender| sender.send("hello").await).await;
        for _ in 0..3 {
            setup.gate.wake_writer();
            setup.gate.wake_reader();
            settle().await;
        }
        setup.open().await;
        setup.check([("send", send)]).await?;
        setup.check_messages(&["hello"])
    });
}

#[test]
fn send_flushed_is_woken() {
    check_all("send_flushed", &NUDGES, async |case| {
        let mut setup = Setup::new(case, ROOM);
        let _receiving = setup.receiving().await;
        let send = setup.task(async |sender: Sender| sender.send_flushed("hello").await).await;
        setup.open().await;
        setup.check([("send_flushed", send)]).await?;
        setup.check_messages(&["hello"])
    });
}

#[test]
fn feed_and_flush_are_woken() {
    check_all("feed and flush", &NUDGES, async |case| {
        let mut setup = Setup::new(case, ROOM);
        let _receiving = setup.receiving().await;
        let flush = setup
            .task(async |sender: Sender| {
                sender.feed("hello").await?;
                sender.feed("again").await?;
                sender.flush().await
            })
            .await;
        setup.open().await;
        setup.check([("flush", flush)]).await?;
        setup.check_messages(&["hello", "again"])
    });
}

#[test]
fn a_flush_of_anothers_message_is_woken() {
    check_all("flush", &NUDGES, async |case| {
        let mut setup = Setup::new(case, ROOM);
        let _receiving = setup.receiving().await;
        setup.sender.try_send("hello").unwrap();
        let first = setup.task(async |sender: Sender| sender.flush().await).await;
        let second = setup.task(async |sender: Sender| sender.flush().await).await;
        setup.open().await;
        setup.check([("first flush", first), ("second flush", second)]).await?;
        setup.check_messages(&["hello"])
    });
}

#[test]
fn two_senders_are_woken() {
    check_all("two senders", &NUDGES, async |case| {
        let mut setup = Setup::new(case, ROOM);
        let _receiving = setup.receiving().await;
        let first = setup.task(async |sender: Sender| sender.send("one").await).await;
        let second = setup.task(async |sender: Sender| sender.send("two").await).await;
        setup.open().await;
        setup.check([("first send", first), ("second send", second)]).await?;
        setup.check_messages(&["one", "two"])
    });
}

#[test]
fn senders_without_a_receiving_task_are_woken() {
    check_all("two senders alone", &[Nudge::DroppedFlush, Nudge::Flush, Nudge::Ping], async |case| {
        let mut setup = Setup::new(case, ROOM);
        let first = setup.task(async |sender: Sender| sender.send("one").await).await;
        let second = setup.task(async |sender: Sender| sender.send_flushed("two").await).await;
        setup.open().await;
        setup.check([("send", first), ("send_flushed", second)]).await?;
        setup.check_messages(&["one", "two"])
    });
}

#[test]
fn a_send_that_waits_for_room_is_woken() {
    check_all("send without room", &NUDGES, async |case| {
        let mut setup = Setup::new(case, 1);
        let _receiving = setup.receiving().await;
        let first = setup.task(async |sender: Sender| sender.send("one").await).await;
        let second = setup.task(async |sender: Sender| sender.send("two").await).await;
        let third = setup.task(async |sender: Sender| sender.feed("three").await).await;
        setup.open().await;
        setup.check([("first send", first), ("second send", second), ("feed", third)]).await?;
        let flush = setup.task(async |sender: Sender| sender.flush().await).await;
        setup.check([("flush", flush)]).await?;
        let found = messages(&whole_frames(&setup.gate.written(), case.end));
        if found.len() == 3 { Ok(()) } else { Err(format!("wrote {found:?}")) }
    });
}

#[test]
fn send_prepared_that_waits_for_room_is_woken() {
    check_all("send_prepared", &NUDGES, async |case| {
        let mut setup = Setup::new(case, ROOM);
        let _receiving = setup.receiving().await;
        setup.sender.try_send("hello").unwrap();
        let prepared = setup
            .task(async |sender: Sender| sender.send_prepared(&PreparedMessage::new("again"), 1).await)
            .await;
        setup.open().await;
        setup.check([("send_prepared", prepared)]).await?;
        settle().await;
        setup.check_messages(&["hello", "again"])
    });
}

#[test]
fn a_writer_that_waits_for_another_message_is_woken() {
    check_all("message_writer", &NUDGES, async |case| {
        let mut setup = Setup::new(case, ROOM);
        let _receiving = setup.receiving().await;
        let first = setup
            .task(async |sender: Sender| {
                let mut writer = sender.message_writer(MessageKind::Text).await?;
                writer.write("on").await?;
                writer.write("e").await?;
                writer.finish().await
            })
            .await;
        let second = setup
            .task(async |sender: Sender| {
                let mut writer = sender.message_writer(MessageKind::Text).await?;
                writer.write("two").await?;
                writer.finish().await
            })
            .await;
        setup.open().await;
        setup.check([("first writer", first), ("second writer", second)]).await?;
        setup.check_messages(&["one", "two"])
    });
}

#[test]
fn a_send_that_waits_for_a_message_in_parts_is_woken() {
    check_all("send and writer", &NUDGES, async |case| {
        let mut setup = Setup::new(case, ROOM);
        let _receiving = setup.receiving().await;
        let mut writer =
            timeout(PROMPTLY, setup.sender.message_writer(MessageKind::Text)).await.unwrap().unwrap();
        let send = setup.task(async |sender: Sender| sender.send("two").await).await;
        let writer = setup
            .task(async move |_| {
                writer.write_all(b"one").await.map_err(Error::from)?;
                writer.shutdown().await.map_err(Error::from)
            })
            .await;
        setup.open().await;
        setup.check([("writer", writer), ("send", send)]).await?;
        setup.check_messages(&["one", "two"])
    });
}

#[test]
fn the_receiving_task_is_woken_at_its_end() {
    check_all("end", &[Nudge::DroppedFlush, Nudge::Flush], async |case| {
        let mut setup = Setup::new(case, ROOM);
        let receiving = setup.receiving().await;
        setup.sender.start_close(1000, "").unwrap();
        settle().await;
        setup.gate.feed(close_frame(setup.peer(), 1000));
        settle().await;
        setup.open().await;
        setup.check([("recv", receiving)]).await?;
        let frames = whole_frames(&setup.gate.written(), case.end);
        if frames.len() == 1 && frames[0].opcode == CLOSE { Ok(()) } else { Err(format!("wrote {frames:?}")) }
    });
}

#[test]
fn the_answer_to_a_close_frame_is_written() {
    check_all("answer to a close frame", &[Nudge::DroppedFlush, Nudge::Flush], async |case| {
        let mut setup = Setup::new(case, ROOM);
        let receiving = setup.receiving().await;
        let send = setup.task(async |sender: Sender| sender.send("hello").await).await;
        setup.gate.feed(close_frame(setup.peer(), 1000));
        settle().await;
        setup.open().await;
        setup.check([("recv", receiving), ("send", send)]).await?;
        let frames = whole_frames(&setup.gate.written(), case.end);
        if frames.len() == 2 && frames[1].opcode == CLOSE { Ok(()) } else { Err(format!("wrote {frames:?}")) }
    });
}

#[test]
fn a_dropped_socket_is_woken() {
    check_all("dropped socket", &NUDGES, async |case| {
        let mut setup = Setup::new(case, ROOM);
        let send = setup.task(async |sender: Sender| sender.send_flushed("hello").await).await;
        drop(setup.receiver.take());
        settle().await;
        setup.open().await;
        setup.check([("send_flushed", send)]).await?;
        setup.gate.feed(close_frame(setup.peer(), 1000));
        setup.gate.end_reads();
        let gate = setup.gate.clone();
        let left = timeout(PROMPTLY, async move {
            while !gate.is_dropped() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        left.await.map_err(|_| format!("the transport is kept; {:?}", setup.gate))?;
        let frames = whole_frames(&setup.gate.written(), case.end);
        if frames.len() >= 2 && frames.iter().any(|frame| frame.opcode == CLOSE) {
            Ok(())
        } else {
            Err(format!("wrote {frames:?}"))
        }
    });
}

#[test]
fn a_pong_is_written_while_a_send_waits() {
    check_all("pong", &[Nudge::DroppedFlush, Nudge::Flush], async |case| {
        let mut setup = Setup::new(case, ROOM);
        let _receiving = setup.receiving().await;
        let send = setup.task(async |sender: Sender| sender.send("hello").await).await;
        setup.gate.feed(frame(setup.peer(), 0x80 | PING, b"?"));
        settle().await;
        setup.open().await;
        setup.check([("send", send)]).await?;
        settle().await;
        let frames = whole_frames(&setup.gate.written(), case.end);
        let opcodes: Vec<_> = frames.iter().map(|frame| frame.opcode).collect();
        if opcodes == [TEXT, support::PONG] { Ok(()) } else { Err(format!("wrote {frames:?}")) }
    });
}
