//! The demo page and the `echo` example with headless Chromium.

use std::time::Duration;

use crate::{
    Outcome, interop,
    process::{PATIENCE, Running},
    programs::{self, Program},
    setup, workspace,
};

/// Programs that stand in for the examples, to try the check itself.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// A server that stands in for `demo`
    #[arg(long, value_name = "COMMAND")]
    demo: Option<String>,
    /// A server that stands in for `echo`
    #[arg(long, value_name = "COMMAND")]
    echo: Option<String>,
}

/// Has `interop/python/browser.py` drive the page; a screenshot of it stays in the target directory.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let chromium = setup::chromium()?;
    let python = setup::python()?;
    programs::build(&[&arguments.demo, &arguments.echo])?;

    let listen = ["--listen", "127.0.0.1:0"];
    let demo = Program::new("demo", arguments.demo.as_deref())?;
    let demo = Running::start(demo.name(), demo.command().args(listen))?;
    let echo = Program::new("echo", arguments.echo.as_deref())?;
    // Chromium offers to compress, and this server accepts; the demo's does not.
    let echo = Running::start(echo.name(), echo.command().args(listen).arg("--deflate"))?;

    let mut driver = python.script("python/browser.py");
    driver.arg("--driver").arg(chromium.driver).arg("--chromium").arg(chromium.browser);
    driver.args(["--demo", &demo.url()?, "--echo", &echo.url()?]);
    driver.arg("--screenshot").arg(workspace::target()?.join("demo.png"));
    let lines = Running::start("browser.py", &mut driver)?.succeed(LIMIT)?;
    println!("{}", lines.join("\n"));
    if !lines.iter().any(|line| line.ends_with("permessage-deflate")) {
        return Err("the page and `echo --deflate` did not compress".into());
    }
    demo.interrupt()?;
    demo.succeed(PATIENCE)?;
    echo.interrupt()?;
    let told = echo.succeed(PATIENCE)?;
    println!("echo: {}", told.join("; "));
    interop::deflate::expect_counted(&told)
}

const LIMIT: Duration = Duration::from_secs(240);
