//! Brokers for tests, each a process of its own.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use longwire_cluster::{Backplane, Channel, Memory};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// A broker that tests can harm.
pub(crate) trait Broker: Sized {
    type Link: Backplane;

    /// Starts it. `None` if it is not installed, and that is meant.
    async fn start() -> Option<Self>;

    /// Starts one that keeps a history in files.
    async fn start_with_history() -> Option<Self> {
        Self::start().await
    }

    /// Loses the history of all rooms.
    async fn forget_history(&self) {
        panic!("it keeps none");
    }

    async fn connect(&self) -> Self::Link;

    /// Ends the broker without a farewell.
    fn kill(&mut self);

    /// Starts the broker again at the same address.
    async fn restart(&mut self);

    /// Stops the broker, which keeps its connections.
    fn freeze(&self);

    fn thaw(&self);

    /// Returns the number of nodes that have subscribed to a channel.
    async fn subscribers(&self, channel: &Channel) -> usize;

    /// Returns the number of bytes that the broker has sent, if it counts them.
    async fn sent(&self) -> Option<u64>;
}

impl Broker for Memory {
    type Link = Self;

    async fn start() -> Option<Self> {
        Some(Self::new())
    }

    async fn forget_history(&self) {
        Self::forget_history(self);
    }

    async fn connect(&self) -> Self {
        self.clone()
    }

    fn kill(&mut self) {
        self.pause();
    }

    async fn restart(&mut self) {
        self.resume();
    }

    fn freeze(&self) {
        self.pause();
    }

    fn thaw(&self) {
        self.resume();
    }

    async fn subscribers(&self, channel: &Channel) -> usize {
        Self::subscribers(self, channel)
    }

    async fn sent(&self) -> Option<u64> {
        None
    }
}

/// A program that listens on a port. It is killed when this is dropped.
pub(crate) struct Process {
    program: &'static str,
    arguments: Vec<String>,
    pub(crate) port: u16,
    directory: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a program, and waits until it listens. `None` if it is not installed, and that is meant.
    pub(crate) async fn start(program: &'static str, port: u16, arguments: Vec<String>) -> Option<Self> {
        let directory = directory(program, port);
        let child = match spawn(program, &arguments, &directory) {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound && may_be_missing() => {
                eprintln!("SKIPPED: {program} is not installed, and LONGWIRE_NO_BROKERS=1");
                return None;
            }
            Err(error) => {
                panic!("{program} cannot be started ({error}); LONGWIRE_NO_BROKERS=1 skips tests without it")
            }
        };
        let process = Self { program, arguments, port, directory, child };
        process.wait().await;
        Some(process)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it was started here");
        self.child.wait().expect("it was started here");
    }

    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.program, &self.arguments, &self.directory).expect("it was there before");
        self.wait().await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("processes have such numbers");
        kill_process(id, signal).expect("it was started here");
    }

    /// Waits until the program listens.
    async fn wait(&self) {
        let address = (Ipv4Addr::LOCALHOST, self.port);
        let listening = async {
            while TcpStream::connect(address).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), listening).await.expect("it listens");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(program: &str, arguments: &[String], directory: &PathBuf) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn()
}

fn may_be_missing() -> bool {
    std::env::var_os("LONGWIRE_NO_BROKERS").is_some_and(|value| value == "1")
}

/// A network between a node and its broker that can begin to swallow what is sent.
pub(crate) struct Network {
    pub(crate) port: u16,
    connections: Arc<Mutex<Vec<Connection>>>,
    _listening: AbortOnDrop,
}

/// A connection, which stays open without the tasks that copy.
struct Connection {
    _sockets: [Arc<TcpStream>; 2],
    /// To the broker, and back.
    copying: [AbortHandle; 2],
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Network {
    pub(crate) async fn to(port: u16) -> Self {
        let listener =
            tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a port");
        let own = listener.local_addr().expect("it is bound").port();
        let connections: Arc<Mutex<Vec<Connection>>> = Arc::default();
        let all = Arc::clone(&connections);
        let listening = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.expect("it listens");
                let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the broker is there");
                let (near, far) = (Arc::new(near), Arc::new(far));
                let copying = [(&near, &far), (&far, &near)]
                    .map(|(from, to)| tokio::spawn(copy(Arc::clone(from), Arc::clone(to))).abort_handle());
                let connection = Connection { _sockets: [near, far], copying };
                all.lock().expect("nothing panics").push(connection);
            }
        });
        Self { port: own, connections, _listening: AbortOnDrop(listening.abort_handle()) }
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().expect("nothing panics")
    }

    /// Swallows what the broker sends on the connections that there are.
    pub(crate) fn swallow_answers(&self) {
        self.connections().iter().for_each(|connection| connection.copying[1].abort());
    }

    /// Swallows everything on the connections that there are. Those that are made from now on work.
    pub(crate) fn swallow(&self) {
        self.connections().iter().flat_map(|connection| &connection.copying).for_each(AbortHandle::abort);
    }

    /// Swallows what the broker sends on the connection that was made first.
    pub(crate) fn swallow_answers_of_first(&self) {
        self.connections()[0].copying[1].abort();
    }

    /// Swallows everything on the connection that was made last.
    pub(crate) fn swallow_last(&self) {
        self.connections().last().expect("there is one").copying.iter().for_each(AbortHandle::abort);
    }

    /// Closes the connection that was made last.
    pub(crate) fn cut_last(&self) {
        let last = self.connections().pop().expect("there is one");
        last.copying.iter().for_each(AbortHandle::abort);
    }
}

async fn copy(from: Arc<TcpStream>, to: Arc<TcpStream>) {
    let mut buf = vec![0; 16 * 1024];
    loop {
        from.readable().await.expect("it is open");
        let len = match from.try_read(&mut buf) {
            Ok(0) => return,
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        let mut written = 0;
        while written < len {
            if to.writable().await.is_err() {
                return;
            }
            match to.try_write(&buf[written..len]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// Makes the directory in which a program runs.
fn directory(program: &str, port: u16) -> PathBuf {
    let program = Path::new(program).file_name().unwrap_or_default().display();
    let directory = std::env::temp_dir().join(format!("longwire-{program}-{}-{port}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("there is a place for temporary files");
    directory
}

/// Makes a certificate for `localhost`, puts it with its key where a program will run, as `cert.pem` and `key.pem`, and
/// returns a configuration that trusts it alone.
#[cfg(feature = "ring")]
pub(crate) fn certificate(program: &str, port: u16) -> tokio_rustls::rustls::ClientConfig {
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate can be made");
    let directory = directory(program, port);
    std::fs::write(directory.join("cert.pem"), made.cert.pem()).expect("it can be written");
    std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).expect("it can be written");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("it is well-formed");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("ring has them");
    config.with_root_certificates(roots).with_no_client_auth()
}

/// Returns a port that nobody listens on.
///
/// It is below those that the system picks for connections: one of the many that tests open at the same time would
/// otherwise take it before the broker does, or while the broker restarts. Tests run in processes of their own, so the
/// search begins at a place that depends on the process.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let place = std::process::id().wrapping_mul(31).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(20_000 + place % 12_000).expect("below 32 000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
