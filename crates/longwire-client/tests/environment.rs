//! The effects of a process's environment: the proxy, and the system's trusted certificates.
//!
//! Other tests of this process must not see the variables. Each test therefore starts this program again, with the
//! variables set, and there runs one of the tests that are ignored otherwise.

mod support;

use std::process::{Command, Output};

use longwire_client::Client;
use longwire_connection::Message;
use support::{SWITCHING, answer_with, read_request};
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Runs an ignored test of this program in a process of its own, with these variables and no others that matter.
async fn run(test: &'static str, variables: Vec<(&'static str, String)>) -> Output {
    let process = move || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored", "--nocapture"]);
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_ascii_uppercase());
        }
        command.env_remove("REQUEST_METHOD").envs(variables).output().unwrap()
    };
    let output = tokio::task::spawn_blocking(process).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let has_run = printed.contains("1 passed") || printed.contains("1 failed");
    assert!(has_run, "there is no {test}: {printed}");
    output
}

/// Where the tests that are ignored connect to.
const URL: &str = "LONGWIRE_TEST_URL";

#[tokio::test]
async fn the_environment_of_the_process_names_the_proxy() {
    for through_proxy in [true, false] {
        let (address, server) = answer_with([SWITCHING.as_bytes(), b"\x81\x05hello"].concat()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let request = read_request(&mut client).await;
            let target = request.split(' ').nth(1).unwrap();
            let mut server = TcpStream::connect(target).await.unwrap();
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
        let mut variables =
            vec![("HTTP_PROXY", format!("http://127.0.0.1:{port}")), (URL, format!("ws://{address}/"))];
        if !through_proxy {
            variables.push(("no_proxy", "127.0.0.0/8".to_owned()));
        }
        let output = run("connects_as_the_environment_says", variables).await;
        assert!(output.status.success(), "{output:?}");
        assert!(server.await.unwrap().0.starts_with("GET / "));
        if through_proxy {
            proxy.await.unwrap();
        } else {
            assert!(!proxy.is_finished(), "the exception was ignored");
            proxy.abort();
        }
    }
}

#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn connects_as_the_environment_says() {
    let client = Client::new(std::env::var(URL).unwrap()).proxy_from_env();
    let (mut ws, _) = client.connect().await.unwrap();
    assert_eq!(ws.recv().await.unwrap(), Some(Message::text("hello")));
    ws.abort();
}

/// A client trusts nobody whom it does not know, with Mozilla's list as well: but it has a list, and gets as far as a
/// handshake, where a client with no list at all has a faulty configuration.
#[cfg(all(unix, feature = "ring", feature = "platform-roots", feature = "webpki-roots"))]
#[tokio::test]
async fn a_system_without_certificates_leaves_mozillas() {
    use support::tls::{Authority, acceptor};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = acceptor(&Authority::new().leaf("localhost"));
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop)
    });
    let nowhere = "/nonexistent/longwire".to_owned();
    let variables = vec![
        ("SSL_CERT_FILE", nowhere.clone()),
        ("SSL_CERT_DIR", nowhere),
        (URL, format!("wss://localhost:{port}/")),
    ];
    let output = run("is_refused_by_a_client_that_has_a_list", variables).await;
    assert!(output.status.success(), "{output:?}");
    server.await.unwrap().unwrap_err();
}

#[cfg(all(unix, feature = "ring", feature = "platform-roots", feature = "webpki-roots"))]
#[tokio::test]
#[ignore = "runs in a process of its own"]
async fn is_refused_by_a_client_that_has_a_list() {
    use longwire_client::{Error, TlsError};

    let error = Client::new(std::env::var(URL).unwrap()).connect().await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Tls(TlsError::Handshake(_))), "{error:?}");
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
}
