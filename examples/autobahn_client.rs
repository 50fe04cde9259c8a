//! A client for the Autobahn test suite: it asks for the number of cases, and echoes every message in each of them.
//!
//! ```text
//! cargo run --release --example autobahn_client -- ws://127.0.0.1:9001
//! ```
//! The URL is that of the suite's fuzzing server; `cargo xtask autobahn --role client` runs both.

use std::process::ExitCode;

use clap::Parser;
use longwire::BoxError;

#[derive(Parser)]
struct Args {
    /// The URL of the fuzzing server.
    url: String,
    /// The name to use in the suite's reports.
    #[arg(long, default_value = "longwire")]
    agent: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("autobahn_client: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), BoxError> {
    let Args { url, agent } = args;
    for case in 1..=case_count(url).await? {
        // The suite judges how a case ends, and most cases make this end fail the connection.
        if let Err(error) = echo(&format!("{url}/runCase?case={case}&agent={agent}")).await {
            eprintln!("case {case} ended with: {error}");
        }
    }
    let mut ws = longwire::connect(format!("{url}/updateReports?agent={agent}")).await?;
    while ws.recv().await?.is_some() {}
    Ok(())
}

async fn case_count(url: &str) -> Result<usize, BoxError> {
    let mut ws = longwire::connect(format!("{url}/getCaseCount")).await?;
    let message = ws.recv().await?.ok_or("the server did not send the number of cases")?;
    let count = message.to_string().trim().parse()?;
    while ws.recv().await?.is_some() {}
    Ok(count)
}

async fn echo(url: &str) -> Result<(), BoxError> {
    let mut ws = longwire::connect(url).await?;
    while let Some(message) = ws.recv().await? {
        ws.send(message).await?;
    }
    Ok(())
}
