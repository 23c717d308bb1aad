//! Takes over interfaces without cutting existing connections: first learns flows from outgoing packets, then
//! adds flows for existing connections, then judges incoming packets.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{Firewall, attach_modes};
use lyncwall_datapath::KnownFlows;
use lyncwall_datapath::connections;
use lyncwall_datapath::host;
use lyncwall_datapath::host::interfaces;
use lyncwall_policy::config::Interface;
use lyncwall_policy::plan::Plan;
use lyncwall_policy::problem::{Error, Problem};
use lyncwall_policy::text::counted;

/// Enough for seeding and attaching on a slow machine. The program stops learning after it, even without an
/// agent.
const ENOUGH: Duration = Duration::from_secs(30);

/// How often to begin again when interfaces go in the middle of it.
const TRIES: usize = 5;
/// The least time to leave for a confirmation.
const LEFT: Duration = Duration::from_secs(5);

impl Firewall {
    /// Attaches to the interfaces of a plan that exist, all or none; the others wait until they appear: see
    /// [`Firewall::machine_changed`]. On interfaces that were not guarded before, existing connections continue;
    /// `learn` is how long to learn flows from outgoing packets first.
    ///
    /// A generation must be live: it decides which connections need a flow.
    pub(super) fn take_over(&mut self, plan: &Plan, learn: Duration) -> Result<(), Error> {
        let mut there = Plan::clone(plan);
        for gone in keep_existing(&mut there)? {
            tracing::warn!(
                interface = gone,
                "{gone} does not exist: lyncwall guards it as soon as it appears"
            );
        }
        for _ in 1..TRIES {
            match self.guard_all(&there, learn) {
                Err(_) if !keep_existing(&mut there)?.is_empty() => {
                    tracing::warn!("an interface has just gone: guarding the others");
                }
                guarded => return guarded,
            }
        }
        self.guard_all(&there, learn)
    }

    /// Like [`Firewall::take_over`], for a start: guards as many interfaces as take the program, as a start that
    /// fails leaves all of them open.
    ///
    /// # Errors
    /// Those of [`Firewall::take_over`], if no interface takes it.
    pub(super) fn take_over_most(&mut self, plan: &Plan, learn: Duration) -> Result<(), Error> {
        let Err(error) = self.take_over(plan, learn) else { return Ok(()) };
        let mut refused = Vec::new();
        let mut there = Plan::clone(plan);
        keep_existing(&mut there)?;
        let all = std::mem::take(&mut there.config.interfaces);
        let wanted = all.len();
        if wanted < 2 {
            return Err(error);
        }
        for interface in all {
            there.config.interfaces = vec![interface.clone()];
            if let Err(error) = self.take_over(&there, learn) {
                refused.push((interface.name, error));
            }
        }
        if refused.len() == wanted {
            return Err(error);
        }
        for (interface, error) in refused {
            let why = format!("{:#}", anyhow::Error::from(error));
            tracing::error!(%interface, "UNGUARDED: it does not take the program: {why}");
            self.obstacles.insert(interface.to_string(), why.replace('\n', "; "));
        }
        Ok(())
    }

    /// Attaches to all interfaces of a plan, or to none.
    fn guard_all(&mut self, plan: &Plan, learn: Duration) -> Result<(), Error> {
        let wanted = attach_modes(plan);
        self.datapath.check_interfaces(&wanted)?;
        let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
        if self.datapath.watches(&names)? {
            // An earlier agent may have left learning on.
            self.end_learning()?;
            self.datapath.attach_egress(&names)?;
            return Ok(self.attach(plan)?);
        }
        let known = self.datapath.known_flows()?;
        // Before attaching, so that no outgoing packet is missed.
        self.datapath.set_learning(Some(learn + ENOUGH))?;
        let attached = self.watch_and_seed(plan, &names, learn, &known).and_then(|()| self.attach(plan));
        self.end_learning()?;
        // Connections that began between the first look and now, whatever became of the attaching.
        let forgotten = self.forget_accepted(&known);
        attached?;
        Ok(forgotten?)
    }

    /// Detaches from interfaces that neither `plan` names nor the plan that a trial goes back to. While an
    /// interface of theirs is missing, all others stay guarded: its name may be misspelt, and no mistake may open
    /// the leg that was meant.
    pub(super) fn detach_others(&mut self, plan: &Plan) -> Result<()> {
        let back = self.memory.trial.running().map(|(_, plan)| Arc::clone(plan));
        let plans = [Some(plan), back.as_deref()].into_iter().flatten();
        let keep: Vec<&str> =
            plans.flat_map(|plan| &plan.config.interfaces).map(|interface| &*interface.name).collect();
        let known = interfaces::all()?;
        if keep.iter().any(|kept| known.iter().all(|(name, _)| name != kept)) {
            return Ok(());
        }
        for interface in self.datapath.detach_interfaces_except(&keep)? {
            tracing::info!(interface, "detached from {interface}: the configuration no longer names it");
        }
        Ok(())
    }

