//! Loom models of the slots of handshakes on several threads. `cargo xtask loom` runs them. The comment on each model
//! names a fault of the code with which the model was seen to fail.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use longwire_connection::stepped::{block_on, model};
use loom::thread::spawn;

use super::*;

/// Checks the limit of one slot of each kind, and that a ticket without a slot was told so.
fn check(ticket: &Ticket) {
    let state = ticket.pending.state();
    assert!(state.yielding.len() <= 1 && state.held.len() <= 1);
    let has_slot = state.yielding.contains_key(&ticket.number) || state.held.contains_key(&ticket.number);
    let revoked = *ticket.revocation.borrow();
    drop(state);
    assert_eq!(has_slot, revoked.is_none());
}

fn assert_deserted(pending: &Pending) {
    let state = pending.state();
    assert_eq!((state.yielding.len(), state.held.len(), state.tickets), (0, 0, 0));
}

/// Three handshakes have one slot of each kind: one waits for the application, one ends with a panic while it does, and
/// one sends its request. Fails if the limit on held slots is checked before the lock is acquired that counts the slot,
/// or if a handshake that loses its slot is not told.
#[test]
fn slots_are_neither_exceeded_nor_lost() {
    model(3, || {
        let pending = Arc::new(Pending::default());
        let waiting = {
            let pending = Arc::clone(&pending);
            spawn(move || {
                let ticket = pending.enter(1);
                if ticket.hold() {
                    check(&ticket);
                    ticket.release();
                }
                check(&ticket);
            })
        };
        let panicking = {
            let pending = Arc::clone(&pending);
            spawn(move || {
                let panic = catch_unwind(AssertUnwindSafe(|| {
                    let ticket = pending.enter(1);
                    ticket.hold();
                    check(&ticket);
                    // Unlike `panic!`, this prints nothing.
                    resume_unwind(Box::new(()));
                }));
                assert!(panic.is_err());
            })
        };
        check(&pending.enter(1));
        waiting.join().unwrap();
        panicking.join().unwrap();
        assert_deserted(&pending);
    });
}

/// The server stops while one handshake begins and another keeps its slot. Fails if a handshake that comes too late
/// gets a slot, if keeping a slot can undo its loss, or if the call that waits for the last one looks for tickets
/// before it is ready to be notified.
#[test]
fn a_shutdown_ends_all_handshakes() {
    model(3, || {
        let pending = Arc::new(Pending::default());
        let beginning = {
            let pending = Arc::clone(&pending);
            spawn(move || assert_eq!(block_on(pending.enter(2).revoked()), Revoked::ShutDown))
        };
        let keeping = {
            let ticket = pending.enter(2);
            spawn(move || {
                ticket.hold();
                assert_eq!(block_on(ticket.revoked()), Revoked::ShutDown);
                ticket.release();
                assert!(!ticket.hold());
            })
        };
        pending.close();
        block_on(pending.emptied());
        beginning.join().unwrap();
        keeping.join().unwrap();
        assert_deserted(&pending);
    });
}
