//! Exit statuses, and the failures that lead to them.

use std::error::Error as StdError;
use std::fmt;
use std::iter::successors;

use longwire::CloseCode;
use longwire::connection::Error;
use longwire::reconnect::Outage;

use crate::escape;

/// Anything that has no status of its own.
pub(crate) const FAILURE: u8 = 1;
/// The command line is wrong, as clap has it.
pub(crate) const USAGE: u8 = 2;
/// There is no connection: no address, no answer, a certificate that is not trusted, or a refusal.
pub(crate) const NOT_CONNECTED: u8 = 3;
/// A second Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// The table for `--help` and the man page.
pub(crate) const TABLE: &str = "\
Exit status:
  0    the connection was closed with code 1000 or none, or by this end
  1    another failure, such as input that cannot be sent
  2    wrong usage
  3    no connection: name, address, proxy, certificate, refusal or time limit
  101 to 115
       the connection was closed with code 1001 to 1015: the last two digits.
       106 is a connection that was lost, or given up by a time limit
  119  closed with another code below 3000
  120  closed with a code from 3000 to 3999, of libraries and frameworks
  121  closed with a code from 4000 to 4999, of applications
  130  interrupted a second time";

/// The status of a connection closed with this code.
pub(crate) fn of_code(code: CloseCode) -> u8 {
    match code.value() {
        1000 | 1005 => 0,
        code @ 1001..=1015 => u8::try_from(code - 900).unwrap_or(FAILURE),
        3000..=3999 => 120,
        4000.. => 121,
        _ => 119,
    }
}

fn of_error(error: &Error) -> u8 {
    error.close_code().map_or(FAILURE, of_code)
}

fn of_outage(outage: &Outage) -> u8 {
    match outage {
        Outage::Connect(_) => NOT_CONNECTED,
        Outage::Closed(frame) => of_code(frame.code),
        Outage::Lost(error) => of_error(error),
        _ => FAILURE,
    }
}

/// A failure, as the user is told of it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: u8,
    /// A sentence without its full stop, safe for a terminal.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(status: u8, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// A command line that clap accepts and this program does not.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// No connection.
    pub(crate) fn not_connected(error: &(dyn StdError + 'static)) -> Self {
        Self::new(NOT_CONNECTED, chain(error))
    }

    /// Anything that has no status of its own.
    pub(crate) fn other(context: &str, error: &(dyn StdError + 'static)) -> Self {
        Self::new(FAILURE, format!("{context}: {}", chain(error)))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(of_error(&error), chain(&error))
    }
}

impl From<Outage> for Failure {
    fn from(outage: Outage) -> Self {
        Self::new(of_outage(&outage), chain(&outage))
    }
}

/// Formats an error with its causes, in one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let causes = successors(Some(error), |error| (*error).source());
    let mut shown: Vec<String> = causes.map(ToString::to_string).collect();
    shown.dedup_by(|cause, error| error.contains(cause.as_str()));
    escape::line(&shown.join(": ")).into_owned()
}

#[cfg(test)]
mod tests {
    use longwire::CloseFrame;

    use super::*;

    #[test]
    fn statuses_follow_close_codes() {
        for (code, status) in [
            (1000, 0),
            (1001, 101),
            (1005, 0),
            (1006, 106),
            (1011, 111),
            (1015, 115),
            (1016, 119),
            (2999, 119),
            (3000, 120),
            (3999, 120),
            (4000, 121),
            (4999, 121),
        ] {
            assert_eq!(of_code(CloseCode::new(code)), status, "{code}");
        }
    }

    #[test]
    fn failures_have_the_code_of_their_end() {
        assert_eq!(Failure::from(Error::Lost).status, 106);
        assert_eq!(Failure::from(Error::NotText).status, FAILURE);
        assert_eq!(Failure::from(Outage::Lost(Error::PeerGone)).status, 106);
        assert_eq!(
            Failure::from(Outage::Closed(CloseFrame::new(CloseCode::NO_STATUS_RECEIVED, ""))).status,
            0
        );
    }
}