    fn watch_and_seed(
        &mut self,
        plan: &Plan,
        names: &[&str],
        learn: Duration,
        known: &KnownFlows,
    ) -> Result<()> {
        let new = self.datapath.attach_egress(names)?;
        if new.is_empty() {
            return Ok(());
        }
        if !learn.is_zero() && something_stands(&new)? {
            let (interfaces, seconds) = (new.join(" "), learn.as_secs());
            tracing::info!(
                interfaces,
                seconds,
                "learning flows from outgoing packets of {interfaces} for {seconds} s before enforcing"
            );
            thread::sleep(learn);
        }
        self.seed(plan, known)
    }

    /// After a change of zones, the flows belong to the zones of `before`: looks at existing connections
    /// again, and learns from outgoing packets for a while. Failures are logged, as the new policy judges
    /// already.
    pub(super) fn follow_zones(&mut self, before: &Plan) {
        let plan = Arc::clone(&self.plan);
        if plan.moves_zones(before)
            && let Err(error) = self.seed_again(&plan, before)
        {
            tracing::warn!("connections from before the change of zones may be cut: {error:#}");
        }
    }

    /// Refuses a time to confirm in that passes while [`Firewall::follow_zones`] learns: nobody could confirm.
    pub(super) fn leaves_time_to_confirm(&self, plan: &Plan, time: Duration) -> Result<(), Problem> {
        let learn = plan.config.flows.learn;
        if !plan.moves_zones(&self.plan) || time > learn + LEFT {
            return Ok(());
        }
        Err(Problem::new(
            format!(
                "the change moves zones, and learning their flows takes {} s of the {} s to confirm in",
                learn.as_secs(),
                time.as_secs()
            ),
            format!(
                "set --confirm to {} s or more, or `learn` in [flows] lower",
                (learn + 2 * LEFT).as_secs()
            ),
        ))
    }

    fn seed_again(&mut self, plan: &Plan, before: &Plan) -> Result<()> {
        let renamed = plan.renamed_zones(before);
        // Such flows would let replies in from another network than the one asked.
        self.memory.flows_forgotten += self.datapath.forget_zones(&renamed)?;
        let known = self.datapath.known_flows()?;
        let learn = plan.config.flows.learn;
        self.datapath.set_learning(Some(learn + ENOUGH))?;
        thread::sleep(learn);
        let seeded = self.seed(plan, &known);
        self.end_learning()?;
        seeded?;
        self.forget_accepted(&known)
    }

    fn seed(&mut self, plan: &Plan, known: &KnownFlows) -> Result<()> {
        let existing = connections::connections()?;
        self.datapath.seed(&existing, &plan.legs(&host::look_again(&plan.config)?))?;
        let connections = counted(existing.len(), "existing connection", "existing connections");
        tracing::info!(connections = existing.len(), "examined {connections}, so that they continue");
        self.forget_accepted(known)
    }

    /// Keeps flows of inbound connections out: rules judge those, except drained ones.
    pub(super) fn forget_accepted(&mut self, known: &KnownFlows) -> Result<()> {
        let (accepting, own) = (connections::accepting()?, host::own(&[])?);
        let forgotten = self
            .datapath
            .forget_flows(known, |local, port| accepting.contains(&port) && own.contains(local))?;
        self.memory.flows_forgotten += forgotten;
        Ok(())
    }
}

/// Removes interfaces that do not exist from a plan, and returns their names.
fn keep_existing(plan: &mut Plan) -> Result<Vec<String>> {
    let known = interfaces::all()?;
    let exists = |wanted: &Interface| known.iter().any(|(name, _)| *name == *wanted.name);
    let gone = plan.config.interfaces.extract_if(.., |interface| !exists(interface));
    Ok(gone.map(|interface| interface.name.to_string()).collect())
}

/// True if connections may stand that no socket of this box shows: only outgoing packets tell of them. Before
/// the network comes up at a boot, waiting for such packets would only leave the box open for longer.
fn something_stands(interfaces: &[String]) -> Result<bool> {
    if !interfaces::have_sent(interfaces)? {
        return Ok(false);
    }
    Ok(host::forwards()? || !connections::connections()?.is_empty() || connections::asks_by_udp()?)
}
