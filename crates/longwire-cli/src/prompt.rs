//! The prompt: a line editor with a history, in a thread of its own.
//!
//! Messages that arrive are printed above the line that is being typed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustyline::error::{ReadlineError, Signal};
use rustyline::history::FileHistory;
use rustyline::{Config, Editor, ExternalPrinter};
use tokio::sync::mpsc;

use crate::input::{Input, Reading};

/// A prompt in use.
pub(crate) struct Prompt {
    thread: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
}

/// The means to print above the prompt.
pub(crate) type Printer = Box<dyn ExternalPrinter + Send>;

type Editing = Editor<(), FileHistory>;

/// Starts the prompt; lines go to `inputs`, and each Ctrl-C to `interrupts`.
///
/// # Errors
///
/// If the terminal cannot be used.
pub(crate) fn start(
    reading: Reading,
    history: Option<PathBuf>,
    inputs: mpsc::Sender<Input>,
    interrupts: mpsc::UnboundedSender<()>,
) -> io::Result<(Prompt, Printer)> {
    let config = Config::builder().max_history_size(MAX_HISTORY).map_err(io::Error::other)?;
    let config = config.auto_add_history(false).build();
    let mut editor = Editing::with_config(config).map_err(io::Error::other)?;
    let printer = editor.create_external_printer().map_err(io::Error::other)?;
    if let Some(path) = &history {
        // There is none yet, or it cannot be read; the prompt works without.
        let _ = editor.load_history(path);
    }
    let stopping = Arc::new(AtomicBool::new(false));
    let typing = Typing { editor, reading, history, inputs, interrupts, stopping: Arc::clone(&stopping) };
    let thread = thread::spawn(move || typing.run());
    Ok((Prompt { thread, stopping }, Box::new(printer)))
}

const MAX_HISTORY: usize = 1000;

impl Prompt {
    /// Ends the prompt, in the middle of a line if need be, and leaves the terminal as it was.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(2);
        while !self.thread.is_finished() && Instant::now() < deadline {
            wake_editor();
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Makes the editor return. It has installed a handler for this signal while it reads; otherwise the program has one,
/// which does nothing by then.
#[cfg(unix)]
fn wake_editor() {
    use rustix::process::{Signal, getpid, kill_process};
    // Signalling oneself cannot fail.
    let _ = kill_process(getpid(), Signal::INT);
}

/// The console of Windows restores itself when the program ends.
#[cfg(not(unix))]
fn wake_editor() {}

/// The thread's state.
struct Typing {
    editor: Editing,
    reading: Reading,
    history: Option<PathBuf>,
    inputs: mpsc::Sender<Input>,
    interrupts: mpsc::UnboundedSender<()>,
    stopping: Arc<AtomicBool>,
}

impl Typing {
    fn run(mut self) {
        let mut new_lines = 0;
        while !self.stopping.load(Ordering::SeqCst) {
            match self.editor.readline("> ") {
                Ok(line) if line.is_empty() => {}
                Ok(line) => {
                    new_lines += usize::from(self.editor.add_history_entry(&line).unwrap_or(false));
                    if self.inputs.blocking_send(self.reading.parse(&line)).is_err() {
                        break;
                    }
                }
                Err(ReadlineError::Interrupted | ReadlineError::Signal(Signal::Interrupt)) => {
                    if !self.stopping.load(Ordering::SeqCst) && self.interrupts.send(()).is_err() {
                        break;
                    }
                }
                Err(ReadlineError::Signal(_)) => {}
                // Ctrl-D, or the terminal is gone.
                Err(_) => {
                    // The connection may have ended first.
                    let _ = self.inputs.blocking_send(Input::Quit);
                    break;
                }
            }
        }
        self.save_history(new_lines);
    }

    fn save_history(&mut self, new_lines: usize) {
        let Some(path) = self.history.as_deref().filter(|_| new_lines > 0) else { return };
        // A history that cannot be written is no reason to fail, nor to disturb.
        let _ =
            create_private(path).and_then(|()| self.editor.append_history(path).map_err(io::Error::other));
    }
}

/// Creates the folder of the history, which only its user may read: lines may contain secrets.
fn create_private(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Returns the file of the history, if the environment names a folder for it.
pub(crate) fn history_file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_STATE_HOME")
        .or_else(|| variable("LOCALAPPDATA"))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))?;
    Some(folder.join("longwire").join("history"))
}
