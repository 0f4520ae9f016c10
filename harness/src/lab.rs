//! A topology on the kernel: namespaces, veth pairs, impaired links, sysctls.
//!
//! Imports observation, impairment and errno.

pub mod address;
pub mod datagrams;
pub mod destroy;
pub mod events;
pub mod injection;
pub mod kernel_log;
pub mod middlebox;
pub mod namespace;
pub mod netem;
mod netlink;
pub mod nftables;
pub mod observe;
pub mod offload;
pub mod packets;
pub mod peers;
pub mod relay;
pub mod sysctl;
pub mod topology;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use advisor_report::Link;
use rtnetlink::Handle;
use serde::{Deserialize, Serialize};

use crate::errno;
use crate::impairment::{Impairment, spread_seed};
use namespace::Namespace;
use netlink::Netlink;
use offload::Offload;
use packets::Ledger;
use relay::{Relay, Wire, WireCounts};
use topology::{Cut, Position};

/// An operation of the lab that failed, with its host and the kernel's error.
#[derive(Debug)]
pub struct LabError {
    /// The host of the suite, or `kernel`.
    pub host: String,
    /// The operation: `add netem to r-server`.
    pub action: String,
    /// The kernel's error.
    pub source: io::Error,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl LabError {
    /// An error of a host.
    pub fn new(host: &str, action: &str, source: io::Error, hint: &str) -> Self {
        Self {
            host: host.to_owned(),
            action: action.to_owned(),
            source,
            hint: hint.to_owned(),
        }
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: cannot {}: ", self.host, self.action)?;
        match self.source.raw_os_error() {
            Some(number) => write!(f, "{}", errno::name(number)),
            None => write!(f, "{}", self.source),
        }
    }
}

impl std::error::Error for LabError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What carries impaired links.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Carrier {
    /// netem where the kernel has it, the relay where not.
    #[default]
    Auto,
    /// The kernel's sch_netem.
    Netem,
    /// The relay.
    Relay,
}

impl Carrier {
    /// What carries impaired links with this choice on this kernel.
    pub fn link(self) -> Link {
        match self {
            Self::Netem => Link::Netem,
            Self::Auto if kernel_has_netem() => Link::Netem,
            Self::Relay | Self::Auto => Link::Relay,
        }
    }
}

/// What a topology is made of.
#[derive(Clone, Copy, Debug)]
pub struct Topology<'a> {
    /// The hosts; each has a link to the router.
    pub hosts: &'a [String],
    /// By host: the impairment of the direction towards it.
    pub links: &'a BTreeMap<String, Impairment>,
    /// By host: sysctls of its namespace, beside the pinned ones.
    pub sysctls: &'a BTreeMap<String, Vec<(String, String)>>,
    /// Whether segmentation offload stays on.
    pub offload: bool,
    /// What the router does beside forwarding.
    pub middlebox: Option<Middlebox>,
}

/// A router that changes addresses and forgets.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Middlebox {
    /// Seconds without a packet after which it forgets an established connection.
    pub idle_limit_seconds: Option<u64>,
    /// What it does with a packet of a connection that it doesn't know.
    pub on_unknown: OnUnknown,
}

/// What a middlebox does with a packet of a connection that it doesn't know.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, schemars::JsonSchema, PartialEq, Serialize,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OnUnknown {
    /// Forwards it with the address that it has.
    #[default]
    Forward,
    /// Answers it with a reset.
    Reset,
    /// Drops it.
    Drop,
}

/// Whether this kernel has sch_netem: asked once, by putting one on the
/// loopback device of a namespace made for the question.
pub fn kernel_has_netem() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        on_own_thread("netem probe", || {
            let _namespace = Namespace::enter_new("probe")?;
            let netlink = Netlink::start("probe")?;
            let handle = netlink.connect("probe")?;
            let none = Impairment::none();
            netlink
                .wait(topology::add_netem(&handle, topology::LOOPBACK, &none))
                .map_err(|error| LabError::new("probe", "add netem", error, ""))
        })
        .is_ok()
    })
}

/// Whether this kernel has what a middlebox needs: asked once, like
/// [`kernel_has_netem`].
pub fn kernel_has_nat() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        on_own_thread("NAT probe", || {
            let _namespace = Namespace::enter_new("probe")?;
            middlebox::start(&Middlebox {
                idle_limit_seconds: Some(1),
                on_unknown: OnUnknown::Reset,
            })
        })
        .is_ok()
    })
}

