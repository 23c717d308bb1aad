//! `lyncwall doctor`: whether lyncwall can run on this machine.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use lyncwall::object;
use lyncwall::wire;
use lyncwall_api::client::{self, Client};
use lyncwall_api::{self as api, Kernel, Refusal, Status};
use lyncwall_datapath::{Datapath, Examined, HostCheck, MemoryLimit, host, listening};
use lyncwall_policy::plan::Plan;
use lyncwall_policy::problem::Problems;
use serde::Serialize;

use super::check::{ConfigOption, DEFAULT_CONFIG, STDIN, read};
use crate::output::{AlreadyPrinted, Output, Table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    config: ConfigOption,
}

/// All findings: `problems` lists what keeps lyncwall from running; the other fields give the state of each
/// part.
#[derive(Serialize)]
struct Report {
    runs_here: bool,
    problems: Vec<api::Problem>,
    kernel: Kernel,
    privileges: Finding,
    file_system: Finding,
    locked_memory: Finding,
    configuration: Finding,
    interfaces: Vec<Interface>,
    agent: Agent,
    /// What does not keep lyncwall from running, but may be a mistake.
    warnings: Vec<String>,
}

/// The state of a part; `good` is `None` if lyncwall could not check it, or had nothing to check.
#[derive(Serialize)]
struct Finding {
    good: Option<bool>,
    detail: String,
}

#[derive(Serialize)]
struct Interface {
    name: String,
    driver: Option<String>,
    good: bool,
    state: String,
}

#[derive(Serialize)]
struct Agent {
    /// The process id; `None` if no agent runs, or it does not answer this user.
    pid: Option<u32>,
    detail: String,
}

pub(crate) async fn run(options: &Options, client: &Client, pin_dir: &Path, output: &Output) -> Result<()> {
    let machine = HostCheck::ask(pin_dir)?;
    let mut problems = machine.problems();
    if let Err(problem) = object::require() {
        problems.push(problem);
    }
    let (configuration, plan) = configuration(&options.config.config, &mut problems);
    let (interfaces, warnings) = match plan {
        Some(plan) => {
            let mut warnings = host::doubts(&plan.config);
            warnings.extend(listening::warning(plan.config.management.as_ref()));
            (interfaces(&plan, pin_dir, &mut problems)?, warnings)
        }
        None => (Vec::new(), Vec::new()),
    };
    let report = Report {
        runs_here: problems.is_empty(),
        problems: wire::refusal(&problems).problems,
        kernel: wire::kernel(&machine.features),
        privileges: part(&machine.privileges, "sufficient to load and attach BPF programs"),
        file_system: part(&machine.file_system, &format!("pins can be created in {}", pin_dir.display())),
        locked_memory: locked_memory(machine.memory),
        configuration,
        interfaces,
        agent: agent(client).await?,
        warnings,
    };
    if output.json() {
        output.value(&report)?;
    } else {
        text(&report, &problems, output)?;
    }
    if problems.is_empty() { Ok(()) } else { Err(AlreadyPrinted.into()) }
}

fn part(problems: &Problems, good: &str) -> Finding {
    if problems.is_empty() {
        return Finding { good: Some(true), detail: good.to_owned() };
    }
    let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    Finding { good: Some(false), detail: messages.join("; ") }
}

fn locked_memory(limit: MemoryLimit) -> Finding {
    let limited = match limit.bytes {
        None => "no limit".to_owned(),
        Some(bytes) if limit.liftable => {
            format!("the agent raises the limit of {bytes} bytes when it starts")
        }
        Some(bytes) => format!("limited to {bytes} bytes"),
    };
    let good = limit.problems().is_empty();
    let detail = match limit.charged {
        true => limited,
        false => "this kernel does not count BPF maps against the limit".to_owned(),
    };
    Finding { good: Some(good), detail }
}

