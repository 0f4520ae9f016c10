//! From facts to a suite in the host's condition, and from advice to the change that is
//! tried. Nothing is run here: `tests/guests` does that.

use std::time::Duration;

use advisor::plan;
use advisor_facts::condition::Condition;
use advisor_facts::sockets::SocketSource;
use advisor_facts::{Facts, Root};
use harness::prove::remedy;
use harness::reproduce::likeness::Likeness;
use harness::reproduce::population::{Population, Way};
use harness::reproduce::queue::Fills;
use harness::reproduce::trial::{Arm, Change, Remedy, Trial};
use harness::reproduce::{Impossible, Reproduction};
use invented::Kind;

#[allow(dead_code, reason = "the documents need the rest")]
mod invented;

const RELEASE: &str = "6.12.48";
const MARKS: &[(&str, &str)] = &[("net.ipv4.tcp_mem", "15000 18000 27000")];

fn reproduction(facts: &Facts) -> Reproduction {
    Reproduction::of(facts, facts, RELEASE).unwrap()
}

fn with(kind: Kind, count: u32, held: u64) -> Facts {
    let mut facts = invented::host(MARKS);
    invented::add(&mut facts, kind, count, held);
    facts
}

/// What a raise of tcp_mem for such a host is put off by.
fn postpones(facts: &Facts) -> Option<String> {
    let raise = invented::advice(
        facts,
        "LB402",
        "net.ipv4.tcp_mem",
        "15000 18000 27000",
        "40000 53000 80000",
    );
    let claim = &raise.recommendations[0].claim;
    remedy::of(claim, facts, &reproduction(facts))
        .unwrap()
        .postpones
        .pop()
        .map(|postponed| postponed.why)
}

#[test]
fn a_population_is_told_apart_as_the_advisor_does() {
    for (kind, condition) in [
        (Kind::Dead, Condition::Dead),
        (Kind::ZeroWindow, Condition::ZeroWindow),
        (Kind::OrphanDead, Condition::OrphanDead),
        (Kind::OrphanZeroWindow, Condition::OrphanZeroWindow),
        (Kind::Unread, Condition::Unread),
        (Kind::CloseWait, Condition::ClosedByPeer),
        (Kind::HalfClosed, Condition::HalfClosed),
    ] {
        let population = Population::of(&with(kind, 50, 100_000)).unwrap();
        let [class] = &population.classes[..] else {
            panic!("{kind:?}: {population:?}");
        };
        assert_eq!((class.condition, class.count()), (condition, 50));
        assert_eq!(class.way, Way::Inbound(443));
        assert_eq!(class.holder.is_some(), !condition.is_orphan(), "{kind:?}");
    }
}

#[test]
fn every_case_is_a_suite_that_reads_in_every_arm() {
    for case in invented::cases() {
        let reproduction = reproduction(&case.facts);
        let text = reproduction.suite();
        Reproduction::scenario(&text)
            .unwrap_or_else(|error| panic!("{}: {error}\n{text}", case.name));
        let claim = &case.advised.recommendations[0].claim;
        let tried = match remedy::of(claim, &case.facts, &reproduction) {
            Ok(tried) => tried,
            Err(why) => {
                assert!(!case.is_right, "{}: {why}", case.name);
                continue;
            }
        };
        for arm in [Arm::Before, Arm::After, Arm::Without] {
            for seed in [0, 3] {
                let trial = Trial {
                    arm,
                    changes: tried.changes.clone(),
                    offending: tried.offending.clone(),
                    other_kernel_settings: Vec::new(),
                };
                let text = reproduction.with_seed(seed).arm(&trial);
                Reproduction::scenario(&text)
                    .unwrap_or_else(|error| panic!("{}: {arm:?}: {error}\n{text}", case.name));
            }
        }
    }
}

#[test]
fn the_arms_differ_in_the_change_alone() {
    let facts = with(Kind::Dead, 50, 100_000);
    let reproduction = reproduction(&facts);
    let trial = |arm| Trial {
        arm,
        changes: vec![Change::Program(
            Remedy::UserTimeout(30_000),
            &[Condition::Dead],
        )],
        offending: vec![Condition::Dead],
        other_kernel_settings: Vec::new(),
    };
    let before = reproduction.arm(&trial(Arm::Before));
    let after = reproduction.arm(&trial(Arm::After));
    let more: Vec<&str> = after
        .lines()
        .filter(|line| !before.contains(line.trim()) && !line.contains("name:"))
        .collect();
    let [line] = more[..] else {
        panic!("{more:?}");
    };
    assert!(line.contains("TCP_USER_TIMEOUT: 30000"), "{line}");
    let well = reproduction.arm(&trial(Arm::Without));
    assert!(!well.contains("dead-443"), "{well}");
}

