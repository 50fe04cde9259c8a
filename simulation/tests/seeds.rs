//! The first seeds, each of them a world of its own. In parts, which may run at the same time.

use simulation::{World, run_all};

#[test]
fn worlds_from_0() {
    run_all(World::Server, 0..50, 1).expect("all is as it must be");
}

#[test]
fn worlds_from_50() {
    run_all(World::Server, 50..100, 1).expect("all is as it must be");
}

#[test]
fn worlds_from_100() {
    run_all(World::Server, 100..150, 1).expect("all is as it must be");
}

#[test]
fn worlds_from_150() {
    run_all(World::Server, 150..200, 1).expect("all is as it must be");
}

#[test]
fn clusters_from_0() {
    run_all(World::Cluster, 0..50, 1).expect("all is as it must be");
}

#[test]
fn clusters_from_50() {
    run_all(World::Cluster, 50..100, 1).expect("all is as it must be");
}
