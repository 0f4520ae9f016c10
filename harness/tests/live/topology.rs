//! A topology is what it is said to be, is left by no trace, and a link that is
//! down is silent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use advisor_report::Link;
use harness::lab::Lab;
use harness::lab::address::{Family, address};
use harness::lab::relay::receive_socket;
use harness::lab::topology::Position;
use harness::suite::scenario::Scenario;
use nix::sys::socket::{MsgFlags, recv};

use super::machine;
use super::netns::Netns;
use super::patience::{HANG, until};
use super::program::{Running, suite};
use super::relay::scenario;
use super::traffic::{Traffic, dropped, numbers};
use harness::lab::topology::Cut;

/// The whole link.
const BOTH: Cut = Cut {
    towards: true,
    from: true,
    at_device: false,
};

fn build(scenario: &Scenario) -> Lab {
    Lab::build(&scenario.topology(), Link::Relay, 0).unwrap()
}

/// A connection between two hosts: the ends of `from` and of `to`.
fn connect(lab: &Lab, from: &str, to: &str, address: SocketAddr) -> (TcpStream, TcpStream) {
    let run = |host| lab.namespace(host).unwrap();
    let listener = run(to).run(|| TcpListener::bind(address)).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let client = run(from).run(|| TcpStream::connect_timeout(&address, HANG));
    let client = client
        .unwrap()
        .unwrap_or_else(|error| panic!("{from} to {address}: {error}"));
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream.set_write_timeout(Some(HANG)).unwrap();
    }
    (client, server)
}

#[test]
fn every_host_reaches_every_other_in_both_families() {
    let _machine = machine::shared();
    for links in ["", "link: { delay: 100us }"] {
        let scenario = scenario(&format!("hosts: [client, server, witness]\n    {links}"));
        let lab = build(&scenario);
        let hosts = ["client", "server", "witness"];
        assert!(lab.hosts().iter().map(|host| host.host.as_str()).eq(hosts));
        for from in hosts {
            for (number, to) in (1..).zip(hosts) {
                for family in [Family::V4, Family::V6] {
                    let address = SocketAddr::new(address(number, 2, family), 7000);
                    let (mut client, mut server) = connect(&lab, from, to, address);
                    client.write_all(b"there").unwrap();
                    let mut there = [0; 5];
                    server.read_exact(&mut there).unwrap();
                    server.write_all(&there).unwrap();
                    client.read_exact(&mut there).unwrap();
                    assert_eq!(&there, b"there");
                }
            }
        }
    }
}

#[test]
fn a_packet_is_a_packet() {
    let _machine = machine::shared();
    for links in ["", "link: { limit: 100000 }"] {
        let lab = build(&scenario(links));
        // What comes from the client to the router: before any relay.
        let index = Position::new(0).router_index();
        let tap = lab.router().run(|| receive_socket(index)).unwrap().unwrap();
        let address = SocketAddr::new(address(2, 2, Family::V4), 7000);
        let (mut client, mut server) = connect(&lab, "client", "server", address);
        let mut received = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                client.write_all(&vec![7; 1_000_000]).unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
            });
            server.read_to_end(&mut received).unwrap();
        });
        assert_eq!(received.len(), 1_000_000);
        let mut frame = vec![0; 1 << 17];
        let lengths: Vec<usize> =
            std::iter::from_fn(|| recv(tap.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT).ok())
                .collect();
        assert!(lengths.len() > 600, "{} frames", lengths.len());
        assert_eq!(lengths.iter().max(), Some(&1514));
    }
}

#[test]
fn namespaces_have_no_name() {
    let _machine = machine::shared();
    let lab = build(&scenario("link: { delay: 1ms }"));
    for namespace in lab.namespaces() {
        let namespace = Netns::of_host(namespace);
        // A process that another test starts has it until its exec.
        until("nothing but this test holds it", || {
            namespace.references().is_empty().then_some(())
        });
        let named = Path::new("/run/netns")
            .read_dir()
            .into_iter()
            .flatten()
            .flatten();
        for name in named {
            use std::os::unix::fs::MetadataExt;
            assert_ne!(
                name.metadata().unwrap().ino(),
                namespace.number(),
                "{name:?}"
            );
        }
    }
}

#[test]
fn a_topology_that_is_dropped_is_gone() {
    let _machine = machine::shared();
    for links in ["", "link: { delay: 1ms }"] {
        let lab = build(&scenario(links));
        let router = Netns::of_host(lab.router());
        let client = Netns::of_host(lab.namespace("client").unwrap());
        assert!(router.devices().contains(&"r-server".to_owned()));
        drop(lab);
        // The router is held: its device towards the server goes with the
        // server, that towards the client stays.
        until("the server is gone", || {
            (!router.devices().contains(&"r-server".to_owned())).then_some(())
        });
        assert!(router.devices().contains(&"r-client".to_owned()));
        drop(router);
        until("the router is gone", || {
            (client.devices() == ["lo"]).then_some(())
        });
    }
}

