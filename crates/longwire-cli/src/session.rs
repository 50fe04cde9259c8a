//! The conversation: what the user enters is sent, what the server sends is shown, and one of them ends it.

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::time::Duration;

use longwire::connection::Error;
use longwire::{CloseCode, CloseFrame, Message};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};

use crate::command::{Command, HELP};
use crate::display::{Display, count};
use crate::escape;
use crate::input::Input;
use crate::link::{Event, Incoming, Link, Outgoing};
use crate::notices::Notices;
use crate::output::{Output, Written};
use crate::report;
use crate::status::{self, Failure, INTERRUPTED};
use crate::style::Paint;
use crate::traffic::Traffic;

/// A conversation over an open connection.
pub(crate) struct Session {
    pub(crate) link: Link,
    pub(crate) inputs: mpsc::Receiver<Input>,
    /// One for each Ctrl-C.
    pub(crate) interrupts: mpsc::UnboundedReceiver<()>,
    /// Remarks of other tasks, and the way to make one.
    pub(crate) reports: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
    pub(crate) output: Output,
    pub(crate) written: Written,
    pub(crate) rules: Rules,
}

/// The choices of the command line.
pub(crate) struct Rules {
    pub(crate) display: Display,
    /// The place for remarks.
    pub(crate) notices: Notices,
    /// Whether a line that cannot be sent is the user's to correct, and not the end.
    pub(crate) interactive: bool,
    /// The time without a message after the end of the input. `None`: until the server closes.
    pub(crate) wait: Option<Duration>,
    /// The number of messages to receive.
    pub(crate) count: Option<u64>,
    /// Messages per second.
    pub(crate) rate: Option<f64>,
    pub(crate) stats: bool,
}

impl Session {
    /// Holds the conversation; returns the exit status.
    pub(crate) async fn run(self) -> u8 {
        let Self { link, inputs, mut interrupts, reports, output, mut written, rules } = self;
        let (closes, close) = mpsc::unbounded_channel();
        let talk = Talk {
            outgoing: link.outgoing,
            output,
            closes,
            reports: reports.0,
            heard: Cell::new(Instant::now()),
            received: Cell::new(0),
            pings: Cell::new(0),
            control_bytes: Cell::new(0),
            is_ours: Cell::new(false),
            traffic: Traffic::start(),
            rules,
        };
        let conversation = async {
            let end = talk.hold(link.incoming, inputs, reports.1, close).await;
            talk.conclude(end).await
        };
        let status = tokio::select! {
            status = conversation => status,
            () = talk.interrupted(&mut interrupts) => return INTERRUPTED,
        };
        let figures = talk.show_figures().await;
        // The thread that writes ends when nobody can queue more.
        drop(talk);
        let written = tokio::select! {
            written = written.end() => written,
            _ = interrupts.recv() => return INTERRUPTED,
        };
        if let Some(figures) = figures {
            report::lines(&figures);
        }
        match written {
            Ok(()) => status,
            // A reader that has enough, such as `head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => status,
            Err(error) => report::failure(&Failure::other("cannot write to standard output", &error)),
        }
    }
}

/// The state that both directions share, in one task.
struct Talk {
    outgoing: Outgoing,
    output: Output,
    closes: mpsc::UnboundedSender<Option<CloseFrame>>,
    reports: mpsc::UnboundedSender<String>,
    /// The time of the last message.
    heard: Cell<Instant>,
    /// The number of messages.
    received: Cell<u64>,
    /// The number of pings whose round trip is measured.
    pings: Cell<usize>,
    /// The bytes of pings and pongs that were received.
    control_bytes: Cell<u64>,
    /// Whether this end has begun to close.
    is_ours: Cell<bool>,
    traffic: Traffic,
    rules: Rules,
}

/// The end of a conversation.
struct End {
    /// The server's close frame, or the failure of the connection.
    close: Result<Option<CloseFrame>, Failure>,
    /// The input that could not be sent.
    bad_input: Option<Failure>,
}

/// Whether more input follows.
enum Next {
    More,
    Nothing,
}

impl Talk {
    async fn hold(
        &self,
        incoming: Incoming,
        inputs: mpsc::Receiver<Input>,
        mut reports: mpsc::UnboundedReceiver<String>,
        close: mpsc::UnboundedReceiver<Option<CloseFrame>>,
    ) -> End {
        let mut receiving = pin!(self.receive(incoming, close));
        let mut sending = pin!(self.send(inputs));
        let (mut is_sending, mut bad_input) = (true, None);
        loop {
            tokio::select! {
                close = &mut receiving => return End { close, bad_input },
                sent = &mut sending, if is_sending => {
                    is_sending = false;
                    if let Err(failure) = sent {
                        bad_input = Some(failure);
                        self.close(Some(normal()));
                    }
                }
                Some(report) = reports.recv() => self.notice(&report).await,
            }
        }
    }

