//! The relay does to real packets what was asked, to the packet.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use advisor_report::Link;
use harness::impairment::Probability;
use harness::lab::Lab;
use harness::lab::relay::WireCounts;
use harness::lab::relay::queue::Counts;
use harness::suite::scenario::Scenario;

use super::machine;
use super::patience::HANG;
use super::prediction::Prediction;
use super::traffic::{Arrival, Traffic, dropped, numbers};

/// A scenario whose links are as given, for its topology only.
pub fn scenario(links: &str) -> Scenario {
    let text = format!(
        "
scenarios:
  - name: topology
    explains: nothing
    source: none
    {links}
    actors: {{ a: {{ on: client, steps: [socket] }} }}
    expect: {{ a.socket.error: {{ always: none }} }}
"
    );
    harness::suite::parse(&text, "live/topology")
        .unwrap()
        .remove(0)
}

/// From where, to where, how many datagrams to send and to wait for.
type Direction<'a> = (&'a str, &'a str, u32, usize);

/// What became of datagrams.
struct Measured {
    /// In the order of the directions.
    arrivals: Vec<Vec<Arrival>>,
    counts: Vec<WireCounts>,
}

impl Measured {
    fn counts_towards(&self, host: &str) -> &WireCounts {
        self.counts
            .iter()
            .find(|wire| wire.towards == host)
            .unwrap()
    }
}

/// How often a measurement is made again that something else disturbed.
const ATTEMPTS: usize = 10;

/// Sends datagrams in one direction after the other.
fn measure(scenario: &Scenario, run: u64, directions: &[Direction]) -> Measured {
    for _ in 0..ATTEMPTS {
        let mut lab = Lab::build(&scenario.topology(), Link::Relay, run).unwrap();
        let before = dropped(&lab);
        let poured: Vec<(Traffic, Vec<Arrival>)> = directions
            .iter()
            .map(|(from, to, sent, expected)| {
                let traffic = Traffic::open(scenario, &lab, from, to);
                let arrivals = traffic.pour(&lab, *sent, *expected);
                (traffic, arrivals)
            })
            .collect();
        let counts = lab.stop_relay().unwrap();
        if dropped(&lab) > before || counts.iter().any(|wire| wire.overrun > 0) {
            continue;
        }
        let arrivals = poured.into_iter().map(|(traffic, mut arrivals)| {
            arrivals.extend(traffic.rest());
            arrivals
        });
        return Measured {
            arrivals: arrivals.collect(),
            counts,
        };
    }
    panic!("the lab lost packets of its own in each of {ATTEMPTS} attempts");
}

/// Pours datagrams over a link in both directions, holds what arrives against
/// the prediction, and returns what arrived at the server and at the client.
fn arrivals(link: &str, run: u64) -> [Vec<u32>; 2] {
    let scenario = scenario(&format!("link: {link}"));
    let predict = |to| Prediction::new(&scenario, to, run, 2000);
    let predictions = [predict("server"), predict("client")];
    let [there, back] = predictions
        .each_ref()
        .map(|one| (one.sent, one.arrive.len()));
    let directions = [
        ("client", "server", there.0, there.1),
        ("server", "client", back.0, back.1),
    ];
    let measured = measure(&scenario, run, &directions);
    for ((_, to, ..), (arrivals, prediction)) in directions
        .iter()
        .zip(measured.arrivals.iter().zip(&predictions))
    {
        let counts = measured.counts_towards(to);
        assert_eq!(numbers(arrivals), prediction.arrive, "{link}: {counts:?}");
        assert_eq!(counts.link_down, 0, "{counts:?}");
        // Corrupted ones, for which nobody waits, may still be on their way.
        let left = Counts {
            sent: counts.impairment.sent + counts.held,
            ..counts.impairment
        };
        assert_eq!(left, prediction.counts, "{link}");
        let asked = &scenario.links[*to];
        let least = asked.delay.saturating_sub(asked.jitter);
        let early = arrivals
            .iter()
            .filter(|arrival| arrival.waited() < least)
            .count() as u64;
        // Those that go first have no delay; no other comes early.
        assert!(
            early <= counts.impairment.reordered,
            "{link}: {early} early"
        );
    }
    predictions.map(|prediction| prediction.arrive)
}

