//! Runs the `cat` example through the proxy of Python's `pproxy`, to servers of Node's `ws`.
//!
//! Only the proxy knows the servers' names, so a client that bypasses the proxy reaches no server.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    process::{PATIENCE, Running},
    programs::Program,
};

use super::{
    Peers,
    tls::Certificates,
    tries::{Expected, Try, run_all},
};

/// The login as an argument of the proxy, and as part of a URL.
const LOGIN: (&str, &str) = ("ada:p@ss:word", "ada:p%40ss%3Aword");

/// The scheme of each kind of proxy in a URL, the requested host, and the protocol and host that the proxy must
/// report.
const KINDS: [(&str, &str, &str, &str); 3] = [
    ("http", "server.test", "http", "server.test"),
    ("socks5h", "server.test", "socks5", "server.test"),
    // The client resolves the name.
    ("socks5", "localhost", "socks5", "127.0.0.1"),
];

/// Tests every kind of proxy, without and with a login, to servers with and without TLS.
pub(super) fn run(cat: &Program, peers: &Peers, certificates: &Certificates) -> Result<()> {
    let plain = Running::start("ws", &mut peers.node.script("server.js"))?;
    let secure = Running::start("ws", peers.node.script("server.js").args(certificates.of_server("valid")))?;
    let open = Running::start("pproxy", &mut peers.python.script("python/proxy.py"))?;
    let closed = Running::start("pproxy with a login", peers.python.script("python/proxy.py").arg(LOGIN.0))?;
    let setting = Setting {
        cat,
        ca: certificates.file("ca.pem"),
        stranger: certificates.file("stranger.pem"),
        servers: [plain.url()?, secure.url()?],
    };
    let (open_url, closed_url) = (open.url()?, closed.url()?);

    setting.arrive(&open, &open_url, "").context("cat through pproxy")?;
    let with_login = "cat through pproxy with a login";
    setting.arrive(&closed, &closed_url, &format!("{}@", LOGIN.1)).context(with_login)?;
    setting.fail_to_log_in(&closed, &closed_url).context(with_login)?;
    setting.fail_behind(&open, &open_url).context("cat through pproxy")?;

    // One connection without a login and one with it for each kind of proxy, and none that failed.
    for server in [&plain, &secure] {
        super::expect_lines(server, vec!["closed 1000".to_owned(); 2 * KINDS.len()])?;
    }
    println!("cat through pproxy: HTTP and SOCKS5, with and without login and TLS; names resolved there");
    Ok(())
}

struct Setting<'a> {
    cat: &'a Program,
    ca: String,
    stranger: String,
    /// The URL without TLS and the URL with it.
    servers: [String; 2],
}

impl Setting<'_> {
    /// Reaches both servers through each kind of proxy, according to the proxy's own output.
    fn arrive(&self, proxy: &Running, proxy_url: &str, login: &str) -> Result<()> {
        let mut runs = Vec::new();
        let mut seen = Vec::new();
        for (scheme, host, protocol, seen_host) in KINDS {
            for server in &self.servers {
                let url = server.replace("127.0.0.1", host);
                let port = url.rsplit(':').next().unwrap_or_default();
                seen.push(format!("{protocol} -> {seen_host}:{port}"));
                runs.push((proxy_url.replace("http://", &format!("{scheme}://{login}")), url));
            }
        }
        let tries: Vec<_> = runs
            .iter()
            .map(|(proxy, url)| {
                Try::new("through it", &["--ca", &self.ca, "--proxy", proxy, url], Expected::Echo)
            })
            .collect();
        run_all(self.cat, &tries)?;
        super::expect_lines(proxy, seen)
    }

    /// Checks that other credentials, or none, are refused, even if another client has just logged in.
    fn fail_to_log_in(&self, proxy: &Running, proxy_url: &str) -> Result<()> {
        let mut runs = Vec::new();
        for login in ["", "ada:wrong@", "grace:p%40ss%3Aword@", "ada@"] {
            for (scheme, host, _, _) in KINDS {
                // This proxy refuses SOCKS clients by closing the connection.
                let telling = if scheme == "http" { "407" } else { "proxy closed" };
                let url = self.servers[0].replace("127.0.0.1", host);
                runs.push((proxy_url.replace("http://", &format!("{scheme}://{login}")), url, telling));
            }
        }
        let tries: Vec<_> = runs
            .iter()
            .map(|(proxy, url, telling)| {
                Try::new("without a right to", &["--proxy", proxy, url], Expected::Failure(telling))
            })
            .collect();
        run_all(self.cat, &tries)?;
        for _ in &tries {
            let line = proxy.next_line(PATIENCE)?.unwrap_or_default();
            ensure!(line.starts_with("Unauthorized "), "the proxy was to refuse, it tells `{line}`");
        }
        proxy
            .try_line(Duration::from_millis(100))
            .map_or(Ok(()), |line| Err(anyhow!("it tells `{line}` too")))
    }

    /// Checks failures that a proxy cannot prevent; the client must not bypass the proxy.
    fn fail_behind(&self, proxy: &Running, proxy_url: &str) -> Result<()> {
        let [plain, secure] = &self.servers;
        let secure = secure.replace("127.0.0.1", "server.test");
        let nowhere = super::cat::refused_url()?;
        let nobody = nowhere.replace("ws://", "http://");
        let mut tries = vec![
            Try::new("no proxy there", &["--proxy", &nobody, plain], Expected::Failure("refused")),
            Try::new("no server there", &["--proxy", proxy_url, &nowhere], Expected::Failure("proxy closed")),
        ];
        let socks = proxy_url.replace("http://", "socks5h://");
        for proxy in [proxy_url, &socks] {
            // The proxy could be anyone: the certificate identifies the far end.
            let arguments = ["--ca", &self.stranger, "--proxy", proxy, &secure];
            tries.push(Try::new("another authority", &arguments, Expected::Failure("unknownissuer")));
        }
        run_all(self.cat, &tries)?;
        while proxy.try_line(Duration::from_millis(100)).is_some() {}
        Ok(())
    }
}
