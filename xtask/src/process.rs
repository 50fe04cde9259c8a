//! Programs that run alongside this one, in conversation with it.
//!
//! Commands that run to completion are xshell's. Neither it nor duct can read the lines of a running program under a
//! deadline, with standard input still open and standard error collected for the message of a failure.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use xshell::{Shell, cmd};

/// A program that runs alongside this one. It is killed when this value is dropped.
pub struct Running {
    name: String,
    child: Child,
    /// The lines for standard input; a thread writes them, because a program that does not read must not block this
    /// one.
    stdin: Option<Sender<String>>,
    /// The lines of standard output; disconnected at its end.
    lines: Receiver<String>,
    stderr: Arc<Mutex<String>>,
    stderr_ended: Receiver<()>,
}

/// A program that has ended.
pub struct Ended {
    /// The way in which it ended.
    pub status: ExitStatus,
    /// The lines of standard output that had not been read before.
    pub lines: Vec<String>,
    /// All of its standard error.
    pub stderr: String,
}

impl Running {
    /// Starts a program; `name` identifies it in messages.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        let stdout = child.stdout.take().context("standard output is not piped")?;
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            for text in BufReader::new(stdout).lines() {
                let text = text.unwrap_or_else(|error| format!("(unreadable: {error})"));
                if line.send(text).is_err() {
                    break;
                }
            }
        });
        let mut errors = child.stderr.take().context("standard error is not piped")?;
        let stderr = Arc::new(Mutex::new(String::new()));
        let (ended, stderr_ended) = mpsc::channel();
        thread::spawn({
            let stderr = Arc::clone(&stderr);
            move || {
                let mut buf = [0; 4096];
                while let Ok(len @ 1..) = errors.read(&mut buf) {
                    let text = String::from_utf8_lossy(&buf[..len]);
                    stderr.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
                }
                // If the program was dropped, the receiver is gone and no caller waits.
                let _ = ended.send(());
            }
        });
        let mut input = child.stdin.take().context("standard input is not piped")?;
        let (stdin, to_write) = mpsc::channel::<String>();
        thread::spawn(move || {
            for line in to_write {
                // A program that has ended takes no more input; its caller detects that it has ended.
                if input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n")).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name: name.to_owned(), child, stdin: Some(stdin), lines, stderr, stderr_ended })
    }

    /// Returns the next line of standard output, or `None` at its end.
    pub fn next_line(&self, limit: Duration) -> Result<Option<String>> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = limit.as_secs_f64();
                Err(anyhow!("{} printed nothing for {seconds} s{}", self.name, self.said()))
            }
        }
    }

    /// Returns the next line, if it comes within `limit`.
    pub fn try_line(&self, limit: Duration) -> Option<String> {
        self.lines.recv_timeout(limit).ok()
    }

    /// Reads lines until one is accepted.
    pub fn wait_for<T>(&self, what: &str, accept: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_line(left)? {
                Some(line) => {
                    if let Some(found) = accept(&line) {
                        return Ok(found);
                    }
                }
                None => bail!("{} ended before it printed {what}{}", self.name, self.said()),
            }
        }
    }

    /// Waits for a server to be ready, and returns its URL.
    pub fn url(&self) -> Result<String> {
        self.wait_for("the URL it listens on", url_in)
    }

    /// Queues a line for standard input; it may wait until the program reads it.
    pub fn write_line(&self, line: &str) -> Result<()> {
        let sent = self.stdin.as_ref().is_some_and(|stdin| stdin.send(line.to_owned()).is_ok());
        ensure!(sent, "{} takes no more standard input{}", self.name, self.said());
        Ok(())
    }

    /// Closes standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Returns the process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) -> Result<()> {
        let pid = self.id().to_string();
        let sh = Shell::new()?;
        Ok(cmd!(sh, "kill -INT {pid}").quiet().run()?)
    }

    /// Returns whether it has ended on its own.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Closes standard input, and waits for the program to end on its own.
    pub fn finish(mut self, limit: Duration) -> Result<Ended> {
        self.close_stdin();
        self.finish_with_open_stdin(limit)
    }

    /// Waits for the program to end on its own, while standard input stays open, as with a terminal.
    pub fn finish_with_open_stdin(mut self, limit: Duration) -> Result<Ended> {
        let deadline = Instant::now() + limit;
        let status = loop {
            let status = self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
            if let Some(status) = status {
                break status;
            }
            if Instant::now() > deadline {
                let seconds = limit.as_secs_f64();
                bail!("{} did not end within {seconds} s{}", self.name, self.said());
            }
            thread::sleep(Duration::from_millis(10));
        };
        let lines = std::iter::from_fn(|| self.try_line(PATIENCE)).collect();
        // Only the program's own children could hold it open any longer.
        let _ = self.stderr_ended.recv_timeout(Duration::from_secs(5));
        Ok(Ended { status, lines, stderr: self.stderr() })
    }

    /// Waits for the program to end on its own with status 0, and returns the rest of its output.
    pub fn succeed(self, limit: Duration) -> Result<Vec<String>> {
        let name = self.name.clone();
        let ended = self.finish(limit)?;
        if ended.status.success() {
            return Ok(ended.lines);
        }
        let said = [ended.lines.join("\n"), ended.stderr].concat();
        Err(anyhow!("{name} ended with {}: {}", ended.status, said.trim()))
    }

    /// Waits for `count` lines while standard input stays open, and then for the end, as [`succeed`](Self::succeed)
    /// does. At the end of its input, a program may stop waiting for lines that a busy machine delays.
    pub fn succeed_after(self, count: usize, limit: Duration) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        while lines.len() < count
            && let Some(line) = self.next_line(limit)?
        {
            lines.push(line);
        }
        lines.extend(self.succeed(limit)?);
        Ok(lines)
    }

    /// Returns its standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn said(&self) -> String {
        let stderr = self.stderr();
        if stderr.trim().is_empty() { String::new() } else { format!("; it said: {}", stderr.trim()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the first URL in a line, if there is one.
fn url_in(line: &str) -> Option<String> {
    let start = ["ws://", "wss://", "http://"].iter().filter_map(|scheme| line.find(scheme)).min()?;
    line[start..].split_whitespace().next().map(str::to_owned)
}

/// The time for actions that should be immediate: start, answer, end.
pub const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        Running::start("the script", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn a_line_is_awaited_and_the_rest_is_kept() {
        let running =
            shell("echo starting; echo listening on ws://127.0.0.1:80/x now; echo rest; echo oops >&2");
        assert_eq!(running.url().unwrap(), "ws://127.0.0.1:80/x");
        let ended = running.finish(PATIENCE).unwrap();
        assert!(ended.status.success());
        assert_eq!(ended.lines, ["rest"]);
        assert_eq!(ended.stderr, "oops\n");
    }

    #[test]
    fn a_failure_tells_the_status_and_standard_error() {
        let reason = shell("echo the reason >&2; exit 3").succeed(PATIENCE).unwrap_err().to_string();
        assert!(reason.contains("exit status: 3") && reason.contains("the reason"), "{reason}");
        let reason = shell("echo why >&2").url().unwrap_err().to_string();
        assert!(reason.contains("ended before"), "{reason}");
    }

    #[test]
    fn a_program_that_does_not_end_is_a_failure() {
        let reason =
            shell("exec sleep 60").finish(Duration::from_millis(50)).map(drop).unwrap_err().to_string();
        assert!(reason.contains("did not end within"), "{reason}");
    }

    #[test]
    fn standard_input_stays_open_if_told_to() {
        let waits = || shell("cat > /dev/null; echo its end");
        assert_eq!(waits().finish(PATIENCE).unwrap().lines, ["its end"]);
        assert!(waits().finish_with_open_stdin(Duration::from_millis(200)).is_err());
    }

    #[test]
    fn a_program_that_does_not_read_does_not_stop_this_one() {
        let running = shell("exec sleep 60");
        for _ in 0..4 {
            running.write_line(&"x".repeat(1 << 20)).unwrap();
        }
        assert!(running.finish(Duration::from_millis(50)).is_err());
    }

    #[test]
    fn lines_go_in_and_come_out() {
        let running = shell("cat");
        let line = "x".repeat(1 << 20);
        running.write_line(&line).unwrap();
        assert_eq!(running.next_line(PATIENCE).unwrap(), Some(line));
        assert!(running.succeed(PATIENCE).unwrap().is_empty());
    }
}
