//! Writes that publishers put off, so that each client is written to once for all messages of a turn.
//!
//! A message is queued at every client by the call that publishes it. Its write is put off
//!
//! - in a handler that the hub runs, to the end of the handler's turn, and
//! - in another task that has used up tokio's cooperative budget, until a task of the client's runtime runs.
//!
//! A thread lists the clients to write to, each of them once. A turn writes to [`SLICE`] of them itself. The others are
//! left to a task of the runtime in which they were admitted, which yields after each `SLICE`: that costs less than to
//! wake the task of each client, and depends on no runtime but the client's own. A list is written even if its turn
//! ends with a panic, or its task is dropped.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::panicking;

use longwire_connection::{Publisher, Queued};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::yield_now;

use crate::entry::ClientHandle;
use crate::registry::Home;

thread_local! {
    static TURN: Cell<State> = const { Cell::new(State::None) };
    /// The clients to write to at the end of the turn.
    static LIST: RefCell<Vec<ClientHandle>> = const { RefCell::new(Vec::new()) };
    /// The lists of tasks that are not in a turn, whose tasks have not run yet.
    static BACKLOGS: RefCell<Vec<Arc<Backlog>>> = const { RefCell::new(Vec::new()) };
    /// The number by which connections know that this thread has listed them; 0 until it lists one.
    static NUMBER: Cell<u32> = const { Cell::new(0) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// This thread polls no handler.
    None,
    /// It polls a handler that has published nothing.
    Open,
    /// Clients are listed.
    Due,
}

/// A turn of a handler, which ends when this is dropped.
///
/// A handler may poll another handler in its turn. Both use one list. It is written at the end of the outer turn, or of
/// the inner one if that has added a client.
pub(crate) struct Turn {
    outer: State,
    /// Keeps the turn on its thread.
    not_send: PhantomData<*const ()>,
}

impl Turn {
    #[inline]
    pub(crate) fn begin() -> Self {
        let outer = TURN.try_with(|turn| turn.replace(State::Open)).unwrap_or(State::None);
        Self { outer, not_send: PhantomData }
    }
}

impl Drop for Turn {
    #[inline]
    fn drop(&mut self) {
        let state = TURN.try_with(|turn| turn.replace(self.outer)).unwrap_or(State::None);
        if state == State::Due {
            write_list();
        }
    }
}

/// Writes to the listed clients: to some at once, and to the others in a task.
#[cold]
fn write_list() {
    let mut writing = Writing::new(LIST.take());
    // Transports are not called while a panic unwinds, unless no runtime can call them later.
    if !panicking() {
        writing.write(SLICE);
    }
    leave_to_tasks(writing.take());
}

/// One call that publishes. The clients that it lists are written to after it is dropped.
pub(crate) struct Publication {
    by: Publisher,
    clients: Vec<ClientHandle>,
}

impl Publication {
    pub(crate) fn begin() -> Self {
        let gathers = TURN.try_with(Cell::get).is_ok_and(|turn| turn != State::None);
        Self { by: Publisher { list: number(), gathers }, clients: Vec::new() }
    }

    pub(crate) fn by(&self) -> Publisher {
        self.by
    }

    /// Lists a client if it must be written to later. Returns the number of older messages that were dropped.
    #[inline]
    pub(crate) fn add(&mut self, client: &ClientHandle, queued: Queued) -> usize {
        if queued.is_due {
            self.clients.push(client.clone());
        }
        queued.dropped
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let mut clients = std::mem::take(&mut self.clients);
        if !self.by.gathers {
            return add_to_backlogs(clients);
        }
        let listed = LIST.with_borrow_mut(|list| {
            if list.is_empty() {
                std::mem::swap(list, &mut clients);
            } else {
                list.append(&mut clients);
            }
            list.len()
        });
        TURN.set(State::Due);
        if listed > MOST {
            leave_to_tasks(LIST.take());
        }
    }
}

/// The clients of one home that are written to by a task that has not run yet.
struct Backlog {
    /// The address of the home, which is not another's as long as a client is listed.
    home: usize,
    /// `None` once the task has taken them.
    clients: Mutex<Option<Vec<ClientHandle>>>,
}

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<ClientHandle>>> {
        // No panic can leave the list half changed.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds clients to this thread's backlogs. Makes new ones, with their tasks, for homes whose last one was taken.
fn add_to_backlogs(clients: Vec<ClientHandle>) {
    for (home, mut clients) in by_home(clients) {
        let address = Arc::as_ptr(&home).addr();
        let is_added = BACKLOGS.try_with(|backlogs| {
            backlogs.borrow_mut().retain(|backlog| backlog.lock().is_some());
            let backlogs = backlogs.borrow();
            let mut known = backlogs.iter().filter(|backlog| backlog.home == address);
            known.any(|backlog| backlog.lock().as_mut().map(|listed| listed.append(&mut clients)).is_some())
        });
        if is_added == Ok(true) {
            continue;
        }
        let Some(runtime) = runtime(&home) else {
            Writing::new(clients).write(usize::MAX);
            continue;
        };
        let backlog = Arc::new(Backlog { home: address, clients: Mutex::new(Some(clients)) });
        let _ = BACKLOGS.try_with(|backlogs| backlogs.borrow_mut().push(Arc::clone(&backlog)));
        let taking = Taking(backlog);
        runtime.spawn(async move { drop(taking) });
    }
}

/// The task of a backlog, or what is left of it if the runtime ends.
struct Taking(Arc<Backlog>);

impl Drop for Taking {
    fn drop(&mut self) {
        let clients = self.0.lock().take();
        leave_to_tasks(clients.unwrap_or_default());
    }
}

/// Writes to clients in tasks of their runtimes, one for each of its threads if they are many.
fn leave_to_tasks(clients: Vec<ClientHandle>) {
    for (home, mut clients) in by_home(clients) {
        let Some(runtime) = runtime(&home) else {
            for client in clients {
                client.sender().write_queued();
            }
            continue;
        };
        let tasks = match runtime.runtime_flavor() {
            RuntimeFlavor::CurrentThread => 1,
            _ => runtime.metrics().num_workers().min(clients.len() / WORTH_A_TASK).max(1),
        };
        let each = clients.len().div_ceil(tasks);
        while !clients.is_empty() {
            let some = clients.split_off(clients.len().saturating_sub(each));
            let writing = Writing { clients: some.into_iter(), is_left: panicking() };
            runtime.spawn(writing.run());
        }
    }
}

/// Returns the runtime whose tasks write to the clients of a home, if there is any.
fn runtime(home: &Home) -> Option<Handle> {
    home.runtime.clone().or_else(|| Handle::try_current().ok())
}

/// Groups clients by their home. In most cases they have one in common.
fn by_home(clients: Vec<ClientHandle>) -> Vec<(Arc<Home>, Vec<ClientHandle>)> {
    let Some(first) = clients.first() else {
        return Vec::new();
    };
    let home = Arc::clone(&first.entry.home);
    if clients.iter().all(|client| Arc::ptr_eq(&client.entry.home, &home)) {
        return vec![(home, clients)];
    }
    let mut groups: Vec<(Arc<Home>, Vec<_>)> = Vec::new();
    for client in clients {
        let home = &client.entry.home;
        match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, home)) {
            Some((_, group)) => group.push(client),
            None => groups.push((Arc::clone(home), vec![client])),
        }
    }
    groups
}