/// A topology that is up.
#[derive(Debug)]
pub struct Lab {
    /// The router first, then the hosts in the order of the suite.
    namespaces: Vec<Namespace>,
    relay: Option<Relay>,
    link: Link,
    run: u64,
    /// What has passed on the links of the hosts, where that is looked at.
    pub ledger: Arc<Ledger>,
    /// Whether netem took the seed; kernels before 6.6 ignore it.
    pub seed_honoured: bool,
}

impl Lab {
    /// Builds a topology; each link's draws depend on its own seed, its direction and the
    /// number of the run.
    pub fn build(topology: &Topology<'_>, link: Link, run: u64) -> Result<Self, LabError> {
        on_own_thread("lab", || Builder::new(topology, link, run)?.build())
    }

    /// The namespaces of the hosts, without the router's.
    pub fn hosts(&self) -> &[Namespace] {
        &self.namespaces[1..]
    }

    /// The router's namespace.
    pub fn router(&self) -> &Namespace {
        &self.namespaces[0]
    }

    /// The namespace of a host or of the router.
    pub fn namespace(&self, host: &str) -> Option<&Namespace> {
        self.namespaces
            .iter()
            .find(|namespace| namespace.host == host)
    }

    /// All namespaces.
    pub fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// Takes a host's link away or brings it back, see [`topology::set_link`].
    pub fn set_link(&self, host: &str, cut: Cut) -> Result<(), LabError> {
        let index = self.index(host)?;
        let namespace = &self.hosts()[index];
        namespace
            .run(|| {
                let netlink = Netlink::start(host)?;
                let handle = netlink.connect(host)?;
                netlink
                    .wait(topology::set_link(Position::new(index), cut, &handle))
                    .map_err(|error| LabError::new(host, "change its link", error, ""))
            })
            .map_err(|error| LabError::new(host, "enter its namespace", error, ""))?
    }

    fn index(&self, host: &str) -> Result<usize, LabError> {
        let mut hosts = self.hosts().iter();
        let index = hosts.position(|known| known.host == host);
        index.ok_or_else(|| LabError::new(host, "find it", io::ErrorKind::NotFound.into(), ""))
    }

    /// The place of a host in the topology.
    pub fn position(&self, host: &str) -> Result<Position, LabError> {
        self.index(host).map(Position::new)
    }

    /// Impairs the direction towards a host otherwise from now on.
    pub fn change_link(&self, host: &str, impairment: &Impairment) -> Result<(), LabError> {
        let index = self.index(host)?;
        let position = Position::new(index);
        let mut impairment = impairment.clone();
        impairment.seed = spread_seed(impairment.seed, self.run, index as u64);
        let change = |error| LabError::new(host, "change its link", error, "");
        if let Some(relay) = &self.relay {
            let by_relay = match self.link {
                Link::Netem => impairment.only_drops(),
                _ => impairment.clone(),
            };
            relay.change(host, by_relay).map_err(change)?;
        }
        let by_relay = self.relay.as_ref().is_some_and(|relay| relay.carries(host));
        let enter = |error| LabError::new("router", "enter its namespace", error, "");
        let in_router = || {
            let netlink = Netlink::start("router")?;
            let handle = netlink.connect("router")?;
            if self.link == Link::Netem {
                let index = position.router_index();
                let changed = topology::change_netem(&handle, index, &impairment);
                netlink.wait(changed).map_err(change)?;
            }
            let set = topology::set_mtu(position, by_relay, impairment.mtu, &handle);
            netlink.wait(set).map_err(change)
        };
        self.router().run(in_router).map_err(enter)?
    }

    /// Destroys the sockets that the actors left: orphans would hold their
    /// namespace and count for the whole kernel for minutes.
    pub fn clear_sockets(&self) -> Result<(), LabError> {
        self.namespaces.iter().try_for_each(|namespace| {
            namespace
                .run(destroy::clear)
                .and_then(|cleared| cleared)
                .map(|_| ())
                // Without CONFIG_INET_DIAG_DESTROY they go when they time out.
                .or_else(|error| match error.raw_os_error() {
                    Some(libc::EOPNOTSUPP) => Ok(()),
                    _ => Err(error),
                })
                .map_err(|error| LabError::new(&namespace.host, "clear its sockets", error, ""))
        })
    }

    /// Stops the relay, if there is one, and returns its counts.
    pub fn stop_relay(&mut self) -> Result<Vec<WireCounts>, LabError> {
        match self.relay.take() {
            None => Ok(Vec::new()),
            Some(relay) => relay
                .stop()
                .map_err(|error| LabError::new("router", "relay", io::Error::other(error), "")),
        }
    }
}

