//! Selects the certificate for a client by the name that it requests, and replaces certificates whose files changed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use longwire_connection::causes::WithCauses;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tracing::{info, warn};

use super::certificate::Fingerprint;
use super::names::Name;
use super::{TlsCertificate, TlsError};

/// The certificates of a server.
#[derive(Debug)]
pub(super) struct Resolver {
    entries: Vec<Entry>,
    /// The index of the certificate for each name and wildcard.
    by_name: HashMap<String, usize>,
    /// The certificate for clients that request no name, and for names that are not listed.
    default: Option<usize>,
    refuses_unknown_names: bool,
    provider: Arc<CryptoProvider>,
    /// Held while files are read.
    reading: Mutex<()>,
}

/// One certificate.
#[derive(Debug)]
struct Entry {
    names: Vec<Name>,
    current: RwLock<Arc<CertifiedKey>>,
    /// `None` if the certificate was given as PEM.
    files: Option<Files>,
}

#[derive(Debug)]
struct Files {
    certificate: TlsCertificate,
    fingerprint: Fingerprint,
    seen: Mutex<Seen>,
}

/// The outcome of the last look at files.
#[derive(Clone, Copy, Debug)]
struct Seen {
    fingerprint: u64,
    is_in_use: bool,
}

/// The names of certificates, before the certificates are read.
#[derive(Default)]
pub(super) struct Assignment {
    pub(super) named: Vec<(Vec<Name>, TlsCertificate)>,
    pub(super) default: Option<TlsCertificate>,
    pub(super) refuses_unknown_names: bool,
}

impl Resolver {
    /// Reads all certificates, blocking.
    pub(super) fn new(assigned: Assignment, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let Assignment { mut named, default, refuses_unknown_names } = assigned;
        let default = default.map(|certificate| {
            named.iter().position(|(_, other)| *other == certificate).unwrap_or_else(|| {
                named.push((Vec::new(), certificate));
                named.len() - 1
            })
        });
        let mut by_name = HashMap::new();
        let mut entries = Vec::with_capacity(named.len());
        for (names, certificate) in named {
            for name in &names {
                if by_name.insert(name.as_str().to_owned(), entries.len()).is_some() {
                    return Err(TlsError::RepeatedName { name: name.to_string() });
                }
            }
            entries.push(Entry::new(names, certificate, &provider)?);
        }
        if entries.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let reading = Mutex::default();
        Ok(Self { entries, by_name, default, refuses_unknown_names, provider, reading })
    }

    pub(super) fn has_files(&self) -> bool {
        self.entries.iter().any(|entry| entry.files.is_some())
    }

    fn find(&self, name: Option<&str>) -> Option<usize> {
        let Some(name) = name else { return self.default };
        let known = self.by_name.get(name).or_else(|| self.by_name.get(&Name::wildcard(name)?));
        known.copied().or_else(|| self.default.filter(|_| !self.refuses_unknown_names))
    }

    /// Reads the files again, blocking, and uses those that changed.
    ///
    /// # Errors
    ///
    /// The first error. The certificates without an error are in use nevertheless.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let _reading = lock(&self.reading);
        self.reload_each()
    }

    /// Does the same as [`reload`](Self::reload), unless another thread is at it, perhaps for long, because a file
    /// system does not answer. Errors are only logged.
    pub(super) fn reload_unless_busy(&self) {
        let _reading = match self.reading.try_lock() {
            Err(TryLockError::WouldBlock) => return,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Ok(reading) => reading,
        };
        let _ = self.reload_each();
    }

    fn reload_each(&self) -> Result<(), TlsError> {
        self.entries.iter().map(|entry| entry.reload(&self.provider)).fold(Ok(()), Result::and)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let entry = &self.entries[self.find(hello.server_name())?];
        Some(Arc::clone(&entry.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Entry {
    fn new(
        names: Vec<Name>,
        certificate: TlsCertificate,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let fingerprint = Fingerprint::default();
        let content = certificate.read();
        let seen = Mutex::new(Seen { fingerprint: fingerprint.of(&content), is_in_use: true });
        let current = RwLock::new(Arc::new(content?.certify(&names, provider)?));
        let files = certificate.file().is_some().then_some(Files { certificate, fingerprint, seen });
        Ok(Self { names, current, files })
    }

    fn reload(&self, provider: &CryptoProvider) -> Result<(), TlsError> {
        let Some(files) = &self.files else { return Ok(()) };
        let content = files.certificate.read();
        let mut seen = lock(&files.seen);
        let fingerprint = files.fingerprint.of(&content);
        let is_news = fingerprint != seen.fingerprint;
        if !is_news && seen.is_in_use {
            return Ok(());
        }
        let certified = content.and_then(|content| content.certify(&self.names, provider));
        *seen = Seen { fingerprint, is_in_use: certified.is_ok() };
        let file = files.certificate.file().map(PathBuf::from).unwrap_or_default();
        match certified {
            Ok(certified) => {
                info!(file = %file.display(), "a certificate was reloaded");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
                Ok(())
            }
            Err(error) => {
                if is_news {
                    let error = WithCauses(&error);
                    warn!(
                        file = %file.display(),
                        %error,
                        "the files of a certificate cannot be used, the previous certificate stays"
                    );
                }
                Err(error)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, any(feature = "ring", feature = "aws-lc-rs")))]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::super::provider::provider;
    use super::*;

    /// A network file system may not answer for minutes. Only one handshake may wait for it.
    #[test]
    fn while_files_are_read_no_other_thread_waits_for_them() {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pem = TlsCertificate::from_pem(certified.cert.pem(), certified.signing_key.serialize_pem());
        let assignment = Assignment { default: Some(pem), ..Assignment::default() };
        let resolver = Arc::new(Resolver::new(assignment, provider().unwrap()).unwrap());
        let reading = lock(&resolver.reading);
        let (done, ended) = mpsc::channel();
        let other = Arc::clone(&resolver);
        thread::spawn(move || {
            other.reload_unless_busy();
            let _ = done.send(());
        });
        ended.recv_timeout(Duration::from_secs(10)).expect("it does not wait");
        drop(reading);
    }
}