/// Clients that are being written to. All of them are, in any case: by the drop of this value if its task ends early,
/// and by another task if a transport panics.
struct Writing {
    clients: std::vec::IntoIter<ClientHandle>,
    /// Whether this was left to a task because of a panic, so that it is not left to another if its runtime has ended.
    is_left: bool,
}

impl Writing {
    fn new(clients: Vec<ClientHandle>) -> Self {
        Self { clients: clients.into_iter(), is_left: false }
    }

    async fn run(mut self) {
        self.is_left = false;
        loop {
            self.write(SLICE);
            if self.clients.as_slice().is_empty() {
                return;
            }
            yield_now().await;
        }
    }

    /// Writes to at most `most` clients.
    fn write(&mut self, most: usize) {
        self.clients.by_ref().take(most).for_each(|client| client.sender().write_queued());
    }

    fn take(&mut self) -> Vec<ClientHandle> {
        std::mem::take(&mut self.clients).collect()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if panicking() && !self.is_left {
            leave_to_tasks(self.take());
        } else {
            self.write(usize::MAX);
        }
    }
}

/// Returns the number of this thread.
#[inline]
fn number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    // A thread that is exiting lists nothing that it would list again.
    let next = || LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    NUMBER
        .try_with(|number| {
            if number.get() == 0 {
                number.set(next());
            }
            number.get()
        })
        .unwrap_or_else(|_| next())
}

/// The number of clients that are written to before other tasks have their turn. It is tokio's budget for a task, and
/// takes some hundred microseconds with real sockets.
const SLICE: usize = 128;

/// The number of listed clients from which a turn does not wait for its end. A client may be listed twice if several
/// publishers send to it.
const MOST: usize = 64 * 1024;

/// The number of clients for which a further task, and with it another thread, is worth its cost.
const WORTH_A_TASK: usize = 1024;