/// The state of a topology that is being built, on the builder's thread.
struct Builder<'a> {
    topology: &'a Topology<'a>,
    link: Link,
    run: u64,
    netlink: Netlink,
    namespaces: Vec<Namespace>,
    handles: Vec<Handle>,
}

impl<'a> Builder<'a> {
    fn new(topology: &'a Topology<'a>, link: Link, run: u64) -> Result<Self, LabError> {
        Ok(Self {
            topology,
            link,
            run,
            netlink: Netlink::start("lab")?,
            namespaces: Vec::new(),
            handles: Vec::new(),
        })
    }

    fn build(mut self) -> Result<Lab, LabError> {
        for host in self.topology.hosts {
            self.add_namespace(host)?;
        }
        // The router comes last so that the thread is in its namespace while
        // it makes the pairs and the relay's sockets.
        self.add_namespace("router")?;
        let is_silent = self.silence_router();
        self.topology
            .middlebox
            .iter()
            .try_for_each(middlebox::start)?;
        self.namespaces.rotate_right(1);
        self.handles.rotate_right(1);
        let router_offload = self.join_hosts()?;
        let whole = self
            .topology
            .hosts
            .iter()
            .filter(|_| !self.topology.offload);
        for (host, namespace) in whole.zip(&self.namespaces[1..]) {
            namespace
                .run(|| Offload::open()?.switch_off("eth0"))
                .and_then(|done| done)
                .map_err(|error| LabError::new(host, "switch offloads of eth0 off", error, ""))?;
        }
        let mut wires = Vec::new();
        let mut seed_honoured = is_silent;
        for (index, host) in self.topology.hosts.iter().enumerate() {
            let Some(impairment) = self.topology.links.get(host) else {
                continue;
            };
            let mut impairment = impairment.clone();
            impairment.seed = spread_seed(impairment.seed, self.run, index as u64);
            let position = Position::new(index);
            let mtu = impairment.mtu;
            let mut by_relay = false;
            if self.link == Link::Netem {
                seed_honoured &= self.add_netem(host, position, &impairment)?;
            }
            // What packets are is looked at in one place, so that it means the same.
            let carried = match self.link {
                Link::Relay => Some(impairment),
                Link::Netem => impairment
                    .looks_at_packets()
                    .then(|| impairment.only_drops()),
                Link::None => None,
            };
            if let Some(impairment) = carried {
                wires.push(self.add_wire(host, position, impairment, &router_offload)?);
                by_relay = true;
            }
            if mtu.is_some() {
                let set = topology::set_mtu(position, by_relay, mtu, &self.handles[0]);
                let set = self.netlink.wait(set);
                set.map_err(|error| LabError::new(host, "set the MTU of its link", error, ""))?;
            }
        }
        let relay = if wires.is_empty() {
            None
        } else {
            Some(
                Relay::start(wires)
                    .map_err(|error| LabError::new("router", "start the relay", error, ""))?,
            )
        };
        Ok(Lab {
            namespaces: self.namespaces,
            relay,
            link: self.link,
            run: self.run,
            ledger: Arc::default(),
            seed_honoured,
        })
    }

    /// Has the router send nothing of its own over netem, which would give it draws and a
    /// place among the packets. Returns whether that can be had.
    fn silence_router(&self) -> bool {
        let rule = nftables::Rule::DropNeighbourDiscovery;
        self.link != Link::Netem
            || nftables::install("quiet", &[(nftables::Hook::Output, rule)]).is_ok()
    }

    /// Makes a host's namespace; the thread is in it afterwards.
    fn add_namespace(&mut self, host: &str) -> Result<(), LabError> {
        let namespace = Namespace::enter_new(host)?;
        sysctl::prepare(host)?;
        for (name, value) in self.topology.sysctls.get(host).into_iter().flatten() {
            sysctl::set(host, name, value)?;
        }
        let handle = self.netlink.connect(host)?;
        self.netlink
            .wait(topology::bring_up(&handle, topology::LOOPBACK))
            .map_err(|error| LabError::new(host, "bring lo up", error, ""))?;
        self.namespaces.push(namespace);
        self.handles.push(handle);
        Ok(())
    }

