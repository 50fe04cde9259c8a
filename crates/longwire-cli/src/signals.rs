//! Signals that ask the program to end.

use tokio::sync::mpsc;

use crate::status::Failure;

/// Sends a value for each SIGINT and each SIGTERM, from now on.
///
/// # Errors
///
/// If the signals cannot be handled.
#[cfg(unix)]
pub(crate) fn forward(to: &mpsc::UnboundedSender<()>) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind).map_err(|error| Failure::other("cannot handle signals", &error))?;
        let to = to.clone();
        tokio::spawn(async move { while signals.recv().await.is_some() && to.send(()).is_ok() {} });
    }
    Ok(())
}

/// Sends a value for each Ctrl-C, from now on.
#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "as on Unix")]
pub(crate) fn forward(to: &mpsc::UnboundedSender<()>) -> Result<(), Failure> {
    let to = to.clone();
    tokio::spawn(async move { while tokio::signal::ctrl_c().await.is_ok() && to.send(()).is_ok() {} });
    Ok(())
}
