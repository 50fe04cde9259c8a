//! `longwire listen` and `longwire bench`, with each other and with `longwire URL`.

mod common;

use std::io::Write;

use common::{Running, run, stderr, stdout, wait};

#[test]
fn the_default_address_is_loopback() {
    let server = Running::start(&["listen", "--echo", "0"]);
    assert!(server.url().starts_with("ws://127.0.0.1:"));
}

#[test]
fn a_broadcast_reaches_every_client() {
    let server = Running::start(&["listen", "--broadcast", "0"]);
    let url = server.url();
    let listen = |count, text: &str| {
        let mut listener = Running::start(&[&url, "--no-close", "--count", count]);
        writeln!(listener.child.stdin.as_mut().unwrap(), "{text}").unwrap();
        // It is registered when its own message is back.
        assert_eq!(listener.line().as_deref(), Some(text));
        listener.child.stdin.take();
        listener
    };
    let listeners = [listen("3", "first"), listen("2", "second")];
    assert_eq!(listeners[0].line().as_deref(), Some("second"));
    assert_eq!(stdout(&run(&[&url, "-x", "news"], "")), "news\n");
    for mut listener in listeners {
        assert_eq!(listener.line().as_deref(), Some("news"));
        assert_eq!(wait(&mut listener.child), Some(0));
    }
}

