//! Runs the `cat` example over TLS, with servers of Node's `https` and `ws`, and of Python's `ssl` and
//! `websockets`.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{
    process::{PATIENCE, Running},
    programs::Program,
    setup::Python,
    workspace::{self, empty_directory},
};

use super::{
    Peers,
    tries::{Expected, Try, run_all},
};

/// Certificates freshly made by `python/certificates.py`.
pub(crate) struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    /// Makes the certificates, in the target directory.
    pub(crate) fn make(python: &Python, name: &str) -> Result<Self> {
        let directory = workspace::target()?.join("certificates").join(name);
        empty_directory(&directory)?;
        Running::start("certificates.py", python.script("python/certificates.py").arg(&directory))?
            .succeed(PATIENCE)?;
        Ok(Self { directory })
    }

    /// Returns the path of one of the files.
    pub(crate) fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Returns the paths of a server's chain and key.
    pub(crate) fn of_server(&self, name: &str) -> [String; 2] {
        ["pem", "key"].map(|kind| self.file(&format!("{name}.{kind}")))
    }
}

/// The certificates that servers present, and the reason why `--ca` rejects each, if it does.
const SHOWN: &[(&str, Result<(), &str>)] = &[
    ("valid", Ok(())),
    ("intermediate", Ok(())),
    ("expired", Err("expired")),
    ("early", Err("not valid yet")),
    ("elsewhere", Err("not valid for name")),
    ("incomplete", Err("unknownissuer")),
];

/// Checks that certificates are verified unless `--insecure` is given.
pub(super) fn run(cat: &Program, peers: &Peers, certificates: &Certificates) -> Result<()> {
    for name in ["ws", "websockets"] {
        // All at once, because each takes a moment to start.
        let mut servers = Vec::new();
        for (certificate, outcome) in SHOWN {
            let mut command = match name {
                "ws" => peers.node.script("server.js"),
                _ => peers.python.script("python/server.py"),
            };
            command.args(certificates.of_server(certificate));
            servers.push((*certificate, *outcome, Running::start(name, &mut command)?));
        }
        for (certificate, outcome, server) in servers {
            try_server(cat, certificates, &server, certificate, outcome)
                .with_context(|| format!("cat with {name} over TLS, certificate `{certificate}`"))?;
        }
        println!(
            "cat with {name} over TLS: {} certificates, the good ones echo with --ca, all with --insecure",
            SHOWN.len()
        );
    }
    let mut command = peers.node.script("server.js");
    command.env("NODE_OPTIONS", "--tls-max-v1.2").args(certificates.of_server("valid"));
    let old = Running::start("ws", &mut command)?;
    let (ca, url) = (certificates.file("ca.pem"), old.url()?);
    run_all(cat, &[Try::new("a server of TLS 1.2", &["--ca", &ca, &url], Expected::Echo)])?;
    println!("cat with ws over TLS 1.2: echoes");
    Ok(())
}

fn try_server(
    cat: &Program,
    certificates: &Certificates,
    server: &Running,
    certificate: &str,
    outcome: Result<(), &'static str>,
) -> Result<()> {
    let (ca, stranger) = (certificates.file("ca.pem"), certificates.file("stranger.pem"));
    let url = server.url()?;
    let by_name = url.replace("127.0.0.1", "localhost");
    let expected = || outcome.map_or_else(Expected::Failure, |()| Expected::Echo);

    let mut tries = vec![
        Try::new("address and authority", &["--ca", &ca, &url], expected()),
        Try::new("name and authority", &["--ca", &ca, &by_name], expected()),
        Try::new("no check", &["--insecure", &url], Expected::Echo),
    ];
    let plain = url.replace("wss://", "ws://");
    if certificate == "valid" {
        let unknown = || Expected::Failure("unknownissuer");
        tries.extend([
            Try::new("the system's authorities", &[&url], unknown()),
            Try::new("another authority", &["--ca", &stranger, &url], unknown()),
            Try::new("no TLS", &[&plain], Expected::Failure("")),
        ]);
    }
    run_all(cat, &tries)?;
    // A server that is not trusted has seen no request.
    let echoed = tries.iter().filter(|one| matches!(one.expected, Expected::Echo)).count();
    super::expect_lines(server, vec!["closed 1000".to_owned(); echoed])
}
