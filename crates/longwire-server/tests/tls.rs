//! TLS in production: new certificates without a restart, several names, resumption, versions, and the log of keys.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod common;

use std::fmt::{Debug, Write as _};
use std::process::Command;
use std::sync::{Arc, Mutex};

use longwire_server::{
    BoxError, Server, ServerHandle, TlsBuilder, TlsCertificate, TlsConfig, TlsError, Workers,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use common::certificates::{Authority, Directory, Leaf, check_echo, connect, open, presented, replace};
use common::{REQUEST, Running, bind, echo, soon, start};

async fn serve(tls: TlsConfig) -> Running {
    start(bind().await.tls(tls))
}

fn one(leaf: &Leaf) -> TlsConfig {
    TlsConfig::from_pem(leaf.chain.as_bytes(), leaf.key.as_bytes()).unwrap()
}

#[tokio::test]
async fn a_new_configuration_is_used_for_new_clients_and_the_others_stay() {
    let authority = Authority::new();
    let client = Arc::new(authority.client());
    let [first, second, third] = [(); 3].map(|()| authority.leaf(["localhost"]));
    let server = serve(one(&first)).await;
    let (mut old, presented) = open(server.addr, &client, "localhost").await;
    assert_eq!(presented, first.der());
    // Its TLS is complete before the change, its request comes after it.
    let mut slow = connect(server.addr, &client, "localhost").await.unwrap();

    for leaf in [second, third] {
        server.handle.set_tls(one(&leaf));
        let (mut new, presented) = open(server.addr, &client, "localhost").await;
        assert_eq!(presented, leaf.der());
        check_echo(&mut new, "new").await;
        check_echo(&mut old, "old").await;
    }
    slow.write_all(REQUEST.as_bytes()).await.unwrap();
    assert_eq!(soon(slow.read_u8()).await.unwrap(), b'H');
}

#[tokio::test]
async fn a_configuration_of_the_applications_own_is_used_as_it_is() {
    let authority = Authority::new();
    let leaf = authority.leaf(["localhost"]);
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let mut own = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der()], key)
        .unwrap();
    own.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tls = TlsConfig::from(Arc::new(own));
    tls.reload().unwrap();
    let server = serve(tls).await;
    let mut client = authority.client();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client = Arc::new(client);
    let (mut ws, presented) = open(server.addr, &client, "localhost").await;
    assert_eq!(presented, leaf.der());
    check_echo(&mut ws, "secure").await;
    let stream = connect(server.addr, &client, "localhost").await.unwrap();
    let tls = stream.get_ref().1;
    assert_eq!(tls.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert_eq!(tls.alpn_protocol(), Some(&b"http/1.1"[..]));
    // It allows no other version.
    let newer = Arc::new(authority.client_with(&[&TLS13]));
    connect(server.addr, &newer, "localhost").await.unwrap_err();
}

/// Stops the workers if the test fails; it would wait for them.
struct StopOnDrop(ServerHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        drop(self.0.shutdown());
    }
}

