//! `lyncwall roles`.

use clap::Args;
use lyncwall_policy::catalogue::{Kind, RowId};
use serde::Serialize;

use super::catalogue::RolesOption;
use crate::output::{Output, Table};

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    roles: RolesOption,
}

#[derive(Serialize)]
struct Role<'a> {
    key: &'a str,
    kind: Kind,
    printed: &'a str,
    rows: &'a [RowId],
}

pub(crate) fn run(options: &Options, output: &Output) -> anyhow::Result<()> {
    let known = options.roles.load(output)?;
    let catalogue = known.catalogue();
    if output.json() {
        let roles = catalogue.roles().iter();
        let roles: Vec<_> = roles
            .map(|role| Role { key: &role.key, kind: role.kind, printed: &role.printed, rows: &role.rows })
            .collect();
        return output.value(&roles);
    }
    let groups = [
        (Kind::Server, "Lync servers"),
        (Kind::AddOn, "Add-ons, to name together with their role"),
        (Kind::Balancer, "Load balancers"),
        (Kind::Derived, "Boxes in front of Lync servers"),
        (Kind::Client, "Clients"),
        (Kind::Preset, "What servers call beside Lync, to name together with a server"),
        (Kind::Own, "Your own roles"),
    ];
    let width = catalogue.roles().iter().map(|role| role.key.len()).max().unwrap_or_default();
    for (kind, heading) in groups {
        let mut table = Table::plain();
        for role in catalogue.roles().iter().filter(|role| role.kind == kind) {
            let base = role.extends.as_ref().map(|base| format!(" (with {base})")).unwrap_or_default();
            table.row([format!("{:width$}", role.key), format!("{}{base}", role.summary)]);
        }
        output.section(heading, &table)?;
    }
    Ok(())
}
