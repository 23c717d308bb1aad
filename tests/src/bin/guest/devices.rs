//! How each kind of interface takes the program when the agent is left the choice.

use anyhow::Result;
use lyncwall_datapath::{Attach, Datapath};
use lyncwall_tests::netns::{Gre, Netns, Pair, Tag};
use serde_json::{Map, Value};

/// Makes an interface of the name [`DEVICE`] in the host's namespace.
type Make = fn(&Netns) -> Result<()>;

const DEVICE: &str = "device1";

/// A new pair for each, so that none is in another's way.
const DEVICES: [(&str, Make); 9] = [
    ("vlan", |host| host.add_vlan(Pair::HOST_LINK, DEVICE, Tag::Customer, 7)),
    ("qinq", |host| {
        host.add_vlan(Pair::HOST_LINK, "outer", Tag::Service, 9)?;
        host.add_vlan("outer", DEVICE, Tag::Customer, 7)
    }),
    ("bond", |host| {
        host.add_bond(DEVICE)?;
        host.enslave(Pair::HOST_LINK, DEVICE)
    }),
    ("bridge", |host| {
        host.add_bridge(DEVICE)?;
        host.enslave(Pair::HOST_LINK, DEVICE)
    }),
    ("dummy", |host| host.add_dummy(DEVICE)),
    ("gretap", |host| host.add_gre(DEVICE, Gre::Frames, Pair::HOST_V4, Pair::CLIENT_V4)),
    ("gre", |host| host.add_gre(DEVICE, Gre::Packets, Pair::HOST_V4, Pair::CLIENT_V4)),
    // It goes with its file, which stays open until this process ends.
    ("tun", |host| host.tun(DEVICE).map(std::mem::forget)),
    ("lo", |_| Ok(())),
];

/// By kind: `native`, `generic`, or `refused: ` with the reason.
pub(crate) fn figures(datapath: &mut Datapath) -> Result<Value> {
    let mut modes = Map::new();
    let pair = Pair::new()?;
    modes.insert("veth".to_owned(), attached(datapath, &pair.host, Pair::HOST_LINK).into());
    for (kind, make) in DEVICES {
        let pair = Pair::new()?;
        let name = if kind == "lo" { kind } else { DEVICE };
        let mode = match make(&pair.host) {
            Ok(()) => attached(datapath, &pair.host, name),
            Err(error) => format!("not made: {error:#}"),
        };
        modes.insert(kind.to_owned(), mode.into());
    }
    Ok(modes.into())
}

fn attached(datapath: &mut Datapath, namespace: &Netns, interface: &str) -> String {
    namespace.run(|| {
        let answer = match datapath.attach(interface, Attach::Auto) {
            Ok(attached) => attached.mode.to_string(),
            // The sentence without its fix.
            Err(error) => {
                let text = format!("{error:#}");
                format!("refused: {}", text.split("; ").next().unwrap_or_default())
            }
        };
        match datapath.detach_interfaces_except(&[]) {
            Ok(_) => answer,
            Err(error) => format!("{answer}, and does not come off: {error:#}"),
        }
    })
}