#[test]
fn messages_are_shown_and_lines_are_sent() {
    let mut server = Running::start(&["listen", "127.0.0.1:0"]);
    let mut client = {
        // Messages go to standard output: the URL is on standard error.
        let mut stderr = std::io::BufReader::new(server.child.stderr.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
        let url = line.trim().strip_prefix("longwire: listening on ").unwrap().to_owned();
        Running::start(&[&url])
    };
    writeln!(client.child.stdin.as_mut().unwrap(), "from the client").unwrap();
    assert_eq!(server.line().as_deref(), Some("from the client"));
    writeln!(server.child.stdin.as_mut().unwrap(), "from the server").unwrap();
    assert_eq!(client.line().as_deref(), Some("from the server"));
}

#[test]
fn pages_of_other_origins_are_refused() {
    let server = Running::start(&["listen", "--echo", "0"]);
    let url = server.url();
    let own = url.replace("ws://", "http://");
    assert_eq!(run(&[&url, "-x", "a", "-o", &own], "").status.code(), Some(0));
    assert_eq!(run(&[&url, "-x", "a", "-o", "http://evil.example"], "").status.code(), Some(3));
    let server = Running::start(&["listen", "--echo", "0", "--any-origin"]);
    assert_eq!(run(&[&server.url(), "-x", "a", "-o", "http://page.example"], "").status.code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_a_failure() {
    let server = Running::start(&["listen", "--echo", "0"]);
    let address = server.url().replace("ws://", "");
    let output = run(&["listen", "--echo", &address], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot listen on"), "{}", stderr(&output));
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn clients_are_closed_with_1001_on_an_interrupt() {
        let mut server = Running::start(&["listen", "--echo", "0"]);
        let mut client = Running::start(&[&server.url()]);
        writeln!(client.child.stdin.as_mut().unwrap(), "a").unwrap();
        assert_eq!(client.line().as_deref(), Some("a"));
        server.interrupt();
        assert_eq!(wait(&mut client.child), Some(101));
        assert_eq!(wait(&mut server.child), Some(0));
        assert_eq!(server.stderr(), "");
    }

    #[test]
    fn a_command_has_a_client_for_input_and_output() {
        let server = Running::start(&["listen", "--exec", "tr a-z A-Z", "0"]);
        assert_eq!(stdout(&run(&[&server.url()], "one\ntwo\n")), "");
        // `tr` writes at its end only; a shell answers each line.
        let server =
            Running::start(&["listen", "--exec", "while read l; do echo \"$LONGWIRE_PATH $l\"; done", "0"]);
        let url = format!("{}/a?b", server.url());
        assert_eq!(stdout(&run(&[&url], "one\ntwo\n")), "/a?b one\n/a?b two\n");
        let server = Running::start(&["listen", "--binary", "--exec", "head -c 3", "0"]);
        let output = run(&[&server.url(), "--binary", "--no-close"], [0, 255, b'\n', 7]);
        assert_eq!((output.status.code(), output.stdout), (Some(0), vec![0, 255, b'\n']));
    }

    #[test]
    fn the_end_of_a_command_is_the_end_of_its_client() {
        for (command, status) in
            [("echo hello", 0), ("echo hello; exit 3", 111), ("echo hello; kill -9 $$", 111)]
        {
            let server = Running::start(&["listen", "--exec", command, "0"]);
            // Its standard input stays open.
            let mut client = Running::start(&[&server.url()]);
            assert_eq!(client.line().as_deref(), Some("hello"), "{command}");
            assert_eq!(wait(&mut client.child), Some(status), "{command}");
        }
    }

    #[test]
    fn the_end_of_a_client_is_the_end_of_its_command() {
        for (case, command) in [
            ("ignores its input", "echo $$; exec sleep 1000"),
            ("ignores signals", "trap '' TERM HUP; echo $$; while :; do sleep 1; done"),
            ("closes its output", "echo $$; exec sleep 1000 >&-"),
            ("has children", "echo $$; sleep 1000 & sleep 1000"),
            ("has a child without a pipe", "sh -c 'echo $$; exec sleep 1000 >/dev/null' & cat"),
        ] {
            let server = Running::start(&["listen", "--exec", command, "0"]);
            let mut client = Running::start(&[&server.url()]);
            let pid: i32 = client.line().unwrap().parse().unwrap();
            assert!(exists(pid), "{case}");
            client.interrupt();
            assert_eq!(wait(&mut client.child), Some(0), "{case}");
            let deadline = Instant::now() + common::LIMIT;
            while exists(pid) {
                assert!(Instant::now() < deadline, "{case}: it still runs, or was not waited for");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    #[test]
    fn a_second_interrupt_ends_the_commands_as_well() {
        let command = "trap '' TERM; echo $$; while :; do sleep 1; done";
        let mut server = Running::start(&["listen", "--exec", command, "0"]);
        let client = Running::start(&[&server.url()]);
        let pid: i32 = client.line().unwrap().parse().unwrap();
        while server.child.try_wait().unwrap().is_none() {
            server.interrupt();
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(wait(&mut server.child), Some(130));
        let deadline = Instant::now() + common::LIMIT;
        while exists(pid) {
            assert!(Instant::now() < deadline, "it still runs");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns whether a process exists, be it a zombie.
    fn exists(pid: i32) -> bool {
        rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid).unwrap()).is_ok()
    }
}

#[test]
fn a_load_has_percentiles() {
    let server = Running::start(&["listen", "--echo", "0"]);
    let options = ["bench", "-c", "3", "-d", "0.3", "--size", "1k", "--in-flight", "4"];
    let output = run(&[&options[..], &[&server.url()]].concat(), "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for expected in
        ["3 connections, 4 in flight on each, messages of 1.0 KiB\n", "handshakes  min ", "99.9% "]
    {
        assert!(text.contains(expected), "{text}");
    }
    // No progress bar in a pipe.
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_load_on_another_machine_needs_leave() {
    let output = run(&["bench", "ws://192.0.2.1"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--yes-i-may"), "{}", stderr(&output));
}

#[test]
fn a_server_that_does_not_echo_is_noticed() {
    let url = common::serve(|mut socket, _| async move {
        while socket.recv().await?.is_some() {
            socket.send("something else").await?;
        }
        Ok(())
    });
    let output = run(&["bench", "-c", "1", "-d", "0.1", &url], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("does the server echo?"), "{}", stderr(&output));
}
