//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::command::HELP;
use crate::status;
use crate::style::ColorChoice;

mod bench;
mod listen;
mod values;

pub(crate) use bench::BenchArgs;
pub(crate) use listen::{Address, ListenArgs};
pub(crate) use values::{Cookie, Header, Login};

use values::{duration, positive_rate, size};

/// WebSocket on the command line
///
/// `longwire URL` connects. On a terminal it has a prompt: each line that you type is sent as a text message, and
/// messages, pings and the close are shown. In a pipe, each line of standard input is sent as a message, and each
/// message is written to standard output as a line.
#[derive(Debug, Parser)]
#[command(
    name = "longwire",
    bin_name = "longwire",
    version,
    after_help = "See --help for commands at the prompt, examples and exit statuses.",
    after_long_help = after_help(),
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Returns the help that follows the options.
fn after_help() -> String {
    let commands: Vec<_> = HELP.lines().map(|line| format!("  {line}")).collect();
    let commands = commands.join("\n");
    format!("Commands at the prompt:\n{commands}\n\n{EXAMPLES}\n\n{}", status::TABLE)
}

const EXAMPLES: &str = "\
Examples:
  longwire wss://example.com/chat
  longwire -x '{\"subscribe\":\"news\"}' --json --count 1 wss://example.com
  jq -c '.[]' in.json | longwire --wait 2 ws://localhost:8080 > out
  longwire --unix /run/app.sock ws://localhost/events
  longwire listen --echo 8080
  longwire bench --connections 50 ws://localhost:8080";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Accept connections: show messages, echo them, pass them on, or run a command for each client
    Listen(ListenArgs),
    /// Load an echo server with messages, and measure the round trips
    Bench(BenchArgs),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page, in roff
    Man {
        /// The command that the page is about, instead of `longwire` itself
        #[arg(value_parser = ["listen", "bench"])]
        command: Option<String>,
    },
}

/// A connection and what is done with it.
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) endpoint: Endpoint,
    #[command(flatten)]
    pub(crate) messages: MessageArgs,
    #[command(flatten)]
    pub(crate) display: DisplayArgs,
}

/// The server, and the way to it.
#[derive(Clone, Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Endpoint {
    /// A ws:// or wss:// URL; ws:// may be left out. `ws+unix:/path/of/socket:/path` is a Unix socket
    #[arg(required = true)]
    pub(crate) url: Option<String>,
    /// Add a header to the request; may be given several times
    #[arg(short = 'H', long, value_name = "NAME: VALUE", help_heading = REQUEST)]
    pub(crate) header: Vec<Header>,
    /// Set the Origin header
    #[arg(short, long, help_heading = REQUEST)]
    pub(crate) origin: Option<String>,
    /// Offer a subprotocol; may be given several times, the preferred one first
    #[arg(short, long, value_name = "NAME", help_heading = REQUEST)]
    pub(crate) subprotocol: Vec<String>,
    /// Send a cookie; may be given several times
    #[arg(long, value_name = "NAME=VALUE", help_heading = REQUEST)]
    pub(crate) cookie: Vec<Cookie>,
    /// Log in with Basic authentication. Without a password, asks for it on the terminal
    #[arg(long, visible_alias = "basic-auth", value_name = "USER[:PASSWORD]", help_heading = REQUEST)]
    pub(crate) auth: Option<Login>,
    /// Log in with a bearer token
    #[arg(long, value_name = "TOKEN", conflicts_with = "auth", help_heading = REQUEST)]
    pub(crate) bearer: Option<String>,
    /// Follow redirects
    #[arg(short = 'L', long, conflicts_with = "h2", help_heading = REQUEST)]
    pub(crate) location: bool,
    /// The most redirects to follow; implies --location
    #[arg(long, value_name = "N", conflicts_with = "h2", help_heading = REQUEST)]
    pub(crate) max_redirects: Option<usize>,
    /// Do not offer to compress messages (permessage-deflate)
    #[arg(long, help_heading = REQUEST)]
    pub(crate) no_deflate: bool,
    /// Connect through this proxy: http://, https://, socks5:// or socks5h://. Default: `http_proxy`, `https_proxy`,
    /// `all_proxy` and `no_proxy` of the environment
    #[arg(long, value_name = "URL", conflicts_with_all = ["unix", "h2"], help_heading = CONNECTION)]
    pub(crate) proxy: Option<String>,
    /// Connect directly, whatever the environment says
    #[arg(long, conflicts_with = "proxy", help_heading = CONNECTION)]
    pub(crate) no_proxy: bool,
    /// Trust only the certificates in this PEM file
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    pub(crate) ca: Option<PathBuf>,
    /// Present this certificate chain, in PEM
    #[arg(long, value_name = "FILE", requires = "key", help_heading = CONNECTION)]
    pub(crate) cert: Option<PathBuf>,
    /// The private key of --cert, in PEM
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = CONNECTION)]
    pub(crate) key: Option<PathBuf>,
    /// Accept any certificate: expired, for another host, or issued by anyone. The connection is then not secure
    #[arg(short = 'k', long, conflicts_with = "ca", help_heading = CONNECTION)]
    pub(crate) insecure: bool,
    /// Connect to this Unix socket; the URL still determines the request
    #[arg(long, value_name = "PATH", help_heading = CONNECTION)]
    pub(crate) unix: Option<PathBuf>,
    /// Connect over HTTP/2 (RFC 8441), directly: proxies of the environment are not used
    #[arg(long, help_heading = CONNECTION)]
    pub(crate) h2: bool,
    /// The time limit for connecting, in seconds unless a unit is given (ms, s, m, h)
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10", help_heading = CONNECTION)]
    pub(crate) timeout: Duration,
    /// Ping a server that was silent for this long, and give the connection up if no answer follows within the same
    /// time
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = CONNECTION)]
    pub(crate) keepalive: Option<Duration>,
    /// The longest message to accept, in bytes unless a unit is given (k, M, G: powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256M", help_heading = CONNECTION)]
    pub(crate) max_size: usize,
}

