//! One server on several threads, each with its own runtime and listener.
//!
//! Owns the threads, and how they start and end together. The work of each is in [`Server`].

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use longwire_hub::Hub;
use tokio::runtime::Builder;

use crate::lifecycle::Lifecycle;
use crate::{Error, ListenOptions, Server, ServerConfig, ServerHandle};

/// A server that runs on several threads which share nothing but its clients. Each thread has its own
/// current-thread runtime and its own listener on the same address.
///
/// Compared with the multi-threaded runtime of `#[tokio::main]`, this saves the cost of passing work between
/// threads, but a client stays on the thread that accepted it, however busy the threads are. It suits many clients
/// with short work of similar size.
///
/// On Linux and Android the system distributes connections among the listeners (`SO_REUSEPORT`); elsewhere the
/// workers accept from one shared listener. All clients are in one [`Hub`], so a broadcast reaches the clients of
/// every worker. Limits, the memory budget and the shutdown are shared, too.
///
/// # Examples
///
/// ```no_run
/// use longwire_server::Workers;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cores = std::thread::available_parallelism()?.get();
/// Workers::bind("127.0.0.1:8080".parse()?, cores)?.run(|server| async {
///     server
///         .serve(|mut ws, _request| async move {
///             while let Some(message) = ws.recv().await? {
///                 ws.hub().broadcast_except(ws.id(), message);
///             }
///             Ok(())
///         })
///         .await
/// })?;
/// # Ok(())
/// # }
/// ```
#[must_use = "workers work while they are run"]
pub struct Workers {
    addr: SocketAddr,
    listeners: Vec<TcpListener>,
    lifecycle: Arc<Lifecycle>,
    config: ServerConfig,
}

impl Workers {
    /// Listens on an address such as `127.0.0.1:8080` for `count` workers; port 0 picks a free one. A count of 0
    /// means 1.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the address is taken.
    pub fn bind(addr: SocketAddr, count: usize) -> Result<Self, Error> {
        Self::bind_with(addr, count, ListenOptions::default())
    }

    /// Listens on an address with options, for `count` workers. The backlog applies to each worker, and
    /// [`ListenOptions::reuse_port`] is set automatically.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] if the address is taken.
    pub fn bind_with(addr: SocketAddr, count: usize, options: ListenOptions) -> Result<Self, Error> {
        let options = options.with_reuse_port(SHARES_PORT);
        let first = options.listen_std(addr).map_err(Error::bind(addr))?;
        let addr = first.local_addr().map_err(Error::bind(addr))?;
        let mut listeners = vec![first];
        while listeners.len() < count {
            let next = if SHARES_PORT { options.listen_std(addr) } else { listeners[0].try_clone() };
            listeners.push(next.map_err(Error::bind(addr))?);
        }
        let config = ServerConfig::default();
        let lifecycle = Arc::new(Lifecycle::new(Hub::new(config.hub)));
        Ok(Self { addr, listeners, lifecycle, config })
    }

    /// Changes parts of the configuration, for all workers.
    pub fn configure(mut self, change: impl FnOnce(&mut ServerConfig)) -> Self {
        change(&mut self.config);
        self.lifecycle.configure(&self.config);
        self
    }

    /// Returns the address that the workers listen on.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the hub of all workers' clients.
    pub fn hub(&self) -> &Hub {
        &self.lifecycle.hub
    }

    /// Returns a handle that can shut down all workers or hand over their listeners, from any thread.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { lifecycle: Arc::clone(&self.lifecycle) }
    }

    /// Runs `worker` once on each thread, with that thread's server, and blocks until all have ended.
    ///
    /// The future it returns, which usually awaits [`Server::serve`], need not be [`Send`]. When one worker ends
    /// for any reason, the others are shut down as by [`ServerHandle::shutdown`]. A worker's tasks end with it; those
    /// of `spawn_blocking` are waited for. Call this method outside of any runtime, or in tokio's `spawn_blocking`.
    ///
    /// # Errors
    ///
    /// The error of the first worker that returns one, or [`Error::Worker`] if one cannot be started.
    ///
    /// # Panics
    ///
    /// If a worker panics, once the others have ended.
    pub fn run<F, Fut, E>(self, worker: F) -> Result<(), E>
    where
        F: Fn(Server) -> Fut + Sync,
        Fut: Future<Output = Result<(), E>>,
        E: From<Error> + Send,
    {
        let Self { listeners, lifecycle, config, .. } = self;
        let (lifecycle, config, worker) = (&lifecycle, &config, &worker);
        thread::scope(|scope| {
            let mut outcome = Ok(());
            let mut threads = Vec::new();
            for (number, listener) in listeners.into_iter().enumerate() {
                let work = move || work(listener, lifecycle, config.clone(), worker);
                match thread::Builder::new().name(format!("worker {number}")).spawn_scoped(scope, work) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        lifecycle.stop();
                        outcome = Err(Error::Worker(error).into());
                        break;
                    }
                }
            }
            for thread in threads {
                // If a panic leaves the scope, the scope waits for the other threads first.
                let ended = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
                outcome = outcome.and(ended);
            }
            outcome
        })
    }
}

fn work<F, Fut, E>(
    listener: TcpListener,
    lifecycle: &Arc<Lifecycle>,
    config: ServerConfig,
    worker: F,
) -> Result<(), E>
where
    F: Fn(Server) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: From<Error>,
{
    let stop = StopAll(lifecycle);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Worker)?;
    // From here on dropped before the runtime, whose end waits for its blocking tasks.
    let _stop = stop;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::bind_any)?;
        worker(Server::join(Arc::clone(lifecycle), Arc::new(listener), config)).await
    })
}

/// Ends all workers when one ends, even by a panic.
struct StopAll<'a>(&'a Lifecycle);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("addr", &self.addr)
            .field("count", &self.listeners.len())
            .finish_non_exhaustive()
    }
}

/// Whether the system distributes connections evenly among several listeners on one address. Systems of the BSD
/// family give all of them to one listener.
const SHARES_PORT: bool = cfg!(any(target_os = "linux", target_os = "android"));
