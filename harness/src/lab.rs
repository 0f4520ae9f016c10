//! A topology made real: namespaces, veth pairs, impaired links, sysctls.
//!
//! Imports suite and the ground (descriptor).

pub mod datagrams;
pub mod destroy;
pub mod kernel_log;
pub mod namespace;
pub mod netem;
mod netlink;
pub mod offload;
pub mod relay;
pub mod sysctl;
pub mod topology;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;

use advisor_report::Link;
use rtnetlink::Handle;
use serde::{Deserialize, Serialize};

use crate::suite::errno::errno_name;
use crate::suite::impairment::{Impairment, spread_seed};
use crate::suite::scenario::Scenario;
use namespace::Namespace;
use netlink::Netlink;
use offload::Offload;
use relay::{Relay, Wire, WireCounts};
use topology::Position;

/// Something that the lab could not do, on which host, in the kernel's words.
#[derive(Debug)]
pub struct LabError {
    /// The host of the suite, or `kernel`.
    pub host: String,
    /// What could not be done: `add netem to r-server`.
    pub action: String,
    /// The kernel's words.
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
            Some(number) => write!(f, "{}", errno_name(number)),
            None => write!(f, "{}", self.source),
        }
    }
}

impl std::error::Error for LabError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What is to carry impaired links.
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
    /// What carries a scenario's links with this choice on this kernel.
    pub fn link(self, scenario: &Scenario) -> Link {
        match self {
            _ if !scenario.is_impaired() => Link::None,
            _ if scenario.needs_netem => Link::Netem,
            Self::Netem => Link::Netem,
            Self::Auto if kernel_has_netem() => Link::Netem,
            Self::Relay | Self::Auto => Link::Relay,
        }
    }
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

/// A topology that is up.
#[derive(Debug)]
pub struct Lab {
    /// The router first, then the hosts in the order of the suite.
    namespaces: Vec<Namespace>,
    relay: Option<Relay>,
    /// Whether netem took the seed; kernels before 6.6 ignore it.
    pub seed_honoured: bool,
}

impl Lab {
    /// Builds a scenario's topology; each link's draws depend on its own seed,
    /// its direction and the number of the run.
    pub fn build(scenario: &Scenario, link: Link, run: u64) -> Result<Self, LabError> {
        on_own_thread("lab", || Builder::new(scenario, link, run)?.build())
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
    pub fn set_link(&self, host: &str, up: bool) -> Result<(), LabError> {
        let Some(index) = self.hosts().iter().position(|known| known.host == host) else {
            return Err(LabError::new(
                host,
                "find it",
                io::ErrorKind::NotFound.into(),
                "",
            ));
        };
        let namespace = &self.hosts()[index];
        namespace
            .run(|| {
                let netlink = Netlink::start(host)?;
                let handle = netlink.connect(host)?;
                netlink
                    .wait(topology::set_link(Position::new(index), up, &handle))
                    .map_err(|error| LabError::new(host, "change its link", error, ""))
            })
            .map_err(|error| LabError::new(host, "enter its namespace", error, ""))?
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

    /// Stops the relay, where there is one, and says what it did.
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
    scenario: &'a Scenario,
    link: Link,
    run: u64,
    netlink: Netlink,
    namespaces: Vec<Namespace>,
    handles: Vec<Handle>,
}

impl<'a> Builder<'a> {
    fn new(scenario: &'a Scenario, link: Link, run: u64) -> Result<Self, LabError> {
        Ok(Self {
            scenario,
            link,
            run,
            netlink: Netlink::start("lab")?,
            namespaces: Vec::new(),
            handles: Vec::new(),
        })
    }

    fn build(mut self) -> Result<Lab, LabError> {
        for host in &self.scenario.hosts {
            self.add_namespace(host)?;
        }
        // The router comes last so that the thread is in its namespace while
        // it makes the pairs and the relay's sockets.
        self.add_namespace("router")?;
        self.namespaces.rotate_right(1);
        self.handles.rotate_right(1);
        let router_offload = self.join_hosts()?;
        for (host, namespace) in self.scenario.hosts.iter().zip(&self.namespaces[1..]) {
            namespace
                .run(|| Offload::open()?.switch_off("eth0"))
                .and_then(|done| done)
                .map_err(|error| LabError::new(host, "switch offloads of eth0 off", error, ""))?;
        }
        let mut wires = Vec::new();
        let mut seed_honoured = true;
        for (index, host) in self.scenario.hosts.iter().enumerate() {
            let Some(impairment) = self.scenario.links.get(host) else {
                continue;
            };
            let mut impairment = impairment.clone();
            impairment.seed = spread_seed(impairment.seed, self.run, index as u64);
            let position = Position::new(index);
            match self.link {
                Link::Netem => {
                    seed_honoured &= self.add_netem(host, position, &impairment)?;
                }
                Link::Relay => {
                    wires.push(self.add_wire(host, position, impairment, &router_offload)?);
                }
                Link::None => {}
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
            seed_honoured,
        })
    }

    /// Makes a host's namespace; the thread is in it afterwards.
    fn add_namespace(&mut self, host: &str) -> Result<(), LabError> {
        let namespace = Namespace::enter_new(host)?;
        sysctl::prepare(host)?;
        for (name, value) in self.scenario.sysctls.get(host).into_iter().flatten() {
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
        for (index, host) in self.scenario.hosts.iter().enumerate() {
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
            switch_off(&offload, &topology::router_device(host))?;
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
    const SUITE: &str = "
scenarios:
  - name: probe
    explains: probe
    source: probe
    link: { delay: 1ms }
    actors: { a: { on: client, steps: [socket] } }
    expect: { a.socket.error: { always: none } }
";
    let broken = |error| {
        LabError::new(
            "kernel",
            "read the probe's suite",
            io::Error::other(error),
            "",
        )
    };
    let scenarios = crate::suite::parse(SUITE, "doctor/probe").map_err(broken)?;
    for scenario in &scenarios {
        Lab::build(scenario, Link::Relay, 0)?.stop_relay()?;
    }
    Ok(())
}

/// The pinned sysctls as a host of a lab has them; empty where no namespace
/// can be made.
pub fn pinned_sysctls() -> BTreeMap<String, String> {
    on_own_thread("lab", || {
        let _namespace = Namespace::enter_new("probe")?;
        sysctl::prepare("probe")?;
        Ok(sysctl::read_pinned())
    })
    .unwrap_or_default()
}
