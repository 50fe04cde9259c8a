//! Runs of `cat` and their expected results.
//!
//! The caller owns the servers.

use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::{process::Running, programs::Program};

/// The arguments of a run, and its name in messages.
pub(super) struct Try<'a> {
    pub(super) case: &'a str,
    pub(super) arguments: Vec<&'a str>,
    pub(super) expected: Expected,
}

/// The expected result of a run.
pub(super) enum Expected {
    /// A line is echoed.
    Echo,
    /// Exit status 1, nothing on standard output, and a message that contains this text, in lower case, on standard
    /// error.
    Failure(&'static str),
}

impl<'a> Try<'a> {
    pub(super) fn new(case: &'a str, arguments: &[&'a str], expected: Expected) -> Self {
        Self { case, arguments: arguments.to_vec(), expected }
    }

    /// Starts `cat` and sends it a line.
    fn start<'t>(&'t self, cat: &Program) -> Result<Started<'t>> {
        let mut running = Running::start(cat.name(), cat.command().args(&self.arguments))?;
        running.write_line(LINE)?;
        if let Expected::Echo = self.expected {
            // From here on it waits for replies, and then ends without further input.
            running.close_stdin();
        }
        Ok(Started { case: self.case, arguments: &self.arguments, expected: &self.expected, running })
    }
}

/// Runs several at once, because each waits most of the time. Returns the first unexpected result as an error.
pub(super) fn run_all(cat: &Program, tries: &[Try<'_>]) -> Result<()> {
    let started = tries.iter().map(|one| one.start(cat)).collect::<Result<Vec<_>>>()?;
    started.into_iter().try_for_each(Started::finish)
}

/// A run in progress.
struct Started<'t> {
    case: &'t str,
    arguments: &'t [&'t str],
    expected: &'t Expected,
    running: Running,
}

impl Started<'_> {
    fn finish(self) -> Result<()> {
        let Self { case, arguments, expected, running } = self;
        // A run that is to fail has standard input still open: it must end without waiting for it.
        let ended = running.finish_with_open_stdin(LIMIT)?;
        let told = ended.stderr.to_lowercase();
        let (due, is_as_expected) = match expected {
            Expected::Echo => ("echo the line".to_owned(), ended.status.success() && ended.lines == [LINE]),
            Expected::Failure(telling) => (
                format!("print nothing and fail with `{telling}`"),
                ended.status.code() == Some(1)
                    && ended.lines.is_empty()
                    && !told.trim().is_empty()
                    && told.contains(telling),
            ),
        };
        if is_as_expected {
            return Ok(());
        }
        Err(anyhow!(
            "{case}: cat {} was to {due}; {}, standard output {:?}, standard error `{}`",
            arguments.join(" "),
            ended.status,
            ended.lines,
            ended.stderr.trim()
        ))
    }
}

const LINE: &str = "a line for the server alone";

const LIMIT: Duration = Duration::from_secs(30);
