//! Subprotocols: their names, and the list that a client offers (RFC 6455 §1.9, §4.1 step 10).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderValue;

use crate::field::{ascii_value, is_token, trim};
use crate::text::PeerText;

/// The name of a subprotocol: a token, compared case-sensitively.
///
/// It cannot contain a comma, a space or a line break, so it can never turn into two names or two header fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subprotocol(Arc<str>);

impl Subprotocol {
    /// Creates a subprotocol after checking its name.
    ///
    /// # Errors
    ///
    /// [`InvalidSubprotocol`] unless `name` is a token (RFC 9110 §5.6.2).
    pub fn new(name: &str) -> Result<Self, InvalidSubprotocol> {
        if is_token(name.as_bytes()) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidSubprotocol { name: PeerText::new(name) })
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value of a `Sec-WebSocket-Protocol` field with only this name.
    pub fn to_header_value(&self) -> HeaderValue {
        ascii_value(&self.0)
    }

    /// Returns the value of a `Sec-WebSocket-Protocol` field that offers `names`; `None` if there are none.
    pub fn list_to_header_value(names: &[Self]) -> Option<HeaderValue> {
        let list = names.iter().map(Self::as_str).collect::<Vec<_>>().join(", ");
        (!list.is_empty()).then(|| ascii_value(&list))
    }

    /// Reads the list in all `Sec-WebSocket-Protocol` fields of a request, in the client's order of preference.
    ///
    /// This is stricter than the general list syntax of HTTP, because only WebSocket clients write the field: an
    /// empty element is an error.
    pub fn parse_list<'a>(
        values: impl IntoIterator<Item = &'a HeaderValue>,
    ) -> Result<Vec<Self>, SubprotocolError> {
        let mut names = Vec::new();
        let elements = values.into_iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
        for element in elements {
            let name = trim(element);
            let name = std::str::from_utf8(name)
                .ok()
                .and_then(|name| Self::new(name).ok())
                .ok_or_else(|| SubprotocolError::NotAToken { name: PeerText::new(name) })?;
            names.push(name);
        }
        match first_duplicate(&names) {
            // "The elements that comprise this value MUST be non-empty strings ... and MUST all be unique strings"
            // (RFC 6455 §4.1)
            Some(name) => Err(SubprotocolError::Repeated { name: PeerText::new(name.as_str()) }),
            None => Ok(names),
        }
    }
}

impl fmt::Display for Subprotocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Subprotocol {
    type Err = InvalidSubprotocol;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl TryFrom<&str> for Subprotocol {
    type Error = InvalidSubprotocol;

    fn try_from(name: &str) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl TryFrom<String> for Subprotocol {
    type Error = InvalidSubprotocol;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name)
    }
}

impl AsRef<str> for Subprotocol {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Subprotocol {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Subprotocol {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// A name that is not valid for a subprotocol.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is not a token and cannot name a subprotocol")]
pub struct InvalidSubprotocol {
    name: PeerText,
}

longwire_frame::debug_with_causes!(InvalidSubprotocol);

/// A `Sec-WebSocket-Protocol` list that breaks its grammar (RFC 6455 §11.3.4).
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubprotocolError {
    /// An element is empty or contains a character that is not allowed in a token.
    #[error("{name} in the list of subprotocols is not a token")]
    NotAToken {
        /// The element.
        name: PeerText,
    },
    /// A name occurs twice.
    #[error("subprotocol {name} occurs twice")]
    Repeated {
        /// The name.
        name: PeerText,
    },
}

longwire_frame::debug_with_causes!(SubprotocolError);

/// Finds a name that occurs twice, in O(n log n) steps: a request head can hold thousands of names.
pub(crate) fn first_duplicate(names: &[Subprotocol]) -> Option<&Subprotocol> {
    let mut seen = BTreeSet::new();
    names.iter().find(|name| !seen.insert(*name))
}
