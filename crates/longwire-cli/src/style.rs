//! Colours on a terminal.

use std::io::IsTerminal;

use clap::ValueEnum;

/// The choice of the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`
    #[default]
    Auto,
    /// Also in a file or a pipe
    Always,
    /// Nowhere
    Never,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    enabled: bool,
}

/// The purpose of a text, which determines its colour.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paint {
    /// A remark of this program.
    Notice,
    /// A failure.
    Error,
    /// The marker of a received message, and the progress bar.
    Marker,
    /// The name of a member of a JSON object.
    Key,
    /// A JSON string.
    Text,
    /// Any other JSON value.
    Literal,
}

impl Style {
    /// Decides for an output, which is a terminal or not.
    pub(crate) fn new(choice: ColorChoice, is_terminal: bool) -> Self {
        let enabled = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => is_terminal && !is_set("NO_COLOR") && !is_dumb(),
        };
        Self { enabled }
    }

    /// Decides for standard error.
    pub(crate) fn of_stderr(choice: ColorChoice) -> Self {
        Self::new(choice, std::io::stderr().is_terminal())
    }

    /// Returns the text in its colour.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        format!("{}{text}{}", self.start(paint), self.end())
    }

    /// Returns the sequence that starts a colour.
    pub(crate) fn start(self, paint: Paint) -> &'static str {
        if !self.enabled {
            return "";
        }
        match paint {
            Paint::Notice => "\x1b[2m",
            Paint::Error => "\x1b[31m",
            Paint::Marker => "\x1b[36m",
            Paint::Key => "\x1b[34m",
            Paint::Text => "\x1b[32m",
            Paint::Literal => "\x1b[33m",
        }
    }

    /// Returns the sequence that ends every colour.
    pub(crate) fn end(self) -> &'static str {
        if self.enabled { "\x1b[0m" } else { "" }
    }
}

/// Returns whether a variable is set and not empty, as <https://no-color.org> demands.
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_has_no_colours_unless_they_are_demanded() {
        assert_eq!(Style::new(ColorChoice::Auto, false).paint(Paint::Error, "a"), "a");
        assert_eq!(Style::new(ColorChoice::Never, true).paint(Paint::Error, "a"), "a");
        assert_eq!(Style::new(ColorChoice::Always, false).paint(Paint::Error, "a"), "\x1b[31ma\x1b[0m");
    }
}
