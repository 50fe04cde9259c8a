//! Runs the `cat` example with servers of Node's `ws` that redirect to each other.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::{
    process::{PATIENCE, Running},
    programs::Program,
};

use super::{
    Peers,
    tls::Certificates,
    tries::{Expected, Try, run_all},
};

/// A run: its first URL, the number of redirects that it may follow, the requests that result, and its failure, if
/// any.
///
/// A request is an origin and a path, followed by a plus if it carries the credentials, or else by a minus.
struct Case {
    begin: &'static str,
    follow: Option<&'static str>,
    requests: &'static [&'static str],
    failure: Option<&'static str>,
}

const fn arrives(begin: &'static str, requests: &'static [&'static str]) -> Case {
    Case { begin, follow: Some("3"), requests, failure: None }
}

const fn fails(
    begin: &'static str,
    follow: Option<&'static str>,
    requests: &'static [&'static str],
    failure: &'static str,
) -> Case {
    Case { begin, follow, requests, failure: Some(failure) }
}

const CASES: &[Case] = &[
    arrives("first /end", &["first /end +"]),
    arrives("first /301", &["first /301 +", "first /end +"]),
    arrives("first /302", &["first /302 +", "first /end +"]),
    arrives("first /303", &["first /303 +", "first /end +"]),
    arrives("first /307", &["first /307 +", "first /end +"]),
    arrives("first /308", &["first /308 +", "first /end +"]),
    arrives("first /deep/down/relative", &["first /deep/down/relative +", "first /end +"]),
    arrives("first /absolute", &["first /absolute +", "first /end +"]),
    arrives("first /http", &["first /http +", "first /end +"]),
    arrives("secure /http", &["secure /http +", "secure /end +"]),
    arrives("first /without-scheme", &["first /without-scheme +", "first /end +"]),
    arrives("secure /without-scheme", &["secure /without-scheme +", "secure /end +"]),
    arrives("first /chain/3", &["first /chain/3 +", "first /chain/2 +", "first /chain/1 +", "first /end +"]),
    // Another origin is trusted with nothing, and neither is any origin to which it redirects.
    arrives("first /away", &["first /away +", "second /end -"]),
    arrives("first /round-trip", &["first /round-trip +", "second /back -", "first /end -"]),
    arrives("first /with-login", &["first /with-login +", "second /end -"]),
    arrives("first /to-tls", &["first /to-tls +", "secure /end -"]),
    fails(
        "secure /from-tls",
        Some("3"),
        &["secure /from-tls +"],
        "redirect from a tls connection to the unencrypted",
    ),
    fails(
        "first /chain/4",
        Some("3"),
        &["first /chain/4 +", "first /chain/3 +", "first /chain/2 +", "first /chain/1 +"],
        "more than 3 redirects",
    ),
    fails("first /loop", Some("1"), &["first /loop +", "first /loop +"], "more than 1 redirects"),
    fails("first /301", None, &["first /301 +"], "301"),
    fails("first /301", Some("0"), &["first /301 +"], "301"),
    fails("first /no-websocket", Some("3"), &["first /no-websocket +"], "ftp://"),
    fails("first /no-location", Some("3"), &["first /no-location +"], "302"),
];

/// Runs all cases at once. The servers tell them apart by a header that is part of every request.
pub(super) fn run(cat: &Program, peers: &Peers, certificates: &Certificates) -> Result<()> {
    let mut command = peers.node.script("redirect.js");
    let server = Running::start("redirect.js", command.args(certificates.of_server("valid")))?;
    let mut urls = BTreeMap::new();
    for _ in 0..3 {
        let line = server.next_line(PATIENCE)?.unwrap_or_default();
        let (origin, url) = line.split_once(' ').with_context(|| format!("redirect.js printed `{line}`"))?;
        urls.insert(origin.to_owned(), url.replace("://", "://ada:lovelace@"));
    }

    let ca = certificates.file("ca.pem");
    let mut command_lines = Vec::new();
    let mut expected = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let (origin, path) = case.begin.split_once(' ').unwrap_or_default();
        let url = urls.get(origin).with_context(|| format!("redirect.js has no origin {origin}"))?;
        command_lines.push((format!("X-Interop: {number}"), format!("{url}{path}")));
        for request in case.requests {
            let trusted = if request.ends_with('+') {
                "authorization=Basic YWRhOmxvdmVsYWNl cookie=session=1"
            } else {
                "authorization=undefined cookie=undefined"
            };
            expected.push(format!("{number} {} {trusted}", &request[..request.len() - 2]));
        }
    }
    let tries: Vec<_> = CASES
        .iter()
        .zip(&command_lines)
        .map(|(case, (whose, url))| {
            let mut arguments = vec!["--ca", &ca, "--header", "Cookie: session=1", "--header", whose];
            arguments.extend(case.follow.iter().flat_map(|limit| ["--follow", *limit]));
            arguments.push(url);
            Try::new(case.begin, &arguments, case.failure.map_or(Expected::Echo, Expected::Failure))
        })
        .collect();
    run_all(cat, &tries)
        .and_then(|()| super::expect_lines(&server, expected))
        .context("cat with redirects")?;
    println!("cat with redirects: {} ways, credentials for the first origin alone", CASES.len());
    Ok(())
}
