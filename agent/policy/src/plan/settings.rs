//! The settings that can change at run time, and their values in the file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::config::{Mode, Target};

/// The roles of each target, by the target's name.
pub type Roles = BTreeMap<String, Vec<String>>;

/// The settings that can change at run time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The roles of each target.
    pub roles: Roles,
    /// The modes of targets by name; a target without an entry has `mode`.
    pub modes: BTreeMap<String, Mode>,
    /// The mode of packets without a target.
    pub mode: Mode,
}

impl Settings {
    /// The roles of a target; empty for an unknown one.
    #[must_use]
    pub fn roles_of(&self, target: &str) -> &[String] {
        self.roles.get(target).map_or(&[], Vec::as_slice)
    }

    /// The mode of a target.
    #[must_use]
    pub fn mode_of(&self, target: &str) -> Mode {
        self.modes.get(target).copied().unwrap_or(self.mode)
    }

    /// Sets the mode of a target, or of the whole box.
    pub fn set_mode(&mut self, target: Option<&str>, mode: Mode) {
        match target {
            Some(target) => {
                self.modes.insert(target.to_owned(), mode);
            }
            None => {
                self.mode = mode;
                self.modes.values_mut().for_each(|of_target| *of_target = mode);
            }
        }
    }

    /// The mode of the whole box; `None` if targets differ.
    #[must_use]
    pub fn one_mode(&self) -> Option<Mode> {
        self.modes.values().all(|mode| *mode == self.mode).then_some(self.mode)
    }

    /// The differences in modes from `before`, one sentence each.
    #[must_use]
    pub fn mode_changes(&self, before: &Self) -> Vec<String> {
        let change = |what: &str, before: Mode, after: Mode| {
            (before != after).then(|| format!("{what}: {} to {}", before.as_str(), after.as_str()))
        };
        match (before.one_mode(), self.one_mode()) {
            (Some(before), Some(after)) => change("mode", before, after).into_iter().collect(),
            _ => {
                let rest = change("mode of packets without a target", before.mode, self.mode);
                let of_target = |name: &String| {
                    change(&format!("mode of target {name}"), before.mode_of(name), self.mode_of(name))
                };
                rest.into_iter().chain(self.modes.keys().filter_map(of_target)).collect()
            }
        }
    }

    /// The settings that differ from those of the file, one phrase each, as `mode enforce (file: audit)`.
    #[must_use]
    pub fn differences_from_file(&self, file: &Self) -> Vec<String> {
        let change = |what: &str, now: Mode, of_file: Mode| {
            (now != of_file).then(|| format!("{what} {} (file: {})", now.as_str(), of_file.as_str()))
        };
        let modes: Vec<String> = match (self.one_mode(), file.one_mode()) {
            (Some(now), Some(of_file)) => change("mode", now, of_file).into_iter().collect(),
            _ => {
                let of_target = |name: &String| {
                    change(&format!("mode of target {name}:"), self.mode_of(name), file.mode_of(name))
                };
                let rest = change("mode of packets without a target:", self.mode, file.mode);
                rest.into_iter().chain(file.modes.keys().filter_map(of_target)).collect()
            }
        };
        let listed = |roles: &[String]| match roles {
            [] => "no role".to_owned(),
            roles => roles.join(", "),
        };
        let roles = file.roles.iter().filter_map(|(target, of_file)| {
            let now = self.roles_of(target);
            (now != of_file)
                .then(|| format!("roles of target {target}: {} (file: {})", listed(now), listed(of_file)))
        });
        modes.into_iter().chain(roles).collect()
    }

    /// Warnings about audit mode, one sentence each.
    pub(super) fn warnings(&self) -> Vec<String> {
        match self.one_mode() {
            Some(Mode::Enforce) => Vec::new(),
            Some(Mode::Audit) => {
                vec!["mode = \"audit\": lyncwall drops nothing, it only counts and reports".to_owned()]
            }
            None => {
                let rest = (self.mode == Mode::Audit).then(|| "packets without a target".to_owned());
                let targets = self.modes.iter().filter(|(_, mode)| **mode == Mode::Audit);
                let audited = targets.map(|(name, _)| format!("packets to target {name}")).chain(rest);
                audited
                    .map(|what| {
                        format!("mode = \"audit\": lyncwall does not drop {what}, it only counts and reports")
                    })
                    .collect()
            }
        }
    }

    /// The targets whose roles here the plan's catalogue no longer knows, so that [`Settings::under`] gives them the file's.
    #[must_use]
    pub fn unknown_under(&self, file: &Self, plan: &Plan) -> Vec<String> {
        let wanted = plan.settings().roles.into_iter();
        let kept = wanted.filter(|(target, wanted)| file.roles.get(target) == Some(wanted));
        let switched = kept.filter_map(|(target, _)| self.roles.get_key_value(&target));
        switched
            .filter(|(target, roles)| plan.resolve(target, roles).is_err())
            .map(|(target, _)| target.clone())
            .collect()
    }