#[tokio::test]
async fn tls_can_be_set_for_every_worker_and_where_there_was_none() {
    let authority = Authority::new();
    let client = Arc::new(authority.client());
    let leaf = authority.leaf(["localhost"]);
    let workers = Workers::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let (addr, handle) = (workers.local_addr(), workers.handle());
    let running = tokio::task::spawn_blocking(|| {
        workers.run(|server: Server| async { Ok::<_, BoxError>(server.serve(echo).await?) })
    });
    let _stop = StopOnDrop(handle.clone());
    let mut plain = common::open(addr).await;
    handle.set_tls(one(&leaf));
    // The system spreads the connections over the workers.
    for _ in 0..20 {
        let (mut ws, presented) = open(addr, &client, "localhost").await;
        assert_eq!(presented, leaf.der());
        check_echo(&mut ws, "secure").await;
        ws.abort();
    }
    common::check_echo(&mut plain, "plain").await;
    drop(plain);
    soon(handle.shutdown()).await;
    soon(running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_gets_the_certificate_of_its_name() {
    let authority = Authority::new();
    let exact = authority.leaf(["chat.example.com"]);
    let wildcard = authority.leaf(["*.example.com", "example.org"]);
    let default = authority.leaf(["localhost", "a.chat.example.com", "example.com", "*.example.net"]);
    let named = || {
        TlsConfig::builder()
            .certificate_for(["Chat.Example.com"], exact.pem())
            .certificate_for(["*.example.com", "example.org"], wildcard.pem())
    };
    for (case, builder, has_default, knows_others) in [
        ("with a default", named().certificate(default.pem()), true, true),
        (
            "with a default for no name",
            named().certificate(default.pem()).refuse_unknown_names(),
            true,
            false,
        ),
        ("without a default", named(), false, false),
        ("without a default, refused twice", named().refuse_unknown_names(), false, false),
    ] {
        let server = serve(builder.build().unwrap()).await;
        let client = Arc::new(authority.client());
        let mut unnamed = authority.client();
        unnamed.enable_sni = false;
        let unnamed = Arc::new(unnamed);
        let others = knows_others.then_some(&default);
        for (config, name, expected) in [
            (&client, "chat.example.com", Some(&exact)),
            (&client, "CHAT.example.com", Some(&exact)),
            (&client, "other.example.com", Some(&wildcard)),
            (&client, "example.org", Some(&wildcard)),
            (&client, "example.com", others),
            (&client, "a.chat.example.com", others),
            (&client, "localhost", others),
            (&client, "x.example.net", others),
            (&unnamed, "localhost", has_default.then_some(&default)),
        ] {
            let outcome = connect(server.addr, config, name).await;
            let found = outcome.as_ref().ok().map(presented);
            assert_eq!(found, expected.map(Leaf::der), "{case}: {name}: {:?}", outcome.err());
        }
    }
}

#[test]
fn certificates_that_do_not_belong_to_their_names_are_refused() {
    let authority = Authority::new();
    let leaf = authority.leaf(["a.example", "*.b.example"]);
    let other = authority.leaf(["a.example"]);
    let pem = || leaf.pem();
    let names = |names: &[&str]| TlsConfig::builder().certificate_for(names.iter().copied(), pem());
    let twice = || names(&["a.example"]).certificate_for(["A.example"], other.pem());
    let mismatched = TlsCertificate::from_pem(leaf.chain.as_bytes(), other.key.as_bytes());
    let missing = TlsCertificate::from_files("/nowhere/cert.pem", "/nowhere/key.pem");
    for (case, builder, error) in [
        ("another name", names(&["a.example", "c.example"]), "certificate is not valid for c.example"),
        ("a wildcard", names(&["*.example"]), "certificate is not valid for *.example"),
        ("below a wildcard", names(&["x.y.b.example"]), "certificate is not valid for x.y.b.example"),
        ("an address", names(&["127.0.0.1"]), "127.0.0.1 is neither a host name nor a wildcard of one"),
        (
            "a star inside",
            names(&["a.*.example"]),
            "a.*.example is neither a host name nor a wildcard of one",
        ),
        ("a star for all", names(&["*"]), "* is neither a host name nor a wildcard of one"),
        (
            "a part of a label",
            names(&["a*.example"]),
            "a*.example is neither a host name nor a wildcard of one",
        ),
        (
            "a dot at the end",
            names(&["a.example."]),
            "a.example. is neither a host name nor a wildcard of one",
        ),
        ("two for a name", twice(), "more than one certificate for a.example"),
        ("none", TlsConfig::builder(), "no certificate was given"),
        (
            "another key",
            TlsConfig::builder().certificate(mismatched),
            "invalid certificates or key: keys may not be consistent: KeyMismatch",
        ),
        ("no file", TlsConfig::builder().certificate(missing), "cannot read /nowhere/cert.pem: "),
    ] {
        let shown = format!("{:?}", builder.build().expect_err(case));
        assert!(shown.starts_with(error), "{case}: {shown}");
    }
    names(&["a.example", "X.b.example", "*.b.example"]).certificate(pem()).build().unwrap();
    assert!(!format!("{:?}", names(&[]).certificate(pem())).contains("PRIVATE"));
}

/// Makes a server look at the files at each handshake.
fn following(directory: &Directory) -> TlsBuilder {
    TlsConfig::builder().certificate(directory.certificate()).reload_every(Some(std::time::Duration::ZERO))
}

#[tokio::test]
async fn changed_files_are_used_once_they_are_whole() {
    let authority = Authority::new();
    let client = Arc::new(authority.client());
    let [first, second] = [(); 2].map(|()| authority.leaf(["localhost"]));
    let stranger = authority.leaf(["other.example"]);
    let directory = Directory::new("changed-files");
    directory.write(&first);
    let tls = following(&directory).certificate_for(["localhost"], directory.certificate()).build().unwrap();
    let server = serve(tls.clone()).await;
    let (mut old, _) = open(server.addr, &client, "localhost").await;
    let (chain, key) = (directory.path("cert.pem"), directory.path("key.pem"));

    let steps: [(&str, &dyn Fn(), &Leaf); 11] = [
        ("unchanged", &|| {}, &first),
        ("the chain only", &|| replace(&chain, &second.chain), &first),
        ("the key as well", &|| replace(&key, &second.key), &second),
        ("the key only", &|| replace(&key, &first.key), &second),
        ("the chain as well", &|| replace(&chain, &first.chain), &first),
        ("half a chain", &|| replace(&chain, &second.chain[..100]), &first),
        ("no key", &|| std::fs::remove_file(&key).unwrap(), &first),
        ("all there", &|| directory.write(&second), &second),
        ("an empty key", &|| replace(&key, ""), &second),
        ("not for the name", &|| directory.write(&stranger), &second),
        ("back again", &|| directory.write(&second), &second),
    ];
    for (case, change, expected) in steps {
        change();
        // A client with a session would resume it, without a certificate.
        let client = Arc::new(authority.client());
        let (mut new, presented) = open(server.addr, &client, "localhost").await;
        assert_eq!(presented, expected.der(), "{case}");
        check_echo(&mut new, case).await;
        check_echo(&mut old, case).await;
    }
}

#[tokio::test]
async fn files_are_looked_at_once_in_an_interval_or_when_it_is_asked_for() {
    let authority = Authority::new();
    let [first, second, third] = [(); 3].map(|()| authority.leaf(["localhost"]));
    let directory = Directory::new("interval");
    let never = TlsConfig::builder().certificate(directory.certificate()).reload_every(None);
    directory.write(&first);
    let by_default = TlsConfig::from_files(directory.path("cert.pem"), directory.path("key.pem")).unwrap();
    for (case, tls, looks_at_first) in [("never", never.build().unwrap(), false), ("60 s", by_default, true)]
    {
        directory.write(&second);
        let server = serve(tls.clone()).await;
        let shown = async || {
            let client = Arc::new(authority.client());
            presented(&connect(server.addr, &client, "localhost").await.unwrap())
        };
        let seen = if looks_at_first { &second } else { &first };
        assert_eq!(shown().await, seen.der(), "{case}");
        directory.write(&third);
        assert_eq!(shown().await, seen.der(), "{case}");
        tls.reload().unwrap();
        assert_eq!(shown().await, third.der(), "{case}");

        replace(&directory.path("key.pem"), &second.key);
        for _ in 0..2 {
            assert!(matches!(tls.reload(), Err(TlsError::Rustls(_))), "{case}");
        }
        assert_eq!(shown().await, third.der(), "{case}");
    }
}

/// Collects the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("longwire_server::tls")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "error" || field.name() == "message" {
            let _ = write!(self.0, " {value:?}");
        }
    }
}

