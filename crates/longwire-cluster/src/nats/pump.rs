//! The task that takes what arrives for all subscriptions of a node.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_nats::Subscriber;
use futures_util::future::Abortable;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use tokio::sync::mpsc;

use super::Shared;
use super::history::arrived;
use crate::channel::Channel;

/// Passes on what arrives for one subscription, until that ends.
///
/// A future for each subscription, all of them in one task, of which only those are polled for which something has
/// arrived.
pub(super) struct Arrival {
    pub(super) subscriber: Subscriber,
    pub(super) channel: Channel,
    pub(super) shared: Arc<Shared>,
}

impl Future for Arrival {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURN {
            let Poll::Ready(next) = Pin::new(&mut self.subscriber).poll_next(cx) else {
                return Poll::Pending;
            };
            let Some(message) = next else { return Poll::Ready(()) };
            let Some(started) = self.shared.started.get() else { continue };
            match (self.channel.room(), arrived(&message)) {
                (Some(room), Some(record)) => started.inbox.record(Arc::clone(room), record),
                _ => started.inbox.message(self.channel.clone(), message.payload),
            }
        }
        // Others have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Polls all subscriptions, until it is aborted.
pub(super) async fn pump(mut added: mpsc::UnboundedReceiver<Abortable<Arrival>>) {
    let mut subscriptions = FuturesUnordered::new();
    poll_fn(|cx| {
        while let Poll::Ready(subscription) = added.poll_recv(cx) {
            match subscription {
                Some(subscription) => subscriptions.push(subscription),
                None => return Poll::Ready(()),
            }
        }
        while let Poll::Ready(Some(_)) = subscriptions.poll_next_unpin(cx) {}
        Poll::Pending
    })
    .await;
}

/// The messages of one subscription after which others have their turn.
const TURN: usize = 32;
