//! Runs nginx and `HAProxy` with the configuration files of `docs/guide`, in front of `echo`.
//!
//! Of the files, only the addresses, paths and time-outs are replaced. Each proxy runs three times: with its own
//! time-outs, and with short ones in front of servers that ping their clients and of servers that do not.

use std::{
    net::TcpStream,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    process::{PATIENCE, Running},
    programs::Program,
    setup::{self, Install, Visitors},
    workspace,
};

use super::{
    Peers, echo,
    pages::{free_port, port_of, wait_until, written},
    tls::Certificates,
};

/// A place where a proxy listens.
struct Door {
    name: &'static str,
    port: String,
}

impl Door {
    fn open(name: &'static str) -> Result<Self> {
        Ok(Self { name, port: free_port()? })
    }

    fn url(&self) -> String {
        format!("wss://127.0.0.1:{}/", self.port)
    }
}

/// Both proxies with the servers behind them.
struct Site {
    doors: Vec<Door>,
    /// The server behind each door: nginx, HTTP through `HAProxy`, TCP through `HAProxy`.
    servers: Vec<Running>,
    _proxies: [Running; 2],
}

/// The programs and files that a site needs.
struct Parts<'a> {
    echo: &'a Program,
    cat: &'a Program,
    certificates: &'a Certificates,
    visitors: Visitors,
}

/// Checks messages, the clients' addresses and the idle time-outs.
pub(super) fn run(
    echo: &Program,
    cat: &Program,
    peers: &Peers,
    certificates: &Certificates,
    install: Install,
) -> Result<()> {
    let parts = Parts { echo, cat, certificates, visitors: setup::visitors(install)? };
    let directory = workspace::target()?.join("guide");
    workspace::empty_directory(&directory)?;

    let site = parts.start(&directory.join("as-is"), &[], &[])?;
    exchange(&site, peers, certificates)?;
    for (door, server) in site.doors.iter().zip(&site.servers) {
        expect_address(door, server, peers, certificates)?;
    }
    drop(site);

    let interval = INTERVAL.as_secs_f64().to_string();
    let pinging = parts.start(&directory.join("pinging"), &["--keepalive", &interval], SHORT)?;
    let silent = parts.start(&directory.join("silent"), &["--no-keepalive"], SHORT)?;
    parts.stay_silent(&pinging, &silent)
}

impl Parts<'_> {
    /// Starts servers with these options, and the proxies in front of them, with their files changed in some texts.
    fn start(&self, directory: &Path, options: &[&str], changes: &[(&str, &str)]) -> Result<Site> {
        fs_err::create_dir_all(directory)?;
        let start = |way: &str| {
            let mut command = self.echo.command();
            command.args(["--listen", "127.0.0.1:0", "--proxy", way]).args(options);
            let server = Running::start(self.echo.name(), &mut command)?;
            let url = server.url()?;
            Ok::<_, anyhow::Error>((server, port_of(&url)?.to_owned()))
        };
        let (by_nginx, behind_nginx) = start("forwarded-for")?;
        let (by_http, behind_http) = start("forwarded-for")?;
        let (by_tcp, behind_tcp) = start("proxy-protocol")?;
        let doors =
            vec![Door::open("nginx")?, Door::open("HAProxy")?, Door::open("HAProxy, PROXY protocol")?];
        let mut nginx = self.nginx(directory, &doors[0], &behind_nginx, changes)?;
        let mut haproxy = self.haproxy(directory, &doors[1..], &[behind_http, behind_tcp], changes)?;
        for (index, door) in doors.iter().enumerate() {
            let proxy = if index == 0 { &mut nginx } else { &mut haproxy };
            wait_until(&format!("{} listens", door.name), proxy, || {
                Ok(TcpStream::connect(format!("127.0.0.1:{}", door.port)).is_ok())
            })?;
        }
        Ok(Site { doors, servers: vec![by_nginx, by_http, by_tcp], _proxies: [nginx, haproxy] })
    }

    fn nginx(
        &self,
        directory: &Path,
        door: &Door,
        server: &str,
        changes: &[(&str, &str)],
    ) -> Result<Running> {
        let [cert, key] = self.certificates.of_server("valid");
        // The directories of the distribution belong to root.
        let writable = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {}/{name}; ", directory.display()))
            .concat();
        let text = changed(
            "nginx.conf",
            &[
                &[
                    ("listen 443 ssl", &*format!("listen 127.0.0.1:{} ssl", door.port)),
                    ("127.0.0.1:9001", &*format!("127.0.0.1:{server}")),
                    ("/etc/ssl/example.com.pem", &*cert),
                    ("/etc/ssl/example.com.key", &*key),
                    ("http {\n", &*format!("http {{ access_log off; {writable}\n")),
                ],
                changes,
            ]
            .concat(),
        )?;
        let file = written(directory, "nginx.conf", &text)?;
        let mut command = Command::new(&self.visitors.nginx);
        let options = format!("daemon off; master_process off; pid {}/nginx.pid;", directory.display());
        command.args(["-e", "stderr", "-g", &options]).arg("-p").arg(directory).arg("-c").arg(file);
        Running::start("nginx", &mut command)
    }

    fn haproxy(
        &self,
        directory: &Path,
        doors: &[Door],
        servers: &[String; 2],
        changes: &[(&str, &str)],
    ) -> Result<Running> {
        let [cert, key] = self.certificates.of_server("valid");
        let both = [fs_err::read_to_string(cert)?, fs_err::read_to_string(key)?].concat();
        let both = written(directory, "haproxy.pem", &both)?.display().to_string();
        let text = changed(
            "haproxy.cfg",
            &[
                &[
                    ("bind :443 ", &*format!("bind 127.0.0.1:{} ", doors[0].port)),
                    ("bind :8443 ", &*format!("bind 127.0.0.1:{} ", doors[1].port)),
                    ("127.0.0.1:9001", &*format!("127.0.0.1:{}", servers[0])),
                    ("127.0.0.1:9002", &*format!("127.0.0.1:{}", servers[1])),
                    ("/etc/haproxy/example.com.pem", &*both),
                ],
                changes,
            ]
            .concat(),
        )?;
        let file = written(directory, "haproxy.cfg", &text)?;
        let mut command = Command::new(&self.visitors.haproxy);
        Running::start("haproxy", command.arg("-db").arg("-f").arg(file))
    }

    /// Checks that silent connections outlive the short time-outs only if the server pings.
    fn stay_silent(&self, pinging: &Site, silent: &Site) -> Result<()> {
        let mut kept = self.greet(pinging)?;
        let mut cut = self.greet(silent)?;
        let begun = Instant::now();
        // The time-outs begin with the greetings, a moment ago.
        thread::sleep(TIMEOUT / 2);
        for (door, client) in &mut cut {
            ensure!(!client.has_ended(), "{}: ended before the time-out; {}", door.name, client.stderr());
        }
        thread::sleep((3 * TIMEOUT).saturating_sub(begun.elapsed()));
        for (door, client) in cut {
            let told = client.finish_with_open_stdin(Duration::from_secs(2));
            let ended =
                told.with_context(|| format!("{}: a silent connection survived {TIMEOUT:?}", door.name))?;
            ensure!(
                ended.status.code() == Some(1),
                "{}: the connection was to be cut; {}",
                door.name,
                ended.stderr
            );
        }
        for (door, client) in &mut kept {
            let is_cut = client.has_ended();
            ensure!(!is_cut, "{}: pings did not keep the connection; {}", door.name, client.stderr());
            client.write_line("still here")?;
            client.wait_for("the echo", |line| (line == "still here").then_some(())).context(door.name)?;
        }
        for (door, client) in kept {
            client.succeed(PATIENCE).context(door.name)?;
            println!(
                "{}: with a time-out of {TIMEOUT:?}, pings every {INTERVAL:?} keep a silent connection; \
                 without, it is cut",
                door.name
            );
        }
        Ok(())
    }

    /// Starts a client at each door, and waits for an echo.
    fn greet<'s>(&self, site: &'s Site) -> Result<Vec<(&'s Door, Running)>> {
        let ca = self.certificates.file("ca.pem");
        let start = |door: &'s Door| {
            let mut command = self.cat.command();
            let client = Running::start(self.cat.name(), command.args(["--ca", &ca, &door.url()]))?;
            client.write_line("hello")?;
            Ok((door, client))
        };
        let clients = site.doors.iter().map(start).collect::<Result<Vec<_>>>()?;
        for (door, client) in &clients {
            client.wait_for("the echo", |line| (line == "hello").then_some(())).context(door.name)?;
        }
        Ok(clients)
    }
}

