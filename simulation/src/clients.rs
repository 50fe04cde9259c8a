//! The clients of a world: what each of them does, and what it expects.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use longwire::connection::Error;
use longwire::reconnect::{Backoff, Builder, Confirm, Jitter, Outage};
use longwire::testing::Pipe;
use longwire::{Client, Message, WebSocket};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::ledger::Ledger;
use crate::news::News;
use crate::plan::{Kind, Plan, padding, part};
use crate::server::ROOMS;
use crate::world::Net;

/// One client of a world.
pub(crate) struct Actor {
    pub(crate) id: usize,
    pub(crate) rng: Rng,
    pub(crate) net: Net,
    pub(crate) ledger: Ledger,
}

/// The record of a client's life.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) id: usize,
    /// Whether the handshake failed before the shutdown.
    pub(crate) is_turned_away: bool,
    /// Whether the network failed it.
    pub(crate) is_faulty: bool,
    /// Whether what is queued for it can take longer than a closing handshake or a shutdown may.
    pub(crate) is_delayed: bool,
    /// The end of its connection; `None` if it was never established, vanished, or was kept by reconnecting.
    pub(crate) end: Option<Result<(), Error>>,
    /// For a subscriber: what it has received.
    pub(crate) news: Option<News>,
    /// For messages that had to arrive: how many there were.
    pub(crate) confirmed: Option<u64>,
}

impl Actor {
    pub(crate) async fn live(mut self, kind: Kind, start: Duration) -> Story {
        sleep(start).await;
        if let Kind::Reconnecting(confirm) = kind {
            return self.keep(confirm).await;
        }
        let mut story = Story { id: self.id, ..Story::default() };
        let route = Plan::route(&mut self.rng, self.net.left());
        story.is_faulty = route.fault.is_some();
        story.is_delayed = !route.latency.is_zero();
        let pipe = self.net.connect(&route);
        let Ok((mut ws, _)) = self.client().handshake_over(pipe).await else {
            story.is_turned_away = !self.net.is_shut();
            return story;
        };
        let end = match kind {
            Kind::Echo => self.echo(&mut ws).await,
            Kind::Subscriber { pause } => {
                let mut news = News::default();
                let end = self.subscribe(&mut ws, pause, &mut news).await;
                story.news = Some(news);
                end
            }
            Kind::Publisher => self.publish(&mut ws).await,
            Kind::Vanishing => {
                self.vanish(ws).await;
                return story;
            }
            Kind::Reconnecting(_) => unreachable!("it is kept elsewhere"),
        };
        if let Err(error) = &end {
            self.ledger.lock().check(&format!("client {}", self.id), error);
        }
        story.end = Some(end);
        story
    }

    fn client(&self) -> Client {
        let deflate = self.net.deflate.then(Default::default);
        Client::new(format!("ws://simulation/?id={}", self.id))
            .config(self.net.client.clone())
            .deflate(deflate)
    }

    /// Sends messages, some at a time, and receives each of them again.
    async fn echo(&mut self, ws: &mut WebSocket<Pipe>) -> Result<(), Error> {
        for round in 0..self.rng.usize(1..30) {
            let mut sent = VecDeque::new();
            for number in 0..self.rng.usize(1..8) {
                let text = format!("echo {round} {number} {}", padding(&mut self.rng));
                // More would fill the buffers of both directions, and nobody would receive.
                if sent.iter().map(String::len).sum::<usize>() + text.len() > 16 * 1024 && !sent.is_empty() {
                    break;
                }
                if self.rng.bool() {
                    ws.send(text.as_str()).await?;
                } else {
                    ws.feed(text.as_str()).await?;
                }
                sent.push_back(text);
            }
            ws.flush().await?;
            while let Some(expected) = sent.pop_front() {
                loop {
                    let Some(message) = ws.recv().await? else { return Err(Error::Closed) };
                    let text = message.as_text().expect("text");
                    if !text.starts_with("news ") {
                        assert!(text == expected, "client {}: {text:.60} instead of {expected:.60}", self.id);
                        break;
                    }
                }
            }
            sleep(part(&mut self.rng, Duration::from_secs(2))).await;
        }
        ws.close(1000, "done").await
    }

