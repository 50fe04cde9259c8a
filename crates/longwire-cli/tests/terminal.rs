//! `longwire URL` on a terminal.

#![cfg(unix)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::sync::mpsc;

use common::{LIMIT, longwire, serve, wait};

/// The program on a terminal, and the user in front of it.
struct Terminal {
    user: File,
    /// Everything that was written to the terminal.
    screen: Arc<Mutex<Vec<u8>>>,
    child: Child,
    /// Kept open, so that the terminal's settings can be read after the program's end.
    line: OwnedFd,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let name = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
        let line: OwnedFd = File::options().read(true).write(true).open(name).unwrap().into();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&line, size).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        let mut command = longwire(arguments);
        command.arg("--no-history").env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        let user = File::from(user);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, written) = (user.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(len @ 1..) = reader.read(&mut piece) {
                written.lock().unwrap().extend_from_slice(&piece[..len]);
            }
        });
        Self { user, screen, child, line }
    }

    fn type_keys(&mut self, keys: &str) {
        self.user.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the terminal was sent this text; returns all that it was sent.
    fn see(&self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let screen = String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned();
            if screen.contains(text) {
                return screen;
            }
            assert!(Instant::now() < deadline, "{text:?} is not in {screen:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    /// Waits for the prompt to accept keys.
    fn wait_for_prompt(&self) {
        self.see("> ");
        let deadline = Instant::now() + LIMIT;
        while !self.is_raw() {
            assert!(Instant::now() < deadline, "there is no prompt");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end; returns the status. The terminal is as it was.
    fn end(mut self) -> Option<i32> {
        let status = wait(&mut self.child);
        assert!(!self.is_raw(), "the terminal is left in raw mode");
        assert!(tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO), "it does not echo");
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server that sends what the test tells it, and closes when there is no more.
fn told() -> (String, mpsc::UnboundedSender<String>) {
    let (tell, told) = mpsc::unbounded_channel::<String>();
    let told = Arc::new(tokio::sync::Mutex::new(told));
    let url = serve(move |mut socket, _| {
        let told = Arc::clone(&told);
        async move {
            let mut told = told.lock().await;
            loop {
                tokio::select! {
                    text = told.recv() => match text {
                        Some(text) => socket.send(text).await?,
                        None => break,
                    },
                    message = socket.recv() => match message? {
                        Some(message) => socket.send(format!("you said {message}")).await?,
                        None => return Ok(()),
                    },
                }
            }
            socket.close(4000, "\u{1b}]0;title\u{7}bye").await?;
            Ok(())
        }
    });
    (url, tell)
}

#[test]
fn a_message_leaves_the_typed_line_whole() {
    let (url, tell) = told();
    let mut terminal = Terminal::start(&[&url]);
    terminal.wait_for_prompt();
    terminal.type_keys("half a li");
    terminal.see("half a li");
    tell.send("in between \u{1b}[31m\u{9b}m".to_owned()).unwrap();
    let screen = terminal.see("< in between \\u{1b}[31m\\u{9b}m");
    assert!(!screen.contains("\u{1b}[31m") && !screen.contains('\u{9b}'), "{screen:?}");
    terminal.type_keys("ne\r");
    terminal.see("< you said half a line");
    // Keys that arrive together, and a line typed ahead.
    terminal.type_keys("/ping\r/binary 00ff\rlast\r");
    terminal.see("pong after ");
    terminal.see("< you said last");
    terminal.type_keys("\u{4}");
    terminal.see("disconnected: 1000");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn a_server_may_close_in_the_middle_of_a_line() {
    let (url, tell) = told();
    let mut terminal = Terminal::start(&[&url]);
    terminal.wait_for_prompt();
    terminal.type_keys("half a li");
    terminal.see("half a li");
    tell.send("the last message".to_owned()).unwrap();
    drop(tell);
    let screen = terminal.see("closed the connection: 4000 (\\u{1b}]0;title\\u{7}bye)");
    assert!(screen.contains("< the last message"), "{screen:?}");
    assert_eq!(terminal.end(), Some(121));
}

#[test]
fn ctrl_c_closes_with_1000() {
    let (url, _tell) = told();
    let mut terminal = Terminal::start(&[&url]);
    terminal.wait_for_prompt();
    terminal.type_keys("unsent\u{3}");
    terminal.see("disconnected: 1000");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn commands_are_obeyed_and_mistakes_are_explained() {
    let (url, _tell) = told();
    let mut terminal = Terminal::start(&[&url]);
    terminal.wait_for_prompt();
    terminal.type_keys("/bogus\r");
    terminal.see("there is no command /bogus");
    terminal.type_keys("/help\r");
    terminal.see("show the round-trip time");
    terminal.type_keys("//slash\r");
    terminal.see("< you said /slash");
    terminal.type_keys("/close 4001 bye\r");
    terminal.see("disconnected: 4001");
    assert_eq!(terminal.end(), Some(0));
}
