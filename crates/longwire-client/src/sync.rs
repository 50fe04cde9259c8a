//! The lock and tokio's primitives for the queue that several threads share, or loom's in its models.

#[cfg(not(longwire_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(longwire_loom)]
pub(crate) use longwire_connection::stepped::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
#[cfg(longwire_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(longwire_loom))]
pub(crate) use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
