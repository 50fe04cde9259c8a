//! Fetches the pages of WebSocket servers with programs that have habits of their own: curl and Java, which also
//! ask for HTTP/2, and `HAProxy` and nginx, which check the health of a server.
//!
//! One page is the fallback of longwire's server (`demo`), the other is served next to a mount on axum
//! (`endpoints`).
//! (`endpoints`).

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use xshell::cmd;

use crate::{
    process::{PATIENCE, Running},
    programs::Program,
    setup::{self, Install, Visitors},
    workspace::{self, shell},
};

use super::tries::{Expected, Try, run_all};

/// A server with a page.
struct Site<'a> {
    name: &'static str,
    /// The port.
    port: &'a str,
    /// The page, which must be the same for every client.
    page: String,
    /// The names of `HAProxy`'s health checks, and the line that configures each.
    checks: &'static [(&'static str, &'static str)],
}

const CHECKS_OF_PAGE: &[(&str, &str)] = &[
    // HAProxy's default: OPTIONS and HTTP/1.0, without a Host.
    ("default", ""),
    ("get", "http-check send meth GET uri /"),
    ("head", "http-check send meth HEAD uri / ver HTTP/1.1 hdr Host example.org"),
];

// No check with OPTIONS: axum's application decides how to answer methods other than GET.
const CHECKS_OF_MOUNT: &[(&str, &str)] = &[
    ("get", "http-check send meth GET uri /"),
    ("head", "http-check send meth HEAD uri / ver HTTP/1.1 hdr Host example.org"),
];

/// Fetches every page with every program.
pub(super) fn run(page: &Program, mounted: &Program, cat: &Program, install: Install) -> Result<()> {
    let visitors = setup::visitors(install)?;
    let start = |program: &Program| {
        Running::start(program.name(), program.command().args(["--listen", "127.0.0.1:0"]))
    };
    let (page_server, mounted_server) = (start(page)?, start(mounted)?);
    let urls = [page_server.url()?, mounted_server.url()?];
    let ports = [port_of(&urls[0])?, port_of(&urls[1])?];
    let site = |name, port, checks| -> Result<Site<'_>> {
        let page = visitors.fetch(port, &["--http1.1"])?;
        Ok(Site { name, port, page, checks })
    };
    let sites =
        [site(page.name(), ports[0], CHECKS_OF_PAGE)?, site(mounted.name(), ports[1], CHECKS_OF_MOUNT)?];
    let directory = workspace::target()?.join("pages");
    workspace::empty_directory(&directory)?;
    for site in &sites {
        with_curl(&visitors, site)?;
    }
    with_java(&visitors, &sites)?;
    with_haproxy(&visitors, &sites, cat, &directory)?;
    with_nginx(&visitors, &sites, cat, &directory)
}

/// Returns the port at the end of a server's URL.
pub(super) fn port_of(url: &str) -> Result<&str> {
    let port = url.trim_end_matches('/').rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
    port.with_context(|| format!("{url} has no port"))
}

impl Visitors {
    /// Fetches a page with curl, and expects status 200.
    fn fetch(&self, port: &str, options: &[&str]) -> Result<String> {
        let url = format!("http://127.0.0.1:{port}/");
        let (sh, curl, status) = (shell()?, &self.curl, "\n%{http_code}");
        let command =
            cmd!(sh, "{curl} --silent --show-error --max-time 20 --write-out {status} {options...} {url}");
        let told = command.read()?;
        match told.rsplit_once('\n') {
            Some((page, "200")) => Ok(page.to_owned()),
            _ => Err(anyhow!("curl {} {url} was to get 200: {told}", options.join(" "))),
        }
    }
}