#[test]
fn a_link_that_only_passes_on_loses_nothing() {
    let _machine = machine::shared();
    let all: Vec<u32> = (0..2000).collect();
    assert_eq!(arrivals("{ limit: 1000 }", 0), [all.clone(), all]);
}

#[test]
fn a_seed_decides_which_datagrams_are_lost() {
    let _machine = machine::shared();
    let first = arrivals("{ loss: 10%, seed: 42 }", 0);
    assert_ne!(first[0], first[1], "each direction draws for itself");
    assert_eq!(
        arrivals("{ loss: 10%, seed: 42 }", 0),
        first,
        "the same once more"
    );
    assert_ne!(
        arrivals("{ loss: 10%, seed: 42 }", 1)[0],
        first[0],
        "another run"
    );
    assert_ne!(
        arrivals("{ loss: 10%, seed: 43 }", 0)[0],
        first[0],
        "another seed"
    );
}

#[test]
fn losses_in_bursts_are_as_drawn() {
    let _machine = machine::shared();
    let states = "{ p: 1%, r: 10%, bad_loss: 70%, good_loss: 0.1% }";
    let [server, _] = arrivals(&format!("{{ gilbert_elliott: {states}, seed: 1 }}"), 0);
    assert!(server.len() < 2000);
}

#[test]
fn duplicates_are_as_drawn() {
    let _machine = machine::shared();
    let [server, _] = arrivals("{ duplicate: 20%, loss: 5%, seed: 1 }", 0);
    assert!(server.windows(2).any(|pair| pair[0] == pair[1]));
}

#[test]
fn corrupted_datagrams_are_as_drawn() {
    let _machine = machine::shared();
    let [server, _] = arrivals("{ corrupt: 30%, seed: 1 }", 0);
    assert!(server.len() < 2000);
}

/// One draw out of its order would shift all that come after it.
#[test]
fn all_kinds_of_draws_are_made_in_their_order() {
    let _machine = machine::shared();
    arrivals(
        "{ duplicate: 10%, loss: 10%, corrupt: 10%, reorder: 25%, gap: 3, \
           delay: 5ms, jitter: 2ms, limit: 100000, seed: 7 }",
        3,
    );
}

#[test]
fn nothing_is_early() {
    let _machine = machine::shared();
    arrivals("{ delay: 10ms, limit: 100000 }", 0);
    arrivals("{ delay: 10ms, jitter: 3ms, limit: 100000 }", 0);
    arrivals("{ delay: 2ms, loss: 5%, limit: 100000 }", 0);
}

#[test]
fn a_rate_is_never_exceeded() {
    let _machine = machine::shared();
    // 1 ms for each frame of 14 + 20 + 8 + 1000 bytes.
    let scenario = scenario("links: { server: { rate: 8336kbit } }");
    let measured = measure(&scenario, 0, &[("client", "server", 200, 200)]);
    let arrivals = &measured.arrivals[0];
    assert_eq!(arrivals.len(), 200);
    for (frames, arrival) in (1..).zip(arrivals) {
        let least = arrivals[0].sent + frames * Duration::from_millis(1);
        assert!(arrival.received >= least, "{frames}: {arrival:?}");
    }
    assert_eq!(measured.counts[0].impairment.sent, 200);
}

#[test]
fn the_limit_counts_delayed_packets_exactly() {
    let _machine = machine::shared();
    // So long a delay that nothing leaves while all are sent.
    let scenario = scenario("links: { server: { delay: 3s, limit: 50 } }");
    let measured = measure(&scenario, 0, &[("client", "server", 80, 50)]);
    assert_eq!(numbers(&measured.arrivals[0]), (0..50).collect::<Vec<_>>());
    let counts = measured.counts[0].impairment;
    assert_eq!(
        (counts.received, counts.over_limit, counts.sent),
        (80, 30, 50)
    );
}

