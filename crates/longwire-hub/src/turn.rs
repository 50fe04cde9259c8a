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
use std::collections::{HashSet, VecDeque};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::thread::panicking;

use longwire_connection::{Publisher, Queued, Sender};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::yield_now;

use crate::entry::ClientHandle;
use crate::registry::Home;
use crate::sync::{Mutex, MutexGuard};

#[cfg(not(longwire_loom))]
thread_local! {
    static TURN: Cell<State> = const { Cell::new(State::None) };
    /// The clients to write to at the end of the turn.
    static LIST: RefCell<Groups> = const { RefCell::new(Groups::new()) };
    /// The clients that are left to tasks, which have not written to them yet.
    static BACKLOGS: RefCell<Vec<Arc<Backlog>>> = const { RefCell::new(Vec::new()) };
    /// The number by which connections know that this thread has listed them; 0 until it lists one.
    static NUMBER: Cell<u32> = const { Cell::new(0) };
}

#[cfg(longwire_loom)]
loom::thread_local! {
    static TURN: Cell<State> = Cell::new(State::None);
    static LIST: RefCell<Groups> = RefCell::new(Groups::new());
    static BACKLOGS: RefCell<Vec<Arc<Backlog>>> = RefCell::new(Vec::new());
    static NUMBER: Cell<u32> = Cell::new(0);
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

/// The clients of one home that must be written to, as the senders of their connections. Their entries are not needed
/// again: with very many clients, each access to one takes as long as some hundred instructions.
struct Group {
    home: Arc<Home>,
    clients: Vec<Sender>,
    /// Whether a client may be listed twice. A single publication lists each client once.
    may_repeat: bool,
}

/// Clients by their home. In most cases they have one in common.
#[derive(Default)]
struct Groups {
    first: Option<Group>,
    others: Vec<Group>,
}

impl Groups {
    const fn new() -> Self {
        Self { first: None, others: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn iter(&self) -> impl Iterator<Item = &Group> {
        self.first.iter().chain(&self.others)
    }

    /// Returns the number of clients.
    fn len(&self) -> usize {
        self.iter().map(|group| group.clients.len()).sum()
    }

    #[inline]
    fn push(&mut self, client: &ClientHandle) {
        let (home, sender) = (&client.entry.home, client.sender().clone());
        match &mut self.first {
            Some(group) if Arc::ptr_eq(&group.home, home) => group.clients.push(sender),
            _ => self.of(home).clients.push(sender),
        }
    }

    /// Returns the clients with this home.
    #[cold]
    fn of(&mut self, home: &Arc<Home>) -> &mut Group {
        let new = || Group { home: Arc::clone(home), clients: Vec::new(), may_repeat: false };
        let first = self.first.get_or_insert_with(new);
        if Arc::ptr_eq(&first.home, home) {
            return first;
        }
        let at = self.others.iter().position(|group| Arc::ptr_eq(&group.home, home)).unwrap_or_else(|| {
            self.others.push(new());
            self.others.len() - 1
        });
        &mut self.others[at]
    }

    /// Adds the clients of another publication.
    fn append(&mut self, other: Self) {
        for mut group in other {
            let known = self.of(&group.home);
            known.may_repeat |= group.may_repeat || !known.clients.is_empty();
            known.clients.append(&mut group.clients);
        }
    }
}

impl IntoIterator for Groups {
    type Item = Group;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Group>, std::vec::IntoIter<Group>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.others)
    }
}

/// Writes to the listed clients: to some at once, and to the others in a task.
#[cold]
fn write_list() {
    let Groups { first, others } = LIST.with(RefCell::take);
    let mut first = first.map(Writing::new);
    let mut others: Vec<_> = others.into_iter().map(Writing::new).collect();
    // Transports are not called while a panic unwinds, unless no runtime can call them later.
    let mut most = if panicking() { 0 } else { SLICE };
    for writing in first.iter_mut().chain(&mut others) {
        most -= writing.write(most);
    }
    leave_to_tasks(first.into_iter().chain(others).filter_map(|mut writing| writing.take()));
}

/// One call that publishes. The clients that it lists are written to after it is dropped.
pub(crate) struct Publication {
    by: Publisher,
    listed: Groups,
}

impl Publication {
    pub(crate) fn begin() -> Self {
        let gathers = TURN.try_with(Cell::get).is_ok_and(|turn| turn != State::None);
        Self { by: Publisher { list: number(), gathers }, listed: Groups::new() }
    }

    pub(crate) fn by(&self) -> Publisher {
        self.by
    }

    /// Lists a client if it must be written to later. Returns the number of older messages that were dropped.
    #[inline]
    pub(crate) fn add(&mut self, client: &ClientHandle, queued: Queued) -> usize {
        if queued.is_due {
            self.listed.push(client);
        }
        queued.dropped
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        if self.listed.is_empty() {
            return;
        }
        let listed = std::mem::take(&mut self.listed);
        if !self.by.gathers {
            return leave_to_tasks(listed);
        }
        let count = LIST.with(|list| {
            let mut list = list.borrow_mut();
            if list.is_empty() {
                *list = listed;
            } else {
                list.append(listed);
            }
            list.len()
        });
        TURN.with(|turn| turn.set(State::Due));
        if count > MOST {
            leave_to_tasks(LIST.with(RefCell::take));
        }
    }
}

/// The clients of one home that tasks of its runtime write to, as one thread has listed them.
///
/// However long the runtime is blocked, there is one task for each thread that publishes, and the list is at most twice
/// as long as the most clients that it has had at once, or 2048 long.
struct Backlog {
    home: Weak<Home>,
    listed: Mutex<Listed>,
}

#[derive(Default)]
struct Listed {
    clients: VecDeque<Sender>,
    /// The length without duplicates when they were last removed.
    distinct: usize,
    /// The number of tasks that take from the list until it is empty.
    tasks: usize,
}

impl Backlog {
    fn lock(&self) -> MutexGuard<'_, Listed> {
        // No panic can leave the list half changed.
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// Adds clients. Some may be in the list already, if several publishers send to them in turn.
    fn add(&mut self, group: Group) {
        if self.clients.is_empty() && !group.may_repeat {
            self.distinct = group.clients.len();
        }
        self.clients.extend(group.clients);
        if self.clients.len() > 2 * self.distinct.max(WORTH_A_TASK) {
            let mut known = HashSet::with_capacity(self.distinct);
            self.clients.retain(|client| known.insert(client.address()));
            self.distinct = self.clients.len();
        }
    }

    /// Takes the clients for one slice. The caller's task is over with the last of them.
    fn take(&mut self) -> Vec<Sender> {
        let slice = self.clients.drain(..SLICE.min(self.clients.len())).collect();
        if self.clients.is_empty() {
            self.distinct = 0;
            self.tasks -= 1;
        }
        slice
    }
}

/// Adds clients to this thread's backlogs, and starts the tasks of those that have none.
fn leave_to_tasks(groups: impl IntoIterator<Item = Group>) {
    let mut others = Vec::new();
    for group in groups {
        let Some(runtime) = runtime(&group.home) else {
            others.push(Writing::new(group).last(true));
            continue;
        };
        let home = Arc::clone(&group.home);
        let backlog = backlog(&home);
        let mut listed = backlog.lock();
        listed.add(group);
        let starts = listed.tasks == 0;
        listed.tasks += usize::from(starts);
        drop(listed);
        if starts {
            runtime.spawn(Clearing::new(backlog, home).run());
        }
    }
    // Last, because a transport may panic.
    drop(others);
}

/// Returns this thread's backlog for a home. Forgets the others that no task clears.
fn backlog(home: &Arc<Home>) -> Arc<Backlog> {
    let new = || Arc::new(Backlog { home: Arc::downgrade(home), listed: Mutex::default() });
    let found = BACKLOGS.try_with(|backlogs| {
        let mut backlogs = backlogs.borrow_mut();
        backlogs.retain(|backlog| backlog.lock().tasks > 0);
        let of_home = |backlog: &&Arc<Backlog>| backlog.home.as_ptr() == Arc::as_ptr(home);
        let known = backlogs.iter().find(of_home).cloned();
        known.unwrap_or_else(|| {
            let backlog = new();
            backlogs.push(Arc::clone(&backlog));
            backlog
        })
    });
    // A thread that is exiting keeps none.
    found.unwrap_or_else(|_| new())
}

/// A task that writes to the clients of a backlog until there are none. If it ends before that, the clients are left to
/// another task, or written to at once if their runtime has ended.
struct Clearing {
    /// `None` once the task is over.
    backlog: Option<Arc<Backlog>>,
    home: Arc<Home>,
    has_run: bool,
}

impl Clearing {
    fn new(backlog: Arc<Backlog>, home: Arc<Home>) -> Self {
        Self { backlog: Some(backlog), home, has_run: false }
    }

    fn group(&self, clients: Vec<Sender>) -> Group {
        Group { home: Arc::clone(&self.home), clients, may_repeat: true }
    }

    async fn run(mut self) {
        self.has_run = true;
        self.share();
        while let Some(clients) = self.take() {
            Writing::new(self.group(clients)).write(SLICE);
            if self.backlog.is_some() {
                yield_now().await;
            }
        }
    }

    /// Takes the clients for one slice; `None` if the task is over.
    fn take(&mut self) -> Option<Vec<Sender>> {
        let backlog = self.backlog.as_ref()?;
        let mut listed = backlog.lock();
        let slice = listed.take();
        let is_over = listed.clients.is_empty();
        drop(listed);
        if is_over {
            self.backlog = None;
        }
        Some(slice)
    }

    /// Starts a task for each further thread of the runtime, if there are many clients.
    fn share(&self) {
        let runtime = Handle::current();
        if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            return;
        }
        let Some(backlog) = &self.backlog else { return };
        let mut listed = backlog.lock();
        let tasks = runtime.metrics().num_workers().min(listed.clients.len() / WORTH_A_TASK);
        let more = tasks.saturating_sub(listed.tasks);
        listed.tasks += more;
        drop(listed);
        for _ in 0..more {
            runtime.spawn(Self::new(Arc::clone(backlog), Arc::clone(&self.home)).run());
        }
    }
}

