//! Options of `longwire listen`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::values::size;
use super::{DISPLAY, DisplayArgs};

/// Options of `longwire listen`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Without --echo, --broadcast and --exec, messages are shown, and each line of standard input is sent to every client. \
Ctrl-C closes every connection with code 1001, and quits.

Examples:
  longwire listen 8080
  longwire listen --broadcast 0.0.0.0:8080
  longwire listen --exec 'tr a-z A-Z' 8080")]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct ListenArgs {
    /// The address and port, or the port only, to listen on the loopback address. With port 0, any free port
    #[arg(default_value = "127.0.0.1:8080", value_name = "[ADDRESS:]PORT")]
    pub(crate) address: Address,
    /// Listen on a Unix socket, which must not exist yet
    #[arg(long, value_name = "PATH", conflicts_with = "address")]
    pub(crate) unix: Option<PathBuf>,
    /// Send each message back to its sender
    #[arg(long, group = "mode")]
    pub(crate) echo: bool,
    /// Send each message to all clients, its sender included
    #[arg(long, group = "mode")]
    pub(crate) broadcast: bool,
    /// Run this shell command for each client: messages are its standard input, and its standard output is sent as
    /// messages, line by line
    #[arg(long, value_name = "COMMAND", group = "mode")]
    pub(crate) exec: Option<String>,
    /// Send binary messages. From and to a command, the bytes are passed on as they are
    #[arg(short, long)]
    pub(crate) binary: bool,
    /// Accept this subprotocol; may be given several times, the preferred one first
    #[arg(short, long, value_name = "NAME")]
    pub(crate) subprotocol: Vec<String>,
    /// Accept pages from this origin only; may be given several times. Default: the server's own address, and clients
    /// that are no browsers
    #[arg(short, long)]
    pub(crate) origin: Vec<String>,
    /// Accept pages from anywhere: any page that a browser on this machine shows can then connect
    #[arg(long, conflicts_with = "origin")]
    pub(crate) any_origin: bool,
    /// Speak TLS with this certificate chain, in PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The private key of --cert, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Decline to compress messages
    #[arg(long)]
    pub(crate) no_deflate: bool,
    /// The most clients at a time; others are refused with status 503
    #[arg(long, value_name = "N")]
    pub(crate) max_clients: Option<usize>,
    /// The longest message to accept, in bytes unless a unit is given (k, M, G: powers of 1024)
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "256M")]
    pub(crate) max_size: usize,
    /// Indent messages that are JSON
    #[arg(short, long, help_heading = DISPLAY)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) display: DisplayArgs,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A name to resolve, and a port.
    Name(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
            return Ok(Self::Ip(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        match text.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && !name.contains(':') && port.parse::<u16>().is_ok() => {
                Ok(Self::Name(text.to_owned()))
            }
            _ => Err("an address has the form PORT, ADDRESS:PORT or [IPV6-ADDRESS]:PORT".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_loopback() {
        let ip = |text: &str| Ok(Address::Ip(text.parse().unwrap()));
        for (text, expected) in [
            ("8080", ip("127.0.0.1:8080")),
            (":8080", ip("127.0.0.1:8080")),
            ("0.0.0.0:80", ip("0.0.0.0:80")),
            ("[::1]:80", ip("[::1]:80")),
            ("localhost:80", Ok(Address::Name("localhost:80".to_owned()))),
            ("localhost", Err(())),
            ("99999", Err(())),
            ("::1:80", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(text.parse::<Address>().map_err(drop), expected, "{text:?}");
        }
    }
}
