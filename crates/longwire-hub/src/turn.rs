//! Writes that publishers put off, so that each client is written to once for all messages of a turn.
//!
//! A message is queued at every client by the call that publishes it. Its write is put off
//!
//! - in a handler that the hub runs, to the end of the handler's turn, and
//! - in another task that has used up tokio's cooperative budget, to the time when the task yields.
//!
//! The clients to write to are listed once, in the order of the first message. A turn writes to [`SLICE`] of them
//! itself. The others are left to a task, which yields after each `SLICE`: it costs less than to wake the task of each
//! client. A list that is dropped, at the end of a runtime for example, is written at once.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use longwire_connection::{Publisher, Queued, Sender};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::yield_now;

thread_local! {
    static TURN: Cell<State> = const { Cell::new(State::None) };
    /// The list of the turn.
    static LIST: RefCell<List> = const { RefCell::new(List { number: 0, clients: Vec::new() }) };
    /// The list of tasks that are not in a turn, for the time until its task runs.
    static BACKLOG: RefCell<Option<Arc<Backlog>>> = const { RefCell::new(None) };
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

/// The clients to write to at the end of a turn.
struct List {
    /// The number by which connections know the list, 0 until it is used.
    number: u32,
    clients: Vec<Sender>,
}

/// The clients to write to when the publishing task has yielded.
struct Backlog {
    number: u32,
    /// `None` once its task has taken them.
    clients: Mutex<Option<Vec<Sender>>>,
}

/// A turn of a handler, which ends when this is dropped.
///
/// A handler may poll another handler in its turn. Both use one list, which is written at the end of either turn.
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
    let mut clients = LIST.with_borrow_mut(List::take);
    // Transports are not called while a panic unwinds.
    let now = if std::thread::panicking() { 0 } else { SLICE.min(clients.len()) };
    for client in clients.drain(..now) {
        client.write_queued();
    }
    leave_to_tasks(clients);
}

impl List {
    fn take(&mut self) -> Vec<Sender> {
        self.number = 0;
        std::mem::take(&mut self.clients)
    }
}

/// One call that publishes. The clients that it lists are written to after it is dropped.
pub(crate) struct Publication {
    by: Publisher,
    clients: Vec<Sender>,
}

impl Publication {
    pub(crate) fn begin() -> Self {
        let gathers = TURN.try_with(Cell::get).is_ok_and(|turn| turn != State::None);
        let list = if gathers {
            LIST.with_borrow_mut(|list| {
                if list.number == 0 {
                    list.number = number();
                }
                list.number
            })
        } else {
            let of_backlog = BACKLOG.try_with(|backlog| Some(backlog.borrow().as_ref()?.number));
            of_backlog.ok().flatten().unwrap_or_else(number)
        };
        Self { by: Publisher { list, gathers }, clients: Vec::new() }
    }

    pub(crate) fn by(&self) -> Publisher {
        self.by
    }

    /// Lists a client if it must be written to later. Returns the number of older messages that were dropped.
    #[inline]
    pub(crate) fn add(&mut self, client: &Sender, queued: Queued) -> usize {
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
            return add_to_backlog(self.by.list, clients);
        }
        let listed = LIST.with_borrow_mut(|list| {
            if list.clients.is_empty() {
                std::mem::swap(&mut list.clients, &mut clients);
            } else {
                list.clients.append(&mut clients);
            }
            list.clients.len()
        });
        TURN.set(State::Due);
        if listed > MOST {
            leave_to_tasks(LIST.with_borrow_mut(List::take));
        }
    }
}

/// Adds clients to this thread's backlog, and makes a new one, with its task, if the last one was taken.
fn add_to_backlog(number: u32, mut clients: Vec<Sender>) {
    let is_added = BACKLOG.try_with(|backlog| {
        let backlog = backlog.borrow();
        let Some(backlog) = &*backlog else { return false };
        let mut listed = backlog.clients.lock().unwrap_or_else(PoisonError::into_inner);
        listed.as_mut().is_some_and(|listed| {
            listed.append(&mut clients);
            listed.len() <= MOST
        })
    });
    if is_added == Ok(true) || clients.is_empty() {
        return;
    }
    let Ok(runtime) = Handle::try_current() else {
        return clients.iter().for_each(Sender::write_queued);
    };
    let backlog = Arc::new(Backlog { number, clients: Mutex::new(Some(clients)) });
    let _ = BACKLOG.try_with(|place| *place.borrow_mut() = Some(Arc::clone(&backlog)));
    runtime.spawn(Writing { backlog: Some(backlog), clients: Vec::new() }.run());
}

/// Writes to clients in tasks of the current runtime, one for each of its threads if they are many; without a
/// runtime, at once.
fn leave_to_tasks(mut clients: Vec<Sender>) {
    if clients.is_empty() {
        return;
    }
    let Ok(runtime) = Handle::try_current() else {
        return clients.iter().for_each(Sender::write_queued);
    };
    let tasks = match runtime.runtime_flavor() {
        RuntimeFlavor::CurrentThread => 1,
        _ => runtime.metrics().num_workers().min(clients.len() / WORTH_A_TASK).max(1),
    };
    let each = clients.len().div_ceil(tasks);
    while clients.len() > each {
        let clients = clients.split_off(clients.len() - each);
        runtime.spawn(Writing { backlog: None, clients }.run());
    }
    runtime.spawn(Writing { backlog: None, clients }.run());
}

/// The task that writes to clients. They are written to in any case: if the task ends early, when it is dropped.
struct Writing {
    backlog: Option<Arc<Backlog>>,
    clients: Vec<Sender>,
}

impl Writing {
    async fn run(mut self) {
        self.take_backlog();
        let mut rest = &self.clients[..];
        while let Some((now, later)) = rest.split_at_checked(SLICE) {
            now.iter().for_each(Sender::write_queued);
            rest = later;
            yield_now().await;
        }
        // The rest is written by the drop.
        let written = self.clients.len() - rest.len();
        self.clients.drain(..written);
    }

    fn take_backlog(&mut self) {
        if let Some(backlog) = self.backlog.take() {
            let clients = backlog.clients.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.clients.extend(clients.into_iter().flatten());
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.take_backlog();
        self.clients.iter().for_each(Sender::write_queued);
    }
}

/// Returns the number of a new list, not 0.
fn number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if number != 0 {
            return number;
        }
    }
}

/// The number of clients that are written to before other tasks have their turn. It is tokio's budget for a task, and
/// takes some hundred microseconds with real sockets.
const SLICE: usize = 128;

/// The number of listed clients from which a turn does not wait for its end. A client may be listed twice if several
/// publishers send to it.
const MOST: usize = 64 * 1024;

/// The number of clients for which a further task, and with it another thread, is worth its cost.
const WORTH_A_TASK: usize = 1024;
