//! The program under test, and servers for it.

#![allow(dead_code, reason = "each test file uses a part of this")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use longwire::server::ServerStream;
use longwire::{HandlerResult, Request, Server, ServerConfig, hub};

/// A server's side of a connection.
pub(crate) type Socket = hub::Socket<ServerStream>;

/// Returns a command that runs the program, without the environment's proxies and history.
pub(crate) fn longwire(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longwire"));
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").args(arguments);
    command
}

/// Runs the program with this standard input, to its end.
pub(crate) fn run(arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    let mut child = piped(arguments);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.as_ref().to_vec();
    let writing = thread::spawn(move || {
        // A program that has ended takes no more.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    output
}

/// Starts the program with pipes.
pub(crate) fn piped(arguments: &[&str]) -> Child {
    let mut command = longwire(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits for the end of a program, for a limited time; returns its exit status, or `None` after a signal.
pub(crate) fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the program did not end within {LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// More than any test needs on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Returns standard output as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns standard error as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Serves in a thread of its own until the test ends; returns the URL.
pub(crate) fn serve<H, F>(handler: H) -> String
where
    H: Fn(Socket, Request) -> F + Send + Sync + 'static,
    F: Future<Output = HandlerResult> + Send + 'static,
{
    serve_with(|_| (), handler)
}

/// The same, with other settings.
pub(crate) fn serve_with<H, F>(configure: fn(&mut ServerConfig), handler: H) -> String
where
    H: Fn(Socket, Request) -> F + Send + Sync + 'static,
    F: Future<Output = HandlerResult> + Send + 'static,
{
    let address = start(move |ready| async move {
        let server = Server::bind("127.0.0.1:0").await.unwrap().configure(configure);
        ready.send(server.local_addr()).unwrap();
        server.serve(handler).await.unwrap();
    });
    format!("ws://{address}")
}

/// Runs a server in a thread of its own; returns the address that it reports.
pub(crate) fn start<F: Future<Output = ()>>(
    server: impl FnOnce(mpsc::Sender<SocketAddr>) -> F + Send + 'static,
) -> SocketAddr {
    let (ready, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(server(ready));
    });
    address.recv_timeout(LIMIT).unwrap()
}

/// A handler that sends each message back.
pub(crate) async fn echo(mut socket: Socket, _: Request) -> HandlerResult {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// A running program, which is killed at the end of a test.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Starts the program with pipes, and reads its standard output.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = piped(arguments);
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Returns the next line, or `None` at the end.
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("no line within {LIMIT:?}"),
        }
    }

    /// Returns the URL that a server prints.
    pub(crate) fn url(&self) -> String {
        let line = self.line().unwrap();
        line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned()
    }

    /// Interrupts it as Ctrl-C does.
    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        interrupt(&self.child);
    }

    /// Returns its standard error after its end.
    pub(crate) fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Interrupts a program as Ctrl-C does.
#[cfg(unix)]
pub(crate) fn interrupt(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}
