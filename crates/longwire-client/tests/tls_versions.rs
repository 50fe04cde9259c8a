//! Options of TLS, and the caller's own rustls configuration: protocol versions, the log of keys, no server name.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod support;

use std::process::Command;
use std::sync::Arc;

use longwire_client::{Client, Error, InvalidOption, TlsConfig, TlsError, rustls};
use support::tls::{Authority, acceptor, chain, provider};
use support::{SWITCHING, fill, read_request};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn client_config(
    authority: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Serves one connection. The task yields the server name that the client requested, unless TLS failed.
async fn serve(acceptor: TlsAcceptor) -> (u16, tokio::task::JoinHandle<Option<Option<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.ok()?;
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        let request = read_request(&mut stream).await;
        stream.write_all(&fill(SWITCHING, &request)).await.unwrap();
        stream.flush().await.unwrap();
        Some(name)
    });
    (port, task)
}

#[tokio::test]
async fn the_name_of_the_server_can_be_kept_back() {
    let authority = Authority::new();
    for (enable_sni, expected) in [(true, Some("localhost".to_owned())), (false, None)] {
        let (port, server) = serve(acceptor(&authority.leaf("localhost"))).await;
        let mut config = client_config(&authority, rustls::DEFAULT_VERSIONS);
        config.enable_sni = enable_sni;
        let client = Client::new(format!("wss://localhost:{port}/")).tls(Arc::new(config));
        client.connect().await.unwrap().0.abort();
        assert_eq!(server.await.unwrap(), Some(expected));
    }
}

/// Returns an acceptor that speaks only this version.
fn speaking(authority: &Authority, version: &'static rustls::SupportedProtocolVersion) -> TlsAcceptor {
    let leaf = authority.leaf("localhost");
    let (chain, key) = chain(&leaf);
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn the_oldest_version_is_1_2_or_1_3() {
    let authority = Authority::new();
    let trusting = || TlsConfig::new().root_certificates_pem(&authority.pem).unwrap();
    let anyone = || TlsConfig::new().dangerously_accept_any_certificate();
    for (case, tls, old_is_accepted) in [
        ("default", trusting(), true),
        ("1.3", trusting().tls13_only(), false),
        (
            "1.3, before the roots",
            TlsConfig::new().tls13_only().root_certificates_pem(&authority.pem).unwrap(),
            false,
        ),
        ("any certificate", anyone(), true),
        ("1.3, any certificate", anyone().tls13_only(), false),
    ] {
        for (version, is_accepted) in
            [(&rustls::version::TLS12, old_is_accepted), (&rustls::version::TLS13, true)]
        {
            let (port, _server) = serve(speaking(&authority, version)).await;
            let outcome = Client::new(format!("wss://localhost:{port}/")).tls(tls.clone()).connect().await;
            match outcome {
                Ok((ws, _)) if is_accepted => ws.abort(),
                Err(Error::Tls(TlsError::Handshake(_))) if !is_accepted => {}
                outcome => panic!("{case}: {version:?}: {outcome:?}"),
            }
        }
    }
}

#[tokio::test]
async fn any_certificate_is_accepted_only_with_its_key() {
    let authority = Authority::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for is_own in [true, false] {
            let (shown, other) = (authority.leaf("localhost"), authority.leaf("localhost"));
            let (_, key) = chain(if is_own { &shown } else { &other });
            let key = provider().key_provider.load_private_key(key).unwrap();
            let certified = rustls::sign::CertifiedKey::new(chain(&shown).0, key);
            let config = rustls::ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
            let (port, _server) = serve(TlsAcceptor::from(Arc::new(config))).await;
            let tls = TlsConfig::new().dangerously_accept_any_certificate();
            let outcome = Client::new(format!("wss://localhost:{port}/")).tls(tls).connect().await;
            match outcome {
                Ok((ws, _)) if is_own => ws.abort(),
                Err(Error::Tls(TlsError::Handshake(rustls::Error::InvalidCertificate(
                    rustls::CertificateError::BadSignature,
                )))) if !is_own => {}
                outcome => panic!("{version:?}, own key {is_own}: {outcome:?}"),
            }
        }
    }
}

#[tokio::test]
async fn options_are_not_ignored_beside_a_configuration_of_rustls() {
    let authority = Authority::new();
    let custom = || TlsConfig::from(Arc::new(client_config(&authority, rustls::DEFAULT_VERSIONS)));
    for tls in [custom().tls13_only(), custom().dangerously_log_keys()] {
        let error = Client::new("wss://localhost:1/").tls(tls).connect().await.unwrap_err();
        assert!(matches!(error, Error::Option(InvalidOption::Tls(TlsError::RustlsConfig))), "{error:?}");
    }
}

/// Runs itself again with the variable, which must be set before the process starts.
#[tokio::test]
async fn keys_are_written_to_a_file_only_on_request() {
    const LOGS: &str = "LONGWIRE_TEST_LOGS_KEYS";
    if let Ok(logs) = std::env::var(LOGS) {
        let authority = Authority::new();
        let tls = TlsConfig::new().root_certificates_pem(&authority.pem).unwrap();
        let tls = if logs == "yes" { tls.dangerously_log_keys() } else { tls };
        let (port, _server) = serve(acceptor(&authority.leaf("localhost"))).await;
        Client::new(format!("wss://localhost:{port}/")).tls(tls).connect().await.unwrap().0.abort();
        return;
    }
    for (logs, is_written) in [("yes", true), ("no", false)] {
        let file = std::env::temp_dir().join(format!("longwire-client-keys-{}-{logs}", std::process::id()));
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "keys_are_written_to_a_file_only_on_request"])
            .env(LOGS, logs)
            .env("SSLKEYLOGFILE", &file)
            .status();
        assert!(status.unwrap().success());
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(file);
        assert_eq!(written.contains("SERVER_TRAFFIC_SECRET_0 "), is_written, "{logs}: {written}");
    }
}

#[tokio::test]
async fn versions_of_tls_that_do_not_meet_are_one_error() {
    let authority = Authority::new();
    let (port, server) = serve(speaking(&authority, &rustls::version::TLS13)).await;
    let client = Client::new(format!("wss://localhost:{port}/"))
        .tls(Arc::new(client_config(&authority, &[&rustls::version::TLS12])));
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error, Error::Tls(TlsError::Handshake(rustls::Error::AlertReceived(_)))), "{error:?}");
    assert_eq!(server.await.unwrap(), None);
}
