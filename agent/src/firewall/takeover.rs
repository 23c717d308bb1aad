//! Taking over interfaces without cutting what stands: first what they send is watched, then what stands already becomes
//! flows, then what comes in is judged.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{Firewall, attach_modes};
use crate::datapath::KnownFlows;
use crate::datapath::connections;
use crate::datapath::host;
use crate::datapath::host::interfaces;
use crate::plan::Plan;
use crate::problem::Error;

/// For seeding and attaching, on a slow machine too. The program stops learning after that, even where the agent is gone.
const ENOUGH: Duration = Duration::from_secs(30);

impl Firewall {
    /// Attaches to all interfaces of a plan. Where some were not watched before, what stands on them is let in from then
    /// on; `learn` is how long what they send is watched before.
    ///
    /// A generation has to be live: it says which connections need a flow.
    pub(super) fn take_over(&mut self, plan: &Plan, learn: Duration) -> Result<(), Error> {
        let wanted = attach_modes(plan);
        self.datapath.check_interfaces(&wanted)?;
        let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
        if self.datapath.watches(&names)? {
            // An agent before this one may have left it on.
            self.end_learning()?;
            self.datapath.attach_egress(&names)?;
            return Ok(self.attach(plan)?);
        }
        let known = self.datapath.known_flows()?;
        // Before the program is there, so that nothing that goes out is overlooked.
        self.datapath.set_learning(Some(learn + ENOUGH))?;
        let attached = self.watch_and_seed(plan, &names, learn, &known).and_then(|()| self.attach(plan));
        self.end_learning()?;
        attached?;
        // What was picked up between the first look and now.
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
            tracing::info!(
                interfaces = new.join(" "),
                seconds = learn.as_secs(),
                "watching what goes out before anything is dropped, to learn which replies to let in"
            );
            thread::sleep(learn);
        }
        self.seed(plan, known)
    }

    /// Where zones are others than `before`, flows are in those of before: what stands is looked at once more, and what
    /// goes out is watched for a while. Nothing fails of it, as the new policy judges already.
    pub(super) fn follow_zones(&mut self, before: &Plan) {
        let plan = self.plan.clone();
        if plan.moves_zones(before)
            && let Err(error) = self.seed_again(&plan, before)
        {
            tracing::warn!("what stood before the zones changed may be cut: {error:#}");
        }
    }

    fn seed_again(&mut self, plan: &Plan, before: &Plan) -> Result<()> {
        let renamed = plan.renamed_zones(before);
        // They would let answers in by another network than the one that was asked.
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
        tracing::info!(connections = existing.len(), "looked at the connections that stand");
        self.forget_accepted(known)
    }

    /// Whoever connected to this box is judged by its rules, not let in as a reply; but for who was let go on before.
    pub(super) fn forget_accepted(&mut self, known: &KnownFlows) -> Result<()> {
        let (accepting, own) = (connections::accepting()?, interfaces::addresses()?);
        let forgotten = self
            .datapath
            .forget_flows(known, |local, port| accepting.contains(&port) && own.contains(&local))?;
        self.memory.flows_forgotten += forgotten;
        Ok(())
    }
}
