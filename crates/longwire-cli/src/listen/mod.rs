//! `longwire listen`: the other side.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use longwire::handshake::OriginPolicy;
use longwire::server::{self, TlsConfig};
use longwire::{BoxError, CloseCode, Hub, Limits, Request, Server, ServerConfig, Socket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::args::{Address, ListenArgs};
use crate::input::{Input, Payload};
use crate::output;
use crate::signals;
use crate::source::Source;
use crate::status::{FAILURE, Failure, INTERRUPTED, chain};

use self::console::Console;
use self::exec::Exec;
use self::peers::PATIENCE;

mod console;
mod exec;
mod peers;

/// The treatment of a client's messages.
enum Mode {
    /// They are shown, and what the user types goes to all clients.
    Show,
    /// They go back.
    Echo,
    /// They go to all clients.
    Broadcast,
    /// A command gets them, and its output goes back.
    Exec(Exec),
}

/// Serves until it is interrupted; returns the exit status.
///
/// # Errors
///
/// If it cannot listen.
pub(crate) async fn run(args: ListenArgs) -> Result<u8, Failure> {
    let (interrupt, interrupts) = mpsc::unbounded_channel();
    signals::forward(&interrupt)?;
    let (server, url) = bind(&args).await?;
    let server = configure(server, &args)?;
    let mode = mode(&args);
    let source = match mode {
        Mode::Show => Source::open(payload(&args), false, &args.display, interrupt),
        _ => Source::silent(),
    };
    let (output, mut written) = output::start(source.sink);
    let console = Arc::new(Console::new(&args, output, matches!(mode, Mode::Show), source.interactive));
    console.announce(&url).await;
    let result = serve(server, Arc::new(mode), source.inputs, Arc::clone(&console), interrupts).await;
    if let Some(path) = &args.unix {
        // If another process has removed it, it is gone all the same.
        let _ = fs::remove_file(path);
    }
    drop(console);
    // A handler that was abandoned may still hold the output.
    let _ = timeout(Duration::from_secs(1), written.end()).await;
    if let Some(prompt) = source.prompt {
        prompt.stop();
    }
    result
}

fn mode(args: &ListenArgs) -> Mode {
    match args {
        ListenArgs { echo: true, .. } => Mode::Echo,
        ListenArgs { broadcast: true, .. } => Mode::Broadcast,
        ListenArgs { exec: Some(command), .. } => Mode::Exec(Exec::new(command, args.binary)),
        _ => Mode::Show,
    }
}

fn payload(args: &ListenArgs) -> Payload {
    if args.binary { Payload::Binary } else { Payload::Text }
}

/// Listens; returns the server and its URL.
async fn bind(args: &ListenArgs) -> Result<(Server, String), Failure> {
    #[cfg(unix)]
    if let Some(path) = &args.unix {
        let server = Server::bind_unix(path);
        let server = server.map_err(|error| cannot_listen(&path.display().to_string(), &error))?;
        return Ok((server, format!("ws+unix:{}:/", path.display())));
    }
    #[cfg(not(unix))]
    if args.unix.is_some() {
        return Err(Failure::usage("there are no Unix sockets on this system"));
    }
    let (server, place) = match &args.address {
        Address::Ip(address) => (Server::bind(address).await, address.to_string()),
        Address::Name(name) => (Server::bind(name.as_str()).await, name.clone()),
    };
    let server = server.map_err(|error| cannot_listen(&place, &error))?;
    let scheme = if args.cert.is_some() { "wss" } else { "ws" };
    let url = format!("{scheme}://{}", server.local_addr());
    Ok((server, url))
}

fn cannot_listen(place: &str, error: &server::Error) -> Failure {
    Failure::other(&format!("cannot listen on {place}"), error)
}

fn configure(mut server: Server, args: &ListenArgs) -> Result<Server, Failure> {
    if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
        let tls = TlsConfig::from_files(cert, key);
        server = server.tls(tls.map_err(|error| Failure::other("cannot use the certificate", &error))?);
    }
    let wrong = |error: server::Error| Failure::usage(chain(&error));
    if !args.subprotocol.is_empty() {
        server = server.subprotocols(args.subprotocol.iter().map(String::as_str)).map_err(wrong)?;
    }
    server = server.configure(|config| limit(config, args));
    if !args.origin.is_empty() {
        server = server.allowed_origins(args.origin.iter().map(String::as_str)).map_err(wrong)?;
    }
    Ok(server)
}

fn limit(config: &mut ServerConfig, args: &ListenArgs) {
    let limits = Limits::default().with_max_message(args.max_size).with_max_frame(args.max_size);
    config.connection.limits = limits;
    config.handshake.deflate = if args.no_deflate { None } else { Some(longwire::DeflateOptions::default()) };
    // A page on the web must not be able to talk to a tool on this machine.
    config.handshake.origins = if args.any_origin { OriginPolicy::Any } else { OriginPolicy::SameHost };
    config.hub.max_clients = args.max_clients;
}

/// Serves until the first interrupt, and then until the clients have left or a second one.
async fn serve(
    server: Server,
    mode: Arc<Mode>,
    mut inputs: mpsc::Receiver<Input>,
    console: Arc<Console>,
    mut interrupts: mpsc::UnboundedReceiver<()>,
) -> Result<u8, Failure> {
    let hub = server.hub().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let handler = {
        let console = Arc::clone(&console);
        move |socket, request| handle(socket, request, Arc::clone(&mode), Arc::clone(&console))
    };
    let server = {
        let console = Arc::clone(&console);
        server.on_reject(move |rejection, request| {
            let place = request.and_then(Request::peer_addr);
            console
                .refused(rejection, &place.map_or("an unknown place".to_owned(), |place| place.to_string()));
            None
        })
    };
    let mut serving = server.serve(handler).with_graceful_shutdown(stopped).into_future();
    let mut stop = Some(stop);
    loop {
        tokio::select! {
            ended = &mut serving => {
                return ended.map(|()| 0).map_err(|error| Failure::new(FAILURE, chain(&error)));
            }
            Some(input) = inputs.recv(), if stop.is_some() => {
                if console.obey(input, &hub).await {
                    stop = None;
                }
            }
            _ = interrupts.recv() => {
                // Dropping it stops the server.
                if stop.take().is_none() {
                    return Ok(INTERRUPTED);
                }
            }
        }
    }
}

/// Serves one client.
async fn handle(
    socket: Socket,
    request: Request,
    mode: Arc<Mode>,
    console: Arc<Console>,
) -> Result<(), BoxError> {
    let client = socket.client();
    let id = client.id().value();
    console.joined(id, &request).await;
    let result = match &*mode {
        Mode::Show => show(socket, id, &console).await,
        Mode::Echo => echo(socket).await,
        Mode::Broadcast => broadcast(socket).await,
        Mode::Exec(exec) => exec.run(socket, &request).await,
    };
    console.left(id, client.sender(), &result).await;
    result.map_err(Into::into)
}

async fn show(mut socket: Socket, id: u64, console: &Console) -> Result<(), Failure> {
    while let Some(message) = socket.recv().await? {
        if !console.message(id, &message).await {
            // Nobody sees what arrives.
            socket.close(CloseCode::GOING_AWAY, "").await?;
        }
    }
    Ok(())
}

async fn echo(mut socket: Socket) -> Result<(), Failure> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

async fn broadcast(mut socket: Socket) -> Result<(), Failure> {
    let hub: Hub = socket.hub().clone();
    while let Some(message) = socket.recv().await? {
        hub.broadcast_waiting(message, PATIENCE).await;
    }
    Ok(())
}
