//! The meaning of TLS errors for a client: whether another attempt can succeed, and what would help.

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::TlsError;

impl TlsError {
    /// Returns whether another attempt can succeed: not if the peer, its certificate or this end's configuration would
    /// have to change first.
    pub(crate) fn is_temporary(&self) -> bool {
        let Self::Handshake(error) = self else { return false };
        match error {
            // The clock of this system may be wrong until it is synchronized.
            Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            ) => true,
            Error::InvalidCertificate(_)
            | Error::InvalidMessage(_)
            | Error::PeerIncompatible(_)
            | Error::PeerMisbehaved(_)
            | Error::NoApplicationProtocol => false,
            Error::AlertReceived(alert) => !FINAL_ALERTS.contains(alert),
            _ => true,
        }
    }
}

/// Returns the end of the sentence about a failed handshake, if something can be recommended.
pub(crate) fn hint(error: &Error) -> &'static str {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            " (TlsConfig::root_certificates_file makes a client trust the issuer of the certificate)"
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            " (the peer does not speak TLS on this port: the scheme without TLS is ws)"
        }
        _ => "",
    }
}

/// The alerts with which a peer refuses this end's certificate, versions or algorithms (RFC 8446 §6.2).
const FINAL_ALERTS: [AlertDescription; 13] = [
    AlertDescription::HandshakeFailure,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::ProtocolVersion,
    AlertDescription::InsufficientSecurity,
    AlertDescription::UnrecognisedName,
    AlertDescription::CertificateRequired,
    AlertDescription::NoApplicationProtocol,
];

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::PeerIncompatible;

    use super::*;

    #[test]
    fn knows_which_failures_may_pass() {
        for (error, temporary) in [
            (Error::InvalidCertificate(CertificateError::Expired), false),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), false),
            (Error::InvalidCertificate(CertificateError::NotValidForName), false),
            (Error::InvalidCertificate(CertificateError::NotValidYet), true),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), false),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), false),
            (Error::AlertReceived(AlertDescription::UnknownCA), false),
            (Error::AlertReceived(AlertDescription::InternalError), true),
            (Error::General("unknown".to_owned()), true),
        ] {
            assert_eq!(TlsError::Handshake(error.clone()).is_temporary(), temporary, "{error}");
        }
        for error in [TlsError::NoRoots, TlsError::ServerName, TlsError::NoCertificate] {
            assert!(!error.is_temporary(), "{error}");
        }
    }
}
