//! Calls the application's hooks. If a hook panics, the client still gets a response and the task continues.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use tracing::error;

/// The error for a hook that panicked. The panic is already logged.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Calls a hook; `name` identifies it in the log.
///
/// # Errors
///
/// [`Panicked`] if the hook panics.
pub(crate) fn call<T>(name: &'static str, hook: impl FnOnce() -> T) -> Result<T, Panicked> {
    // A hook changes none of this crate's state. If it leaves its own state inconsistent, that is the application's
    // concern, as in any task.
    catch_unwind(AssertUnwindSafe(hook)).map_err(|panic| {
        error!(hook = name, panic = message(&*panic), "a hook panicked");
        Panicked
    })
}

/// Calls a hook and runs the future that it returns.
///
/// # Errors
///
/// [`Panicked`] if the hook or its future panics.
pub(crate) async fn run<T>(
    name: &'static str,
    hook: impl FnOnce() -> Pin<Box<dyn Future<Output = T> + Send>>,
) -> Result<T, Panicked> {
    let mut running = call(name, hook)?;
    poll_fn(|cx| match call(name, || running.as_mut().poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is not a string")
}
