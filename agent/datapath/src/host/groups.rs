//! The groups of users of this box.

use lyncwall_policy::config::Api;
use lyncwall_policy::problem::Problem;
use nix::unistd::Group;

/// The problems of groups in `[api]`: this box does not have them.
pub fn unknown_groups(api: &Api) -> Vec<Problem> {
    let named = [&api.readers, &api.group].into_iter().flatten();
    let unknown = named.filter_map(|group| {
        let message = match Group::from_name(&group.name) {
            Ok(Some(_)) => return None,
            Ok(None) => format!("unknown group {}", group.name),
            Err(error) => format!("cannot look up the group {}: {error}", group.name),
        };
        let fix = "create it with `groupadd --system`, name another, or remove the key";
        Some(Problem::at(group.place.clone(), message, fix))
    });
    unknown.collect()
}
