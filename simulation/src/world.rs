//! A world: one server, its clients, and the network between them, from a seed to the last task's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longwire::connection::Error;
use longwire::testing::{InMemory, Pipe, serve};
use longwire::{CloseCode, Config, SlowPolicy};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::Report;
use crate::clients::{Actor, Story};
use crate::ledger::{Ledger, Numbers};
use crate::link::Links;
use crate::plan::{Kind, Plan, Route};
use crate::server::{handle, publisher};

/// The network, as a client sees it.
#[derive(Clone)]
pub(crate) struct Net {
    links: Links,
    server: Arc<InMemory>,
    pub(crate) client: Config,
    pub(crate) deflate: bool,
    end: Instant,
    is_shut: Arc<AtomicBool>,
}

impl Net {
    /// Connects a client over a new link.
    pub(crate) fn connect(&self, route: &Route) -> Pipe {
        self.links.connect(self.server.connect(), route)
    }

    /// Returns the time until the network is repaired.
    pub(crate) fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Returns the time from which no link fails any more.
    pub(crate) fn end(&self) -> Instant {
        self.end
    }

    /// Returns whether the server has begun to shut down.
    pub(crate) fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Relaxed)
    }
}

/// Runs the world of a seed.
///
/// # Panics
///
/// If anything is not as it must be.
pub(crate) async fn run(seed: u64) -> Report {
    let begin = Instant::now();
    let mut plan = Plan::new(seed);
    let ledger = Ledger::default();
    let server = serve({
        let (config, ledger) = (plan.server.clone(), ledger.clone());
        move |server| {
            server.config(config).serve(move |ws, request| {
                let ledger = ledger.clone();
                async move { Ok(handle(ws, request, ledger).await?) }
            })
        }
    });
    let control = server.handle().clone();
    let net = Net {
        links: Links::default(),
        server: Arc::new(server),
        client: plan.client.clone(),
        deflate: plan.deflate,
        end: begin + plan.duration,
        is_shut: Arc::default(),
    };
    let mut publishers = JoinSet::new();
    for number in 0..plan.publishers {
        let hub = control.hub().clone();
        publishers.spawn(publisher(number, plan.rng.fork(), hub, ledger.clone(), net.end));
    }
    let actors = plan.clients.iter().enumerate().map(|(id, (kind, start))| {
        let actor = Actor { id, rng: plan.rng.fork(), net: net.clone(), ledger: ledger.clone() };
        (*kind, tokio::spawn(actor.live(*kind, *start)))
    });
    let actors: Vec<_> = actors.collect();
    if plan.is_abrupt {
        sleep(plan.duration.mul_f64(plan.rng.f64())).await;
    } else {
        // Subscribers stay to the end, and the network is repaired before it.
        until_idle(&actors, net.end + Duration::from_secs(600)).await;
        while let Some(publisher) = publishers.join_next().await {
            publisher.expect("a publisher runs to its end");
        }
    }
    // A handler may receive requests after this, when the clients of the others are being closed.
    let published = ledger.lock().published.clone();
    net.is_shut.store(true, Ordering::Relaxed);
    let asked = Instant::now();
    control.shutdown().await;
    let limit = plan.server.shutdown.deadline + LEEWAY;
    assert!(asked.elapsed() <= limit, "the shutdown took {:?}", asked.elapsed());
    assert!(control.hub().is_empty(), "clients are left");

    let mut stories = Vec::new();
    for (kind, actor) in actors {
        let ended = timeout(Duration::from_secs(600), actor).await;
        stories.push((
            kind,
            ended.unwrap_or_else(|_| panic!("a client does not end: {kind:?}")).expect("no panic"),
        ));
    }
    net.links.cut();
    drop(publishers);
    check(&plan, &ledger, &published, &stories);
    let stats = control.hub().stats();
    {
        let records = ledger.lock();
        assert_eq!(
            (stats.delivered, stats.dropped),
            (records.accepted, records.dropped),
            "the hub counts the same"
        );
    }
    assert_eq!((stats.clients, stats.rooms), (0, 0));
    let messages = stats.delivered;
    drop((net, control));
    nothing_is_left(&mut plan).await;
    Report { clients: stories.len(), messages, time: begin.elapsed() }
}

