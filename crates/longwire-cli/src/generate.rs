//! Completions and the man page, made from the definition of the command line.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Cli;
use crate::status::Failure;

/// Prints the completions for a shell.
///
/// # Errors
///
/// If standard output cannot be written to.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "longwire", &mut text);
    print(&text)
}

/// Prints the man page of the program, or of one of its commands.
///
/// # Errors
///
/// As for [`completions`].
pub(crate) fn man(command: Option<&str>) -> Result<(), Failure> {
    let mut program = Cli::command();
    program.build();
    let page = command.and_then(|name| program.find_subcommand(name)).unwrap_or(&program);
    let mut text = Vec::new();
    let rendered = Man::new(page.clone()).render(&mut text);
    rendered.map_err(|error| Failure::other("cannot write the man page", &error))?;
    print(&text)
}

fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::other("cannot write to standard output", &error))
        }
        _ => Ok(()),
    }
}