#[test]
fn each_direction_can_be_impaired_by_itself() {
    let _machine = machine::shared();
    for (impaired, other) in [("client", "server"), ("server", "client")] {
        let links = format!("links: {{ {impaired}: {{ loss: 20%, seed: 5 }} }}");
        let scenario = scenario(&links);
        let prediction = Prediction::new(&scenario, impaired, 0, 1000);
        assert!(prediction.counts.lost > 0);
        let directions = [
            (other, impaired, prediction.sent, prediction.arrive.len()),
            (impaired, other, 1000, 1000),
        ];
        let measured = measure(&scenario, 0, &directions);
        assert_eq!(
            numbers(&measured.arrivals[0]),
            prediction.arrive,
            "{impaired}"
        );
        assert_eq!(
            numbers(&measured.arrivals[1]),
            (0..1000).collect::<Vec<_>>(),
            "{other}"
        );
        assert_eq!(measured.counts.len(), 1, "{:?}", measured.counts);
        assert_eq!(
            measured.counts_towards(impaired).impairment,
            prediction.counts
        );
    }
}

#[test]
fn every_host_of_many_has_a_link_of_its_own() {
    let _machine = machine::shared();
    let scenario = scenario(
        "hosts: [client, server, witness]
    links: { server: { loss: 20%, seed: 5 }, witness: { loss: 20%, seed: 5 } }",
    );
    let hosts = ["server", "witness"];
    let predictions = hosts.map(|to| Prediction::new(&scenario, to, 0, 1000));
    let directions: Vec<Direction> = hosts
        .iter()
        .zip(&predictions)
        .map(|(to, prediction)| ("client", *to, prediction.sent, prediction.arrive.len()))
        .collect();
    let measured = measure(&scenario, 0, &directions);
    assert_eq!(measured.counts.len(), 2);
    let arrived = measured.arrivals.iter().map(|arrivals| numbers(arrivals));
    assert!(arrived.eq(predictions.each_ref().map(|one| one.arrive.clone())));
    assert_ne!(predictions[0].arrive, predictions[1].arrive);
}

#[test]
fn tcp_carries_everything_over_a_bad_link() {
    let _machine = machine::shared();
    for family in ["ipv4", "ipv6"] {
        let scenario = scenario(&format!(
            "family: {family}
    link: {{ loss: 2%, duplicate: 2%, corrupt: 1%, reorder: 10%, delay: 1ms, jitter: 500us }}"
        ));
        assert_ne!(scenario.links["server"].corrupt, Probability::NEVER);
        let mut lab = Lab::build(&scenario.topology(), Link::Relay, 0).unwrap();
        let sent: Vec<u8> = (0..500_000_u32)
            .map(|number| number.to_be_bytes()[3])
            .collect();
        let any = SocketAddr::new(scenario.address_of("server"), 0);
        let server = lab.namespace("server").unwrap();
        let listener = server.run(|| TcpListener::bind(any)).unwrap().unwrap();
        let to = listener.local_addr().unwrap();
        let client = lab.namespace("client").unwrap();
        let mut writer = client
            .run(|| TcpStream::connect_timeout(&to, HANG))
            .unwrap()
            .unwrap();
        let mut received = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.set_write_timeout(Some(HANG)).unwrap();
                writer.write_all(&sent).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let (mut reader, _) = listener.accept().unwrap();
            reader.set_read_timeout(Some(HANG)).unwrap();
            reader.read_to_end(&mut received).unwrap();
        });
        assert!(
            received == sent,
            "{family}: {} bytes arrived",
            received.len()
        );
        for counts in lab.stop_relay().unwrap() {
            assert_eq!(counts.overrun, 0, "{counts:?}");
        }
    }
}
