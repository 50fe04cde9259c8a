//! The opening handshake of one connection: the request is read, checked and answered (RFC 6455 §4.2).
//!
//! Owns deadlines and the order of steps. The checks of the request itself are in `longwire-handshake`.

use std::fmt;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use longwire_connection::{Config, Deadline, Handover, Late, WebSocket};
use longwire_handshake::{Accepted, Rejection, RequestHead, RequestParser, accept, encode_response};
use longwire_hub::{ClientInfo, Hub, HubError, Reservation};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::admission::{Admission, Authorize};
use crate::hook::{self, Panicked};
use crate::pending::{Pending, Revoked, Ticket};
use crate::proxied::{Ends, find_ends};
use crate::request::Security;
use crate::response::{finish, finish_at_once, lost, read_some, write_whole};
use crate::routes::Routes;
use crate::stats::Counters;
use crate::{Request, ServerConfig, ServerStream, Socket};

/// A function that answers plain HTTP requests.
pub(crate) type Fallback =
    Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send>> + Send + Sync>;

/// A function that sees every refusal and may replace the response.
pub(crate) type OnReject = Arc<dyn Fn(&Rejection, Option<&Request>) -> Option<Response<Bytes>> + Send + Sync>;

/// The settings and shared state that admit the connections of a server.
#[derive(Clone)]
pub(crate) struct Gate {
    /// Shared with each [`Admission`].
    pub(crate) config: Arc<ServerConfig>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::TlsConfig>,
    /// The configuration that replaces `tls`, for all servers of the group.
    #[cfg(feature = "tls")]
    pub(crate) new_tls: Arc<crate::tls::Replacement>,
    pub(crate) routes: Routes,
    pub(crate) authorize: Option<Authorize>,
    pub(crate) fallback: Option<Fallback>,
    pub(crate) on_reject: Option<OnReject>,
    pub(crate) hub: Hub,
    pub(crate) pending: Arc<Pending>,
    pub(crate) counters: Arc<Counters>,
}

/// A request that passed all checks.
struct Passed {
    accepted: Accepted,
    reservation: Reservation,
    request: Request,
    /// Settings for this connection, if they differ from the server's.
    connection: Option<Box<Config>>,
    client: ClientInfo,
    read_ahead: Bytes,
}

impl Passed {
    /// Appends the bytes that arrived after those read with the head.
    fn followed_by(mut self, early: &[u8]) -> Self {
        if !early.is_empty() {
            self.read_ahead = [&self.read_ahead, early].concat().into();
        }
        self
    }
}

/// The state of a handshake that affects its response.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Whether the request is a HEAD, whose response has no body (RFC 9110 §9.3.2).
    is_head: bool,
}

impl Gate {
    /// Takes a connection through its handshake. Returns `None` if it ends there.
    pub(crate) async fn open(
        self: Arc<Self>,
        io: ServerStream,
        peer_addr: Option<SocketAddr>,
        ticket: Ticket,
    ) -> Option<(Socket, Request)> {
        let begun = Instant::now();
        let deadline = Deadline::after(self.config.handshake_timeout);
        let mut progress = Progress::default();
        let mut beginning = pin!(self.begin(io, peer_addr, deadline));
        let (mut io, ends) = tokio::select! {
            biased;
            begun = &mut beginning => begun?,
            revoked = ticket.revoked() => {
                debug!(peer_addr = peer_addr.map(display), ?revoked, "a handshake was cut off before its request");
                self.note(revoked);
                // Before the proxy's header and TLS are complete, the client would not understand a response.
                if revoked == Revoked::ShutDown
                    && let Ok(Some((mut io, ends))) = timeout(FAREWELL, beginning).await
                {
                    self.turn_away(&mut io, revoked, progress, ends.peer).await;
                }
                return None;
            }
        };
        let peer_addr = ends.peer;
        let verdict = tokio::select! {
            biased;
            // Polled first: a request that has arrived meanwhile can regain a slot that was revoked because of
            // crowding.
            verdict = self.decide(&mut io, ends, deadline, &ticket, &mut progress) => verdict?,
            revoked = ticket.revoked() => {
                debug!(peer_addr = peer_addr.map(display), ?revoked, "a handshake was cut off");
                self.note(revoked);
                self.turn_away(&mut io, revoked, progress, peer_addr).await;
                return None;
            }
        };
        // From here on there is a response, and a connection must not get two.
        let passed = {
            let mut answering = pin!(self.answer(&mut io, verdict, deadline, &ticket, progress, peer_addr));
            tokio::select! {
                biased;
                passed = &mut answering => passed?,
                revoked = ticket.revoked() => {
                    debug!(peer_addr = peer_addr.map(display), ?revoked, "a slot was lost during the response");
                    self.note(revoked);
                    match revoked {
                        Revoked::Crowded => return None,
                        // As clients do, the response has the time that the shutdown takes.
                        Revoked::ShutDown => {
                            timeout(self.config.shutdown.deadline, answering).await.ok().flatten()?
                        }
                    }
                }
            }
        };
        let Passed { accepted, reservation, request, connection, client, read_ahead } = passed;
        let subprotocol = accepted.subprotocol().map(|name| name.as_str().to_owned());
        let handover = Handover::server().read_ahead(read_ahead).subprotocol(subprotocol);
        #[cfg(feature = "deflate")]
        let handover = match (accepted.deflate(), &self.config.handshake.deflate) {
            (Some(agreement), Some(options)) => handover.deflate(*agreement, options),
            _ => handover,
        };
        let ws = WebSocket::new(io, handover, connection.as_deref().unwrap_or(&self.config.connection));
        let info = client.peer_addr(client_addr(&request)).reservation(reservation);
        // From here on the hub counts the connection. The ticket is dropped only after that.
        let socket = self.hub.admit(ws, info).ok()?;
        self.counters.opened(begun.elapsed());
        drop(ticket);
        Some((socket, request))
    }