impl Drop for Clearing {
    fn drop(&mut self) {
        let Some(backlog) = self.backlog.take() else { return };
        let mut listed = backlog.lock();
        listed.tasks -= 1;
        let clients = if listed.tasks == 0 { std::mem::take(&mut listed.clients) } else { VecDeque::new() };
        drop(listed);
        // A task that has not run could not be started.
        let group = self.group(clients.into());
        drop(Writing::new(group).last(!self.has_run));
    }
}

/// Returns the runtime whose tasks write to the clients of a home, if there is any.
fn runtime(home: &Home) -> Option<Handle> {
    home.runtime.clone().or_else(|| Handle::try_current().ok())
}

/// Clients that are being written to. All of them are, even if a transport panics: the others are left to a task then,
/// or written to by the drop of this value.
struct Writing {
    home: Arc<Home>,
    clients: std::vec::IntoIter<Sender>,
    may_repeat: bool,
    /// Whether the clients cannot be left to a task.
    is_last: bool,
}

impl Writing {
    fn new(group: Group) -> Self {
        let Group { home, clients, may_repeat } = group;
        Self { home, clients: clients.into_iter(), may_repeat, is_last: false }
    }

    /// Sets whether the clients cannot be left to a task.
    fn last(mut self, is_last: bool) -> Self {
        self.is_last = is_last;
        self
    }