    /// Carries these settings over from `file` to a new plan: a setting that the new file changes comes from
    /// the new file.
    #[must_use]
    pub fn under(&self, file: &Self, plan: &Plan) -> Self {
        let mut settings = plan.settings();
        for (target, wanted) in &mut settings.roles {
            if file.roles.get(target) == Some(wanted)
                && let Some(switched) = self.roles.get(target)
                && plan.resolve(target, switched).is_ok()
            {
                wanted.clone_from(switched);
            }
        }
        let stays = file.mode == settings.mode;
        for target in &plan.config.targets {
            let Some(wanted) = settings.modes.get_mut(&*target.name) else { continue };
            let new = target.mode.is_none() && !file.modes.contains_key(&*target.name);
            if file.modes.get(&*target.name) == Some(wanted) || new && stays {
                *wanted = self.mode_of(&target.name);
            }
        }
        if stays {
            settings.mode = self.mode;
        }
        settings
    }
}

impl Plan {
    /// The settings of the file.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let targets = &self.config.targets;
        let name = |target: &Target| target.name.to_string();
        let roles = |target: &Target| target.roles.iter().map(|role| role.key.clone()).collect();
        let mode = |target: &Target| target.mode.unwrap_or(self.config.mode);
        Settings {
            roles: targets.iter().map(|target| (name(target), roles(target))).collect(),
            modes: targets.iter().map(|target| (name(target), mode(target))).collect(),
            mode: self.config.mode,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Plan, Settings};
    use crate::config::Mode::{self, Audit, Enforce};

    fn plan(top: &str, first: &str, second: &str) -> Plan {
        let text = format!(
            "{top}\nmanagement = \"none\"\n[[interface]]\nname = \"eth0\"\n\
             [[target]]\nname = \"old\"\nroles = [\"edge-internal\"]\n{first}\n\
             [[target]]\nname = \"new\"\naddress = [\"192.0.2.1\"]\nroles = [\"reverse-proxy\"]\n{second}\n"
        );
        Plan::parse(&text, Path::new("test.toml")).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn modes(settings: &Settings) -> (Mode, Mode, Mode) {
        (settings.mode, settings.mode_of("old"), settings.mode_of("new"))
    }

    #[test]
    fn a_target_has_its_own_mode_or_that_of_the_box() {
        assert_eq!(modes(&plan("", "", "").settings()), (Enforce, Enforce, Enforce));
        assert_eq!(modes(&plan("mode = \"audit\"", "", "").settings()), (Audit, Audit, Audit));
        assert_eq!(modes(&plan("", "", "mode = \"audit\"").settings()), (Enforce, Enforce, Audit));
        let audited = plan("mode = \"audit\"", "mode = \"enforce\"", "").settings();
        assert_eq!(modes(&audited), (Audit, Enforce, Audit));
        assert_eq!((audited.one_mode(), plan("", "", "").settings().one_mode()), (None, Some(Enforce)));
    }

    #[test]
    fn a_mode_is_set_for_one_target_or_for_all() {
        let mut settings = plan("", "", "mode = \"audit\"").settings();
        settings.set_mode(Some("old"), Audit);
        assert_eq!(modes(&settings), (Enforce, Audit, Audit));
        settings.set_mode(None, Enforce);
        assert_eq!(modes(&settings), (Enforce, Enforce, Enforce));
    }

    #[test]
    fn the_run_time_holds_until_the_file_says_something_else() {
        let file = plan("", "", "mode = \"audit\"");
        let mut now = file.settings();
        now.set_mode(Some("new"), Enforce);
        now.roles.insert("old".to_owned(), vec!["director-vip".to_owned()]);
        assert_eq!(now.under(&file.settings(), &file), now);
        // The file changes its mind about the box, and so about the target that has no mode of its own.
        let changed = plan("mode = \"audit\"", "", "mode = \"audit\"");
        let under = now.under(&file.settings(), &changed);
        assert_eq!(modes(&under), (Audit, Audit, Enforce));
        assert_eq!(under.roles_of("old"), ["director-vip"]);
        // A target that is new goes with the box.
        let one = Plan::parse(
            &file.text.replace("name = \"new\"", "name = \"other\"").replace("mode = \"audit\"", ""),
            Path::new("test.toml"),
        )
        .unwrap_or_else(|problems| panic!("{problems}"));
        let mut all = file.settings();
        all.set_mode(None, Audit);
        assert_eq!(all.under(&file.settings(), &one).mode_of("other"), Audit);
        // And where the file says more of it, it has that.
        assert_eq!(modes(&Settings::default().under(&Settings::default(), &file)), (Enforce, Enforce, Audit));
    }

    #[test]
    fn changes_and_warnings_name_what_is_not_the_same_everywhere() {
        let (all, some) = (plan("mode = \"audit\"", "", ""), plan("", "", "mode = \"audit\""));
        let (all, some) = (all.settings(), some.settings());
        let none = plan("", "", "").settings();
        assert_eq!(none.mode_changes(&all), ["mode: audit to enforce"]);
        assert_eq!(none.mode_changes(&some), ["mode of target new: audit to enforce"]);
        let both =
            ["mode of packets without a target: audit to enforce", "mode of target old: audit to enforce"];
        assert_eq!(some.mode_changes(&all), both);
        assert_eq!((none.mode_changes(&none), none.warnings()), (vec![], vec![]));
        assert_eq!(all.warnings(), ["mode = \"audit\": lyncwall drops nothing, it only counts and reports"]);
        let new =
            "mode = \"audit\": lyncwall does not drop packets to target new, it only counts and reports";
        assert_eq!(some.warnings(), [new]);
    }
}