    /// Shows the end; returns the exit status.
    async fn conclude(&self, end: End) -> u8 {
        let status = match end.close {
            Ok(frame) => self.show_close(frame).await,
            Err(failure) => {
                self.complain(&failure.message).await;
                failure.status
            }
        };
        let Some(failure) = end.bad_input else { return status };
        self.complain(&failure.message).await;
        failure.status
    }

    async fn show_close(&self, frame: Option<CloseFrame>) -> u8 {
        let code = frame.as_ref().map_or(CloseCode::NO_STATUS_RECEIVED, |frame| frame.code);
        let status = if self.is_ours.get() { 0 } else { status::of_code(code) };
        let Some(frame) = frame else {
            // With --reconnect, the library does not say how its last connection was closed.
            self.notice("disconnected").await;
            return status;
        };
        let shown = frame.to_string();
        let shown = escape::line(&shown);
        if status == 0 {
            self.notice(&format!("disconnected: {shown}")).await;
        } else {
            self.complain(&format!("the server closed the connection: {shown}")).await;
        }
        status
    }

    /// Closes at the first interrupt, and returns at the second.
    async fn interrupted(&self, interrupts: &mut mpsc::UnboundedReceiver<()>) {
        interrupts.recv().await;
        self.close(Some(normal()));
        interrupts.recv().await;
    }

    /// Receives until the end; returns the server's close frame.
    async fn receive(
        &self,
        mut incoming: Incoming,
        mut closes: mpsc::UnboundedReceiver<Option<CloseFrame>>,
    ) -> Result<Option<CloseFrame>, Failure> {
        loop {
            tokio::select! {
                event = incoming.next() => match event? {
                    Some(event) => self.show(event).await,
                    None => return Ok(incoming.close_received()),
                },
                Some(frame) = closes.recv() => incoming.close(frame).await,
            }
        }
    }

    async fn show(&self, event: Event) {
        if let Event::Ping(payload) | Event::Pong(payload) = &event {
            self.control_bytes.set(self.control_bytes.get() + CONTROL_HEADER + payload.len() as u64);
        }
        match event {
            Event::Message(message) => self.show_message(&message).await,
            Event::Ping(payload) => self.notice(&format!("ping{}", report::payload(&payload))).await,
            // Its round trip is reported instead.
            Event::Pong(_) if self.pings.get() > 0 => self.pings.set(self.pings.get() - 1),
            Event::Pong(payload) => self.notice(&format!("pong{}", report::payload(&payload))).await,
            Event::Gap(gap) => {
                let attempts = usize::try_from(gap.attempts).unwrap_or(usize::MAX);
                let (duration, attempts) = (report::time(gap.duration), count(attempts, "attempt"));
                self.notice(&format!(
                    "messages may be missing here: no connection for {duration} ({attempts})"
                ))
                .await;
            }
        }
    }

    async fn show_message(&self, message: &Message) {
        self.heard.set(Instant::now());
        self.traffic.received(message.len());
        let received = self.received.get() + 1;
        self.received.set(received);
        let wanted = self.rules.count.is_none_or(|wanted| received <= wanted);
        // The output is gone if its reader is: then nothing more is wanted.
        let shown = wanted && self.output.write(self.rules.display.message(message, None)).await;
        if !shown || self.rules.count == Some(received) {
            self.close(Some(normal()));
        }
    }

    /// Sends what the user enters, until the end.
    ///
    /// # Errors
    ///
    /// For input that cannot be sent.
    async fn send(&self, mut inputs: mpsc::Receiver<Input>) -> Result<(), Failure> {
        let mut pace = self.rules.rate.map(pace);
        while let Some(input) = inputs.recv().await {
            if let Next::Nothing = self.take(input, &mut pace).await? {
                break;
            }
        }
        Ok(())
    }

    async fn take(&self, input: Input, pace: &mut Option<Interval>) -> Result<Next, Failure> {
        match input {
            Input::Message(message) => return self.send_message(message, pace).await,
            Input::Command(command) => return self.obey(command, pace).await,
            Input::Invalid(reason) if self.rules.interactive => self.complain(&reason).await,
            Input::Invalid(reason) => return Err(Failure::new(status::FAILURE, reason)),
            Input::End => {
                self.wait_for_replies().await;
                return Ok(Next::Nothing);
            }
            Input::Quit => {
                self.close(Some(normal()));
                return Ok(Next::Nothing);
            }
        }
        Ok(Next::More)
    }

