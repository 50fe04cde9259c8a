//! The builder's options about the way to the server: addresses, proxies, sockets and TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::PROXY_AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use longwire_handshake::ProxyUri;

use super::header_value;
use crate::dial::Resolver;
use crate::proxy::{Environment, Proxies};
use crate::{Client, InvalidOption};

impl Client {
    /// Goes through a proxy, whatever the server. Default: none.
    ///
    /// | URL | the proxy is spoken to by |
    /// |---|---|
    /// | `http://proxy:3128`, or `proxy:3128` | HTTP's CONNECT; port 80 unless given |
    /// | `https://proxy` | the same over TLS, see [`proxy_tls`](Self::proxy_tls); port 443 |
    /// | `socks5h://proxy` | SOCKS 5 with the server's name, which the proxy resolves; port 1080 |
    /// | `socks5://proxy`, or `socks://proxy` | SOCKS 5 with the server's addresses, up to four in turn; port 1080 |
    ///
    /// User and password before the `@`, percent-decoded, are for the proxy alone, as `Basic` or by RFC 1929. The proxy sees nothing of
    /// the request for the server, if that goes over TLS; see [`proxy_header`](Self::proxy_header) for headers of its own. An answer of it may be as big as a default head of a response.
    pub fn proxy(mut self, url: impl AsRef<str>) -> Self {
        let proxy = ProxyUri::parse(url.as_ref()).map(|proxy| Proxies::One(Arc::new(proxy)));
        let set = proxy.map(|proxies| self.route_mut().proxies = proxies);
        self.note(set.map_err(|error| InvalidOption::Proxy(Arc::new(error))));
        self
    }

    /// Adds a header to the CONNECT request for an HTTP proxy, such as `User-Agent`, without which some proxies refuse. Default:
    /// none but `Host`, and the `Proxy-Authorization` of the proxy's URL, which one set here replaces.
    ///
    /// Headers for the server are never sent to a proxy, nor these to a server. `Host`, `Connection` and those that frame a message
    /// are refused: [`Error::Options`](crate::Error::Options) when connecting through an HTTP proxy.
    pub fn proxy_header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        let added = name.try_into().map_err(|_| InvalidOption::HeaderName).and_then(|name| {
            let mut value = header_value(&name, value)?;
            value.set_sensitive(name == PROXY_AUTHORIZATION);
            let appended = self.route_mut().proxy_headers.try_append(name, value);
            appended.map(drop).map_err(|_| InvalidOption::TooManyHeaders)
        });
        self.note(added);
        self
    }

    /// Goes through the proxy that the environment names, as it is now.
    ///
    /// `http_proxy` is for `ws` URLs, `https_proxy` for `wss`, `all_proxy` for both where the other is unset; small letters before capitals,
    /// and `HTTP_PROXY` is ignored where `REQUEST_METHOD` is set, since there a request's header can set it. `no_proxy` lists exceptions:
    /// names with all below them, addresses, networks such as `10.0.0.0/8`, each with a port if need be, or `*`.
    ///
    /// A variable with an invalid URL is an error of a connection that needs it: [`InvalidOption::ProxyVariable`].
    pub fn proxy_from_env(mut self) -> Self {
        let environment = Environment::read(|name| std::env::var(name).ok());
        self.route_mut().proxies = Proxies::Environment(Arc::new(environment));
        self
    }

    /// Resolves names by a function of the caller, of host and port, instead of the system's resolver.
    ///
    /// Addresses are raced in its order, families taking turns. It is asked for the name of a proxy as well, but for no address;
    /// the zone of an IPv6 address is looked up by the system.
    ///
    /// ```no_run
    /// # use longwire_client::Client;
    /// let client = Client::new("wss://example.com/").resolver(|host, port| async move {
    ///     assert_eq!(host, "example.com");
    ///     Ok(vec![([127, 0, 0, 1], port).into()])
    /// });
    /// ```
    pub fn resolver<F, R>(mut self, resolve: F) -> Self
    where
        F: Fn(String, u16) -> R + Send + Sync + 'static,
        R: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        self.route_mut().resolver =
            Resolver::Custom(Arc::new(move |host, port| Box::pin(resolve(host, port))));
        self
    }

    /// Sets the local address to connect from, which has to be one of this machine's; only addresses of its family are dialled.
    /// Default: the system's choice.
    pub fn local_addr(mut self, address: impl Into<IpAddr>) -> Self {
        self.route_mut().local_addr = Some(address.into());
        self
    }

    /// Connects to a Unix socket in place of the URL's host and of any proxy, also after redirects. The URL still says what to ask for, and whether
    /// with TLS.
    ///
    /// The URL `ws+unix:/path/to/socket:/request?path` does the same, with `localhost` for its host.
    #[cfg(unix)]
    pub fn unix_socket(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.route_mut().unix = Some(path.into());
        self
    }

    /// Sets whom to trust and what to show where a URL asks for TLS. Default: [`TlsConfig::default`](crate::TlsConfig), of which one is made
    /// for the whole process.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: impl Into<crate::TlsConfig>) -> Self {
        let set = config.into().build().map(|tls| self.route_mut().tls = Some(tls));
        self.note(set.map_err(Into::into));
        self
    }

    /// As [`tls`](Self::tls), for the connection to an `https` proxy. Default: the default, whatever is set for servers.
    #[cfg(feature = "tls")]
    pub fn proxy_tls(mut self, config: impl Into<crate::TlsConfig>) -> Self {
        let set = config.into().build().map(|tls| self.route_mut().proxy_tls = Some(tls));
        self.note(set.map_err(Into::into));
        self
    }
}
