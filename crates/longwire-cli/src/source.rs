//! The user's side of a conversation: a prompt on a terminal, lines in a pipe, or texts of the command line.

use std::io::{self, IsTerminal};

use tokio::sync::mpsc;

use crate::args::DisplayArgs;
use crate::input::{self, Input, Payload, Reading};
use crate::output::Sink;
use crate::prompt::{self, Prompt};

/// The source of inputs, and the place that messages are written to.
pub(crate) struct Source {
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) sink: Sink,
    pub(crate) prompt: Option<Prompt>,
    /// Whether a user types, with a prompt or without.
    pub(crate) interactive: bool,
}

impl Source {
    /// Reads a terminal, with a prompt if standard output is one as well, or else standard input.
    pub(crate) fn open(
        payload: Payload,
        commands_in_pipe: bool,
        display: &DisplayArgs,
        interrupts: mpsc::UnboundedSender<()>,
    ) -> Self {
        let stdin_is_terminal = io::stdin().is_terminal();
        let reading = Reading { payload, commands: commands_in_pipe || stdin_is_terminal };
        if stdin_is_terminal && io::stdout().is_terminal() {
            let history = if display.no_history { None } else { prompt::history_file() };
            let (sender, inputs) = mpsc::channel(16);
            // A terminal on which no line can be edited is read like a pipe.
            if let Ok((prompt, printer)) = prompt::start(reading, history, sender, interrupts) {
                return Self { inputs, sink: Sink::Prompt(printer), prompt: Some(prompt), interactive: true };
            }
        }
        let raw = payload == Payload::Binary && !stdin_is_terminal;
        Self::plain(input::read_stdin(reading, raw), stdin_is_terminal)
    }

    /// Takes texts of the command line instead.
    pub(crate) fn given(texts: &[String], reading: Reading) -> Self {
        let (sender, inputs) = mpsc::channel(texts.len() + 1);
        for input in texts.iter().map(|text| reading.parse(text)).chain([Input::End]) {
            // There is room for each.
            let _ = sender.try_send(input);
        }
        Self::plain(inputs, false)
    }

    /// Reads nothing.
    pub(crate) fn silent() -> Self {
        Self::plain(mpsc::channel(1).1, false)
    }

    fn plain(inputs: mpsc::Receiver<Input>, interactive: bool) -> Self {
        Self { inputs, sink: Sink::Stdout, prompt: None, interactive }
    }
}