    /// Completes the steps before the request: the proxy's header, and TLS.
    async fn begin(
        &self,
        mut io: ServerStream,
        peer_addr: Option<SocketAddr>,
        deadline: Deadline,
    ) -> Option<(ServerStream, Ends)> {
        let ends = find_ends(&mut io, peer_addr, &self.config.proxy_protocol);
        let ends = match deadline.run(ends).await {
            Ok(Ok(ends)) => ends,
            Ok(Err(error)) => {
                debug!(peer_addr = peer_addr.map(display), %error, "missing or malformed PROXY protocol header");
                return None;
            }
            Err(_) => {
                debug!(peer_addr = peer_addr.map(display), "a PROXY protocol header did not arrive in time");
                return None;
            }
        };
        #[cfg(feature = "tls")]
        let io = self.secure(io, ends.peer, deadline).await?;
        Some((io, ends))
    }

    /// Performs the TLS handshake on TCP connections, if the server uses TLS.
    #[cfg(feature = "tls")]
    async fn secure(
        &self,
        io: ServerStream,
        peer_addr: Option<SocketAddr>,
        deadline: Deadline,
    ) -> Option<ServerStream> {
        let Some(tls) = self.new_tls.get().or_else(|| self.tls.clone()) else { return Some(io) };
        let ServerStream::Tcp(stream) = io else { return Some(io) };
        match deadline.run(tls.accept(stream)).await {
            Ok(Ok(stream)) => return Some(ServerStream::Tls(Box::new(stream))),
            Ok(Err(error)) => debug!(peer_addr = peer_addr.map(display), %error, "a TLS handshake failed"),
            Err(_) => debug!(peer_addr = peer_addr.map(display), "a TLS handshake did not complete in time"),
        }
        None
    }

    /// Reads the request and decides on it. Returns `None` if the client left before that, and any response other
    /// than 101 as the bytes to send.
    async fn decide(
        &self,
        io: &mut ServerStream,
        ends: Ends,
        deadline: Deadline,
        ticket: &Ticket,
        progress: &mut Progress,
    ) -> Option<Result<Passed, Bytes>> {
        let peer_addr = ends.peer;
        let head = match self.read_head(io, deadline).await {
            Ok(head) => head?,
            Err(rejection) => return Some(Err(self.refuse(&rejection, None, peer_addr))),
        };
        let mut early = Vec::new();
        let security = Security::of(io);
        progress.is_head = head.parts.method == Method::HEAD;
        let judged = tokio::select! {
            biased;
            judged = self.judge(head, security, ends, deadline, ticket) => judged,
            () = lost(io, &mut early) => {
                debug!(peer_addr = peer_addr.map(display), "a client disconnected before the response was sent");
                return None;
            }
        };
        Some(judged.map(|passed| passed.followed_by(&early)))
    }