    fn join_hosts(&self) -> Result<Offload, LabError> {
        let offload = Offload::open()
            .map_err(|error| LabError::new("router", "open a socket for ethtool", error, ""))?;
        for (index, host) in self.topology.hosts.iter().enumerate() {
            let inside = self.namespaces[index + 1].as_fd().as_raw_fd();
            self.netlink
                .wait(topology::join(
                    host,
                    Position::new(index),
                    inside,
                    &self.handles[0],
                    &self.handles[index + 1],
                ))
                .map_err(|error| LabError::new(host, "join it to the router", error, ""))?;
            if !self.topology.offload {
                switch_off(&offload, &topology::router_device(host))?;
            }
        }
        Ok(offload)
    }

    /// Puts netem on the router's device and reads it back. Returns whether the
    /// kernel took the seed.
    fn add_netem(
        &self,
        host: &str,
        position: Position,
        impairment: &Impairment,
    ) -> Result<bool, LabError> {
        let device = topology::router_device(host);
        let index = position.router_index();
        let router = &self.handles[0];
        self.netlink
            .wait(topology::add_netem(router, index, impairment))
            .map_err(|error| {
                LabError::new(
                    "router",
                    &format!("add netem to {device}"),
                    error,
                    "ENOENT: this kernel has no sch_netem; run with --link relay",
                )
            })?;
        let read_back =
            |error| LabError::new("router", &format!("read netem of {device} back"), error, "");
        let options = self
            .netlink
            .wait(topology::netem_options(router, index))
            .and_then(|options| options.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT)))
            .map_err(read_back)?;
        let installed =
            netem::decode(&options).map_err(|error| read_back(io::Error::other(error)))?;
        if let Some(difference) = installed.differs_from(impairment) {
            return Err(read_back(io::Error::other(format!(
                "the kernel installed something else: {difference}"
            ))));
        }
        Ok(installed.honours_seed_of(impairment))
    }

    fn add_wire(
        &self,
        host: &str,
        position: Position,
        impairment: Impairment,
        offload: &Offload,
    ) -> Result<Wire, LabError> {
        self.netlink
            .wait(topology::detour(host, position, &self.handles[0]))
            .map_err(|error| LabError::new(host, "lead its traffic to the relay", error, ""))?;
        for device in [topology::detour_device(host), topology::relay_device(host)] {
            switch_off(offload, &device)?;
        }
        let open = |index, what: &str, open: fn(u32) -> io::Result<_>| {
            open(index).map_err(|error| {
                LabError::new(
                    "router",
                    &format!("open the relay's {what} socket"),
                    error,
                    "",
                )
            })
        };
        Ok(Wire {
            towards: host.to_owned(),
            receive: open(position.relay_index(), "receiving", relay::receive_socket)?,
            send: open(position.router_index(), "sending", relay::send_socket)?,
            impairment,
        })
    }
}

fn switch_off(offload: &Offload, device: &str) -> Result<(), LabError> {
    offload.switch_off(device).map_err(|error| {
        LabError::new(
            "router",
            &format!("switch offloads of {device} off"),
            error,
            "",
        )
    })
}

/// Runs `work` on a thread of its own, because it changes the thread's network
/// namespace.
fn on_own_thread<T: Send>(
    name: &str,
    work: impl FnOnce() -> Result<T, LabError> + Send,
) -> Result<T, LabError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, work)
            .map_err(|error| LabError::new("kernel", "start a thread", error, ""))?
            .join()
            .unwrap_or_else(|_| {
                let panic = io::Error::other("its thread panicked");
                Err(LabError::new(
                    "kernel",
                    &format!("run the {name}"),
                    panic,
                    "",
                ))
            })
    })
}

/// Builds a small topology with an impaired link and takes it down again, to
/// see whether this machine can.
pub fn probe() -> Result<(), LabError> {
    let hosts = ["client".to_owned()];
    let impairment = Impairment {
        delay: Duration::from_millis(1),
        ..Impairment::none()
    };
    let topology = Topology {
        hosts: &hosts,
        links: &BTreeMap::from([(hosts[0].clone(), impairment)]),
        sysctls: &BTreeMap::new(),
        offload: false,
        middlebox: None,
    };
    Lab::build(&topology, Link::Relay, 0)?.stop_relay()?;
    Ok(())
}

/// The pinned sysctls as a host of a lab has them; empty if no namespace can be
/// made.
pub fn pinned_sysctls() -> BTreeMap<String, String> {
    on_own_thread("lab", || {
        let _namespace = Namespace::enter_new("probe")?;
        sysctl::prepare("probe")?;
        Ok(sysctl::read_pinned())
    })
    .unwrap_or_default()
}
