//! The four parameters of `permessage-deflate`, as shared by offers and answers (RFC 7692 §7.1).
//!
//! Owns the set of parameters, and the values that each may have. Their meaning in an offer belongs to `offer.rs`, in
//! an answer to `negotiate.rs`; splitting a header field into names and values is left to the caller.

use std::fmt;

use crate::WindowBits;

/// The name of the extension, in offers and answers (RFC 7692 §7).
pub const EXTENSION_NAME: &str = "permessage-deflate";

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// A parameter that `permessage-deflate` does not allow.
///
/// In an offer, the server declines the offer and considers the next one; in an answer, the client fails the
/// connection (RFC 7692 §7.1, §5.2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamError {
    /// The name is none of the four.
    #[error("permessage-deflate has no parameter {name:?}")]
    Unknown {
        /// The name, cut after 32 characters.
        name: String,
    },
    /// The parameter appears twice.
    #[error("permessage-deflate parameter {name} is repeated")]
    Repeated {
        /// The parameter.
        name: &'static str,
    },
    /// The parameter has a value but must not have one.
    #[error("permessage-deflate parameter {name} has a value, but takes none")]
    UnexpectedValue {
        /// The parameter.
        name: &'static str,
    },
    /// The parameter has no value but must have one.
    #[error("permessage-deflate parameter {name} has no value, it must be 8 to 15")]
    MissingValue {
        /// The parameter.
        name: &'static str,
    },
    /// The value is not a decimal number from 8 to 15 without leading zeroes.
    #[error("permessage-deflate parameter {name} has a value other than 8 to 15")]
    BadValue {
        /// The parameter.
        name: &'static str,
    },
}

/// The content of `client_max_window_bits`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum ClientWindow {
    /// The parameter is absent.
    #[default]
    Absent,
    /// The parameter has no value, which is allowed only in an offer.
    Any,
    /// The parameter has a value.
    AtMost(WindowBits),
}

/// The parameters of one offer or answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Params {
    pub(crate) server_no_context_takeover: bool,
    pub(crate) client_no_context_takeover: bool,
    pub(crate) server_max_window_bits: Option<WindowBits>,
    pub(crate) client_max_window_bits: ClientWindow,
}

impl Params {
    pub(crate) fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, ParamError> {
        let mut params = Self::default();
        for (name, value) in pairs {
            match name {
                SERVER_NO_CONTEXT_TAKEOVER => {
                    flag(&mut params.server_no_context_takeover, SERVER_NO_CONTEXT_TAKEOVER, value)?;
                }
                CLIENT_NO_CONTEXT_TAKEOVER => {
                    flag(&mut params.client_no_context_takeover, CLIENT_NO_CONTEXT_TAKEOVER, value)?;
                }
                SERVER_MAX_WINDOW_BITS => {
                    let name = SERVER_MAX_WINDOW_BITS;
                    if params.server_max_window_bits.is_some() {
                        return Err(ParamError::Repeated { name });
                    }
                    let value = value.ok_or(ParamError::MissingValue { name })?;
                    params.server_max_window_bits = Some(window_bits(name, value)?);
                }
                CLIENT_MAX_WINDOW_BITS => {
                    let name = CLIENT_MAX_WINDOW_BITS;
                    if params.client_max_window_bits != ClientWindow::Absent {
                        return Err(ParamError::Repeated { name });
                    }
                    params.client_max_window_bits = match value {
                        None => ClientWindow::Any,
                        Some(value) => ClientWindow::AtMost(window_bits(name, value)?),
                    };
                }
                _ => return Err(ParamError::Unknown { name: name.chars().take(32).collect() }),
            }
        }
        Ok(params)
    }

    /// Reads the parameters of an answer, in which `client_max_window_bits` has a value.
    pub(crate) fn parse_answer<'a>(
        pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, ParamError> {
        let params = Self::parse(pairs)?;
        if params.client_max_window_bits == ClientWindow::Any {
            return Err(ParamError::MissingValue { name: CLIENT_MAX_WINDOW_BITS });
        }
        Ok(params)
    }

    /// Returns the value of `client_max_window_bits`.
    pub(crate) fn client_window(self) -> Option<WindowBits> {
        match self.client_max_window_bits {
            ClientWindow::AtMost(bits) => Some(bits),
            ClientWindow::Any | ClientWindow::Absent => None,
        }
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXTENSION_NAME)?;
        if self.server_no_context_takeover {
            write!(f, "; {SERVER_NO_CONTEXT_TAKEOVER}")?;
        }
        if self.client_no_context_takeover {
            write!(f, "; {CLIENT_NO_CONTEXT_TAKEOVER}")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(f, "; {SERVER_MAX_WINDOW_BITS}={bits}")?;
        }
        match self.client_max_window_bits {
            ClientWindow::Absent => Ok(()),
            ClientWindow::Any => write!(f, "; {CLIENT_MAX_WINDOW_BITS}"),
            ClientWindow::AtMost(bits) => write!(f, "; {CLIENT_MAX_WINDOW_BITS}={bits}"),
        }
    }
}

fn flag(seen: &mut bool, name: &'static str, value: Option<&str>) -> Result<(), ParamError> {
    if *seen {
        return Err(ParamError::Repeated { name });
    }
    if value.is_some() {
        return Err(ParamError::UnexpectedValue { name });
    }
    *seen = true;
    Ok(())
}

fn window_bits(name: &'static str, value: &str) -> Result<WindowBits, ParamError> {
    WindowBits::parse(value).ok_or(ParamError::BadValue { name })
}