#[test]
fn connections_are_tracked_where_the_host_forgets_them_sooner() {
    const TIMEOUT: &str = "net.netfilter.nf_conntrack_tcp_timeout_established";
    let directory = invented::recorded::directory("conntrack-forgets-idle");
    let mut facts = Facts::read(&Root::Recorded(directory.path().to_owned())).unwrap();
    let text = reproduction(&facts).suite();
    Reproduction::scenario(&text).unwrap();
    assert!(text.contains(&format!("{TIMEOUT}: \"300\"")), "{text}");
    assert!(
        text.contains("track-connections: { host: host, invalid: accept"),
        "{text}"
    );
    assert!(facts.settings.set(TIMEOUT, "432000"));
    let text = reproduction(&facts).suite();
    assert!(!text.contains("track"), "as at boot: {text}");
}

#[test]
fn an_accept_queue_is_full_at_times_or_always() {
    let queue = |facts: &Facts| reproduction(facts).queue;
    let bursts = queue(&invented::with_queue(6000, 600, 3, 20)).unwrap();
    assert_eq!((bursts.port, bursts.backlog), (443, 128));
    assert_eq!(bursts.how, Fills::AtTimes { share: 0.1 });
    assert_eq!(bursts.at_once(128), 144, "129 are nine tenths");
    let always = |accepted, refused| Fills::Always {
        accepted_a_second: Some(accepted),
        refused_a_second: Some(refused),
    };
    let too_many = invented::with_queue(600, 6000, 129, 2000);
    assert_eq!(queue(&too_many).unwrap().how, always(10.0, 100.0));
    let stuck = invented::with_queue(0, 0, 40, 30_000);
    assert_eq!(queue(&stuck).unwrap().how, always(0.0, 0.0));
    assert_eq!(queue(&invented::with_queue(6000, 0, 3, 20)), None);

    let raise = invented::advice(&too_many, "LB510", "net.core.somaxconn", "128", "4096");
    let claim = &raise.recommendations[0].claim;
    let tried = remedy::of(claim, &too_many, &reproduction(&too_many)).unwrap();
    let why = &tried.postpones[0].why;
    assert!(
        why.ends_with("at 100.0 more a second, the new queue is full after 39 s"),
        "{why}"
    );
    // So also where the queue had room for one at the moment of the look.
    let nearly = invented::with_queue(600, 6000, 128, 2000);
    assert_eq!(queue(&nearly).unwrap().how, always(10.0, 100.0));

    // A queue that was 128 long and full is as full here, where fewer wait in it.
    let text = reproduction(&too_many).suite();
    assert!(text.contains("backlog: 119"), "{text}");
    assert!(text.contains("count: 120"), "{text}");
}

#[test]
fn whoever_holds_the_memory_there_is_a_stand_in_for_the_advice() {
    for kind in [
        Kind::Dead,
        Kind::ZeroWindow,
        Kind::OrphanDead,
        Kind::OrphanZeroWindow,
        Kind::Unread,
        Kind::CloseWait,
        Kind::HalfClosed,
    ] {
        let mut facts = invented::host(MARKS);
        invented::add(&mut facts, kind, 200, 400_000);
        let advised = plan::advise(&facts, &[]).advised();
        let mut claims = advised.recommendations.iter().map(|one| &one.claim);
        let claim = claims.find(|claim| claim.code == "LB402").unwrap();
        let tried = remedy::of(claim, &facts, &reproduction(&facts))
            .unwrap_or_else(|why| panic!("{kind:?}: {why}"));
        let meant = &reproduction(&facts).population.classes[0].condition;
        assert!(tried.offending.contains(meant), "{kind:?}: {claim:?}");
    }
}

#[test]
fn a_raise_for_what_is_amiss_is_never_proven_without_a_rate() {
    for kind in [
        Kind::Dead,
        Kind::Unread,
        Kind::CloseWait,
        Kind::ZeroWindow,
        Kind::OrphanZeroWindow,
        Kind::OrphanDead,
    ] {
        let why = postpones(&with(kind, 200, 400_000)).unwrap_or_default();
        assert!(
            why.contains("nothing says how fast they come"),
            "{kind:?}: {why}"
        );
    }
}

