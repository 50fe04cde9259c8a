//! Programs of many tasks, run by one thread in virtual time.

use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Runs a program to its end.
///
/// # Panics
///
/// If it waits for something that never happens: then the clock, which advances when nothing else can, reaches the
/// limit.
pub(crate) fn run(program: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime without IO");
    runtime.block_on(async {
        assert!(timeout(LIMIT, program).await.is_ok(), "hangs");
    });
}

/// Lets some time pass.
pub(crate) async fn pause(millis: u64) {
    sleep(Duration::from_millis(millis)).await;
}

/// Longer than all deadlines of a connection together.
const LIMIT: Duration = Duration::from_secs(3600);
