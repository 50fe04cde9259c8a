//! The locks, atomics and notifications for state that several threads share: those of the standard library and tokio,
//! or loom's in its models.

#[cfg(not(longwire_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
};

#[cfg(longwire_loom)]
pub(crate) use longwire_connection::stepped::Notify;
#[cfg(longwire_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
};
#[cfg(not(longwire_loom))]
pub(crate) use tokio::sync::Notify;
