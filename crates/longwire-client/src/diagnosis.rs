//! The meaning of TLS errors for a client: whether another attempt can succeed, and what would help.

use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Returns the error of rustls within an error of a stream, if there is one.
pub(crate) fn within(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Returns whether another handshake can succeed without a change of the configuration of either end.
pub(crate) fn may_pass(error: &Error) -> bool {
    match error {
        // The clock of this system may be wrong until it is synchronized, the peer's certificate is renewed, lists of
        // revoked certificates are published again. Some platforms report all of these as `Other`.
        Error::InvalidCertificate(
            CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
            | CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. }
            | CertificateError::Other(_),
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

/// As [`hint`], for a handshake with a proxy.
pub(crate) fn proxy_hint(error: &Error) -> &'static str {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            " (Client::proxy_tls takes a TlsConfig that trusts the issuer of its certificate)"
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            " (it does not speak TLS on this port: the scheme of a proxy without TLS is http)"
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
    use crate::TlsError;

    #[test]
    fn knows_which_failures_may_pass() {
        for (error, temporary) in [
            (Error::InvalidCertificate(CertificateError::Expired), true),
            (Error::InvalidCertificate(CertificateError::UnknownRevocationStatus), true),
            (Error::InvalidCertificate(CertificateError::Revoked), false),
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
