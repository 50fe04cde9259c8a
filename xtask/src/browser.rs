//! The examples with pages (`demo`, `session`, `statistics`, `admin`), `echo`, and `hyper_echo` over TLS, with headless
//! Chromium. So are the servers of README.md.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use crate::{
    interop::{self, tls::Certificates},
    process::{PATIENCE, Running},
    programs::{self, Program},
    setup::{self, Install},
    workspace,
};

/// Programs to use instead of the examples, to test the check itself.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// A server to use instead of `demo`
    #[arg(long, value_name = "COMMAND")]
    demo: Option<String>,
    /// A server to use instead of `echo`
    #[arg(long, value_name = "COMMAND")]
    echo: Option<String>,
    /// A server to use instead of `session`
    #[arg(long, value_name = "COMMAND")]
    session: Option<String>,
    /// A server to use instead of `statistics`
    #[arg(long, value_name = "COMMAND")]
    statistics: Option<String>,
    /// A server to use instead of `admin`
    #[arg(long, value_name = "COMMAND")]
    admin: Option<String>,
    /// A server to use instead of `hyper_echo`
    #[arg(long, value_name = "COMMAND")]
    hyper_echo: Option<String>,
}

/// Runs `interop/python/browser.py` to drive the page; it leaves a screenshot in the target directory.
pub(crate) fn run(arguments: &Arguments, install: Install) -> Result<()> {
    let chromium = setup::chromium(install)?;
    let python = setup::python(install)?;
    programs::build(&[
        &arguments.demo,
        &arguments.echo,
        &arguments.session,
        &arguments.statistics,
        &arguments.admin,
        &arguments.hyper_echo,
    ])?;

    let listen = ["--listen", "127.0.0.1:0"];
    let demo = Program::new("demo", arguments.demo.as_deref())?;
    let demo = Running::start(demo.name(), demo.command().args(listen))?;
    let echo = Program::new("echo", arguments.echo.as_deref())?;
    // Chromium offers compression, and this server accepts it; the demo's does not.
    let echo = Running::start(echo.name(), echo.command().args(listen).arg("--deflate"))?;

    let session = Program::new("session", arguments.session.as_deref())?;
    let session = Running::start(session.name(), session.command().args(listen))?;
    let statistics = Program::new("statistics", arguments.statistics.as_deref())?;
    let statistics = Running::start(statistics.name(), statistics.command().arg("127.0.0.1:0"))?;
    let admin = Program::new("admin", arguments.admin.as_deref())?;
    let admin = Running::start(admin.name(), admin.command().args(listen).args(["--admin", "127.0.0.1:0"]))?;
    let page =
        admin.wait_for("the address of its page", |line| line.strip_prefix("page on ").map(str::to_owned))?;
    let [cert, key] = Certificates::make(&python, "browser")?.of_server("valid");
    let secure = Program::new("hyper_echo", arguments.hyper_echo.as_deref())?;
    let mut command = secure.command();
    command.args(listen).args(["--deflate", "--tls-cert", &cert, "--tls-key", &key]);
    let secure = Running::start(secure.name(), &mut command)?;

    let readme = interop::readme::Servers::start()?;

    let mut driver = python.script("python/browser.py");
    driver.arg("--driver").arg(chromium.driver).arg("--chromium").arg(chromium.browser);
    driver.args(["--demo", &demo.url()?, "--echo", &echo.url()?]);
    driver.args(["--session", &session.url()?, "--secure", &secure.url()?]);
    driver.args(["--statistics", &statistics.url()?, "--admin", &page]);
    driver.arg("--readme").args(readme.urls());
    driver.arg("--screenshot").arg(workspace::target()?.join("demo.png"));
    let driver = Running::start("browser.py", &mut driver)?;
    let mut lines = Vec::new();
    loop {
        match driver.next_line(LIMIT)?.as_deref() {
            Some("ready") => break,
            Some(line) => lines.push(line.to_owned()),
            None => return driver.succeed(PATIENCE).and(Err(anyhow!("browser.py ended early"))),
        }
    }
    secure.interrupt()?;
    lines.extend(driver.succeed(LIMIT)?);
    println!("{}", lines.join("\n"));
    ensure!(
        lines.iter().filter(|line| line.ends_with("permessage-deflate")).count() == 3,
        "the pages with `echo --deflate` and `hyper_echo --deflate` did not compress"
    );
    ensure!(
        lines.last().is_none_or(|line| line == "secure: closed with 1001"),
        "`hyper_echo` was to close its socket over HTTP/2 with 1001 on SIGINT"
    );
    expect_versions(&secure.succeed(PATIENCE)?)?;
    for server in [demo, session, admin] {
        server.interrupt()?;
        server.succeed(PATIENCE)?;
    }
    echo.interrupt()?;
    let told = echo.succeed(PATIENCE)?;
    println!("echo: {}", told.join("; "));
    interop::deflate::expect_counted(&told)
}

/// Checks the HTTP versions: a page of another origin shares no connection; pages of the server's own origin do
/// (RFC 8441).
fn expect_versions(told: &[String]) -> Result<()> {
    let versions: Vec<_> = told.iter().filter_map(|line| line.strip_prefix("a WebSocket over ")).collect();
    println!("secure: sockets over {}", versions.join(", "));
    ensure!(
        versions == ["HTTP/1.1", "HTTP/2.0", "HTTP/2.0"],
        "sockets over HTTP/1.1, HTTP/2.0 and HTTP/2.0 were expected"
    );
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(240);
