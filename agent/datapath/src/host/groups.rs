//! The groups of users of this box.

use lyncwall_policy::config::Api;
use lyncwall_policy::problem::Problem;
use nix::unistd::Group;

/// What is wrong with the groups that may use the agent's socket: this box does not have them.
pub fn unknown_groups(api: &Api) -> Vec<Problem> {
    let named = [&api.readers, &api.group].into_iter().flatten();
    let unknown = named.filter_map(|group| {
        let message = match Group::from_name(&group.name) {
            Ok(Some(_)) => return None,
            Ok(None) => format!("there is no group {}", group.name),
            Err(error) => format!("the group {} cannot be looked up: {error}", group.name),
        };
        let fix = "make it with `groupadd --system`, name another, or leave the key out";
        Some(Problem::at(group.place.clone(), message, fix))
    });
    unknown.collect()
}
