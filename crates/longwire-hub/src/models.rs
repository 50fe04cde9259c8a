//! Loom models of a hub: its clients come, go, publish and are shut down on several threads, and every interleaving
//! of the locks, atomics and notifications with few preemptions is run.
//!
//! `cargo xtask loom` runs them. The comment on each model names a fault of the code with which the model was seen to
//! fail.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use longwire_connection::stepped::{block_on, model};
use longwire_connection::{CloseCode, Config, Handover, WebSocket};
use loom::thread::spawn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

use crate::turn::Turn;
use crate::{ClientInfo, Hub, HubConfig, HubError, RunError, Socket};

/// A transport that takes everything unless it is blocked, records it, and ends after a close frame. It is no part of
/// what is searched, so its lock is not loom's.
#[derive(Clone, Default)]
struct Io(Arc<std::sync::Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    reader: Option<Waker>,
    is_blocked: bool,
    writer: Option<Waker>,
}

impl Taken {
    /// Returns whether there is a close frame. The other frames of the models are ASCII.
    fn has_close(&self) -> bool {
        self.bytes.contains(&0x88)
    }
}

impl Io {
    fn taken(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }

    fn block(&self) {
        self.0.lock().unwrap().is_blocked = true;
    }

    fn unblock(&self) {
        let writer = {
            let mut taken = self.0.lock().unwrap();
            taken.is_blocked = false;
            taken.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// Returns how often this text of one character was written.
    fn count(&self, text: char) -> usize {
        let frame = [0x81, 1, text as u8];
        self.taken().windows(frame.len()).filter(|bytes| *bytes == frame).count()
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut taken = self.0.lock().unwrap();
        if taken.has_close() {
            return Poll::Ready(Ok(()));
        }
        taken.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut taken = self.0.lock().unwrap();
        if taken.is_blocked {
            taken.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        taken.bytes.extend_from_slice(buf);
        let reader = if taken.has_close() { taken.reader.take() } else { None };
        drop(taken);
        if let Some(reader) = reader {
            reader.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn connection() -> (Io, WebSocket<Io>) {
    let io = Io::default();
    (io.clone(), WebSocket::new(io, Handover::server(), &Config::default()))
}

fn admit(hub: &Hub) -> (Io, Socket<Io>) {
    let (io, ws) = connection();
    (io, hub.admit(ws, ClientInfo::default()).unwrap())
}

/// Checks that nothing is left of any client.
fn assert_deserted(hub: &Hub) {
    let stats = hub.stats();
    assert_eq!((stats.clients, stats.rooms, hub.inner.keys.len()), (0, 0, 0));
    assert!(hub.clients().is_empty());
}

/// The last member leaves a room while another client joins it and publishes. Fails if a client can join a room that
/// was removed from the table, or if the task that leaves removes the room that has taken the name.
#[test]
fn a_room_ends_with_its_last_member() {
    model(3, || {
        let hub = Hub::default();
        let [(first_io, first), (second_io, second)] = [admit(&hub), admit(&hub)];
        first.join("r").unwrap();
        let joining = {
            let (hub, second) = (hub.clone(), second.client());
            spawn(move || {
                assert!(second.join("r").unwrap());
                hub.publish("r", "x").accepted
            })
        };
        assert!(first.leave("r"));
        let accepted = joining.join().unwrap();
        assert_eq!(second_io.count('x'), 1, "it was in the room");
        assert_eq!(accepted, 1 + first_io.count('x'));
        assert_eq!(hub.stats().delivered, accepted as u64);
        assert_eq!(hub.publish("r", "y").accepted, 1);
        drop((first, second));
        assert_deserted(&hub);
    });
}

/// A client leaves the hub while other tasks put it into a room and give it a key. Fails if a client that has left can
/// still enter a room, or if its departure does not wait for a task that has found it connected.
#[test]
fn who_has_left_is_nowhere() {
    model(3, || {
        let hub = Hub::default();
        let (_, socket) = admit(&hub);
        let [joining, naming] = [socket.client(), socket.client()];
        let threads = [
            spawn(move || drop(socket)),
            spawn(move || drop(joining.join("r"))),
            spawn(move || drop(naming.set_key("k"))),
        ];
        for thread in threads {
            thread.join().unwrap();
        }
        assert_deserted(&hub);
    });
}

/// A client changes its key while a message is sent to the old key and then to the new one. Fails if the client leaves
/// the old key first.
#[test]
fn a_client_that_changes_its_key_is_found() {
    model(3, || {
        let hub = Hub::default();
        let (io, socket) = admit(&hub);
        socket.set_key("old").unwrap();
        let moving = {
            let client = socket.client();
            spawn(move || client.set_key("new").unwrap())
        };
        let accepted = hub.send_to("old", "x").accepted + hub.send_to("new", "x").accepted;
        moving.join().unwrap();
        assert!(accepted > 0);
        assert_eq!(io.count('x'), accepted);
        drop(socket);
        assert_deserted(&hub);
    });
}

/// The list of all clients is made while one leaves. Fails if a list is kept although a client has left meanwhile.
#[test]
fn a_list_that_is_kept_is_current() {
    model(3, || {
        let hub = Hub::default();
        let (_, socket) = admit(&hub);
        let listing = {
            let hub = hub.clone();
            spawn(move || hub.clients().len())
        };
        drop(socket);
        assert!(listing.join().unwrap() <= 1);
        assert_deserted(&hub);
    });
}

/// The traffic is summed up while one client leaves and another is sent a message. Fails if the clients that have left
/// are looked up first, or if a client that leaves meanwhile is counted in both places.
#[test]
fn each_client_is_counted_once() {
    model(3, || {
        let hub = Hub::default();
        let [(_, leaving), (_, staying)] = [admit(&hub), admit(&hub)];
        assert_eq!(hub.broadcast("x").accepted, 2);
        let summing = {
            let hub = hub.clone();
            spawn(move || hub.traffic().messages_sent)
        };
        let sending = {
            let client = staying.client();
            spawn(move || client.sender().try_send("y").unwrap())
        };
        drop(leaving);
        sending.join().unwrap();
        assert!((2..=3).contains(&summing.join().unwrap()));
        drop(staying);
        assert_eq!(hub.traffic().messages_sent, 3);
        assert_eq!(hub.close_codes().values().sum::<u64>(), 2);
    });
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 1))
}

/// Three tasks want two places: one gives its place back, one has a client take it, and one waits with its place until
/// both are done. Fails if the limit is checked before the lock is acquired that counts the place.
#[test]
fn places_are_neither_exceeded_nor_lost() {
    model(3, || {
        let hub = Hub::new(HubConfig::default().with_max_clients(2));
        let taken = Arc::new(AtomicUsize::new(0));
        // No other thread runs between a call and the count of its place.
        let count = |taken: &AtomicUsize| assert!(taken.fetch_add(1, Ordering::Relaxed) < 2);
        let trying = {
            let (hub, taken) = (hub.clone(), Arc::clone(&taken));
            spawn(move || {
                let Ok(place) = hub.reserve(address(1)) else { return true };
                count(&taken);
                // Another thread may run here.
                assert!(hub.stats().clients <= 1);
                taken.fetch_sub(1, Ordering::Relaxed);
                drop(place);
                false
            })
        };
        let entering = {
            let (hub, taken) = (hub.clone(), Arc::clone(&taken));
            spawn(move || {
                let Ok(place) = hub.reserve(address(2)) else { return true };
                count(&taken);
                let (_, ws) = connection();
                let info = ClientInfo::default().peer_addr(address(2)).reservation(place);
                let socket = hub.admit(ws, info).expect("it has a place");
                taken.fetch_sub(1, Ordering::Relaxed);
                drop(socket);
                false
            })
        };
        let place = hub.reserve(None);
        if place.is_ok() {
            count(&taken);
        }
        let refused = [trying.join().unwrap(), entering.join().unwrap(), place.is_err()];
        let refused = refused.into_iter().filter(|&is_refused| is_refused).count();
        assert!(refused <= 1, "at least two had room");
        assert_eq!(hub.stats().refused, refused as u64);
        drop(place);
        assert_deserted(&hub);
        let all: Vec<_> = (0..3).map(|_| hub.reserve(address(3))).collect();
        assert!(all[0].is_ok() && all[1].is_ok() && all[2].is_err(), "every place was given back, once");
    });
}

/// A place that was reserved without an address gets one while another place is reserved for the same address, and one
/// more for another. Fails if the limit for an address is checked before the lock is acquired that counts the place.
#[test]
fn places_of_an_address_are_neither_exceeded_nor_lost() {
    model(3, || {
        let hub = Hub::new(HubConfig::default().with_max_clients_per_address(1));
        let naming = {
            let hub = hub.clone();
            spawn(move || {
                let mut place = hub.reserve(None).expect("there is no limit in all");
                place.set_peer_addr(address(1)).is_ok().then_some(place)
            })
        };
        let first = hub.reserve(address(1));
        let other = hub.reserve(address(2));
        assert!(other.is_ok(), "the limit is of another address");
        let named = naming.join().unwrap();
        assert_ne!(first.is_ok(), named.is_some(), "one of them has the address");
        drop((first, named, other));
        let again = hub.reserve(address(1));
        assert!(again.is_ok() && hub.reserve(address(1)).is_err());
    });
}

/// Returns a runtime for timers, which never fire, and for tasks, which a model runs.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// A client is admitted while the hub is shut down, and stays until it receives the close frame. Fails if a client can
/// be registered after the shutdown has looked for clients, or if the call that waits for the last one looks for
/// clients before it is ready to be notified.
#[test]
fn a_shutdown_ends_all() {
    model(3, || {
        let runtime = runtime();
        let _entered = runtime.enter();
        let hub = Hub::default();
        let (io, ws) = connection();
        let client = {
            let hub = hub.clone();
            spawn(move || match hub.admit(ws, ClientInfo::default()) {
                Ok(mut socket) => assert!(!matches!(block_on(socket.recv()), Ok(Some(_)))),
                Err(error) => assert!(matches!(error, HubError::ShuttingDown)),
            })
        };
        let drained = block_on(hub.shutdown(CloseCode::GOING_AWAY, "", Duration::from_secs(10)));
        assert_eq!(drained.unwrap().aborted, 0);
        assert!(hub.is_empty());
        client.join().unwrap();
        assert_eq!(io.taken(), [0x88, 2, 3, 0xe9], "one close frame, of the shutdown");
        assert_deserted(&hub);
    });
}

/// A handler that waits for something else is killed when it begins. Fails if the handler's task looks for the kill
/// before it can be woken, or if the kill is recorded after the task was woken.
#[test]
fn a_kill_ends_a_handler() {
    model(3, || {
        let hub = Hub::default();
        let (_, socket) = admit(&hub);
        let client = socket.client();
        let handling = spawn(move || block_on(socket.run(|_| pending::<Result<(), Infallible>>())));
        client.entry.kill();
        assert!(matches!(handling.join().unwrap(), Err(RunError::Aborted)));
        assert_deserted(&hub);
    });
}

/// Runs the tasks of a runtime for this many turns.
fn run_tasks(runtime: &Runtime, turns: usize) {
    runtime.block_on(async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    });
}

/// Two turns of a handler publish to more clients than a turn writes to, while the runtime runs the tasks that write to
/// the others. Fails if a task ends in two steps, so that clients are listed and no task writes to them.
#[test]
fn what_a_turn_leaves_to_a_task_is_written() {
    model(3, || {
        let runtime = Arc::new(runtime());
        let hub = Hub::default();
        let clients: Vec<_> = {
            let _entered = runtime.enter();
            (0..3).map(|_| admit(&hub)).collect()
        };
        let running = {
            let runtime = Arc::clone(&runtime);
            spawn(move || run_tasks(&runtime, 3))
        };
        for text in ["x", "y"] {
            let turn = Turn::begin();
            assert_eq!(hub.broadcast(text).accepted, 3);
            drop(turn);
        }
        running.join().unwrap();
        run_tasks(&runtime, 5);
        for (io, _) in &clients {
            assert_eq!(io.taken(), [0x81, 1, b'x', 0x81, 1, b'y']);
        }
        drop(clients);
        assert_deserted(&hub);
    });
}

/// As above, but the runtime ends instead: the drop of the task writes. Fails if the drop of a task leaves its clients.
#[test]
fn a_runtime_that_ends_leaves_nothing_unwritten() {
    model(3, || {
        let runtime = runtime();
        let hub = Hub::default();
        let clients: Vec<_> = {
            let _entered = runtime.enter();
            (0..3).map(|_| admit(&hub)).collect()
        };
        let ending = spawn(move || {
            run_tasks(&runtime, 1);
            drop(runtime);
        });
        let turn = Turn::begin();
        assert_eq!(hub.broadcast("x").accepted, 3);
        drop(turn);
        ending.join().unwrap();
        assert!(clients.iter().all(|(io, _)| io.count('x') == 1));
        drop(clients);
        assert_deserted(&hub);
    });
}

/// Values wait for a client that does not keep up, and the task that moves them to the queue ends while two more are
/// published. Fails if the task ends in two steps, so that a value waits and no task moves it.
#[test]
fn the_latest_value_is_sent() {
    model(3, || {
        let runtime = Arc::new(runtime());
        let hub = Hub::default();
        let (io, socket) = {
            let _entered = runtime.enter();
            admit(&hub)
        };
        io.block();
        let long = "l".repeat(20 * 1024);
        assert_eq!(hub.broadcast_latest("other", long).accepted, 1);
        assert_eq!(hub.broadcast_latest("key", "1").accepted, 1);
        io.unblock();
        let running = {
            let runtime = Arc::clone(&runtime);
            spawn(move || run_tasks(&runtime, 3))
        };
        let publishing = {
            let hub = hub.clone();
            spawn(move || hub.broadcast_latest("key", "2"))
        };
        let third = hub.broadcast_latest("key", "3");
        let second = publishing.join().unwrap();
        running.join().unwrap();
        run_tasks(&runtime, 5);
        assert_eq!((second.accepted, third.accepted), (1, 1));
        let sent = ['1', '2', '3'].map(|text| io.count(text));
        assert!(sent[1] + sent[2] > 0 && sent.iter().all(|&count| count <= 1), "{sent:?}");
        // A value may be replaced while it is being sent; then it is both.
        let known = sent.iter().sum::<usize>() + second.replaced + third.replaced;
        assert!((3..=5).contains(&known), "none is lost: {sent:?}, {second:?}, {third:?}");
        assert_eq!(hub.stats().delivered, 4);
        assert!(!socket.client().entry.latest().unwrap().is_moving);
    });
}
