//! A command for each client: messages are its standard input, its standard output is sent as messages.
//!
//! A command never outlives its client: when one of them has ended, so does the other.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use longwire::server::SocketReceiver;
use longwire::{CloseCode, Message, Request, Sender, Socket};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::peers::peer;
use crate::status::Failure;

/// A command, and the form of its messages.
pub(super) struct Exec {
    command: String,
    /// Whether bytes are passed on as they are, instead of lines as text.
    binary: bool,
}

/// The time that a command has to end after the end of its input.
const AFTER_INPUT: Duration = Duration::from_secs(1);
/// The time that it then has after SIGTERM, before it is killed.
const AFTER_TERM: Duration = Duration::from_secs(1);
/// The size of a piece of binary output.
const PIECE: usize = 64 * 1024;

/// The side that ended first.
enum First {
    Client(Result<(), longwire::connection::Error>),
    Command(io::Result<()>),
}

impl Exec {
    pub(super) fn new(command: &str, binary: bool) -> Self {
        Self { command: command.to_owned(), binary }
    }

    /// Runs the command for a client, until both have ended.
    pub(super) async fn run(&self, socket: Socket, request: &Request) -> Result<(), Failure> {
        let mut running = match self.start(request) {
            Ok(running) => running,
            Err(error) => {
                socket.into_inner().close(CloseCode::INTERNAL_ERROR, "cannot start the command").await?;
                return Err(Failure::other("cannot start the command", &error));
            }
        };
        let (sender, mut receiver) = socket.split();
        let (stdin, mut stdout) = running.take_pipes();
        let first = tokio::select! {
            end = self.pass_in(&mut receiver, stdin) => First::Client(end),
            end = self.pass_out(&mut stdout, &sender) => First::Command(end),
        };
        match first {
            First::Client(end) => {
                // Its output is read and dropped, so that it can end.
                running.end(&mut stdout).await;
                Ok(end?)
            }
            First::Command(end) => {
                let status = tokio::select! {
                    status = running.finish() => status,
                    // It has closed its output only, and the client has gone first.
                    gone = pass_over(&mut receiver) => {
                        running.end(&mut stdout).await;
                        return Ok(gone?);
                    }
                };
                close(&sender, &mut receiver, end.and(status)).await
            }
        }
    }