#[test]
fn a_change_is_logged_once() {
    let authority = Authority::new();
    let [first, second] = [(); 2].map(|()| authority.leaf(["localhost"]));
    let directory = Directory::new("log");
    directory.write(&first);
    let tls = TlsConfig::builder().certificate(directory.certificate()).build().unwrap();
    let (chain, key) = (directory.path("cert.pem"), directory.path("key.pem"));
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());

    let unusable = "WARN the files of a certificate cannot be used, the previous certificate stays";
    let mismatch = format!("{unusable} invalid certificates or key: keys may not be consistent: KeyMismatch");
    let no_file = std::io::Error::from_raw_os_error(2);
    let missing = format!("{unusable} cannot read {}: {no_file}", key.display());
    let reloaded = "INFO a certificate was reloaded";
    let steps: [(&dyn Fn(), &[&str]); 6] = [
        (&|| {}, &[]),
        (&|| replace(&chain, &second.chain), &[&mismatch]),
        (&|| std::fs::remove_file(&key).unwrap(), &[&missing]),
        (&|| replace(&key, &second.key), &[reloaded]),
        (&|| replace(&key, &first.key), &[&mismatch]),
        (&|| replace(&key, &second.key), &[reloaded]),
    ];
    for (change, expected) in steps {
        change();
        for _ in 0..3 {
            let _ = tls.reload();
        }
        assert_eq!(std::mem::take(&mut *log.0.lock().unwrap()), expected);
    }
}

