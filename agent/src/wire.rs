//! How the agent's own types are written on the wire, and the other way round.

use lyncwall_api as api;
use lyncwall_datapath::{Answer, Features};
use lyncwall_policy::plan::Settings;
use lyncwall_policy::problem::{Problem, Problems};
use lyncwall_policy::{catalogue, config};

/// A mode, for an answer.
#[must_use]
pub fn mode(mode: config::Mode) -> api::Mode {
    match mode {
        config::Mode::Enforce => api::Mode::Enforce,
        config::Mode::Audit => api::Mode::Audit,
    }
}

/// A mode that a client asks for.
#[must_use]
pub fn asked_mode(mode: api::Mode) -> config::Mode {
    match mode {
        api::Mode::Enforce => config::Mode::Enforce,
        api::Mode::Audit => config::Mode::Audit,
    }
}

/// What the end of the agent does.
#[must_use]
pub fn on_exit(on_exit: config::OnExit) -> api::OnExit {
    match on_exit {
        config::OnExit::Keep => api::OnExit::Keep,
        config::OnExit::Detach => api::OnExit::Detach,
    }
}

/// How the catalogue is read.
#[must_use]
pub fn reading(reading: catalogue::Reading) -> api::Reading {
    match reading {
        catalogue::Reading::Strict => api::Reading::Strict,
        catalogue::Reading::Literal => api::Reading::Literal,
    }
}

/// What can be set of each target at run time.
#[must_use]
pub fn targets(settings: &Settings) -> Vec<api::TargetState> {
    let one = |(target, roles): (&String, &Vec<String>)| api::TargetState {
        target: target.clone(),
        roles: roles.clone(),
        mode: mode(settings.mode_of(target)),
    };
    settings.roles.iter().map(one).collect()
}

/// What the user can mend: the first mistakes, and how many more there are.
#[must_use]
pub fn refusal(problems: &Problems) -> api::Refusal {
    let problem = |problem: &Problem| api::Problem {
        place: problem.place.as_ref().map(ToString::to_string).unwrap_or_default(),
        message: problem.message.clone(),
        fix: problem.fix.clone(),
    };
    api::Refusal { problems: problems.clone().first().iter().map(problem).collect() }
}

/// What the kernel can do.
#[must_use]
pub fn kernel(features: &Features) -> api::Kernel {
    let told = features.features.iter().map(|feature| api::Feature {
        name: feature.id.name().to_owned(),
        found: match feature.answer {
            Answer::Found => Some(true),
            Answer::Missing => Some(false),
            Answer::Unknown => None,
        },
        needed: feature.id.is_needed(),
        since: format!("{}.{}", feature.id.since().0, feature.id.since().1),
        asked: feature.asked.clone(),
        detail: feature.detail(),
    });
    api::Kernel { release: features.release.clone(), features: told.collect() }
}