/// Waits until all clients have ended but those that stay.
async fn until_idle(actors: &[(Kind, JoinHandle<Story>)], limit: Instant) {
    let stays = |kind: &Kind| matches!(kind, Kind::Subscriber { .. });
    while let Some((kind, _)) = actors.iter().find(|(kind, actor)| !stays(kind) && !actor.is_finished()) {
        assert!(Instant::now() < limit, "a client does not end: {kind:?}");
        sleep(Duration::from_secs(1)).await;
    }
    // Those whose link was cut last are removed.
    sleep(Duration::from_secs(1)).await;
}

/// Compares what the clients have received with what the server knows.
fn check(plan: &Plan, ledger: &Ledger, published: &Numbers, stories: &[(Kind, Story)]) {
    let records = ledger.lock();
    assert!(records.violations.is_empty(), "{:#?}", records.violations);
    for (kind, story) in stories {
        let whose = format!("client {}, {kind:?}", story.id);
        let handles = records.handles.get(&story.id).map_or(&[][..], Vec::as_slice);
        let may_fail = story.is_faulty || plan.is_abrupt;
        assert!(!story.is_turned_away || may_fail, "{whose}: the handshake failed");
        let dropped: u64 = handles.iter().map(|handle| handle.stats().dropped).sum();
        if let Some(news) = &story.news {
            let most = if plan.policy == SlowPolicy::Close { 0 } else { dropped };
            assert!(news.missing <= most, "{whose}: {} missing, {dropped} dropped", news.missing);
            if dropped == 0 && !plan.is_abrupt && matches!(story.end, Some(Ok(()))) {
                // The close frame of the shutdown follows all that was accepted.
                for (source, last) in &news.last {
                    let due = published.get(source).copied().unwrap_or_default();
                    assert!(*last >= due, "{whose}: number {last} of {due} is the last news of {source:?}");
                }
            }
        }
        if let Some(end) = &story.end {
            let pauses = matches!(kind, Kind::Subscriber { pause } if !pause.is_zero());
            let is_slow = pauses || dropped > 0;
            let is_explained = is_explained(plan, story, end, is_slow);
            assert!(is_explained, "{whose}, with a failing link: {}: {end:?}", story.is_faulty);
        }
        let noted = records.noted.get(&story.id).map_or(&[][..], Vec::as_slice);
        if *kind == Kind::Reconnecting(longwire::reconnect::Confirm::Pong) {
            // Each number follows one that has arrived before; after an outage, some arrive a second time.
            let mut most = 0;
            for number in noted {
                assert!(*number <= most + 1, "{whose}: {number} after {most}");
                most = most.max(*number);
            }
            assert!(
                story.confirmed.is_some() || plan.is_abrupt,
                "{whose}: the last messages are not confirmed"
            );
            if let Some(sent) = story.confirmed {
                assert_eq!(most, sent, "{whose}: all that was confirmed");
            }
        }
    }
}

/// Returns whether something that happened explains the end of a client's connection.
fn is_explained(plan: &Plan, story: &Story, end: &Result<(), Error>, is_slow: bool) -> bool {
    let is_closed_early = plan.is_abrupt || is_slow || story.is_delayed || plan.budget.is_some();
    match end {
        Ok(()) => true,
        Err(Error::ClosedByPeer(frame)) => {
            frame.code == CloseCode::TRY_AGAIN_LATER && (is_slow || plan.budget.is_some())
        }
        // A client that does not keep up is dropped if it does not leave in time, as is one that is left at the end of
        // the shutdown.
        Err(Error::Closed | Error::Lost | Error::Io(_) | Error::CloseTimeout) => {
            story.is_faulty || is_closed_early
        }
        Err(Error::PeerGone) => story.is_faulty,
        Err(_) => false,
    }
}

/// Waits for the tasks that close in the background, and ensures that all memory is given back.
async fn nothing_is_left(plan: &mut Plan) {
    let begin = Instant::now();
    while Handle::current().metrics().num_alive_tasks() > 0 {
        assert!(begin.elapsed() < LEEWAY, "{} tasks are left", Handle::current().metrics().num_alive_tasks());
        sleep(Duration::from_secs(1)).await;
    }
    if let Some(budget) = &plan.budget {
        assert_eq!(budget.used(), 0, "memory is still counted");
    }
}

/// Longer than any time limit of a connection.
const LEEWAY: Duration = Duration::from_secs(60);
