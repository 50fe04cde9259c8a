//! The exit of programs that read standard input when the server closes first, for every kind of standard input.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use xtask::{
    process::{PATIENCE, Running},
    programs::Program,
    workspace,
};

use super::python;

/// The standard input of a program.
#[derive(Clone, Copy, Debug)]
enum Input {
    /// A pipe that is neither written to nor closed.
    Open,
    /// None at all.
    Closed,
    /// `/dev/null`.
    Null,
    /// A terminal without any input.
    Terminal,
    /// A pipe with one line, which then ends.
    Line,
}

const INPUTS: [Input; 5] = [Input::Open, Input::Closed, Input::Null, Input::Terminal, Input::Line];

impl Input {
    /// Returns a command that runs a program with this input; `sh` receives the program's words as its arguments.
    fn command(self, program: &Command) -> Command {
        let words: Vec<_> = std::iter::once(program.get_program()).chain(program.get_args()).collect();
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).args(&words);
            command
        };
        match self {
            Self::Open => shell(r#"exec "$0" "$@""#),
            Self::Closed => shell(r#"exec "$0" "$@" <&-"#),
            Self::Null => shell(r#"exec "$0" "$@" </dev/null"#),
            Self::Line => shell(r#"echo hello | "$0" "$@""#),
            // `script` takes a command line instead of words, and ends with the status of the program.
            Self::Terminal => {
                let quoted: Vec<_> = words.iter().map(|word| format!("'{}'", word.display())).collect();
                let mut command = Command::new("script");
                command.args(["--quiet", "--return", "--flush", "--command"]);
                command.arg(quoted.join(" ")).arg("/dev/null");
                command
            }
        }
    }

    /// Returns whether the program finds the end of the input at once.
    fn has_ended(self) -> bool {
        matches!(self, Self::Closed | Self::Null | Self::Line)
    }
}

/// Checks that `cat` exits with 0 if the server closes with 1000, and with 1 if it closes with another code or
/// disappears.
#[test]
fn cat() -> Result<()> {
    let mut certificates = python()?.script("python/certificates.py");
    let directory = workspace::target()?.join("endings");
    fs_err::create_dir_all(&directory)?;
    Running::start("certificates.py", certificates.arg(&directory))?.succeed(PATIENCE)?;
    let file = |name: &str| directory.join(name).display().to_string();
    let files = [file("valid.pem"), file("valid.key")];
    for (files, options) in [(&[][..], &[][..]), (&files[..], &["--ca", &file("ca.pem")])] {
        check("cat", options, files, |_, path| i32::from(path != "1000"))?;
    }
    Ok(())
}

/// Checks the same of `pipe`, which closes the connection itself at the end of its input, and exits with 0.
#[test]
fn pipe() -> Result<()> {
    check("pipe", &[], &[], |input, path| i32::from(path != "1000" && !input.has_ended()))
}

/// Checks that `pipe` exits with 0 if its input ends after the server has closed with 1000, while `pipe` cannot yet
/// write what it received: its own close then comes too late.
#[test]
fn pipe_whose_input_ends_after_the_connection() -> Result<()> {
    let server = Running::start("ending_server.py", &mut python()?.script("python/ending_server.py"))?;
    let program = Program::new("pipe", None)?.command();
    let mut command = Command::new("bash");
    // The 64 KiB that a pipe of Linux holds are there before its output, and nobody reads them for a second.
    let script = r#"{ head -c 65536 /dev/zero; exec "$0" "$1"; } | { sleep 1; wc -c; }"#;
    command.args(["-o", "pipefail", "-c", script]);
    command.arg(program.get_program()).arg(format!("{}/message", server.url()?));
    let pipe = Running::start("pipe", &mut command)?;
    server.wait_for("that the client has answered", |line| (line == "answered").then_some(()))?;
    let printed = pipe.succeed(PATIENCE)?;
    let expected = (65536 + "message".len()).to_string();
    ensure!(printed == [expected.as_str()], "expected {expected} bytes of output: {printed:?}");
    Ok(())
}

/// Runs a program with each kind of input against each way in which a server ends.
fn check(
    name: &'static str,
    options: &[&str],
    files: &[String],
    status: impl Fn(Input, &str) -> i32,
) -> Result<()> {
    let server = || -> Result<Running> {
        let mut server = python()?.script("python/ending_server.py");
        Running::start("ending_server.py", server.args(files))
    };
    let shared = server()?;
    let shared_url = shared.url()?;
    for path in ["1000", "1011", "cut", "kill"] {
        for input in INPUTS {
            // A server that is killed cannot be shared.
            let own = (path == "kill").then(server).transpose()?;
            let url = own.as_ref().map_or_else(|| Ok(shared_url.clone()), Running::url)?;
            let case = format!("{input:?} standard input and {url}/{path}");
            let mut program = Program::new(name, None)?.command();
            program.args(options).arg(format!("{url}/{path}"));
            let begun = Instant::now();
            let ended = Running::start(name, &mut input.command(&program))?
                .finish_with_open_stdin(PATIENCE)
                .with_context(|| case.clone())?;
            let (took, expected) = (begun.elapsed(), status(input, path));
            if ended.status.code() != Some(expected) || took > LIMIT {
                let (status, said) = (ended.status, [ended.lines.join("\n"), ended.stderr].concat());
                bail!(
                    "{case}: {status} after {took:?}, expected {expected} within {LIMIT:?}: {}",
                    said.trim()
                );
            }
        }
    }
    Ok(())
}

/// The server's delay and the exit take less than half a second; the rest is for a busy machine.
const LIMIT: Duration = Duration::from_secs(3);