#[test]
fn with_a_window_a_raise_says_when_the_new_limit_is_met() {
    let mut facts = with(Kind::CloseWait, 200, 400_000);
    let mut earlier = with(Kind::CloseWait, 140, 400_000).now;
    earlier.uptime = facts.now.uptime.saturating_sub(Duration::from_secs(60));
    facts.set_earlier(earlier);
    let why = postpones(&facts).unwrap();
    // (80000 pages - 80 MB) / (1 a second of 400 kB).
    assert!(
        why.starts_with("at 1.0 closed by the peer (CLOSE_WAIT) a second"),
        "{why}"
    );
    assert!(why.contains("met after 10 m"), "{why}");
    let mut earlier = facts.now.clone();
    earlier.uptime -= Duration::from_secs(60);
    facts.set_earlier(earlier);
    assert_eq!(postpones(&facts), None);
}

#[test]
fn what_cannot_be_reproduced_is_said() {
    let mut facts = invented::host(&[]);
    facts.now.sockets = None;
    let error = Reproduction::of(&facts, &facts, RELEASE).unwrap_err();
    assert_eq!(error, Impossible::NoSockets);
    // A host without connections has a suite, in which nobody is expected.
    let text = reproduction(&invented::host(&[])).suite();
    assert!(text.contains("ESTABLISHED: { always: 0 }"), "{text}");
    let mut bare = with(Kind::Dead, 20, 0);
    let table = bare.now.sockets.as_mut().unwrap();
    table.source = SocketSource::ProcNetTcp;
    for socket in &mut table.all {
        (socket.info, socket.memory) = (None, None);
    }
    let error = Reproduction::of(&bare, &bare, RELEASE).unwrap_err();
    assert!(matches!(error, Impossible::NoInfo(_)), "{error}");
}

#[test]
fn many_sockets_are_scaled_and_not_refused() {
    let facts = with(Kind::HalfClosed, 30_000, 0);
    let reproduction = reproduction(&facts);
    let class = &reproduction.population.classes[0];
    assert_eq!((class.count(), reproduction.count(class)), (30_000, 120));
    assert!(reproduction.suite().contains("30000 half-closed"));
    let set = reproduction.of_kernel();
    let mem = set.iter().find(|(name, _)| name == "net.ipv4.tcp_mem");
    assert_eq!(mem.unwrap().1, "60 72 108");
}

#[test]
fn a_guest_that_is_not_as_the_host_is_said_not_to_be() {
    let host = with(Kind::OrphanZeroWindow, 46, 400_000);
    let reproduction = reproduction(&host);
    assert!(Likeness::of(&reproduction, &host).is_alike());
    let near = with(Kind::OrphanZeroWindow, 45, 430_000);
    assert_eq!(Likeness::of(&reproduction, &near).unlike, [""; 0]);
    let few = with(Kind::OrphanZeroWindow, 12, 400_000);
    assert_eq!(
        Likeness::of(&reproduction, &few).unlike,
        ["46 orphan at a zero window wanted, 12 had"]
    );
    let light = with(Kind::OrphanZeroWindow, 46, 300_000);
    assert!(Likeness::of(&reproduction, &light).unlike[0].contains("hold less than 400000 bytes"));
    // The window closed is not the peer vanished.
    let other = with(Kind::OrphanDead, 46, 400_000);
    assert_eq!(Likeness::of(&reproduction, &other).unlike.len(), 2);
}

#[test]
fn the_arms_of_a_load_that_is_meant_end_when_the_bystanders_are_done() {
    let reproduction = reproduction(&with(Kind::Healthy, 50, 100_000));
    let text = reproduction.suite();
    assert!(text.contains("net.ipv4.tcp_min_tso_segs: \"22\""), "{text}");
    let ends = "signal: { actor: server, signal: SIGKILL, as: end-server }";
    assert!(text.trim_end().contains(ends), "{text}");
}

#[test]
fn what_a_program_bounds_does_not_postpone_a_raise_beside_it() {
    let facts = with(Kind::Dead, 200, 400_000);
    let reproduction = reproduction(&facts);
    let of = |code, setting, current, proposed| {
        let advised = invented::advice(&facts, code, setting, current, proposed);
        remedy::of(&advised.recommendations[0].claim, &facts, &reproduction).unwrap()
    };
    let raise = of(
        "LB402",
        "net.ipv4.tcp_mem",
        "15000 18000 27000",
        "40000 53000 80000",
    );
    assert_eq!(raise.postpones.len(), 1);
    let mut alone = raise.clone();
    alone.add(&raise);
    assert!(!alone.postpones.is_empty());
    let mut both = raise;
    both.add(&of("LB401", "TCP_USER_TIMEOUT", "unknown", "30000 (ms)"));
    assert_eq!(both.changes.len(), 2);
    assert_eq!(both.postpones, []);
}