    /// Sends the response. Returns `None` if the connection ends with it.
    async fn answer(
        &self,
        io: &mut ServerStream,
        verdict: Result<Passed, Bytes>,
        deadline: Deadline,
        ticket: &Ticket,
        progress: Progress,
        peer_addr: Option<SocketAddr>,
    ) -> Option<Passed> {
        match verdict {
            Ok(passed) => {
                let response = encode_response(&passed.accepted.response());
                match deadline.run(write_whole(io, &response)).await {
                    Ok(Ok(())) => return Some(passed),
                    Ok(Err(error)) => {
                        debug!(
                            peer_addr = peer_addr.map(display),
                            %error,
                            "a client disconnected before the handshake was complete"
                        );
                    }
                    Err(_) => debug!(
                        peer_addr = peer_addr.map(display),
                        "a client did not read the 101 response in time"
                    ),
                }
            }
            Err(response) => {
                // The application has decided, and the client may be slow to take the response: newer handshakes may
                // have the slot.
                ticket.release();
                finish(io, progress.cut(&response), self.config.connection.close_timeout).await;
            }
        }
        None
    }

    /// Reads up to the end of the request's head. Returns `None` if the client left before that.
    async fn read_head(
        &self,
        io: &mut ServerStream,
        deadline: Deadline,
    ) -> Result<Option<RequestHead>, Rejection> {
        let mut parser = RequestParser::new(self.config.head.clone());
        loop {
            let read = read_some(io, |bytes| match bytes {
                [] => None,
                bytes => Some(parser.handle_bytes(bytes)),
            });
            match deadline.run(read).await {
                Ok(Ok(Some(Ok(None)))) => {}
                Ok(Ok(Some(parsed))) => return parsed,
                Ok(Ok(None)) => {
                    debug!("a client disconnected before its request was complete");
                    return Ok(None);
                }
                Ok(Err(error)) => {
                    debug!(%error, "a connection failed before the request was complete");
                    return Ok(None);
                }
                Err(_) if parser.is_partial() => return Err(Rejection::Timeout),
                Err(_) => {
                    debug!("a client sent nothing");
                    return Ok(None);
                }
            }
        }
    }

    /// Decides on a request. Returns any response other than 101 as the bytes to send.
    async fn judge(
        &self,
        head: RequestHead,
        security: Security,
        ends: Ends,
        deadline: Deadline,
        ticket: &Ticket,
    ) -> Result<Passed, Bytes> {
        let peer_addr = ends.peer;
        let RequestHead { parts, read_ahead } = head;
        let proxies = &self.config.trusted_proxies;
        let mut request = Request::new(parts, peer_addr, ends.local, proxies, security);
        let accepted = accept(&*request, &self.config.handshake)
            .and_then(|accepted| self.routes.find(&mut request).map(|()| accepted));
        let rejection = match accepted {
            Ok(accepted) => match self.hub.reserve(client_addr(&request)) {
                Ok(reservation) => {
                    let config = Arc::clone(&self.config);
                    let client = ClientInfo::default();
                    let admission = Admission { request, accepted, config, connection: None, client };
                    let Admission { request, accepted, connection, mut client, .. } =
                        self.ask(admission, peer_addr, deadline, ticket).await?;
                    if !request.client_data().is_empty() {
                        client = client.all_data(request.client_data().clone());
                    }
                    return Ok(Passed { accepted, reservation, request, connection, client, read_ahead });
                }
                Err(error) => {
                    debug!(peer_addr = peer_addr.map(display), %error, "a client was not admitted");
                    if let HubError::Full { limit } = error {
                        self.counters.overload.clients(limit);
                    }
                    Rejection::Unavailable
                }
            },
            Err(rejection) => rejection,
        };
        match &self.fallback {
            Some(fallback) if is_plain(&rejection, &request) => {
                let response = if self.hold(ticket) {
                    match deadline.run(hook::run("fallback", || fallback(request))).await {
                        Ok(Ok(response)) => Rejection::from_response(response).encode(),
                        Ok(Err(Panicked)) => self.refuse(&fault(), None, peer_addr),
                        Err(Late) => self.refuse(&Rejection::Unavailable, None, peer_addr),
                    }
                } else {
                    self.refuse(&Rejection::Unavailable, Some(&request), peer_addr)
                };
                Err(response)
            }
            _ => Err(self.refuse(&rejection, Some(&request), peer_addr)),
        }
    }

