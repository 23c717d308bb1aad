//! Names of ports: the services of the catalogue.

use std::collections::BTreeMap;

use lyncwall_common::abi::PortTransport;

use crate::catalogue::Catalogue;

/// The service of each port that a row of the catalogue names by itself. Ports in ranges, such as media
/// ports, have none: a range of thousands says nothing about a packet.
#[derive(Debug, Clone, Default)]
pub struct Services(BTreeMap<(PortTransport, u16), String>);

impl Services {
    /// The services of a catalogue.
    #[must_use]
    pub fn of(catalogue: &Catalogue) -> Self {
        let mut rows: BTreeMap<(PortTransport, u16), Vec<String>> = BTreeMap::new();
        for row in catalogue.rows() {
            for ports in row.ports.iter().filter(|ports| ports.first() == ports.last()) {
                for transport in row.transport.each() {
                    rows.entry((*transport, ports.first())).or_default().push(row.id.to_string());
                }
            }
        }
        Self(rows.into_iter().map(|(port, rows)| (port, catalogue.services(&rows))).collect())
    }

    /// The service of a port; empty for none.
    #[must_use]
    pub fn at(&self, transport: PortTransport, port: u16) -> &str {
        self.0.get(&(transport, port)).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lyncwall_common::abi::PortTransport;

    use super::Services;
    use crate::catalogue::{BUILT_IN, Catalogue};

    #[test]
    fn a_port_is_named_by_the_rows_that_print_it() {
        let catalogue = Catalogue::load(BUILT_IN, Path::new("")).expect("the built-in catalogue");
        let services = Services::of(&catalogue);
        assert!(
            services.at(PortTransport::Tcp, 5061).contains("SIP/TLS"),
            "{}",
            services.at(PortTransport::Tcp, 5061)
        );
        assert_eq!(services.at(PortTransport::Tcp, 3389), "");
        assert_eq!(services.at(PortTransport::Tcp, 60_000), "", "a media port is not a service");
    }
}
