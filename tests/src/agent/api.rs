//! The agent's socket, spoken to by lyncwall's own client.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lyncwall_api::Mode;
use lyncwall_api::client::{Client, Lines};
use lyncwall_api::{
    Confirmed, Counters, Event, Existing, Explain, Explained, Preview, Previewed, Reload, SetMode, Status,
    Switch, Switched,
};
use tokio::runtime::{Builder, Runtime};

/// A client of one agent's socket that blocks. It connects for each request, so it outlives the agent.
pub struct Api {
    client: Client,
    runtime: Runtime,
}

impl Api {
    /// For whoever serves `socket` when it is asked.
    ///
    /// # Errors
    /// Where this process has no descriptor left.
    pub fn new(socket: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("a runtime")?;
        Ok(Self { client: Client::new(socket), runtime })
    }

    /// What is enforced.
    ///
    /// # Errors
    /// What the agent refuses, and where there is none. So it is with all requests.
    pub fn status(&self) -> Result<Status> {
        self.runtime.block_on(self.client.get("/v1/status"))
    }

    /// All counters.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn counters(&self) -> Result<Tally> {
        self.runtime.block_on(self.client.get("/v1/counters")).map(Tally)
    }

    /// What the program would do with a packet.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn explain(&self, packet: &Explain) -> Result<Explained> {
        self.runtime.block_on(self.client.post("/v1/explain", packet))
    }

    /// Gives the only target these roles.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn switch(&self, roles: &[&str]) -> Result<Switched> {
        self.switch_within(roles, None)
    }

    /// The same, to be confirmed within some seconds.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn switch_within(&self, roles: &[&str], seconds: impl Into<Option<u64>>) -> Result<Switched> {
        self.switch_with(roles, seconds, None)
    }

    /// The same with a word on connections that stand.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn switch_with(
        &self,
        roles: &[&str],
        seconds: impl Into<Option<u64>>,
        existing: impl Into<Option<Existing>>,
    ) -> Result<Switched> {
        let roles = roles.iter().map(ToString::to_string).collect();
        let switch = Switch { target: None, roles, confirm: seconds.into(), existing: existing.into() };
        self.runtime.block_on(self.client.switch(&switch))
    }

    /// What a switch of the only target to these roles would do.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn preview(&self, roles: &[&str]) -> Result<Previewed> {
        let roles = Some(roles.iter().map(ToString::to_string).collect());
        self.runtime.block_on(self.client.preview(&Preview { target: None, roles, mode: None }))
    }

    /// What another mode of a target, or of the whole box, would do.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn preview_mode(&self, target: Option<&str>, mode: Mode) -> Result<Previewed> {
        let target = target.map(str::to_owned);
        self.runtime.block_on(self.client.preview(&Preview { target, roles: None, mode: Some(mode) }))
    }

    /// Gives a target, or the whole box, another mode.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn set_mode(&self, target: Option<&str>, mode: Mode) -> Result<Switched> {
        self.set_mode_with(target, mode, None, None)
    }

    /// The same to be confirmed within some seconds, and with a word on connections that stand.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn set_mode_with(
        &self,
        target: Option<&str>,
        mode: Mode,
        seconds: impl Into<Option<u64>>,
        existing: impl Into<Option<Existing>>,
    ) -> Result<Switched> {
        let target = target.map(str::to_owned);
        let wanted = SetMode { target, mode, confirm: seconds.into(), existing: existing.into() };
        self.runtime.block_on(self.client.post("/v1/mode", &wanted))
    }

    /// Keeps what waits to be confirmed.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn confirm(&self) -> Result<Confirmed> {
        self.runtime.block_on(self.client.post("/v1/confirm", &()))
    }

    /// Goes back to what was before it.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn rollback(&self) -> Result<Switched> {
        self.runtime.block_on(self.client.post("/v1/rollback", &()))
    }

    /// Has the file read again.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn reload(&self) -> Result<Switched> {
        self.runtime.block_on(self.client.post("/v1/reload", &()))
    }

    /// The same, to be confirmed within some seconds.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn reload_within(&self, seconds: u64) -> Result<Switched> {
        self.runtime
            .block_on(self.client.post("/v1/reload", &Reload { confirm: Some(seconds), ..Reload::default() }))
    }

    /// Events from now on.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn events(&self) -> Result<Events<'_>> {
        self.events_where("")
    }

    /// Events from now on that some parameters ask for, as `reason=closed&port=5061`.
    ///
    /// # Errors
    /// As [`Api::status`].
    pub fn events_where(&self, query: &str) -> Result<Events<'_>> {
        let lines = self.runtime.block_on(self.client.lines(&format!("/v1/events?{query}")))?;
        Ok(Events { api: self, lines })
    }
}

/// A stream of events.
pub struct Events<'a> {
    api: &'a Api,
    lines: Lines,
}

impl Events<'_> {
    /// The next event; `None` where none comes in time.
    ///
    /// # Errors
    /// Where the agent ends the stream, or a line is none of an event.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Event>> {
        let line =
            self.api.runtime.block_on(async { tokio::time::timeout(patience, self.lines.next()).await });
        let Ok(line) = line else { return Ok(None) };
        let line = line?.context("the agent ended the stream")?;
        serde_json::from_str(&line).with_context(|| format!("an event in {line:?}"))
    }
}

/// Counters, with the look-ups that tests make.
#[derive(Debug, Clone)]
pub struct Tally(pub Counters);

impl Tally {
    /// Packets that passed (`pass`) or were dropped (`drop`) with a reason.
    pub fn of(&self, reason: &str, action: &str) -> u64 {
        let counts = self.0.reasons.iter().filter(|count| count.reason == reason && count.action == action);
        counts.map(|count| count.packets).sum()
    }

    /// Packets that the rule of a role let in at exactly these ports, as `tcp` and `443`.
    pub fn rule(&self, transport: &str, ports: &str) -> u64 {
        let rules = self.0.rules.iter();
        let rules = rules.filter(|rule| rule.transport.as_deref() == Some(transport) && rule.ports == ports);
        rules.map(|rule| rule.packets).sum()
    }

    /// Packets that an `[[allow]]` rule let in.
    pub fn allow(&self, name: &str) -> u64 {
        let rules = self.0.rules.iter().filter(|rule| rule.allow.as_deref() == Some(name));
        rules.map(|rule| rule.packets).sum()
    }

    /// Packets that were dropped at a port.
    pub fn port(&self, transport: &str, port: u16) -> u64 {
        let ports = self.0.ports.iter().filter(|count| count.transport == transport && count.port == port);
        ports.map(|count| count.packets).sum()
    }
}