/// Reads the configuration, if it exists and this user may read it.
fn configuration(file: &Path, problems: &mut Problems) -> (Finding, Option<Plan>) {
    let name = file.display();
    let opened = if file == Path::new(STDIN) { Ok(()) } else { File::open(file).map(drop) };
    match opened.map_err(|error| error.kind()) {
        // A file that the user named must exist: reading it reports the error.
        Err(ErrorKind::NotFound) if file == Path::new(DEFAULT_CONFIG) => {
            let detail = format!("{name} does not exist, so no interface was checked");
            return (Finding { good: None, detail }, None);
        }
        Err(ErrorKind::PermissionDenied) => {
            let detail = format!("this user may not read {name}, so no interface was checked");
            return (Finding { good: None, detail }, None);
        }
        // `Plan::read` reports every other error together with the mistakes of the file.
        Err(_) | Ok(()) => {}
    }
    match read(file) {
        Ok(plan) => (Finding { good: Some(true), detail: format!("{name} has no mistakes") }, Some(plan)),
        Err(mistakes) => {
            let detail = format!("{name} has mistakes, so no interface was checked");
            problems.append(mistakes);
            (Finding { good: Some(false), detail }, None)
        }
    }
}

fn interfaces(plan: &Plan, pin_dir: &Path, problems: &mut Problems) -> Result<Vec<Interface>> {
    let known = host::interfaces::all()?;
    let mut wanted: Vec<&str> = plan.config.interfaces.iter().map(|interface| &*interface.name).collect();
    // A start waits for the others.
    wanted.retain(|wanted| known.iter().any(|(name, _)| name == wanted));
    let mut examined = Vec::new();
    for Examined { interface, driver, state, problem } in Datapath::examine(pin_dir, &wanted)? {
        examined.push(Interface { name: interface, driver, good: problem.is_none(), state });
        if let Some(problem) = problem {
            problems.push(problem);
        }
    }
    Ok(examined)
}

async fn agent(client: &Client) -> Result<Agent> {
    match client.get::<Status>("/v1/status").await.map_err(client::Error::from) {
        Ok(status) => Ok(Agent {
            pid: Some(status.pid),
            detail: format!("version {} runs as process {}", status.version, status.pid),
        }),
        Err(client::Error::Refused(Refusal { problems })) => {
            let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            Ok(Agent { pid: None, detail: messages.join("; ") })
        }
        // An agent of another version, or a failing one: `lyncwall status` reports the details.
        Err(client::Error::Failed(error)) => {
            Ok(Agent { pid: None, detail: format!("an agent runs but does not answer: {error:#}") })
        }
    }
}

fn text(report: &Report, problems: &Problems, output: &Output) -> Result<()> {
    let mut features = Table::new(["feature", "since", "state", "purpose, or replacement"]);
    for feature in &report.kernel.features {
        let (state, detail) = match feature.found {
            Some(true) => ("found", feature.detail.clone()),
            Some(false) if feature.needed => ("MISSING", feature.detail.clone()),
            Some(false) => ("missing", format!("instead: {}", feature.detail)),
            None => ("-", feature.detail.clone()),
        };
        features.row([feature.name.clone(), feature.since.clone(), state.to_owned(), detail]);
    }
    output.section(&format!("Kernel {}", report.kernel.release), &features)?;

    let mut machine = Table::plain();
    let parts = [
        ("privileges", &report.privileges),
        ("BPF file system", &report.file_system),
        ("locked memory", &report.locked_memory),
        ("configuration", &report.configuration),
    ];
    for (name, Finding { good, detail }) in parts {
        let state = match good {
            Some(true) => "good",
            Some(false) => "BAD",
            None => "-",
        };
        machine.row([name.to_owned(), state.to_owned(), detail.clone()]);
    }
    let agent = if report.agent.pid.is_some() { "runs" } else { "-" };
    machine.row(["agent".to_owned(), agent.to_owned(), report.agent.detail.clone()]);
    output.section("Machine", &machine)?;

    let mut interfaces = Table::new(["interface", "driver", "state", ""]);
    for Interface { name, driver, good, state } in &report.interfaces {
        let good = if *good { "good" } else { "BAD" };
        let driver = driver.clone().unwrap_or_else(|| "-".to_owned());
        interfaces.row([name.clone(), driver, good.to_owned(), state.clone()]);
    }
    output.section("Interfaces", &interfaces)?;

    for warning in &report.warnings {
        output.warn(warning);
    }
    output.line("")?;
    if report.runs_here {
        return output.line("lyncwall can run here");
    }
    output.line("lyncwall cannot run here until you fix:")?;
    for problem in problems.iter() {
        output.line(&format!("  {problem}"))?;
    }
    Ok(())
}
