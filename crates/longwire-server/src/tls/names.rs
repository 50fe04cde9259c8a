//! The names that a certificate is selected by.

use std::fmt;

use tokio_rustls::rustls::pki_types::DnsName;

use super::TlsError;

/// A host name, or a wildcard such as `*.example.com`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(String);

impl Name {
    /// # Errors
    ///
    /// [`TlsError::InvalidName`] for an address, or a name with a `*` that is not the whole first label.
    pub(super) fn parse(text: &str) -> Result<Self, TlsError> {
        let name = Self(text.to_ascii_lowercase());
        let suffix = name.0.strip_prefix("*.").unwrap_or(&name.0);
        match DnsName::try_from(suffix) {
            // A name at the end of which is a dot is never sent (RFC 6066 §3).
            Ok(_) if !suffix.ends_with('.') => Ok(name),
            _ => Err(TlsError::InvalidName { name: text.to_owned() }),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns a host name that this name covers, and that no certificate has as a name of its own.
    pub(super) fn example(&self) -> DnsName<'static> {
        let name = self.0.strip_prefix('*').map(|suffix| format!("xn--longwire-any{suffix}"));
        DnsName::try_from(name.unwrap_or_else(|| self.0.clone())).expect("`parse` checked the name")
    }

    /// Returns the wildcard that covers a host name, which must have more than one label: a wildcard replaces
    /// exactly one (RFC 6125 §6.4.3).
    pub(super) fn wildcard(host: &str) -> Option<String> {
        let (_, suffix) = host.split_once('.')?;
        Some(format!("*.{suffix}"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
