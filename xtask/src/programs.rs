//! The examples, and the program `longwire`, as programs under test.

use std::{ffi::OsString, process::Command};

use anyhow::{Result, anyhow};

use crate::{cargo, workspace};

/// A program, or its stand-in.
///
/// A stand-in is a command line of words without quotes. It shows that a check itself works: that it passes with a
/// correct program of another implementation, and fails with a broken one.
pub struct Program {
    name: &'static str,
    words: Vec<OsString>,
}

impl Program {
    /// Returns the program of the example `name`, which must have been built, or the stand-in.
    pub fn new(name: &'static str, stand_in: Option<&str>) -> Result<Self> {
        Self::built(name, stand_in, "debug/examples")
    }

    /// The same, optimized.
    pub(crate) fn optimized(name: &'static str, stand_in: Option<&str>) -> Result<Self> {
        Self::built(name, stand_in, "checks/examples")
    }

    /// Returns the program of `longwire-cli`, which must have been built, or the stand-in.
    pub(crate) fn tool(stand_in: Option<&str>) -> Result<Self> {
        Self::built("longwire", stand_in, "debug")
    }

    fn built(name: &'static str, stand_in: Option<&str>, directory: &str) -> Result<Self> {
        let words: Vec<OsString> = if let Some(words) = stand_in {
            words.split_whitespace().map(Into::into).collect()
        } else {
            vec![workspace::target()?.join(directory).join(name).into()]
        };
        if words.is_empty() {
            Err(anyhow!("the stand-in for {name} is empty"))
        } else {
            Ok(Self { name, words })
        }
    }

    /// Returns the name of the program.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns a command that runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command
    }
}

/// Builds the programs, unless every required one has a stand-in.
pub(crate) fn build(stand_ins: &[&Option<String>]) -> Result<()> {
    if stand_ins.iter().all(|stand_in| stand_in.is_some()) { Ok(()) } else { cargo::build_examples() }
}
