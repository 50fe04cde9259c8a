//! `longwire URL` in a pipe.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use longwire::handshake::Rejection;
use longwire::{CloseCode, Limits, Message, Server};

use common::{LIMIT, echo, piped, run, serve, serve_with, start, stderr, stdout, wait};

#[test]
fn lines_go_in_and_come_out() {
    let url = serve(echo);
    let output = run(&[&url], "first\n\n{\"a\":1}\r\n/ping\nlast without an end");
    assert_eq!(stdout(&output), "first\n\n{\"a\":1}\n/ping\nlast without an end\n");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn messages_have_forms() {
    let url = serve(echo);
    let bytes: Vec<u8> = (0..=255).collect();
    for (case, options, input, expected) in [
        ("binary", &["--binary"][..], &bytes[..], &bytes[..]),
        ("hexadecimal digits", &["--hex"], b"00 FF\n41\n", b"00ff\n41\n"),
        ("JSON", &["--json"], b"{\"a\":[1]}\nno JSON\n", b"{\n  \"a\": [\n    1\n  ]\n}\nno JSON\n"),
        ("texts of the command line", &["-x", "a", "-x", "/b"], b"unread", b"a\n/b\n"),
        ("commands of the command line", &["--slash", "-x", "/binary 41", "-x", "//b"], b"", b"A/b\n"),
        ("control characters stay", &["-x", "\u{1b}[2J"], b"", b"\x1b[2J\n"),
        ("a limited number", &["--count", "2"], b"a\nb\nc\n", b"a\nb\n"),
    ] {
        let output = run(&[&[url.as_str()], options].concat(), input);
        assert_eq!(output.stdout, expected, "{case}");
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{case}");
    }
}

#[test]
fn a_line_that_cannot_be_sent_ends_the_conversation() {
    let url = serve(echo);
    for (case, options, input, expected) in [
        ("no UTF-8", &[][..], &b"a\n\xff\nb\n"[..], "use --binary"),
        ("no digits", &["--hex"], b"zz\n", "not a hexadecimal digit"),
        ("no command", &["--slash"], b"/pign\n", "no command /pign"),
    ] {
        let output = run(&[&[url.as_str()], options].concat(), input);
        assert_eq!(output.status.code(), Some(1), "{case}");
        assert!(stderr(&output).contains(expected), "{case}: {}", stderr(&output));
    }
}

#[test]
fn the_status_is_that_of_the_close_while_standard_input_stays_open() {
    let url = serve(|mut socket, request| async move {
        let code: u16 = request.uri().path()[1..].parse()?;
        match code {
            1006 => socket.abort(),
            1005 => socket.start_close_with(None)?,
            code => socket.close(CloseCode::new(code), "the \u{1b}[2Jreason").await?,
        }
        Ok(())
    });
    for (code, status) in
        [(1000, 0), (1005, 0), (1001, 101), (1006, 106), (1008, 108), (3500, 120), (4000, 121)]
    {
        let mut child = piped(&[&format!("{url}/{code}")]);
        assert_eq!(wait(&mut child), Some(status), "{code}");
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert_eq!(error.is_empty(), status == 0, "{code}: {error}");
        assert!(!error.contains('\u{1b}'), "{code}: {error:?}");
        assert!(error.contains(&code.to_string()) || matches!(status, 0 | 106), "{code}: {error}");
    }
}

#[test]
fn a_refusal_is_shown_without_control_characters() {
    let address = start(|ready| async move {
        let server = Server::bind("127.0.0.1:0").await.unwrap();
        ready.send(server.local_addr()).unwrap();
        let server = server.authorize(|_| async {
            Err(Rejection::new(http::StatusCode::FORBIDDEN, "members \u{1b}[2J only\n"))
        });
        server.serve(echo).await.unwrap();
    });
    let output = run(&[&format!("ws://{address}")], "");
    assert_eq!(output.status.code(), Some(3));
    let error = stderr(&output);
    assert!(error.contains("403") && error.contains("members \\u{1b}[2J only"), "{error:?}");
}

#[test]
fn failures_to_connect_have_a_status_of_their_own() {
    for (case, arguments, status, expected) in [
        ("nobody", &["ws://127.0.0.1:1"][..], 3, "refused"),
        ("no name", &["ws://name.invalid"], 3, "name.invalid"),
        ("no scheme", &["ftp://127.0.0.1"], 2, "scheme"),
        ("no option", &["--bogus"], 2, "--bogus"),
        ("no file", &["wss://127.0.0.1:1", "--ca", "/nonexistent"], 3, "/nonexistent"),
        ("no such proxy", &["ws://127.0.0.1:1", "--proxy", "nonsense://a"], 2, "proxy"),
    ] {
        let output = run(arguments, "");
        assert_eq!(output.status.code(), Some(status), "{case}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{case}: {}", stderr(&output));
    }
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    for h2 in [&[][..], &["--h2"]] {
        let output = run(&[&[url.as_str(), "--timeout", "100ms"], h2].concat(), "");
        assert_eq!(output.status.code(), Some(3));
        assert!(stderr(&output).contains("100ms"), "{}", stderr(&output));
    }
}

#[test]
fn the_request_has_what_the_options_say() {
    let url = serve_with(
        |config| config.handshake.subprotocols = vec!["chat".try_into().unwrap()],
        |mut socket, request| async move {
            let header = |name| request.headers().get(name).map_or("none", |value| value.to_str().unwrap());
            let names = ["x-a", "origin", "cookie", "authorization", "sec-websocket-extensions"];
            let lines: Vec<_> = names.iter().map(|name| header(*name)).collect();
            let subprotocol = socket.subprotocol().unwrap_or("none").to_owned();
            socket.send(format!("{}|{subprotocol}", lines.join("|"))).await?;
            Ok(())
        },
    );
    let options = ["-H", "X-A: b:c", "-o", "http://a.example", "--cookie", "a=1", "--cookie", "b=2"];
    let more = ["--auth", "user:pass", "-s", "other", "-s", "chat", "--no-deflate"];
    let output = run(&[&[url.as_str()], &options[..], &more[..]].concat(), "");
    assert_eq!(stdout(&output), "b:c|http://a.example|a=1; b=2|Basic dXNlcjpwYXNz|none|chat\n");
    let output = run(&[&url, "--bearer", "token"], "");
    assert!(
        stdout(&output).starts_with("none|none|none|Bearer token|permessage-deflate"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn the_response_is_shown_on_request() {
    let url = serve(echo);
    let output = run(&[&url, "-v", "-x", "a"], "");
    assert_eq!(stdout(&output), "a\n");
    let error = stderr(&output);
    for expected in
        ["101 Switching Protocols", "sec-websocket-accept: ", "subprotocol: none", "disconnected: 1000"]
    {
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn figures_follow_at_the_end() {
    let url = serve(echo);
    let output = run(&[&url, "--stats", "-x", "abc", "-x", "defg"], "");
    let error = stderr(&output);
    assert!(error.contains("sent:     2 messages, 7 B,"), "{error}");
    assert!(error.contains("received: 2 messages, 7 B,"), "{error}");
}

#[test]
fn long_messages_pass_in_both_directions() {
    let url = serve_with(
        |config| config.connection.limits = Limits::default().with_max_message(None).with_max_frame(None),
        echo,
    );
    // Longer than the library accepts by default.
    let line = "x".repeat(20 << 20);
    let output = run(&[&url, "--no-deflate"], &line);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(output.stdout.len() == line.len() + 1 && output.stdout.starts_with(line.as_bytes()));
    let output = run(&[&url, "--no-deflate", "--max-size", "1M"], &line);
    assert_eq!(output.status.code(), Some(109), "{}", stderr(&output));
}

#[test]
fn a_reader_that_has_enough_ends_the_program() {
    let (closed, codes) = mpsc::channel();
    let url = serve(move |mut socket, _| {
        let closed = closed.clone();
        async move {
            let sender = socket.sender();
            let sending = tokio::spawn(async move { while sender.send("a line").await.is_ok() {} });
            let end = async {
                while socket.recv().await?.is_some() {}
                Ok::<_, longwire::Error>(())
            }
            .await;
            sending.abort();
            closed.send(socket.close_received().map(|frame| frame.code))?;
            Ok(end?)
        }
    });
    let mut child = piped(&[&url]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "a line\n");
    // Standard output is closed now, standard input is not.
    assert_eq!(wait(&mut child), Some(0));
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!(error, "");
    assert_eq!(codes.recv_timeout(LIMIT).unwrap(), Some(CloseCode::NORMAL));
}

#[cfg(unix)]
#[test]
fn an_interrupt_closes_with_1000() {
    let (closed, codes) = mpsc::channel();
    let url = serve(move |mut socket, _| {
        let closed = closed.clone();
        async move {
            socket.send("ready").await?;
            let end = socket.recv().await;
            closed.send((end?, socket.close_received().map(|frame| frame.code)))?;
            Ok(())
        }
    });
    let mut running = common::Running::start(&[&url]);
    assert_eq!(running.line().as_deref(), Some("ready"));
    running.interrupt();
    assert_eq!(wait(&mut running.child), Some(0));
    assert_eq!(codes.recv_timeout(LIMIT).unwrap(), (None, Some(CloseCode::NORMAL)));
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_does_not_wait() {
    let url = serve(|mut socket, _| async move {
        socket.send("ready").await?;
        // Neither reads nor answers.
        std::future::pending::<()>().await;
        Ok(())
    });
    let running = common::Running::start(&[&url]);
    assert_eq!(running.line().as_deref(), Some("ready"));
    let start = std::time::Instant::now();
    let mut running = running;
    while running.child.try_wait().unwrap().is_none() {
        running.interrupt();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(start.elapsed() < LIMIT);
    }
    assert_eq!(wait(&mut running.child), Some(130));
}

#[test]
fn the_connection_is_made_again() {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    let url = serve(|mut socket, _| async move {
        if CONNECTIONS.fetch_add(1, Ordering::Relaxed) == 0 {
            socket.abort();
            return Ok(());
        }
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok(())
    });
    let output = run(&[&url, "--reconnect", "-v", "--count", "1", "--no-close", "-x", "again"], "");
    assert_eq!(stdout(&output), "again\n");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("connecting again"), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_a_way_to_a_server() {
    let path = std::env::temp_dir().join(format!("longwire-cli-{}.sock", std::process::id()));
    let path = path.to_str().unwrap();
    let server = common::Running::start(&["listen", "--echo", "--unix", path]);
    assert_eq!(server.url(), format!("ws+unix:{path}:/"));
    assert_eq!(stdout(&run(&["--unix", path, "ws://localhost/", "-x", "a"], "")), "a\n");
    assert_eq!(stdout(&run(&[&format!("ws+unix:{path}:/"), "-x", "b"], "")), "b\n");
    server.interrupt();
    let mut server = server;
    assert_eq!(wait(&mut server.child), Some(0));
    assert!(!std::path::Path::new(path).exists());
}

#[test]
fn http2_and_tls_are_ways_to_a_server() {
    let folder = std::env::temp_dir().join(format!("longwire-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cert = file("cert.pem", certified.cert.pem());
    let key = file("key.pem", certified.signing_key.serialize_pem());

    let server = common::Running::start(&["listen", "--echo", "--cert", &cert, "--key", &key, "0"]);
    let url = server.url().replace("127.0.0.1", "localhost");
    assert!(url.starts_with("wss://"), "{url}");
    assert_eq!(stdout(&run(&[&url, "--ca", &cert, "-x", "a"], "")), "a\n");
    assert_eq!(stdout(&run(&[&url, "--insecure", "-x", "b"], "")), "b\n");
    let untrusted = run(&[&url, "-x", "c"], "");
    assert_eq!(untrusted.status.code(), Some(3), "{}", stderr(&untrusted));
    let no_h2 = run(&[&url, "--h2", "--insecure", "-x", "c"], "");
    assert_eq!(no_h2.status.code(), Some(3), "{}", stderr(&no_h2));

    let address = start(|ready| async move {
        let app = axum::Router::new().route("/", axum::routing::any(upgrade));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        ready.send(listener.local_addr().unwrap()).unwrap();
        axum::serve(listener, app).await.unwrap();
    });
    let options = ["--h2", "-v", "-x", "over HTTP/2", "--auth", "a:b", "--cookie", "c=d", "-H", "X-A: e"];
    let output = run(&[&[format!("ws://{address}").as_str()], &options[..]].concat(), "");
    assert_eq!(stdout(&output), "Basic YTpi c=d e: over HTTP/2\n", "{}", stderr(&output));
    assert!(stderr(&output).contains("HTTP/2.0 200 OK"), "{}", stderr(&output));
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Answers with some headers of the request, and the message.
async fn upgrade(
    headers: http::HeaderMap,
    upgrade: longwire::axum::WebSocketUpgrade,
) -> axum::response::Response {
    upgrade.on_upgrade(move |mut socket| async move {
        let header = |name| headers.get(name).map_or("none", |value| value.to_str().unwrap());
        let head = format!("{} {} {}", header("authorization"), header("cookie"), header("x-a"));
        while let Some(message) = socket.recv().await? {
            socket.send(format!("{head}: {}", message.as_text().unwrap_or_default())).await?;
        }
        Ok(())
    })
}

#[test]
fn pings_and_the_wait_are_understood_in_a_pipe() {
    let url = serve(|mut socket, _| async move {
        while let Some(message) = socket.recv().await? {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            socket.send(Message::text(format!("late {message}"))).await?;
        }
        Ok(())
    });
    let output = run(&[&url, "-v", "--slash", "--wait", "2", "-x", "/ping", "-x", "a", "-x", "b"], "");
    assert_eq!(stdout(&output), "late a\nlate b\n");
    assert!(stderr(&output).contains("pong after "), "{}", stderr(&output));
    let output = run(&[&url, "--slash", "-x", "/close 4000 bye", "-x", "unsent"], "");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), ""));
}

#[test]
fn completions_and_the_man_page_are_printed() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completions", shell], "");
        assert!(stdout(&output).contains("no-deflate"), "{shell}");
    }
    let page = stdout(&run(&["man"], ""));
    assert!(page.starts_with(".ie") && page.contains("Exit status"), "{page}");
    assert!(stdout(&run(&["man", "listen"], "")).contains("broadcast"));
    let mut child = piped(&["man"]);
    drop(child.stdout.take());
    assert_eq!(wait(&mut child), Some(0));
}

#[test]
fn input_and_output_run_at_the_same_time() {
    let url = serve(echo);
    let mut child = piped(&[&url]);
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    for i in 0..3 {
        writeln!(stdin, "{i}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{i}\n"));
    }
    drop(stdin);
    assert_eq!(wait(&mut child), Some(0));
}

#[test]
fn messages_are_sent_at_the_rate_that_is_allowed() {
    let url = serve(echo);
    let start = std::time::Instant::now();
    let output = run(&[&url, "--rate", "10", "--count", "4"], "a\nb\nc\nd\n");
    assert_eq!(stdout(&output), "a\nb\nc\nd\n");
    // The first one at once, the others a tenth of a second apart.
    assert!(start.elapsed() >= std::time::Duration::from_millis(300), "{:?}", start.elapsed());
}

#[test]
fn a_server_that_answers_no_ping_is_given_up() {
    let url = serve_with(|config| config.connection.auto_pong = false, echo);
    let mut child = piped(&[&url, "--keepalive", "100ms"]);
    assert_eq!(wait(&mut child), Some(106));
}