/// Checks that the page is the same whatever else curl asks for.
fn with_curl(visitors: &Visitors, site: &Site<'_>) -> Result<()> {
    for options in [&["--http2"][..], &["--http1.0"], &["--http2", "--header", "Accept-Encoding: gzip"]] {
        let page = visitors.fetch(site.port, options)?;
        ensure!(page == site.page, "curl {} of {}: another page: {page}", options.join(" "), site.name);
    }
    let head = visitors.fetch(site.port, &["--http2", "--head"])?;
    let length = format!("content-length: {}", site.page.len());
    if !head.to_lowercase().contains(&length) || head.contains(&site.page) {
        bail!("curl --head of {}: no `{length}`, or a body: {head}", site.name);
    }
    println!("curl --http2, --http1.0 and --head of {}: the page", site.name);
    Ok(())
}

/// Checks the same with the client of the JDK.
fn with_java(visitors: &Visitors, sites: &[Site<'_>]) -> Result<()> {
    let mut java = Command::new(&visitors.java);
    java.arg(workspace::interop().join("java/Pages.java"));
    let mut expected = Vec::new();
    for site in sites {
        let url = format!("http://127.0.0.1:{}/", site.port);
        expected.extend([format!("GET {url} 200 {}", site.page.len()), format!("HEAD {url} 200 0")]);
        java.arg(url);
    }
    let lines = Running::start("Pages.java", &mut java)?.succeed(Duration::from_secs(120))?;
    ensure!(lines == expected, "Java's HttpClient was to tell {expected:#?}, it tells {lines:#?}");
    println!("Java's HttpClient, GET and HEAD: {} pages", sites.len());
    Ok(())
}

/// Checks that `HAProxy` considers the servers healthy by each of its checks, and forwards pages and sockets.
fn with_haproxy(visitors: &Visitors, sites: &[Site<'_>], cat: &Program, directory: &Path) -> Result<()> {
    let limits = "timeout connect 5s\n timeout client 60s\n timeout server 60s\n timeout tunnel 60s";
    let counts = free_port()?;
    let mut config = format!(
        "defaults\n mode http\n {limits}\n\
         listen counts\n bind 127.0.0.1:{counts}\n stats enable\n stats uri /\n"
    );
    let mut ways = Vec::new();
    for site in sites {
        for (check, send) in site.checks {
            let port = free_port()?;
            let name = format!("{}-{check}", site.name);
            config.extend([format!(
                "listen {name}\n bind 127.0.0.1:{port}\n option httpchk\n {send}\n \
                 server the-server 127.0.0.1:{} check inter 200ms fall 1 rise 1\n",
                site.port
            )]);
            ways.push((name, port, site));
        }
    }
    let file = written(directory, "haproxy.cfg", &config)?;
    let mut command = Command::new(&visitors.haproxy);
    let mut haproxy = Running::start("haproxy", command.arg("-db").arg("-f").arg(file))?;
    for (name, port, site) in &ways {
        wait_until(&format!("HAProxy finds {name} well"), &mut haproxy, || {
            Ok(is_well(&csv(visitors, &counts)?, name))
        })?;
        ensure!(visitors.fetch(port, &[])? == site.page, "HAProxy passes another page on as that of {name}");
    }
    let echo = ways.iter().rfind(|(_, _, site)| site.port == sites[1].port);
    let url = echo.map(|(_, port, _)| format!("ws://127.0.0.1:{port}/echo")).unwrap_or_default();
    run_all(cat, &[Try::new("through HAProxy", &[&url], Expected::Echo)])?;
    println!("HAProxy, by {} checks: all well, pages and a WebSocket passed on", ways.len());
    Ok(())
}

/// Checks that nginx, which considers a server broken after one failure, forwards one page after the other.
fn with_nginx(visitors: &Visitors, sites: &[Site<'_>], cat: &Program, directory: &Path) -> Result<()> {
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!(" {name}_temp_path {}/{name};\n", directory.display()))
        .concat();
    let mut config = format!(
        "daemon off;\nmaster_process off;\npid {}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n access_log off;\n{paths} \
         map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}\n",
        directory.display()
    );
    let mut ways = Vec::new();
    for site in sites {
        config.extend([format!(
            " upstream {} {{ server 127.0.0.1:{} max_fails=1 fail_timeout=1h; }}\n",
            site.name, site.port
        )]);
        // First nginx's default, HTTP/1.0, then the usual settings to forward WebSockets.
        let upgrade = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                       proxy_set_header Connection $connection_upgrade;";
        for settings in ["", upgrade] {
            let port = free_port()?;
            config.extend([format!(
                " server {{ listen 127.0.0.1:{port}; location / {{ {settings} proxy_pass http://{}; }} }}\n",
                site.name
            )]);
            ways.push((port, site));
        }
    }
    config += "}\n";
    let file = written(directory, "nginx.conf", &config)?;
    let mut command = Command::new(&visitors.nginx);
    command.args(["-e", "stderr"]).arg("-p").arg(directory).arg("-c").arg(file);
    let mut nginx = Running::start("nginx", &mut command)?;
    for (port, site) in &ways {
        wait_until("nginx listens", &mut nginx, || {
            Ok(TcpStream::connect(format!("127.0.0.1:{port}")).is_ok())
        })?;
        for options in
            [&["--http1.1"][..], &["--http2"], &["--http1.0"], &["--http2", "--head"], &["--http1.1"]]
        {
            let page = visitors.fetch(port, options)?;
            if !options.contains(&"--head") && page != site.page {
                bail!("nginx passes another page on as that of {}: {page}", site.name);
            }
        }
    }
    let url = ways.last().map(|(port, _)| format!("ws://127.0.0.1:{port}/echo")).unwrap_or_default();
    run_all(cat, &[Try::new("through nginx", &[&url], Expected::Echo)])?;
    println!(
        "nginx, with HTTP/1.0 and 1.1: pages of {} and a WebSocket passed on, none taken for broken",
        sites.len()
    );
    Ok(())
}

/// Returns `HAProxy`'s statistics, one line for each server.
fn csv(visitors: &Visitors, port: &str) -> Result<String> {
    let curl = &visitors.curl;
    let sh = shell()?;
    Ok(cmd!(sh, "{curl} --silent --fail http://127.0.0.1:{port}/;csv").read()?)
}

/// Returns whether `HAProxy`'s statistics show that a check of this server has passed.
fn is_well(counts: &str, name: &str) -> bool {
    let mut lines = counts.lines();
    let names: Vec<_> = lines.next().unwrap_or_default().trim_start_matches("# ").split(',').collect();
    let column = |wanted: &str| names.iter().position(|name| *name == wanted);
    let (Some(status), Some(check)) = (column("status"), column("check_status")) else {
        return false;
    };
    lines.map(|line| line.split(',').collect::<Vec<_>>()).any(|line| {
        line.starts_with(&[name, "the-server"])
            && line.get(status) == Some(&"UP")
            && line.get(check) == Some(&"L7OK")
    })
}

/// Repeats a check until it succeeds.
pub(super) fn wait_until(what: &str, program: &mut Running, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = is_so();
        if matches!(seen, Ok(true)) {
            return Ok(());
        }
        if program.has_ended() || Instant::now() > deadline {
            bail!("it never came to be that {what}: {seen:?}; {}", program.stderr());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

pub(super) fn written(directory: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let file = directory.join(name);
    fs_err::write(&file, text)?;
    Ok(file)
}

/// Returns a port that was free a moment ago.
pub(super) fn free_port() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    let address = listener.local_addr().context("no port is free")?;
    Ok(address.port().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn haproxys_counts_tell_who_is_well() {
        let counts = "# pxname,svname,status,check_status,\n\
                      demo-get,FRONTEND,OPEN,,\ndemo-get,the-server,UP,L7OK,\n\
                      demo-head,the-server,UP,INI,\ndemo-default,the-server,DOWN,L7STS,\n";
        for (name, expected) in
            [("demo-get", true), ("demo-head", false), ("demo-default", false), ("another", false)]
        {
            assert_eq!(is_well(counts, name), expected, "{name}");
        }
        assert!(!is_well("", "demo-get"));
    }
}