/// The messages to send and to await.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct MessageArgs {
    /// Send this message instead of standard input, then quit; may be given several times
    #[arg(short = 'x', long, value_name = "TEXT", help_heading = MESSAGES)]
    pub(crate) execute: Vec<String>,
    /// Send binary messages, and write messages as they are, without line breaks. A pipe is sent in pieces of up to
    /// 64 KiB, a typed line without its line break
    #[arg(short, long, conflicts_with = "hex", help_heading = MESSAGES)]
    pub(crate) binary: bool,
    /// Read each line as hexadecimal digits of a binary message, and write binary messages in the same way
    #[arg(long, help_heading = MESSAGES)]
    pub(crate) hex: bool,
    /// Indent messages that are JSON
    #[arg(short, long, conflicts_with = "binary", help_heading = MESSAGES)]
    pub(crate) json: bool,
    /// Understand /ping, /close and the other commands of the prompt in a pipe and in -x as well
    #[arg(long, conflicts_with = "binary", help_heading = MESSAGES)]
    pub(crate) slash: bool,
    /// After the end of the input, close as soon as no message has arrived for this long
    #[arg(short, long, value_name = "TIME", value_parser = duration, default_value = "0.5", help_heading = MESSAGES)]
    pub(crate) wait: Duration,
    /// After the end of the input, wait for the server to close
    #[arg(short, long, conflicts_with = "wait", help_heading = MESSAGES)]
    pub(crate) no_close: bool,
    /// Close after this number of messages has arrived
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = MESSAGES)]
    pub(crate) count: Option<u64>,
    /// Send at most this number of messages per second
    #[arg(short, long, value_name = "N", value_parser = positive_rate, help_heading = MESSAGES)]
    pub(crate) rate: Option<f64>,
    /// Connect again whenever the connection is lost, and send again what was not delivered. Waits half a second
    /// before the first attempt, and at most 30 s before later ones
    #[arg(long, conflicts_with = "h2", help_heading = CONNECTION)]
    pub(crate) reconnect: bool,
}

/// What is shown.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct DisplayArgs {
    /// Show the time of each message
    #[arg(short, long, help_heading = DISPLAY)]
    pub(crate) timestamps: bool,
    /// Print the numbers, sizes and rates of messages at the end, on standard error
    #[arg(long, help_heading = DISPLAY)]
    pub(crate) stats: bool,
    /// Use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value_t, help_heading = DISPLAY)]
    pub(crate) color: ColorChoice,
    /// Show messages and errors only, not pings, pongs and the close
    #[arg(short, long, conflicts_with = "verbose", help_heading = DISPLAY)]
    pub(crate) quiet: bool,
    /// Print the response's headers; and in a pipe, pings, pongs and the close, all on standard error
    #[arg(short, long, help_heading = DISPLAY)]
    pub(crate) verbose: bool,
    /// Keep no history of typed lines. Default: the last 1000, in `$XDG_STATE_HOME/longwire/history`
    #[arg(long, help_heading = DISPLAY)]
    pub(crate) no_history: bool,
}

const REQUEST: &str = "Request";
const CONNECTION: &str = "Connection";
const MESSAGES: &str = "Messages";
const DISPLAY: &str = "Display";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_url_and_subcommands_share_the_line() {
        let cli = Cli::try_parse_from(["longwire", "ws://a", "-x", "hello", "-x", "you"]).unwrap();
        assert_eq!(cli.connect.endpoint.url.as_deref(), Some("ws://a"));
        assert_eq!(cli.connect.messages.execute, ["hello", "you"]);
        let cli = Cli::try_parse_from(["longwire", "listen", "--echo", "8080"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Listen(_))));
    }

    #[test]
    fn contradictions_are_refused() {
        for (case, words, expected) in [
            ("no URL", &["--stats"][..], ErrorKind::MissingRequiredArgument),
            ("certificates of two kinds", &["a", "--ca", "f", "--insecure"], ErrorKind::ArgumentConflict),
            ("a certificate without a key", &["a", "--cert", "f"], ErrorKind::MissingRequiredArgument),
            ("a proxy to a Unix socket", &["a", "--unix", "f", "--proxy", "p"], ErrorKind::ArgumentConflict),
            ("two forms of binary", &["a", "--binary", "--hex"], ErrorKind::ArgumentConflict),
            ("no time", &["a", "--timeout", "soon"], ErrorKind::ValueValidation),
            ("no messages", &["a", "--count", "0"], ErrorKind::ValueValidation),
            ("no rate", &["a", "--rate", "0"], ErrorKind::ValueValidation),
            ("a header without a colon", &["a", "-H", "name"], ErrorKind::ValueValidation),
            ("a cookie without a value", &["a", "--cookie", "name"], ErrorKind::ValueValidation),
            ("two modes of listening", &["listen", "--echo", "--broadcast"], ErrorKind::ArgumentConflict),
        ] {
            let error = Cli::try_parse_from([&["longwire"], words].concat()).unwrap_err();
            assert_eq!(error.kind(), expected, "{case}");
            assert_eq!(error.exit_code(), i32::from(status::USAGE), "{case}");
        }
    }
}