    /// Writes to at most `most` clients, and returns their number.
    fn write(&mut self, most: usize) -> usize {
        let before = self.clients.len();
        self.clients.by_ref().take(most).for_each(|client| client.write_queued());
        before - self.clients.len()
    }

    /// Takes the clients that are left, if any.
    fn take(&mut self) -> Option<Group> {
        let clients: Vec<_> = std::mem::take(&mut self.clients).collect();
        let (home, may_repeat) = (&self.home, self.may_repeat);
        (!clients.is_empty()).then(|| Group { home: Arc::clone(home), clients, may_repeat })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let Some(group) = self.take() else { return };
        if panicking() && !self.is_last {
            leave_to_tasks([group]);
        } else {
            // A transport that panics here leaves the others to the drop of this second value.
            Self::new(group).last(self.is_last).write(usize::MAX);
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
const SLICE: usize = if cfg!(longwire_loom) { 1 } else { 128 };

/// The number of listed clients from which a turn does not wait for its end. A client may be listed twice if several
/// publishers send to it.
const MOST: usize = 64 * 1024;

/// The number of clients for which a further task, and with it another thread, is worth its cost.
const WORTH_A_TASK: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use longwire_connection::testing::{Pipe, duplex};
    use longwire_connection::{Config, Handover, WebSocket};
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::info::ClientInfo;
    use crate::{Hub, Socket};

    /// Returns a client whose peer has gone.
    fn admit(hub: &Hub) -> Socket<Pipe> {
        admit_with_peer(hub).0
    }

    fn admit_with_peer(hub: &Hub) -> (Socket<Pipe>, Pipe) {
        let (peer, server) = duplex(1024);
        let server = WebSocket::new(server, Handover::server(), &Config::default());
        (hub.admit(server, ClientInfo::default()).expect("it is open"), peer)
    }

    #[test]
    fn a_turn_with_very_many_clients_does_not_wait_for_its_end() {
        let socket = admit(&Hub::default());
        for (count, wait) in [(MOST, MOST), (MOST + 1, 0)] {
            let turn = Turn::begin();
            let mut publication = Publication::begin();
            publication.listed = group(&socket, count);
            drop(publication);
            assert_eq!(LIST.with(|list| list.borrow().len()), wait);
            drop(turn);
            assert_eq!(LIST.with(|list| list.borrow().len()), 0);
        }
    }

    /// Returns a list with a client, many times.
    fn group(socket: &Socket<Pipe>, count: usize) -> Groups {
        let client = socket.client();
        let (home, sender) = (Arc::clone(&client.entry.home), client.sender().clone());
        let first = Some(Group { home, clients: vec![sender; count], may_repeat: true });
        Groups { first, others: Vec::new() }
    }

    /// Returns a runtime whose threads do nothing until the sender is dropped.
    fn busy(threads: usize) -> (Runtime, mpsc::Sender<()>) {
        let runtime = Builder::new_multi_thread().worker_threads(threads).build().expect("it can be made");
        let (sender, receiver) = mpsc::channel::<()>();
        let receiver = Arc::new(Mutex::new(receiver));
        let (begun, has_begun) = mpsc::channel();
        for _ in 0..threads {
            let (begun, receiver) = (begun.clone(), Arc::clone(&receiver));
            runtime.spawn(async move {
                begun.send(()).expect("somebody waits for it");
                let _ = receiver.lock().map(|receiver| receiver.recv());
            });
        }
        (0..threads).for_each(|_| has_begun.recv().expect("it begins"));
        (runtime, sender)
    }

    #[test]
    fn a_task_has_help_from_the_other_threads_if_there_are_many_clients() {
        const THREADS: usize = 3;
        for (clients, tasks) in [
            (2 * WORTH_A_TASK - 1, 1),
            (2 * WORTH_A_TASK, 2),
            (2 * WORTH_A_TASK + 100, 2),
            (9 * WORTH_A_TASK, THREADS),
        ] {
            let (runtime, release) = busy(THREADS);
            let _entered = runtime.enter();
            let socket = admit(&Hub::default());
            let client = socket.client();
            let home = &client.entry.home;
            let backlog = backlog(home);
            let listed = vec![client.sender().clone(); clients].into();
            *backlog.lock() = Listed { clients: listed, distinct: clients, tasks: 1 };
            let first = Clearing::new(Arc::clone(&backlog), Arc::clone(home));
            first.share();
            first.share();
            assert_eq!(backlog.lock().tasks, tasks, "{clients} clients");
            assert_eq!(runtime.metrics().num_alive_tasks(), THREADS + tasks - 1, "{clients} clients");
            drop(release);
        }
    }

    #[test]
    fn a_thread_forgets_the_homes_whose_clients_are_written_to() {
        let hub = Hub::default();
        for round in 0..3 {
            let runtime = Builder::new_current_thread().build().expect("it can be made");
            let _entered = runtime.enter();
            let socket = admit(&hub);
            let count = 2 * SLICE;
            leave_to_tasks(group(&socket, count));
            assert_eq!(BACKLOGS.with(|backlogs| backlogs.borrow().len()), 1, "round {round}");
            runtime.block_on(async {
                while BACKLOGS.with(|backlogs| backlogs.borrow()[0].lock().tasks > 0) {
                    yield_now().await;
                }
            });
        }
    }

    #[test]
    fn a_list_does_not_grow_with_clients_that_are_in_it() {
        let hub = Hub::default();
        let sockets: Vec<_> = (0..WORTH_A_TASK + 500).map(|_| admit(&hub)).collect();
        let clients: Vec<_> = sockets.iter().map(|socket| socket.client().sender().clone()).collect();
        let home = Arc::clone(&sockets[0].client().entry.home);
        let group = |may_repeat| Group { home: Arc::clone(&home), clients: clients.clone(), may_repeat };
        let mut listed = Listed { tasks: 1, ..Listed::default() };
        for round in 0..50 {
            listed.add(group(true));
            // Only once it is more than twice as long as it was without duplicates is it freed of them again.
            let expected = if round > 0 && round % 2 == 0 { 2 } else { 1 };
            assert_eq!(listed.clients.len(), expected * clients.len(), "round {round}");
        }
        let first = listed.take();
        assert!(
            first.iter().zip(&clients).all(|(one, other)| one.address() == other.address()),
            "they keep their order"
        );
        assert_eq!((first.len(), listed.tasks), (SLICE, 1));
        while listed.tasks > 0 {
            listed.take();
        }
        assert!(listed.clients.is_empty());
        // Duplicates are only looked for where there may be some.
        for (may_repeat, distinct) in [(true, 0), (false, clients.len())] {
            let mut listed = Listed::default();
            listed.add(group(may_repeat));
            assert_eq!(listed.distinct, distinct);
        }
    }

    #[test]
    fn the_clients_of_two_publications_may_be_the_same() {
        let hub = Hub::default();
        let (one, other) = (admit(&hub), admit(&hub));
        let publication = |sockets: &[&Socket<Pipe>]| {
            let mut listed = Groups::new();
            for socket in sockets {
                listed.push(&socket.client());
            }
            listed
        };
        let counts = |list: &Groups| {
            list.iter().map(|group| (group.clients.len(), group.may_repeat)).collect::<Vec<_>>()
        };
        let mut list = publication(&[&one, &other]);
        assert_eq!(counts(&list), [(2, false)]);
        list.append(publication(&[&one]));
        assert_eq!(counts(&list), [(3, true)]);
        // A client that was admitted in a runtime has another home.
        let runtime = Builder::new_current_thread().build().expect("it can be made");
        let _entered = runtime.enter();
        let elsewhere = admit(&hub);
        list.append(publication(&[&elsewhere]));
        assert_eq!(counts(&list), [(3, true), (1, false)]);
        list.append(publication(&[&one, &elsewhere]));
        assert_eq!(counts(&list), [(4, true), (2, true)]);
        assert_eq!(list.len(), 6);
    }

    /// The clients of two runtimes share a turn's slice, and a task of each runtime writes to the others.
    #[test]
    fn a_turn_writes_to_one_slice_of_the_clients_of_all_homes() {
        const EACH: usize = SLICE - SLICE / 4;
        let hub = Hub::default();
        let runtimes = [(); 2].map(|()| Builder::new_current_thread().build().expect("it can be made"));
        let sockets = runtimes.each_ref().map(|runtime| {
            let _entered = runtime.enter();
            (0..EACH).map(|_| admit_with_peer(&hub)).collect::<Vec<_>>()
        });
        let written = || {
            let is_written = |(socket, _): &&(Socket<Pipe>, Pipe)| socket.stats().bytes_sent > 0;
            sockets.each_ref().map(|sockets| sockets.iter().filter(is_written).count())
        };
        let turn = Turn::begin();
        assert_eq!(hub.broadcast("news").accepted, 2 * EACH);
        assert_eq!(written(), [0, 0]);
        drop(turn);
        assert_eq!(written(), [EACH, SLICE - EACH]);
        runtimes[0].block_on(yield_now());
        assert_eq!(written(), [EACH, SLICE - EACH], "the others are not left to a foreign runtime");
        runtimes[1].block_on(yield_now());
        assert_eq!(written(), [EACH, EACH]);
    }
}
