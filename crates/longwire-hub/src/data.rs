//! The application's data for a client: values of any types, of each type the latest.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The application's data for a client: at most one value of each type.
///
/// Values are only ever added, so all tasks read them by reference, without a lock. They are dropped with the last
/// handle to the client. A clone that is made once there is a value shares all of them, later ones included: it is for
/// the same client, as its request.
#[derive(Clone, Default)]
pub struct ClientData {
    // Most clients have no data.
    first: OnceLock<Arc<Link>>,
}

/// A value, and the values that were added later.
struct Link {
    value: Box<dyn Any + Send + Sync>,
    next: OnceLock<Box<Link>>,
}

impl Link {
    /// Returns the value that was just put into this link.
    fn into_value<T: Any>(mut self) -> T {
        let value = std::mem::replace(&mut self.value, Box::new(()));
        *value.downcast().expect("it is the value that was passed in")
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // One after the other: a long list would take as many frames of the stack.
        let mut next = self.next.take();
        while let Some(mut link) = next {
            next = link.next.take();
        }
    }
}

impl ClientData {
    /// Sets the value of this type, once.
    ///
    /// # Errors
    ///
    /// The value that was passed in, if there is already one of this type.
    pub fn set<T: Any + Send + Sync>(&self, value: T) -> Result<(), T> {
        self.add(value, |known| !known.is::<T>())
    }

    /// Sets the value of this type. It takes the place of an earlier one, which is kept until the client is gone, so
    /// this is for the set-up of a client, not for each message.
    pub fn replace<T: Any + Send + Sync>(&self, value: T) {
        let added = self.add(value, |_| true);
        debug_assert!(added.is_ok(), "no value stands in its way");
    }

    /// Adds a value after those that are there, if `passes` is true for each of them.
    fn add<T: Any + Send + Sync>(&self, value: T, passes: impl Fn(&dyn Any) -> bool) -> Result<(), T> {
        let link = Link { value: Box::new(value), next: OnceLock::new() };
        let mut link = match self.first.set(Arc::new(link)) {
            Ok(()) => return Ok(()),
            Err(refused) => Arc::into_inner(refused).expect("it has one handle"),
        };
        let mut last = self.first.get().expect("it was just found to be set").as_ref();
        loop {
            if !passes(&*last.value) {
                return Err(link.into_value());
            }
            // Another task may add a value at the same time.
            match last.next.set(Box::new(link)) {
                Ok(()) => return Ok(()),
                Err(refused) => link = *refused,
            }
            last = last.next.get().expect("it was just found to be set");
        }
    }

    /// Returns the value of this type.
    pub fn get<T: Any>(&self) -> Option<&T> {
        let first = self.first.get().map(|first| &**first);
        std::iter::successors(first, |link| link.next.get().map(|next| &**next))
            .filter_map(|link| link.value.downcast_ref())
            .last()
    }

    /// Returns whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }
}

impl fmt::Debug for ClientData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientData").field("is_empty", &self.is_empty()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_value_of_each_type() {
        let data = ClientData::default();
        assert!(data.is_empty() && data.get::<u8>().is_none());
        assert_eq!((data.set(1_u8), data.set("text"), data.set(2_u8)), (Ok(()), Ok(()), Err(2)));
        let shared = data.clone();
        assert_eq!(shared.set(3_u16), Ok(()));
        assert_eq!((data.get::<u8>(), data.get::<u16>()), (Some(&1), Some(&3)));
        shared.replace(4_u8);
        assert_eq!((data.get::<u8>(), data.get::<&str>()), (Some(&4), Some(&"text")));
        assert_eq!((data.get::<u32>(), data.is_empty()), (None, false));
    }

    #[test]
    fn a_long_list_is_dropped_on_a_small_stack() {
        let data = ClientData::default();
        data.set(0_u32).unwrap();
        // `replace` looks at each value: only as many as show it.
        (1..3_000_u32).for_each(|n| data.replace(n));
        assert_eq!(data.get(), Some(&2_999_u32));
        std::thread::Builder::new().stack_size(64 * 1024).spawn(move || drop(data)).unwrap().join().unwrap();
    }

    #[test]
    fn of_several_threads_one_sets_the_value() {
        let data = ClientData::default();
        let set = std::thread::scope(|scope| {
            let set = [1_u32, 2].map(|value| {
                scope.spawn({
                    let data = &data;
                    move || (0..1000).filter(|_| data.set(value).is_ok()).count()
                })
            });
            set.map(|thread| thread.join().unwrap())
        });
        assert_eq!(set.iter().sum::<usize>(), 1);
    }
}