const HANGS: &str = r#"
scenarios:
  - name: hangs
    explains: nothing
    source: none
    link: { delay: 1ms }
    time_limit: 10min
    actors:
      reader: { on: server, steps: [{ listen: 7000 }, accept, { read: 1 }] }
      writer: { on: client, steps: [{ await: reader.listen }, { connect: "server:7000" }, { read: 1 }] }
      passer: { on: router, steps: [{ listen: 7000 }, accept] }
    expect: { writer.read.error: { always: none } }
"#;

#[test]
fn nothing_is_left_of_a_harness_that_is_killed() {
    let _machine = machine::shared();
    let suite = suite(HANGS);
    let mut harness = Running::start(["run".as_ref(), suite.path().as_os_str()]);
    let actors = until("the actors run", || {
        Some(harness.children("actor")).filter(|actors| actors.len() == 3)
    });
    let initial = Netns::initial().number();
    let namespaces = until("each actor is in its namespace", || {
        let namespaces: Vec<Netns> = actors.iter().map(|pid| Netns::of_process(*pid)).collect();
        namespaces
            .iter()
            .all(|namespace| namespace.number() != initial)
            .then_some(namespaces)
    });
    assert!(
        namespaces
            .iter()
            .all(|namespace| namespace.devices().len() > 1)
    );
    harness.kill();
    until("its actors are gone", || {
        actors
            .iter()
            .all(|pid| !Running::is_harness(*pid))
            .then_some(())
    });
    until("no process holds its namespaces", || {
        namespaces
            .iter()
            .all(|namespace| namespace.references().is_empty())
            .then_some(())
    });
    // Each is kept by this test alone. As one is let go, the devices of the
    // others go that led to it.
    let (hosts, router): (Vec<Netns>, Vec<Netns>) = namespaces
        .into_iter()
        .partition(|namespace| namespace.devices().len() == 2);
    assert_eq!((hosts.len(), router.len()), (2, 1));
    drop(router);
    for host in hosts {
        until("the router is gone", || {
            (host.devices() == ["lo"]).then_some(())
        });
    }
    let devices = Netns::initial().devices();
    let ours = |name: &&String| {
        ["r-", "d-", "w-"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    assert_eq!(devices.iter().find(ours), None);
}

/// How many datagrams are sent, twice, over a link that is down.
const LOST: u32 = 10;

/// How long a silence is listened to. A packet that takes longer is missed
/// here, but is one too many when the link is up.
const SILENCE: Duration = Duration::from_millis(200);

/// Whether a few datagrams arrive, all of them, and nothing else does. Some
/// are sent again where the lab's devices drop one.
fn gets_through(lab: &Lab, traffic: &Traffic) -> bool {
    let tries = (0..10).map(|_| (dropped(lab), numbers(&traffic.pour(lab, 3, 3))));
    let undisturbed = tries
        .into_iter()
        .find(|(before, _)| dropped(lab) == *before);
    undisturbed.is_some_and(|(_, arrived)| arrived == [0, 1, 2]) && traffic.rest().is_empty()
}

#[test]
fn a_link_that_is_down_loses_in_silence() {
    let _machine = machine::shared();
    for links in ["", "family: ipv6", "link: { delay: 1ms }"] {
        let scenario = scenario(links);
        let lab = build(&scenario);
        let server = SocketAddr::new(scenario.address_of("server"), 7000);
        let (mut near, mut far) = connect(&lab, "client", "server", server);
        let there = Traffic::open(&scenario, &lab, "client", "server");
        let back = Traffic::open(&scenario, &lab, "server", "client");
        assert!(gets_through(&lab, &there));

        lab.set_link("server", BOTH).unwrap();
        for traffic in [&there, &back] {
            // Sending says nothing, not even the second time, when a socket
            // would tell of an error that the first met on its way.
            traffic.send(LOST);
            assert!(traffic.receive(1, Some(SILENCE)).is_empty());
            traffic.send(LOST);
        }
        near.write_all(b"kept").unwrap();

        lab.set_link("server", Cut::default()).unwrap();
        for traffic in [&there, &back] {
            assert!(gets_through(&lab, traffic), "{links}");
        }
        // TCP sends it again.
        let mut kept = [0; 4];
        far.read_exact(&mut kept).unwrap();
        assert_eq!(&kept, b"kept");
    }
}

#[test]
fn only_a_host_has_a_link() {
    let _machine = machine::shared();
    let lab = build(&scenario(""));
    for nobody in ["router", "witness"] {
        let error = lab.set_link(nobody, BOTH).unwrap_err();
        assert!(error.to_string().starts_with(nobody), "{error}");
    }
}
