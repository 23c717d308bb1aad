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
use lyncwall_policy::plan::Plan;
use lyncwall_policy::problem::{Error, Problem};
use lyncwall_policy::text::counted;

/// Enough for seeding and attaching on a slow machine. The program stops learning after it, even without an
/// agent.
const ENOUGH: Duration = Duration::from_secs(30);

/// The least time to leave for a confirmation.
const LEFT: Duration = Duration::from_secs(5);

impl Firewall {
    /// Attaches to all interfaces of a plan. On interfaces that were not guarded before, existing connections
    /// continue; `learn` is how long to learn flows from outgoing packets first.
    ///
    /// A generation must be live: it decides which connections need a flow.
    pub(super) fn take_over(&mut self, plan: &Plan, learn: Duration) -> Result<(), Error> {
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
        attached?;
        // Connections that began between the first look and now.
        Ok(self.forget_accepted(&known)?)
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
        if !learn.is_zero() {
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
        let (accepting, own) = (connections::accepting()?, interfaces::addresses()?);
        let forgotten = self
            .datapath
            .forget_flows(known, |local, port| accepting.contains(&port) && own.contains(&local))?;
        self.memory.flows_forgotten += forgotten;
        Ok(())
    }
}
