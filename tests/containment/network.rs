//! Networks: a loopback of the job's own, plain sockets on it, and nothing else of that part of the kernel.

use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::harness::{Probe, Setting, able, unique};

/// Services of the host's. Nobody accepts: a connection is made by the kernel.
pub(super) struct Services {
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    abstract_name: String,
    folder: tempfile::TempDir,
    _unix: [UnixListener; 2],
}

impl Services {
    pub(super) fn start() -> Self {
        let abstract_name = unique("abstract");
        let address = SocketAddr::from_abstract_name(&abstract_name).expect("an address");
        let folder = tempfile::tempdir().expect("tempdir");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        Self {
            tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"),
            tcp6: TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok(),
            _unix: [
                UnixListener::bind_addr(&address).expect("abstract"),
                UnixListener::bind(folder.path().join("socket")).expect("socket"),
            ],
            abstract_name,
            folder,
        }
    }

    pub(super) fn probe(&self) -> Probe<'static> {
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        Probe::new(include_str!("probes/network.py"))
            .planted("port", port(&self.tcp))
            .planted("port6", self.tcp6.as_ref().map_or(1, port))
            .planted("abstract", self.abstract_name.as_str())
            .planted("socket", self.folder.path().join("socket").to_string_lossy())
    }
}

#[test]
fn a_job_has_a_loopback_of_its_own() {
    if able() {
        Services::start().probe().is_contained_in(&[
            Setting::Policy("default"),
            Setting::Policy("strict"),
            Setting::Policy("ci"),
        ]);
    }
}

#[test]
fn each_attack_can_succeed() {
    if able() {
        Services::start().probe().succeeds_in(&[Setting::Host]);
    }
}

/// What remains where a policy gives the host's network on purpose: the filter, and landlock's scope.
#[test]
fn on_the_hosts_network_the_filter_and_landlock_still_hold() {
    if !able() {
        return;
    }
    let host = "[sandbox]\nnetwork = \"host\"\nallow_network = [\"host\"]\n";
    let given = [
        "connects_to_a_service_of_the_host",
        "connects_to_a_service_of_the_host_by_ipv6",
        "connects_to_the_address_of_all",
        "has_a_route_that_leads_out",
        "has_an_interface_that_leads_out",
        "sees_abstract_sockets",
        "sees_connections_of_the_host",
    ];
    let services = Services::start();
    let abstract_socket = "connects_to_an_abstract_socket";
    // Since landlock's ABI 6 it has scopes.
    if stockade::isolation::sandbox::landlock::kernel_abi() >= 6 {
        services.probe().is_contained_but(Setting::Own(host), &given);
    } else {
        let more = [&given[..], &[abstract_socket]].concat();
        services.probe().is_contained_but(Setting::Own(host), &more);
    }
    let without = format!("{host}landlock = \"off\"\n");
    assert!(
        services
            .probe()
            .lets_through(Setting::Own(&without), abstract_socket)
    );
}