    /// Asks the application's hook, if there is one.
    async fn ask(
        &self,
        admission: Admission,
        peer_addr: Option<SocketAddr>,
        deadline: Deadline,
        ticket: &Ticket,
    ) -> Result<Admission, Bytes> {
        let Some(authorize) = &self.authorize else { return Ok(admission) };
        if !self.hold(ticket) {
            return Err(self.refuse(&Rejection::Unavailable, Some(&admission.request), peer_addr));
        }
        // The hook owns the request, so `on_reject` gets only the rejection.
        let rejection = match deadline.run(hook::run("authorize", || authorize(admission))).await {
            Ok(Ok(Ok(admission))) => return Ok(admission),
            Ok(Ok(Err(rejection))) => rejection,
            Ok(Err(Panicked)) => fault(),
            Err(Late) => Rejection::Unavailable,
        };
        Err(self.refuse(&rejection, None, peer_addr))
    }

    /// Returns a refusal as the bytes to send.
    fn refuse(
        &self,
        rejection: &Rejection,
        request: Option<&Request>,
        peer_addr: Option<SocketAddr>,
    ) -> Bytes {
        debug!(
            peer_addr = peer_addr.map(display),
            status = rejection.status().as_u16(),
            %rejection,
            "a handshake was refused"
        );
        let own = self.on_reject.as_ref().and_then(|on_reject| {
            match hook::call("on_reject", || on_reject(rejection, request)) {
                Ok(response) => response.map(Rejection::from_response),
                Err(Panicked) => Some(fault()),
            }
        });
        let response = own.as_ref().unwrap_or(rejection);
        self.counters.rejected(response.status());
        response.encode()
    }

    /// Keeps the slot of a handshake while the application is asked, if it can.
    fn hold(&self, ticket: &Ticket) -> bool {
        let has_slot = ticket.hold();
        if !has_slot && !self.pending.is_closed() {
            self.counters.overload.handshakes(self.config.max_handshakes);
        }
        has_slot
    }

    /// Reports the loss of a slot, if it is a sign of overload.
    fn note(&self, revoked: Revoked) {
        if revoked == Revoked::Crowded {
            self.counters.overload.handshakes(self.config.max_handshakes);
        }
    }

    async fn turn_away(
        &self,
        io: &mut ServerStream,
        revoked: Revoked,
        progress: Progress,
        peer_addr: Option<SocketAddr>,
    ) {
        let response = self.refuse(&Rejection::Unavailable, None, peer_addr);
        let response = progress.cut(&response);
        match revoked {
            // The slot is needed now, so the response gets only one attempt.
            Revoked::Crowded => finish_at_once(io, response).await,
            Revoked::ShutDown => {
                finish(io, response, FAREWELL.min(self.config.connection.close_timeout)).await;
            }
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Returns the address by which the hub identifies a client and counts clients per address. Behind trusted proxies
/// it is not the peer's address, and its port is unknown.
fn client_addr(request: &Request) -> Option<SocketAddr> {
    let ip = request.client_ip()?;
    let is_peer = |peer: &SocketAddr| ip == peer.ip().to_canonical();
    Some(request.peer_addr().filter(is_peer).unwrap_or_else(|| SocketAddr::new(ip, 0)))
}

/// Returns whether any web server could get this request: a GET, HEAD or OPTIONS that does not ask for a WebSocket.
fn is_plain(rejection: &Rejection, request: &Request) -> bool {
    match rejection {
        Rejection::UpgradeRequired | Rejection::Method { is_head: true, .. } => true,
        // `OPTIONS *` is about the server as a whole (RFC 9110 §9.3.7), not about a page.
        Rejection::Method { .. } => {
            request.method() == Method::OPTIONS && request.uri().path().starts_with('/')
        }
        _ => false,
    }
}

/// Returns the response for a failure of the application.
fn fault() -> Rejection {
    Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error\n")
}

impl Progress {
    /// Returns the part of a response that is to be sent.
    fn cut(self, response: &[u8]) -> &[u8] {
        let head = || response.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let end = if self.is_head { head() } else { None };
        &response[..end.unwrap_or(response.len())]
    }
}

/// The limit at shutdown for a client to complete the proxy's header and TLS, if any, and then again to take its
/// response.
const FAREWELL: Duration = Duration::from_secs(1);