    /// Receives until the server ends.
    async fn subscribe(
        &mut self,
        ws: &mut WebSocket<Pipe>,
        pause: Duration,
        news: &mut News,
    ) -> Result<(), Error> {
        ws.send("join").await?;
        while let Some(message) = ws.recv().await? {
            news.take(message.as_text().expect("text"));
            // At the end, it catches up.
            if !pause.is_zero() && !self.net.is_shut() {
                sleep(pause).await;
            }
        }
        Ok(())
    }

    /// Asks the server to publish, several messages in one turn of the handler.
    async fn publish(&mut self, ws: &mut WebSocket<Pipe>) -> Result<(), Error> {
        for _ in 0..self.rng.usize(1..30) {
            let count = self.rng.usize(1..20);
            let rooms: Vec<_> = (0..count).map(|_| ROOMS[self.rng.usize(..ROOMS.len())]).collect();
            ws.send(format!("publish {count} {}", rooms.join(" "))).await?;
            let next = Instant::now() + part(&mut self.rng, Duration::from_secs(2));
            // It reads what is published to all.
            while let Ok(message) = timeout_at(next, ws.recv()).await {
                if message?.is_none() {
                    return Ok(());
                }
            }
        }
        ws.close(1000, "").await
    }

    /// Is dropped in the middle of anything.
    async fn vanish(&mut self, mut ws: WebSocket<Pipe>) {
        let after = part(&mut self.rng, Duration::from_secs(20));
        let life = async {
            ws.send("join").await?;
            loop {
                ws.send(format!("echo {}", padding(&mut self.rng))).await?;
                ws.recv().await?;
                sleep(part(&mut self.rng, Duration::from_secs(1))).await;
            }
        };
        let ended: Result<Result<(), Error>, _> = timeout(after, life).await;
        drop(ended);
        if self.rng.bool() {
            ws.abort();
        }
    }

    /// Keeps a connection over links that fail, and sends numbered messages until the end of the time.
    async fn keep(mut self, confirm: Confirm) -> Story {
        let (client, net) = (self.client(), self.net.clone());
        let mut rng = self.rng.fork();
        let connect = move || {
            let pipe = net.connect(&Plan::route(&mut rng, net.left()));
            let client = client.clone();
            async move { Ok(client.handshake_over(pipe).await?.0) }
        };
        let (ledger, id, is_over) = (self.ledger.clone(), self.id, self.net.clone());
        let backoff = Backoff::default().with_max(Duration::from_secs(5)).with_jitter(Jitter::None);
        let mut ws = Builder::new(connect)
            .backoff(backoff)
            .confirm(confirm)
            .delivery_timeout(Duration::from_secs(60))
            .retry_if(move |failure| {
                if let Outage::Lost(error) = failure.outage {
                    ledger.lock().check(&format!("client {id}, which reconnects"), error);
                }
                !is_over.is_shut()
            })
            .start();
        let sender = ws.sender();
        let receiving = tokio::spawn(async move {
            while let Ok(Some(_)) = ws.recv().await {}
            ws
        });
        let mut number = 0;
        let end = self.net.end();
        let mut refused = None;
        while Instant::now() < end && refused.is_none() {
            let message = Message::text(format!("note {} {}", number + 1, padding(&mut self.rng)));
            let sent = if self.rng.bool() { sender.send(message).await } else { sender.feed(message).await };
            match sent {
                Ok(()) => number += 1,
                Err(error) => refused = Some(error),
            }
            sleep(part(&mut self.rng, Duration::from_secs(3))).await;
        }
        sleep_until(end).await;
        let mut story = Story { id: self.id, ..Story::default() };
        if refused.is_none() && sender.flush().await.is_ok() && confirm == Confirm::Pong {
            story.confirmed = Some(number);
        }
        drop(sender);
        receiving.abort();
        story
    }
}
