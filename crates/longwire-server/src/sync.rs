//! The locks, atomics and channels for state that several threads share: those of the standard library and tokio, or
//! loom's in its models.

#[cfg(not(longwire_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

#[cfg(longwire_loom)]
pub(crate) use longwire_connection::stepped::{Notify, watch};
#[cfg(longwire_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(longwire_loom))]
pub(crate) use tokio::sync::{Notify, watch};
