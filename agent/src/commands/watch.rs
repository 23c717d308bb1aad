//! `lyncwall watch`: the counters as they move, on a terminal or for a pipe.

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
use lyncwall::api::{Counters, Explain, Explained, Status};
use lyncwall::client::{Client, Lines};
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

/// How often a screen is drawn for drops alone.
const FLICKER: Duration = Duration::from_millis(200);
/// How long after the agent has ended it is asked again for its drops.
const AGAIN: Duration = Duration::from_secs(1);
/// Drops that wait to be looked at.
const QUEUE: usize = 1024;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Print the counters as text, again and again, also on a terminal. So it is without a terminal, where TERM is dumb, and
    /// with -n.
    #[arg(long)]
    plain: bool,
    /// End after so many looks; 1 prints the counters once.
    #[arg(long, short = 'n', value_name = "NUMBER")]
    count: Option<u64>,
    /// Ports to print, those with the most drops first; the screen shows all.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    ports: usize,
}

pub(crate) async fn run(options: &Options, client: &Client, output: &Output) -> Result<()> {
    if options.plain || options.count.is_some() || output.json() || !has_screen() {
        return plain::run(options, client, output).await;
    }
    // Where nobody answers at the start, that is the answer.
    let first = look(client).await?;
    show(options, client, first).await
}

/// Whether there is a terminal that can be drawn on, and keys to read.
fn has_screen() -> bool {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    terminal && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

async fn look(client: &Client) -> Result<(Status, Counters)> {
    Ok((client.get("/v1/status").await?, client.get("/v1/counters").await?))
}

/// Shows the screen until somebody has enough.
async fn show(options: &Options, client: &Client, first: (Status, Counters)) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for signals")?;
    let mut hangup = signal(SignalKind::hangup()).context("waiting for signals")?;
    let mut goes_on = signal(SignalKind::from_raw(CONT)).context("waiting for signals")?;
    let style = Look::of_the_terminal();
    let mut model = Model::new();
    model.take(News::Look(Box::new(first.0), Box::new(first.1)), Instant::now());
    // Before the first screen, so that all that is seen from there on is heard of.
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
                // The next draw asks for the size.
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

/// SIGCONT, which tokio has no name for.
const CONT: i32 = nix::libc::SIGCONT;

/// Asks what the program would make of a drop now.
async fn ask(client: Client, drop: u64, question: Explain, news: mpsc::Sender<News>) {
    let answer = client.post::<Explained>("/v1/explain", &question).await;
    let told = answer.map(|explained| explained.verdicts.into_iter().next());
    let told = told.map_err(|error| format!("{error:#}"));
    // Nobody may be looking any more.
    news.send(News::Explained(drop, Box::new(told))).await.ok();
}

/// Looks again and again, whatever becomes of the agent, until nobody listens.
async fn look_again(client: Client, interval: Duration, news: mpsc::Sender<News>) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let new = match look(&client).await {
            Ok((status, counters)) => News::Look(Box::new(status), Box::new(counters)),
            Err(error) => News::Gone(format!("{error:#}")),
        };
        if news.send(new).await.is_err() {
            return;
        }
    }
}

/// Follows the drops of one agent after the other, until nobody listens.
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

/// A line of the stream; `None` for what only a later agent says.
fn heard(line: &str) -> Option<News> {
    if let Ok(event) = serde_json::from_str(line) {
        return Some(News::Drop(event));
    }
    let lost: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(News::Lost(lost.get("lost")?.as_u64()?))
}
