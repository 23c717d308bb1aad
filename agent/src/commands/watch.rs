//! `lyncwall watch`: live counters on a terminal or in a pipe.

mod keys;
mod model;
mod plain;
mod screen;
mod terminal;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use crossterm::event::{Event as Input, EventStream, KeyEventKind};
use lyncwall_api::client::{Client, Lines, Unheard};
use lyncwall_api::{Counters, Explain, Explained, Status};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::StreamExt as _;

use crate::output::Output;
use keys::Action;
use model::{Model, News};
use screen::Look;
use terminal::Terminal;

pub(super) use model::rule_name;

/// The minimum time between two screens that only drops cause.
const FLICKER: Duration = Duration::from_millis(200);
/// The wait before the next attempt to follow the drops of an agent that ended.
const AGAIN: Duration = Duration::from_secs(1);
/// Capacity of the queue of drops.
const QUEUE: usize = 1024;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seconds between two updates.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Print the counters as text on a terminal too; the default in a pipe, for TERM=dumb, and with -n.
    #[arg(long)]
    plain: bool,
    /// End after this number of updates; 1 prints the counters once.
    #[arg(long, short = 'n', value_name = "NUMBER")]
    count: Option<u64>,
    /// The number of ports to print, most drops first; the screen shows all.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    ports: usize,
}

pub(crate) async fn run(options: &Options, client: &Client, output: &Output) -> Result<()> {
    if options.plain || options.count.is_some() || output.json() || !has_screen() {
        return plain::run(options, client, output).await;
    }
    // If no agent answers at the start, the command fails.
    let first = look(client).await?;
    show(options, client, first).await
}

/// Whether stdin and stdout are a terminal that can show a screen.
fn has_screen() -> bool {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    terminal && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

async fn look(client: &Client) -> Result<(Status, Counters)> {
    Ok((client.get("/v1/status").await?, client.get("/v1/counters").await?))
}

/// Shows the screen until the user quits.
async fn show(options: &Options, client: &Client, first: (Status, Counters)) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for signals")?;
    let mut hangup = signal(SignalKind::hangup()).context("waiting for signals")?;
    let mut goes_on = signal(SignalKind::from_raw(CONT)).context("waiting for signals")?;
    let style = Look::of_the_terminal();
    let mut model = Model::new();
    model.take(News::Look(Box::new(first.0), Box::new(first.1)), Instant::now());
    // Subscribed before the first screen, so that the screen misses no drop from then on.
    let lines = client.lines("/v1/events").await.ok();
    let mut terminal = Terminal::take()?;
    let mut input = EventStream::new();
    let (sender, mut news) = mpsc::channel(QUEUE);
    tokio::spawn(look_again(client.clone(), Duration::from_secs(options.interval), sender.clone()));
    tokio::spawn(hear_of_drops(client.clone(), lines, sender.clone()));
    loop {
        terminal.draw(|frame| screen::draw(frame, &model, style))?;
        tokio::select! {
            pressed = input.next() => match pressed.context("the terminal ended")?.context("reading the terminal")? {
                Input::Key(key) if key.kind == KeyEventKind::Press => match keys::action(key, model.typing) {
                    Some(Action::Quit) => return Ok(()),
                    Some(Action::Suspend) => terminal.suspend()?,
                    Some(Action::Redraw) => terminal.refresh()?,
                    Some(action) => {
                        model.press(action);
                        if let Some((drop, question)) = model.asks() {
                            tokio::spawn(ask(client.clone(), drop, question, sender.clone()));
                        }
                    }
                    None => {}
                },
                // The next draw asks the terminal for its size.
                _ => {}
            },
            Some(new) = news.recv() => {
                let waits = matches!(new, News::Drop(_) | News::Lost(_));
                model.take(new, Instant::now());
                if waits {
                    tokio::time::sleep(FLICKER).await;
                }
                while let Ok(new) = news.try_recv() {
                    model.take(new, Instant::now());
                }
            }
            _ = goes_on.recv() => terminal.refresh()?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
    }
}

/// SIGCONT; tokio has no name for it.
const CONT: i32 = nix::libc::SIGCONT;

/// Asks the agent to explain a drop.
async fn ask(client: Client, drop: u64, question: Explain, news: mpsc::Sender<News>) {
    let answer = client.post::<Explained>("/v1/explain", &question).await;
    let answer = answer.map(|explained| explained.verdicts.into_iter().next());
    let answer = answer.map_err(|error| format!("{error:#}"));
    // The screen may be gone.
    news.send(News::Explained(drop, Box::new(answer))).await.ok();
}

/// Polls the agent until the receiver is gone; errors do not end it.
async fn look_again(client: Client, interval: Duration, news: mpsc::Sender<News>) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let new = match look(&client).await {
            Ok((status, counters)) => News::Look(Box::new(status), Box::new(counters)),
            Err(error) if Unheard::of(&error).is_some() => News::Gone(error.root_cause().to_string()),
            Err(error) => News::Gone(format!("{error:#}")),
        };
        if news.send(new).await.is_err() {
            return;
        }
    }
}

/// Follows the drops of the agent, and of the next agent after a restart, until the receiver is gone.
async fn hear_of_drops(client: Client, mut first: Option<Lines>, news: mpsc::Sender<News>) {
    while !news.is_closed() {
        let lines = match first.take() {
            Some(lines) => Ok(lines),
            None => client.lines("/v1/events").await,
        };
        if let Ok(mut lines) = lines {
            while let Ok(Some(line)) = lines.next().await {
                let Some(new) = heard(&line) else { continue };
                if news.send(new).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Parses a line of the stream; `None` for a kind of line that only a newer agent sends.
fn heard(line: &str) -> Option<News> {
    if let Ok(event) = serde_json::from_str(line) {
        return Some(News::Drop(event));
    }
    let lost: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(News::Lost(lost.get("lost")?.as_u64()?))
}
