//! The network between a client and the server: it delays, splits, stalls, and fails.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longwire::testing::{Pipe, Tap, duplex};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::plan::{Fault, Route};

/// All links of a world, each of which can be cut.
#[derive(Clone, Default)]
pub(crate) struct Links {
    links: Arc<Mutex<Vec<Link>>>,
}

struct Link {
    taps: [Tap; 2],
    fault: Option<AbortHandle>,
}

impl Links {
    /// Connects a new pipe, which is returned, to the server's end.
    pub(crate) fn connect(&self, server: Pipe, route: &Route) -> Pipe {
        let (client, near) = duplex(route.capacity);
        let taps = [near.tap(), server.tap()];
        let (from_client, to_client) = split(near);
        let (from_server, to_server) = split(server);
        // One end of a connection fails with the other.
        let carry = |from, to| carry(from, to, route.clone());
        let (up, down) = (
            carry(Box::new(from_client) as Reader, Box::new(to_server) as Writer),
            carry(Box::new(from_server), Box::new(to_client)),
        );
        let resets = taps.clone();
        tokio::spawn(async move {
            if tokio::try_join!(up, down).is_err() {
                resets.iter().for_each(Tap::reset);
            }
        });
        let fault =
            route.fault.map(|(after, fault)| tokio::spawn(fail(after, fault, taps.clone())).abort_handle());
        self.lock().push(Link { taps, fault });
        client
    }

    /// Cuts every link, so that nothing is kept by a stall.
    pub(crate) fn cut(&self) {
        for Link { taps, fault } in self.lock().drain(..) {
            taps.iter().for_each(Tap::reset);
            fault.inspect(AbortHandle::abort);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Carries bytes in one direction until the end of the stream.
async fn carry(mut from: Reader, mut to: Writer, route: Route) -> io::Result<()> {
    let mut buffer = vec![0; route.chunk];
    loop {
        let len = from.read(&mut buffer).await?;
        if !route.latency.is_zero() {
            sleep(route.latency).await;
        }
        if len == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..len]).await?;
    }
}

async fn fail(after: Duration, fault: Fault, taps: [Tap; 2]) {
    sleep(after).await;
    match fault {
        Fault::Cut => taps.iter().for_each(Tap::reset),
        Fault::HalfOpen => taps.iter().for_each(Tap::stall),
        Fault::Stall(time) => {
            taps.iter().for_each(Tap::stall);
            sleep(time).await;
            taps.iter().for_each(Tap::resume);
        }
    }
}
