//! The user's view of the server: clients come and go, their messages are shown, and lines go to all of them.

use std::io::{self, IsTerminal};

use longwire::handshake::Rejection;
use longwire::{CloseFrame, Hub, Message, Request, Sender};

use super::peers::{PATIENCE, peer};
use crate::args::ListenArgs;
use crate::command::{Command, HELP};
use crate::display::{Display, count};
use crate::escape;
use crate::input::Input;
use crate::notices::Notices;
use crate::output::Output;
use crate::report;
use crate::status::Failure;

/// The place that everything is shown in.
pub(super) struct Console {
    output: Output,
    display: Display,
    notices: Notices,
    /// Whether messages are shown.
    shows_messages: bool,
    /// Whether a user types.
    interactive: bool,
}

impl Console {
    pub(super) fn new(args: &ListenArgs, output: Output, shows_messages: bool, interactive: bool) -> Self {
        let on_terminal = io::stdout().is_terminal();
        let display =
            Display { raw: args.binary, json: args.json, ..Display::new(&args.display, on_terminal) };
        let notices = Notices::new(&args.display, on_terminal);
        Self { output, display, notices, shows_messages, interactive }
    }

    /// Prints the URL: on standard output, unless messages go there to a file or a pipe.
    pub(super) async fn announce(&self, url: &str) {
        let line = format!("listening on {url}");
        if self.shows_messages && !self.display.terminal {
            report::error(&line);
        } else {
            self.output.line(line + "\n").await;
        }
    }

    pub(super) async fn joined(&self, id: u64, request: &Request) {
        let path = escape::line(request.uri().path_and_query().map_or("", |path| path.as_str())).into_owned();
        self.notice(&format!("client {id} connected from {}, path {path}", peer(request.peer_addr()))).await;
    }

    /// Tells of a request that was refused.
    pub(super) fn refused(&self, rejection: &Rejection, peer: &str) {
        let reason = rejection.to_string();
        let text = format!("a request from {peer} was refused: {}", escape::line(&reason));
        self.notices.notice_now(&text, &self.output, self.display);
    }

    pub(super) async fn left(&self, id: u64, sender: &Sender, result: &Result<(), Failure>) {
        let end = match (result, sender.close_sent()) {
            (Err(failure), _) => failure.message.clone(),
            (Ok(()), Some(frame)) => escape::line(&frame.to_string()).into_owned(),
            (Ok(()), None) => "1005".to_owned(),
        };
        self.notice(&format!("client {id} disconnected: {end}")).await;
    }

    /// Shows a message; returns whether anybody sees it.
    pub(super) async fn message(&self, id: u64, message: &Message) -> bool {
        // In a pipe, messages stay as they are.
        let from = self.display.terminal.then(|| id.to_string());
        self.output.write(self.display.message(message, from.as_deref())).await
    }

    /// Does what the user enters; returns whether that is the end.
    pub(super) async fn obey(&self, input: Input, hub: &Hub) -> bool {
        match input {
            Input::Message(message) | Input::Command(Command::Send(message)) => {
                self.send(message, hub).await;
            }
            Input::Command(Command::Close(frame)) => Self::close(frame.as_ref(), hub),
            Input::Command(Command::Ping) => self.ping(hub),
            Input::Command(Command::Pong(payload)) => {
                for client in hub.clients().iter() {
                    // A client that has gone needs no pong.
                    let _ = client.sender().pong(&payload);
                }
            }
            Input::Command(Command::Help) => {
                for line in HELP.lines() {
                    self.notice(line).await;
                }
            }
            Input::Invalid(reason) => self.notices.complaint(&reason, &self.output, self.display).await,
            Input::Quit => return true,
            // The clients stay.
            Input::End => {}
        }
        false
    }

    async fn send(&self, message: Message, hub: &Hub) {
        let delivery = hub.broadcast_waiting(message, PATIENCE).await;
        if self.interactive {
            self.notice(&format!("sent to {}", count(delivery.accepted, "client"))).await;
        }
    }

    fn close(frame: Option<&CloseFrame>, hub: &Hub) {
        for client in hub.clients().iter() {
            // A client that has gone needs no close frame.
            let _ = client.sender().start_close_with(frame.cloned());
        }
    }

    fn ping(&self, hub: &Hub) {
        for client in hub.clients().iter() {
            let (id, output) = (client.id().value(), self.output.clone());
            let (notices, display) = (self.notices, self.display);
            let Ok(pong) = client.sender().ping() else { continue };
            tokio::spawn(async move {
                if let Ok(time) = pong.await {
                    let text = format!("client {id}: pong after {}", report::time(time));
                    notices.notice(&text, &output, display).await;
                }
            });
        }
    }

    async fn notice(&self, text: &str) {
        self.notices.notice(text, &self.output, self.display).await;
    }
}
