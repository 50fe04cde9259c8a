//! Two futures of which the first to complete counts.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// Waits for whichever completes first, and drops the other. If both are ready, `first` counts.
///
/// tokio's `select!` would do the same, for the price of its procedural macros in each build.
pub async fn race<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> T {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Pending => second.as_mut().poll(cx),
        completed @ Poll::Ready(_) => completed,
    })
    .await
}
