//! Remarks of this program, and the place for them.

use crate::args::DisplayArgs;
use crate::display::Display;
use crate::output::Output;
use crate::report;
use crate::style::Paint;

/// The place for remarks about connections, pings and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notices {
    /// Among the messages, on the terminal.
    Screen,
    /// The same, for failures only.
    Failures,
    /// Standard error.
    Stderr,
    /// Nowhere, except for failures.
    Nowhere,
}

impl Notices {
    /// Chooses by the command line, and by standard output.
    pub(crate) fn new(args: &DisplayArgs, on_terminal: bool) -> Self {
        match args {
            DisplayArgs { quiet: true, .. } if on_terminal => Self::Failures,
            _ if on_terminal => Self::Screen,
            DisplayArgs { quiet: true, .. } => Self::Nowhere,
            DisplayArgs { verbose: true, .. } => Self::Stderr,
            _ => Self::Nowhere,
        }
    }

    /// Shows a remark, which must be safe for a terminal.
    pub(crate) async fn notice(self, text: &str, output: &Output, display: Display) {
        match self {
            Self::Screen => show(Paint::Notice, text, output, display).await,
            Self::Stderr => report::error(text),
            Self::Failures | Self::Nowhere => {}
        }
    }

    /// Shows a remark from a place that cannot wait; it may be missed.
    pub(crate) fn notice_now(self, text: &str, output: &Output, display: Display) {
        match self {
            Self::Screen => output.try_line(display.notice(Paint::Notice, text)),
            Self::Stderr => report::error(text),
            Self::Failures | Self::Nowhere => {}
        }
    }

    /// Shows a mistake, or a failure.
    pub(crate) async fn complaint(self, text: &str, output: &Output, display: Display) {
        match self {
            Self::Screen | Self::Failures => show(Paint::Error, text, output, display).await,
            Self::Stderr | Self::Nowhere => report::error(text),
        }
    }
}

async fn show(paint: Paint, text: &str, output: &Output, display: Display) {
    if !output.line(display.notice(paint, text)).await {
        report::error(text);
    }
}
