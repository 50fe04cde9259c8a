//! The examples with other implementations: `echo` with their clients, `cat` with their servers and proxies, and
//! pages with the programs that fetch them. The program `longwire` with both. The proxies of the guide run with the
//! guide's configuration files. The programs of README.md run as they are printed.

mod cat;
pub(crate) mod deflate;
mod echo;
mod guide;
mod pages;
mod proxy;
pub(crate) mod readme;
mod redirect;
pub(crate) mod tls;
mod tool;
mod tries;

use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::{
    process::{PATIENCE, Running},
    programs::{self, Program},
    setup::{self, Install, Node, Python},
};

use tls::Certificates;

/// Programs to use instead of the examples, to test the checks themselves.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// A server to use instead of `echo`
    #[arg(long, value_name = "COMMAND")]
    echo: Option<String>,
    /// A client to use instead of `cat`
    #[arg(long, value_name = "COMMAND")]
    cat: Option<String>,
    /// A server with a page to use instead of `demo`
    #[arg(long, value_name = "COMMAND")]
    page: Option<String>,
    /// A server with a page and a mount to use instead of `endpoints`
    #[arg(long, value_name = "COMMAND")]
    mounted: Option<String>,
    /// A program to use instead of `longwire`
    #[arg(long, value_name = "COMMAND")]
    tool: Option<String>,
    /// One part instead of all
    #[arg(long, value_name = "PART")]
    only: Option<String>,
}

/// The other implementations.
struct Peers {
    node: Node,
    python: Python,
}

/// The examples to test, and the implementations to test them with.
struct Setting {
    echo: Program,
    cat: Program,
    page: Program,
    mounted: Program,
    tool: Program,
    peers: Peers,
    certificates: Certificates,
    install: Install,
}

/// A part: its name and its action.
type Part = (&'static str, fn(&Setting) -> Result<()>);

const PARTS: &[Part] = &[
    ("echo", |with| echo::run(&with.echo, &with.peers, &with.certificates)),
    ("cat", |with| cat::run(&with.cat, &with.peers)),
    ("tool", |with| tool::run(&with.tool, &with.peers, &with.certificates)),
    ("deflate", |with| {
        deflate::serve(&with.echo, &with.peers)?;
        deflate::connect(&with.cat, &with.peers)
    }),
    ("tls", |with| tls::run(&with.cat, &with.peers, &with.certificates)),
    ("proxy", |with| proxy::run(&with.cat, &with.peers, &with.certificates)),
    ("pages", |with| pages::run(&with.page, &with.mounted, &with.cat, with.install)),
    ("guide", |with| guide::run(&with.echo, &with.cat, &with.peers, &with.certificates, with.install)),
    ("readme", |with| readme::run(&with.peers)),
    ("redirect", |with| redirect::run(&with.cat, &with.peers, &with.certificates)),
];

/// Runs all parts, or the requested one.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let only = arguments.only.as_deref();
    let parts: Vec<_> = PARTS.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    if parts.is_empty() {
        let names: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        bail!("there is no such part; those of interop are {}", names.join(", "));
    }
    let peers = Peers { node: setup::node(install)?, python: setup::python(install)? };
    let Arguments { echo, cat, page, mounted, tool, .. } = arguments;
    programs::build(&[echo, cat, page, mounted, tool])?;
    let setting = Setting {
        echo: Program::new("echo", echo.as_deref())?,
        cat: Program::new("cat", cat.as_deref())?,
        page: Program::new("demo", page.as_deref())?,
        mounted: Program::new("endpoints", mounted.as_deref())?,
        tool: Program::tool(tool.as_deref())?,
        certificates: Certificates::make(&peers.python, "interop")?,
        peers,
        install,
    };
    parts.iter().try_for_each(|(_, part)| part(&setting))
}

/// Expects these lines from a server, in any order, and no others.
fn expect_lines(server: &Running, mut expected: Vec<String>) -> Result<()> {
    let mut lines = Vec::new();
    while lines.len() < expected.len() {
        match server.next_line(PATIENCE)? {
            Some(line) => lines.push(line),
            None => break,
        }
    }
    // An extra line would most likely have arrived by now.
    lines.extend(std::iter::from_fn(|| server.try_line(Duration::from_millis(100))));
    // Removes the lines that both have: the rest of each is missing from the other.
    lines.retain(|line| match expected.iter().position(|one| one == line) {
        Some(i) => {
            expected.swap_remove(i);
            false
        }
        None => true,
    });
    if lines.is_empty() && expected.is_empty() {
        return Ok(());
    }
    Err(anyhow!("the server tells {lines:#?}, and in place of that was to tell {expected:#?}"))
}
