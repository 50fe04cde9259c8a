//! `longwire URL`: from the command line to a conversation.

use std::io::{self, IsTerminal};

use http::Response;
use tokio::sync::mpsc;

use crate::args::{ConnectArgs, DisplayArgs, Endpoint, MessageArgs};
use crate::connect;
use crate::display::Display;
use crate::escape;
use crate::input::{Payload, Reading};
use crate::link::Link;
use crate::notices::Notices;
use crate::output;
use crate::report;
use crate::session::{Rules, Session};
use crate::signals;
use crate::source::Source;
use crate::status::{Failure, INTERRUPTED};
use crate::style::{Paint, Style};

/// Asks for the password that the command line leaves out.
///
/// # Errors
///
/// If there is no terminal, or the user interrupts.
pub(crate) fn ask_password(endpoint: &mut Endpoint) -> Result<(), Failure> {
    let Some(login) = endpoint.auth.as_mut().filter(|login| login.password.is_none()) else { return Ok(()) };
    let prompt = format!("Password for {}: ", escape::line(&login.user));
    match rpassword::prompt_password(prompt) {
        Ok(password) => login.password = Some(password),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            return Err(Failure::new(INTERRUPTED, "interrupted"));
        }
        Err(error) => return Err(Failure::other("cannot ask for the password", &error)),
    }
    Ok(())
}

/// Connects and holds the conversation; returns the exit status.
///
/// # Errors
///
/// If there is no connection.
pub(crate) async fn run(args: &ConnectArgs) -> Result<u8, Failure> {
    let ConnectArgs { endpoint, messages, display } = args;
    let (interrupt, mut interrupts) = mpsc::unbounded_channel();
    signals::forward(&interrupt)?;
    let reports = mpsc::unbounded_channel();
    let link = if messages.reconnect {
        connect::reconnecting(endpoint, reports.0.clone())?
    } else {
        let (link, response) = tokio::select! {
            connected = connect::connect(endpoint) => connected?,
            _ = interrupts.recv() => return Ok(INTERRUPTED),
        };
        show_response(display, &link, &response);
        link
    };
    let stdout_is_terminal = io::stdout().is_terminal();
    let source = source(messages, display, interrupt);
    let (output, written) = output::start(source.sink);
    let rules = rules(messages, display, stdout_is_terminal, source.interactive);
    if rules.notices == Notices::Screen && !messages.reconnect {
        output.line(rules.display.notice(Paint::Notice, &greeting(&link, source.interactive))).await;
    }
    let session = Session { link, inputs: source.inputs, interrupts, reports, output, written, rules };
    let status = session.run().await;
    if let Some(prompt) = source.prompt {
        prompt.stop();
    }
    Ok(status)
}

fn greeting(link: &Link, interactive: bool) -> String {
    let mut text = "connected".to_owned();
    if let Some(subprotocol) = &link.subprotocol {
        text = format!("{text}, subprotocol {}", escape::line(subprotocol));
    }
    if interactive {
        text.push_str(" (/help for commands, Ctrl-C to quit)");
    }
    text
}

/// Prints the response on request, on standard error.
fn show_response(display: &DisplayArgs, link: &Link, response: &Response<()>) {
    if !display.verbose {
        return;
    }
    let style = Style::of_stderr(display.color);
    let mut lines = vec![format!("{:?} {}", response.version(), response.status())];
    for (name, value) in response.headers() {
        lines.push(format!("{name}: {}", escape::bytes(value.as_bytes())));
    }
    lines.push(format!("subprotocol: {}", link.subprotocol.as_deref().map_or("none".into(), escape::line)));
    lines.push(format!("extensions: {}", link.extensions.as_deref().map_or("none".into(), escape::line)));
    for line in lines {
        report::lines(&style.paint(Paint::Notice, &line));
    }
}

fn source(messages: &MessageArgs, display: &DisplayArgs, interrupts: mpsc::UnboundedSender<()>) -> Source {
    let payload = match messages {
        MessageArgs { hex: true, .. } => Payload::Hex,
        MessageArgs { binary: true, .. } => Payload::Binary,
        _ => Payload::Text,
    };
    if messages.execute.is_empty() {
        Source::open(payload, messages.slash, display, interrupts)
    } else {
        Source::given(&messages.execute, Reading { payload, commands: messages.slash })
    }
}

fn rules(messages: &MessageArgs, display: &DisplayArgs, on_terminal: bool, interactive: bool) -> Rules {
    Rules {
        display: Display {
            raw: messages.binary,
            hex: messages.hex,
            json: messages.json,
            ..Display::new(display, on_terminal)
        },
        notices: Notices::new(display, on_terminal),
        interactive,
        wait: (!messages.no_close).then_some(messages.wait),
        count: messages.count,
        rate: messages.rate,
        stats: display.stats,
    }
}
