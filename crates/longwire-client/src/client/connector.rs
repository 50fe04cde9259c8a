//! The builder's options for the route to the server: addresses, proxies, sockets and TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::PROXY_AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use super::header_value;
use crate::dial::Resolver;
use crate::proxy::{Environment, Proxies, ProxyUri};
use crate::{Client, InvalidOption};

impl Client {
    /// Connects through a proxy to every server. Default: none.
    ///
    /// | URL | protocol to the proxy |
    /// |---|---|
    /// | `http://proxy:3128`, or `proxy:3128` | HTTP's CONNECT; port 80 unless given |
    /// | `https://proxy` | the same over TLS, see [`proxy_tls`](Self::proxy_tls); port 443 |
    /// | `socks5h://proxy` | SOCKS 5 with the server's name, which the proxy resolves; port 1080 |
    /// | `socks5://proxy`, or `socks://proxy` | SOCKS 5 with the server's addresses, up to four in turn; port 1080 |
    ///
    /// A user and password before the `@` are percent-decoded and sent only to the proxy, as `Basic` or by RFC 1929.
    /// If the request to the server goes over TLS, the proxy sees nothing of it. [`proxy_header`](Self::proxy_header)
    /// adds headers for the proxy. The head of the proxy's response is subject to the default
    /// [`HeadLimits`](crate::HeadLimits).
    pub fn proxy(mut self, url: impl AsRef<str>) -> Self {
        let proxy = ProxyUri::parse(url.as_ref()).map(|proxy| Proxies::One(Arc::new(proxy)));
        let set = proxy.map(|proxies| self.connector_mut().proxies = proxies);
        self.note(set.map_err(|error| InvalidOption::Proxy(Arc::new(error))));
        self
    }

    /// Adds a header to the CONNECT request for an HTTP proxy, such as `User-Agent`, without which some proxies
    /// refuse. Default: only `Host`, and the `Proxy-Authorization` of the proxy's URL, which one set here replaces.
    ///
    /// Headers for the server are never sent to a proxy, nor these to a server. `Host`, `Connection` and headers that
    /// frame a message are refused: a connection through an HTTP proxy fails with
    /// [`Error::Options`](crate::Error::Options).
    pub fn proxy_header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
    {
        let added = name.try_into().map_err(|_| InvalidOption::HeaderName).and_then(|name| {
            let mut value = header_value(&name, value)?;
            value.set_sensitive(name == PROXY_AUTHORIZATION);
            let appended = self.connector_mut().proxy_options.headers.try_append(name, value);
            appended.map(drop).map_err(|_| InvalidOption::TooManyHeaders)
        });
        self.note(added);
        self
    }

    /// Connects through the proxy that the environment names. The environment is read now.
    ///
    /// `http_proxy` is for `ws` URLs, `https_proxy` for `wss`, and `all_proxy` for both if the other is unset.
    /// Lowercase names take precedence over uppercase ones, and `HTTP_PROXY` is ignored if `REQUEST_METHOD` is set,
    /// because a request header can then set it. `no_proxy` lists exceptions: names, which include all their
    /// subdomains, addresses, networks such as `10.0.0.0/8`, each with an optional port, or `*`.
    ///
    /// An invalid URL in a variable is an error only for connections that need it: [`InvalidOption::ProxyVariable`].
    pub fn proxy_from_env(mut self) -> Self {
        let environment = Environment::read(|name| std::env::var(name).ok());
        self.connector_mut().proxies = Proxies::Environment(Arc::new(environment));
        self
    }

    /// Resolves names with a function of host and port instead of the system's resolver.
    ///
    /// Addresses are raced in the order returned, alternating between the families. The function also resolves the
    /// name of a proxy, but is never called with an IP address; the system looks up the zone of an IPv6 address.
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
        self.connector_mut().dialer.resolver =
            Resolver::Custom(Arc::new(move |host, port| Box::pin(resolve(host, port))));
        self
    }

    /// Sets the local address to connect from, which must be one of this machine's. Only addresses of its family are
    /// dialed. Default: the system's choice.
    pub fn local_addr(mut self, address: impl Into<IpAddr>) -> Self {
        self.connector_mut().dialer.local_addr = Some(address.into());
        self
    }

    /// Connects to a Unix socket instead of the URL's host and of any proxy, also after redirects. The URL still
    /// determines the request, and whether TLS is used.
    ///
    /// The URL `ws+unix:/path/to/socket:/request?path` does the same, with `localhost` for its host.
    #[cfg(unix)]
    pub fn unix_socket(mut self, path: impl Into<std::path::PathBuf>) -> Self {
        self.connector_mut().unix = Some(path.into());
        self
    }

    /// Sets the trusted roots and the client certificate for URLs that require TLS. Default:
    /// [`TlsConfig::default`](crate::TlsConfig), built once for the whole process.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: impl Into<crate::TlsConfig>) -> Self {
        let set = config.into().build().map(|tls| self.connector_mut().tls = Some(tls));
        self.note(set.map_err(Into::into));
        self
    }

    /// As [`tls`](Self::tls), for the connection to an `https` proxy. Default:
    /// [`TlsConfig::default`](crate::TlsConfig), whatever is set for servers.
    #[cfg(feature = "tls")]
    pub fn proxy_tls(mut self, config: impl Into<crate::TlsConfig>) -> Self {
        let set = config.into().build().map(|tls| self.connector_mut().proxy_options.tls = Some(tls));
        self.note(set.map_err(Into::into));
        self
    }
}