    fn start(&self, request: &Request) -> io::Result<Running> {
        let mut command = shell(&self.command);
        command
            .env("LONGWIRE_PATH", request.uri().path_and_query().map_or("/", |path| path.as_str()))
            .env("LONGWIRE_PEER", peer(request.peer_addr()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        Running::start(&mut command)
    }

    /// Passes messages to the command until the client has gone. Those that it does not read are dropped.
    async fn pass_in(
        &self,
        receiver: &mut SocketReceiver,
        stdin: Option<ChildStdin>,
    ) -> Result<(), longwire::connection::Error> {
        let mut stdin = stdin;
        while let Some(message) = receiver.recv().await? {
            if let Some(open) = &mut stdin
                && self.write(open, &message).await.is_err()
            {
                // It has closed its standard input, and may still have something to say.
                stdin = None;
            }
        }
        Ok(())
    }

    async fn write(&self, stdin: &mut ChildStdin, message: &Message) -> io::Result<()> {
        stdin.write_all(message.as_bytes()).await?;
        if !self.binary {
            stdin.write_all(b"\n").await?;
        }
        stdin.flush().await
    }

    /// Passes the command's output to the client until its end.
    async fn pass_out(&self, stdout: &mut Option<BufReader<ChildStdout>>, sender: &Sender) -> io::Result<()> {
        let Some(stdout) = stdout else { return Ok(()) };
        while let Some(message) = self.read(stdout).await? {
            if sender.send(message).await.is_err() {
                // The other direction reports the reason.
                return std::future::pending().await;
            }
        }
        Ok(())
    }

    async fn read(&self, stdout: &mut BufReader<ChildStdout>) -> io::Result<Option<Message>> {
        if self.binary {
            let mut piece = vec![0; PIECE];
            let len = stdout.read(&mut piece).await?;
            piece.truncate(len);
            return Ok((len > 0).then(|| Message::binary(piece)));
        }
        let mut line = Vec::new();
        if stdout.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        if line.pop_if(|byte| *byte == b'\n').is_some() {
            line.pop_if(|byte| *byte == b'\r');
        }
        Ok(Some(match String::from_utf8(line) {
            Ok(line) => Message::text(line),
            Err(error) => Message::binary(error.into_bytes()),
        }))
    }
}

/// Closes with 1000 after a success and with 1011 after a failure, and waits for the client's answer.
async fn close(
    sender: &Sender,
    receiver: &mut SocketReceiver,
    end: io::Result<ExitStatus>,
) -> Result<(), Failure> {
    let (code, reason) = match &end {
        Ok(status) if status.success() => (CloseCode::NORMAL, String::new()),
        Ok(status) => (CloseCode::INTERNAL_ERROR, format!("the command ended with {status}")),
        Err(_) => (CloseCode::INTERNAL_ERROR, "the command failed".to_owned()),
    };
    // If the client has gone meanwhile, receiving ends at once.
    let _ = sender.start_close(code, &reason);
    pass_over(receiver).await?;
    end.map(drop).map_err(|error| Failure::other("cannot read the command's output", &error))
}

/// Receives until the client has gone, and drops the messages.
async fn pass_over(receiver: &mut SocketReceiver) -> Result<(), longwire::connection::Error> {
    while receiver.recv().await?.is_some() {}
    Ok(())
}

fn shell(text: &str) -> Command {
    #[cfg(unix)]
    {
        let mut command = Command::new("/bin/sh");
        // A group of its own: the shell's children are ended with it.
        command.arg("-c").arg(text).process_group(0);
        command
    }
    #[cfg(not(unix))]
    {
        let mut command = Command::new("cmd");
        command.arg("/C").arg(text);
        command
    }
}

/// A running command. If this is dropped, the command and its children are killed.
struct Running {
    child: Child,
    /// The group of the command and its children, named after the command.
    #[cfg(unix)]
    group: Option<rustix::process::Pid>,
    /// Whether it has been waited for: then its number may already belong to another process.
    has_ended: bool,
}

impl Running {
    fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.spawn()?;
        #[cfg(unix)]
        let group = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        Ok(Self {
            child,
            #[cfg(unix)]
            group,
            has_ended: false,
        })
    }

    fn take_pipes(&mut self) -> (Option<ChildStdin>, Option<BufReader<ChildStdout>>) {
        (self.child.stdin.take(), self.child.stdout.take().map(BufReader::new))
    }

    /// Waits for the command, which has closed its output.
    async fn finish(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.has_ended = status.is_ok();
        status
    }

    /// Ends the command after its input has ended: a signal follows if it does not end by itself, and SIGKILL if it
    /// ignores that. None of its children is left.
    async fn end(&mut self, stdout: &mut Option<BufReader<ChildStdout>>) {
        if timeout(AFTER_INPUT, self.drain(stdout)).await.is_err() {
            self.signal(Force::Terminate);
            if timeout(AFTER_TERM, self.drain(stdout)).await.is_err() {
                self.signal(Force::Kill);
                self.drain(stdout).await;
            }
        }
        // Those that have left the pipe, or that ignored the first signal. The number of the group cannot belong to
        // another one while it has members, and is not given away again at once if it has none.
        self.signal(Force::Kill);
        self.has_ended = true;
    }

    /// Waits for the end, and drops the output that nobody reads any more.
    async fn drain(&mut self, stdout: &mut Option<BufReader<ChildStdout>>) {
        if let Some(stdout) = stdout {
            // A failure is an end, too.
            let _ = tokio::io::copy(stdout, &mut tokio::io::sink()).await;
        }
        let _ = self.child.wait().await;
    }

    /// Signals the command and its children.
    #[cfg(unix)]
    fn signal(&self, force: Force) {
        use rustix::process::{Signal, kill_process_group};
        let signal = match force {
            Force::Terminate => Signal::TERM,
            Force::Kill => Signal::KILL,
        };
        if let Some(group) = self.group {
            // There may be none left.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Kills the command: there are no signals.
    #[cfg(not(unix))]
    fn signal(&mut self, _: Force) {
        // It may have ended.
        let _ = self.child.start_kill();
    }
}

#[derive(Clone, Copy)]
enum Force {
    Terminate,
    Kill,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            self.signal(Force::Kill);
        }
    }
}
