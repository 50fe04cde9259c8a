//! Sends of a task that has used up its cooperative budget: the receiving task writes them.

mod support;

use longwire_connection::testing::duplex;
use longwire_connection::{Config, PreparedMessage};
use support::{End, read_frames, run, socket};
use tokio::task::coop;

#[test]
fn a_task_without_budget_leaves_writing_to_the_receiving_task() {
    for (what, prepared) in [("a message", false), ("a prepared message", true)] {
        run(what, async {
            let (pipe, mut peer) = duplex(1024);
            let tap = pipe.tap();
            let (sender, mut receiver) = socket(End::Server, pipe, &Config::default()).split();
            let receiving = tokio::spawn(async move { receiver.recv().await });
            tokio::task::yield_now().await;

            let send = || {
                if prepared {
                    sender.try_send_prepared(&PreparedMessage::new("hi"), 1024)
                } else {
                    sender.try_send("hi")
                }
            };
            send().unwrap();
            assert_eq!(tap.write_sizes(), [4], "{what}: with budget it is written at once");
            while coop::has_budget_remaining() {
                coop::consume_budget().await;
            }
            send().unwrap();
            send().unwrap();
            assert_eq!(tap.write_sizes(), [4], "{what}: without it is not");
            assert_eq!(read_frames(&mut peer, End::Server, 3).await.len(), 3, "{what}");
            assert_eq!(tap.write_sizes()[0], 4);
            assert_eq!(tap.write_sizes().len(), 2, "{what}: what waited is written in one call");
            receiving.abort();
        });
    }
}