/// Has messages of every length echoed to every client.
fn exchange(site: &Site, peers: &Peers, certificates: &Certificates) -> Result<()> {
    let ca = certificates.file("ca.pem");
    for door in &site.doors {
        for (name, client) in echo::clients(peers, &ca) {
            let lines = Running::start(name, client("exchange").arg(door.url()))?
                .succeed(echo::LIMIT)
                .with_context(|| format!("{name} through {}", door.name))?;
            println!("{name} through {}: {}", door.name, lines.join(" "));
        }
    }
    Ok(())
}

/// Checks that the server learns the client's address, whatever the client claims, and the host that it asked for.
fn expect_address(door: &Door, server: &Running, peers: &Peers, certificates: &Certificates) -> Result<()> {
    let mut client = peers.python.script("python/client.py");
    client.env("SSL_CERT_FILE", certificates.file("ca.pem")).arg("forge").arg(door.url());
    Running::start("client.py", &mut client)?.succeed(PATIENCE).context(door.name)?;
    let expected = format!("client 127.0.0.2 asks for 127.0.0.1:{}", door.port);
    let mut lines = Vec::new();
    while let Some(line) = server.try_line(Duration::from_millis(500)) {
        lines.push(line);
    }
    ensure!(
        lines.last() == Some(&expected),
        "through {}, the server was to print `{expected}`, not {lines:#?}",
        door.name
    );
    println!("{}: the client's address arrives, and a forged one does not", door.name);
    Ok(())
}

/// Returns a file of the guide in which each text, which must occur, is replaced.
fn changed(name: &str, changes: &[(&str, &str)]) -> Result<String> {
    let mut text = fs_err::read_to_string(workspace::guide().join(name))?;
    for (from, to) in changes {
        ensure!(text.contains(from), "docs/guide/{name} does not contain `{from}`");
        text = text.replace(from, to);
    }
    Ok(text)
}

const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(3);

/// Replaces every idle time-out by [`TIMEOUT`].
const SHORT: &[(&str, &str)] = &[("60s", "3s")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_to_be_replaced_must_occur() {
        let text = changed("nginx.conf", SHORT).unwrap();
        assert!(text.contains("proxy_read_timeout 3s;"), "{text}");
        let reason = changed("nginx.conf", &[("no such text", "")]).unwrap_err().to_string();
        assert_eq!(reason, "docs/guide/nginx.conf does not contain `no such text`");
    }
}