/// Returns whether a session was resumed.
async fn comes_back(server: &Running, client: &Arc<ClientConfig>) -> bool {
    let mut stream = connect(server.addr, client, "localhost").await.unwrap();
    let kind = stream.get_ref().1.handshake_kind();
    // The tickets of TLS 1.3 arrive with the first bytes read.
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    soon(stream.read_u8()).await.unwrap();
    kind == Some(HandshakeKind::Resumed)
}

#[tokio::test]
async fn more_clients_than_a_server_remembers_resume_their_sessions() {
    const CLIENTS: usize = 300;
    let authority = Authority::new();
    let directory = Directory::new("tickets");
    directory.write(&authority.leaf(["localhost"]));
    for version in [&TLS13, &TLS12] {
        let server = serve(following(&directory).build().unwrap()).await;
        let clients: Vec<_> =
            std::iter::repeat_with(|| Arc::new(authority.client_with(&[version]))).take(CLIENTS).collect();
        for client in &clients {
            assert!(!comes_back(&server, client).await);
        }
        // A new certificate is no reason to start again.
        directory.write(&authority.leaf(["localhost"]));
        for (number, client) in clients.iter().enumerate().step_by(7) {
            assert!(comes_back(&server, client).await, "{version:?}: client {number}");
        }
    }
}

#[tokio::test]
async fn the_oldest_version_is_1_2_or_1_3() {
    let authority = Authority::new();
    let leaf = authority.leaf(["localhost"]);
    let builder = || TlsConfig::builder().certificate(leaf.pem());
    for (tls, old_is_accepted) in [(builder(), true), (builder().tls13_only(), false)] {
        let server = serve(tls.build().unwrap()).await;
        for (version, is_accepted) in [(&TLS12, old_is_accepted), (&TLS13, true)] {
            let client = Arc::new(authority.client_with(&[version]));
            let outcome = connect(server.addr, &client, "localhost").await;
            assert_eq!(outcome.is_ok(), is_accepted, "{version:?}: {outcome:?}");
        }
    }
}

/// Runs itself again with the variable, which must be set before the process starts.
#[tokio::test]
async fn keys_are_written_to_a_file_only_on_request() {
    const LOGS: &str = "LONGWIRE_TEST_LOGS_KEYS";
    if let Ok(logs) = std::env::var(LOGS) {
        let authority = Authority::new();
        let builder = TlsConfig::builder().certificate(authority.leaf(["localhost"]).pem());
        let builder = if logs == "yes" { builder.dangerously_log_keys() } else { builder };
        let server = serve(builder.build().unwrap()).await;
        connect(server.addr, &Arc::new(authority.client()), "localhost").await.unwrap();
        return;
    }
    let directory = Directory::new("keys");
    for (logs, is_written) in [("yes", true), ("no", false)] {
        let file = directory.path(logs);
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "keys_are_written_to_a_file_only_on_request"])
            .env(LOGS, logs)
            .env("SSLKEYLOGFILE", &file)
            .status();
        assert!(status.unwrap().success());
        let written = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(written.contains("SERVER_TRAFFIC_SECRET_0 "), is_written, "{logs}: {written}");
    }
}