    async fn send_message(&self, message: Message, pace: &mut Option<Interval>) -> Result<Next, Failure> {
        if let Some(pace) = pace {
            pace.tick().await;
        }
        let len = message.len();
        match self.outgoing.send(message).await {
            Ok(()) => {
                self.traffic.sent(len);
                Ok(Next::More)
            }
            // The receiving half reports the reason.
            Err(error) if error.is_disconnect() || matches!(error, Error::Closed) => Ok(Next::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    async fn obey(&self, command: Command, pace: &mut Option<Interval>) -> Result<Next, Failure> {
        let result = match command {
            Command::Send(message) => return self.send_message(message, pace).await,
            Command::Close(frame) => {
                self.close(frame);
                return Ok(Next::Nothing);
            }
            Command::Help => {
                for line in HELP.lines() {
                    self.notice(line).await;
                }
                Ok(())
            }
            Command::Ping => self.ping(),
            Command::Pong(payload) => self.outgoing.pong(&payload),
        };
        if let Err(reason) = result {
            self.complain(&reason).await;
        }
        Ok(Next::More)
    }

    fn ping(&self) -> Result<(), String> {
        let pong = self.outgoing.ping()?;
        self.pings.set(self.pings.get() + 1);
        let reports = self.reports.clone();
        tokio::spawn(async move {
            // If the connection ends first, that is what is reported.
            if let Ok(time) = pong.await {
                let _ = reports.send(format!("pong after {}", report::time(time)));
            }
        });
        Ok(())
    }

    /// Waits until nothing has arrived for the time that the user allows, then closes.
    async fn wait_for_replies(&self) {
        let Some(wait) = self.rules.wait else { return };
        // The end of the connection is reported by the receiving half.
        let _ = self.outgoing.flush().await;
        // The answer to a ping shows that the server has read everything before it, however long that takes.
        if let Ok(pong) = self.outgoing.ping() {
            self.pings.set(self.pings.get() + 1);
            let _ = timeout(wait.max(PATIENCE), pong).await;
        }
        let mut bytes = self.message_bytes();
        let mut due = self.heard.get().max(Instant::now()) + wait;
        loop {
            sleep_until(due).await;
            // A long message is not complete, but arrives.
            let arrived = self.message_bytes();
            let heard = self.heard.get();
            due = if arrived == bytes { heard + wait } else { Instant::now() + wait };
            if due <= Instant::now() {
                break;
            }
            bytes = arrived;
        }
        self.close(Some(normal()));
    }

    /// Returns the number of bytes received, except for those of pings and pongs: a server that pings is silent.
    fn message_bytes(&self) -> Option<u64> {
        self.outgoing.bytes_received().map(|bytes| bytes.saturating_sub(self.control_bytes.get()))
    }

    fn close(&self, frame: Option<CloseFrame>) {
        self.is_ours.set(true);
        // The receiving half may have ended.
        let _ = self.closes.send(frame);
    }

    /// Shows the figures among the messages on a terminal, or returns them for later: after the last message.
    async fn show_figures(&self) -> Option<String> {
        let figures = self.rules.stats.then(|| self.traffic.to_string())?;
        if !self.rules.display.terminal {
            return Some(figures);
        }
        for line in figures.lines() {
            self.output.line(self.rules.display.notice(Paint::Notice, line)).await;
        }
        None
    }

    async fn notice(&self, text: &str) {
        self.rules.notices.notice(text, &self.output, self.rules.display).await;
    }

    async fn complain(&self, text: &str) {
        self.rules.notices.complaint(text, &self.output, self.rules.display).await;
    }
}

/// The length of a server's control frame without its payload (RFC 6455 §5.2): it is not masked.
const CONTROL_HEADER: u64 = 2;

/// The time that a server has to answer a ping, which it is obliged to.
const PATIENCE: Duration = Duration::from_secs(30);

fn normal() -> CloseFrame {
    CloseFrame::new(CloseCode::NORMAL, "")
}

/// Returns a clock that ticks so many times per second. After a delay, it catches up.
fn pace(rate: f64) -> Interval {
    let mut pace = interval(Duration::from_secs_f64(1.0 / rate).max(Duration::from_nanos(1)));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    pace
}
