//! The examples with other implementations: `echo` with their clients, `cat` with their servers.

mod cat;
pub(crate) mod deflate;
mod echo;

use crate::{
    Outcome, programs,
    programs::Program,
    setup::{self, Node, Python},
};

/// Programs that stand in for the examples, to try the checks themselves.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// A server that stands in for `echo`
    #[arg(long, value_name = "COMMAND")]
    echo: Option<String>,
    /// A client that stands in for `cat`
    #[arg(long, value_name = "COMMAND")]
    cat: Option<String>,
}

/// The other implementations.
struct Peers {
    node: Node,
    python: Python,
}

/// Runs both directions.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let peers = Peers { node: setup::node()?, python: setup::python()? };
    programs::build(&[&arguments.echo, &arguments.cat])?;
    let echo = Program::new("echo", arguments.echo.as_deref())?;
    let cat = Program::new("cat", arguments.cat.as_deref())?;
    echo::run(&echo, &peers)?;
    cat::run(&cat, &peers)?;
    deflate::serve(&echo, &peers)?;
    deflate::connect(&cat, &peers)
}
