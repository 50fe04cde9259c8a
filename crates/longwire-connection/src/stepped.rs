//! tokio's primitives in loom models: each call is one step.
//!
//! Loom cannot look into tokio's primitives, which tokio's own models check. Here each call, each poll and each drop of
//! a permit first touches an atomic of loom's, so that loom searches every order of the calls on one primitive. The
//! crates above use these types in place of tokio's when they are built for models, and only then.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread::Thread;

/// Runs a future on this thread. Loom reports a deadlock if nothing wakes it.
///
/// Unlike those of loom's own `block_on`, its wakers are cloned and dropped without a step, so tokio's primitives can
/// do so under their locks, which loom does not know.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(loom::thread::current())));
    let mut future = pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        loom::thread::park();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Checks a body in every order of its threads' steps with at most this many preemptions.
pub fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(body);
}

/// The steps that are taken with one primitive.
#[derive(Default)]
struct Steps(AtomicUsize);

impl Steps {
    fn take(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    async fn of<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.take();
            future.as_mut().poll(cx)
        })
        .await
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Steps")
    }
}

/// As tokio's.
#[derive(Debug, Default)]
pub struct Notify {
    inner: tokio::sync::Notify,
    steps: Steps,
}

impl Notify {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn notify_one(&self) {
        self.steps.take();
        self.inner.notify_one();
    }

    pub fn notify_waiters(&self) {
        self.steps.take();
        self.inner.notify_waiters();
    }

    pub fn notified(&self) -> impl Future<Output = ()> {
        self.steps.take();
        self.steps.of(self.inner.notified())
    }
}

/// As tokio's.
#[derive(Debug)]
pub struct Semaphore {
    inner: Arc<tokio::sync::Semaphore>,
    steps: Steps,
}

/// As tokio's.
#[derive(Debug)]
pub struct OwnedSemaphorePermit {
    semaphore: Arc<Semaphore>,
    _inner: tokio::sync::OwnedSemaphorePermit,
}

impl Semaphore {
    pub const MAX_PERMITS: usize = tokio::sync::Semaphore::MAX_PERMITS;

    pub fn new(permits: usize) -> Self {
        Self { inner: Arc::new(tokio::sync::Semaphore::new(permits)), steps: Steps::default() }
    }

    pub async fn acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, tokio::sync::AcquireError> {
        self.acquire_many_owned(1).await
    }

    pub async fn acquire_many_owned(
        self: Arc<Self>,
        n: u32,
    ) -> Result<OwnedSemaphorePermit, tokio::sync::AcquireError> {
        let inner = self.steps.of(Arc::clone(&self.inner).acquire_many_owned(n)).await?;
        Ok(OwnedSemaphorePermit { semaphore: self, _inner: inner })
    }

    pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, tokio::sync::TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    pub fn try_acquire_many_owned(
        self: Arc<Self>,
        n: u32,
    ) -> Result<OwnedSemaphorePermit, tokio::sync::TryAcquireError> {
        self.steps.take();
        let inner = Arc::clone(&self.inner).try_acquire_many_owned(n)?;
        Ok(OwnedSemaphorePermit { semaphore: self, _inner: inner })
    }

    pub fn available_permits(&self) -> usize {
        self.steps.take();
        self.inner.available_permits()
    }

    pub fn close(&self) {
        self.steps.take();
        self.inner.close();
    }

    pub fn is_closed(&self) -> bool {
        self.steps.take();
        self.inner.is_closed()
    }
}

impl Drop for OwnedSemaphorePermit {
    fn drop(&mut self) {
        self.semaphore.steps.take();
    }
}

/// As tokio's module of this name.
pub mod watch {
    use std::sync::Arc;

    use tokio::sync::watch::{Ref, error::RecvError};

    use super::Steps;

    /// As tokio's.
    #[derive(Debug)]
    pub struct Sender<T> {
        inner: tokio::sync::watch::Sender<T>,
        steps: Arc<Steps>,
    }

    /// As tokio's.
    #[derive(Debug)]
    pub struct Receiver<T> {
        inner: tokio::sync::watch::Receiver<T>,
        steps: Arc<Steps>,
    }

    impl<T: Default> Default for Sender<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    impl<T> Sender<T> {
        pub fn new(value: T) -> Self {
            Self { inner: tokio::sync::watch::Sender::new(value), steps: Arc::default() }
        }

        pub fn send_replace(&self, value: T) -> T {
            self.steps.take();
            self.inner.send_replace(value)
        }

        pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
            self.steps.take();
            self.inner.send_modify(modify);
        }

        pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
            self.steps.take();
            self.inner.send_if_modified(modify)
        }

        pub fn borrow(&self) -> Ref<'_, T> {
            self.steps.take();
            self.inner.borrow()
        }

        pub fn subscribe(&self) -> Receiver<T> {
            self.steps.take();
            Receiver { inner: self.inner.subscribe(), steps: Arc::clone(&self.steps) }
        }
    }

    impl<T> Receiver<T> {
        pub async fn wait_for(&mut self, is_met: impl FnMut(&T) -> bool) -> Result<Ref<'_, T>, RecvError> {
            self.steps.of(self.inner.wait_for(is_met)).await
        }
    }
}

/// As tokio's module of this name.
pub mod oneshot {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use tokio::sync::oneshot::error::RecvError;

    use super::Steps;

    /// As tokio's.
    #[derive(Debug)]
    pub struct Sender<T> {
        // `Some` until it has sent.
        inner: Option<tokio::sync::oneshot::Sender<T>>,
        steps: Arc<Steps>,
    }

    /// As tokio's.
    #[derive(Debug)]
    pub struct Receiver<T> {
        inner: tokio::sync::oneshot::Receiver<T>,
        steps: Arc<Steps>,
    }

    pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
        let (sender, inner) = tokio::sync::oneshot::channel();
        let steps = Arc::<Steps>::default();
        (Sender { inner: Some(sender), steps: Arc::clone(&steps) }, Receiver { inner, steps })
    }

    impl<T> Sender<T> {
        pub fn send(mut self, value: T) -> Result<(), T> {
            self.steps.take();
            self.inner.take().map_or(Ok(()), |sender| sender.send(value))
        }

        pub fn is_closed(&self) -> bool {
            self.steps.take();
            self.inner.as_ref().is_none_or(tokio::sync::oneshot::Sender::is_closed)
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            if self.inner.is_some() {
                self.steps.take();
            }
        }
    }

    impl<T> Future for Receiver<T> {
        type Output = Result<T, RecvError>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            self.steps.take();
            Pin::new(&mut self.inner).poll(cx)
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.steps.take();
        }
    }
}
