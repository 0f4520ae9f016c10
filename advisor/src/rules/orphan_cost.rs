//! What an orphan can cost, how many the memory pays for, and how many there may be: one
//! answer, so that no two rules contradict each other.

use advisor_facts::condition::Condition;
use advisor_facts::sock_diag::TcpSocket;
use advisor_facts::units::bytes;
use advisor_facts::{Facts, Look};
use advisor_report::calibration::Unsent;
use advisor_report::measured::Measured;

use super::sizing::{
    MarksFault, expected_tcp_mem, gauge_bytes, gauge_noise_pages, sound_tcp_mem, tcp_pages,
};
use super::{Confidence, Evidence, PLANNED_VALUE};

/// The counter of connections that were reset for want of memory.
pub(super) const RESETS: &str = "TcpExt.TCPAbortOnMemory";

/// What an orphan holds at worst by the kernel's documentation, in bytes
/// (ip-sysctl.rst). It is no bound: an orphan may hold a whole send buffer.
const DOCUMENTED_BYTES: u64 = 64 << 10;

/// No orphan is reckoned with less, in bytes: its FIN alone takes more.
const LEAST_BYTES: u64 = 1 << 10;

/// The life of an orphan with a silent peer where nothing says otherwise, in seconds.
const LIFE_S: u64 = 109;

/// The memory that one orphan holds, and how that is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OrphanCost {
    /// On average, in bytes.
    pub bytes: u64,
    /// Its source, for people.
    pub source: String,
    /// How sure it is.
    pub confidence: Confidence,
}

impl OrphanCost {
    /// The tightest bound that holds for the orphans of a look: the mean of those that
    /// are seen, if they are at least half of them all, and what `TCP.mem` leaves for
    /// one if orphans held all of it. Where neither is known: what a report or the
    /// calibration measured, or the documented worst case.
    fn of(look: &Look, facts: &Facts, measured: &Measured) -> Self {
        let orphans = look.sockstat.get("TCP.orphan").unwrap_or(0);
        let gauge = by_gauge(look, facts, orphans);
        let other = mean_of_orphans(look, facts.page_bytes, orphans)
            // What is measured or documented is an example; the gauge is a bound.
            .unwrap_or_else(|| Self::unseen(facts, measured));
        match gauge {
            Some(gauge) if gauge.bytes < other.bytes => gauge,
            _ => other,
        }
    }

    /// Without a look at any orphan.
    fn unseen(facts: &Facts, measured: &Measured) -> Self {
        if let Some(measured) = &measured.orphan_pages {
            return Self {
                bytes: measured.value.saturating_mul(facts.page_bytes),
                source: measured.source.clone(),
                confidence: Confidence::Medium,
            };
        }
        // The one that was measured had a send buffer that has not grown: it never
        // speaks for less than the documented worst case.
        let documented = DOCUMENTED_BYTES.max(facts.page_bytes);
        let full_buffer = measured.calibration().and_then(|calibration| {
            let held_bytes = calibration.orphan(Unsent::FullBuffer)?.held_bytes;
            let whole_pages = held_bytes.next_multiple_of(facts.page_bytes);
            Some((whole_pages, calibration.source()))
        });
        let worst_case = "the worst case of ip-sysctl.rst";
        let (bytes, source) = match full_buffer {
            Some((held, source)) if held > documented => {
                (held, format!("a full send buffer, {source}"))
            }
            Some((held, source)) => {
                let held = bytes(held);
                let source = format!("{worst_case}; a full send buffer held {held}, {source}");
                (documented, source)
            }
            None => (documented, measured.unmeasured(worst_case)),
        };
        Self {
            bytes,
            source,
            confidence: Confidence::Medium,
        }
    }
}

/// `TCP.mem` over the orphans: more they cannot hold on average, because they would hold
/// more than all sockets together.
fn by_gauge(look: &Look, facts: &Facts, orphans: i64) -> Option<OrphanCost> {
    let held = gauge_bytes(look, facts)?;
    let orphans = u64::try_from(orphans).ok().filter(|count| *count > 0)?;
    let noise = gauge_noise_pages(facts).saturating_mul(facts.page_bytes);
    // Each CPU may have a little that is not in the gauge yet.
    let noise = if noise > held / 16 { noise } else { 0 };
    let held = held.saturating_add(noise);
    (held > 0).then(|| OrphanCost {
        bytes: (held / orphans).max(LEAST_BYTES),
        source: "TCP.mem of /proc/net/sockstat over TCP.orphan: all sockets together hold no more"
            .to_owned(),
        confidence: Confidence::High,
    })
}

/// The mean of the orphans of every network namespace that was seen.
fn mean_of_orphans(look: &Look, page_bytes: u64, orphans: i64) -> Option<OrphanCost> {
    let (mut count, mut sum) = (0_u64, 0_u64);
    for (_, socket) in look.every_socket() {
        if let Some(held) = charged_bytes(socket, page_bytes).filter(|_| socket.is_orphan()) {
            count += 1;
            sum = sum.saturating_add(held);
        }
    }
    are_most(count, orphans).then(|| OrphanCost {
        bytes: (sum / count).max(1),
        source: format!("sock_diag, the mean of the {count} orphans that were seen"),
        confidence: Confidence::High,
    })
}

/// What tcp_mem is charged for a socket, in bytes: whole pages, one at least.
fn charged_bytes(socket: &TcpSocket, page_bytes: u64) -> Option<u64> {
    let memory = socket.memory.as_ref()?;
    let reserved = u64::try_from(memory.forward_alloc_bytes).unwrap_or(0);
    let held = u64::from(memory.send_queued_bytes) + u64::from(memory.recv_alloc_bytes) + reserved;
    Some(held.next_multiple_of(page_bytes).max(page_bytes))
}

/// Whether what is seen of `orphans` is enough to speak for them all.
pub(super) fn are_most(seen: u64, orphans: i64) -> bool {
    seen > 0 && seen.saturating_mul(2) >= orphans.max(0).cast_unsigned()
}

/// The orphans of a host, and what there is to pay for them.
#[derive(Clone, Debug)]
pub(super) struct Orphans<'a> {
    /// `TCP.orphan`, the greater of two looks.
    pub count: i64,
    /// The look that had so many.
    pub look: &'a Look,
    /// How many there would have been at once without the resets of the window: each
    /// orphan that was reset for the limit would have lived on for its life.
    pub peak: i64,
    /// What one of them costs.
    pub cost: OrphanCost,
    /// The marks of tcp_mem that pay: those of the host, or those that the rules propose
    /// in their place where they are wrong. `None` where neither is known.
    marks: Option<[u64; 3]>,
    /// Whether these marks are the host's own.
    marks_are_live: bool,
    /// How many the high mark pays for.
    pub payable: Option<u64>,
}

impl<'a> Orphans<'a> {
    /// The orphans of the look that had the most.
    pub(super) fn of(facts: &'a Facts, measured: &Measured) -> Self {
        let looks = [facts.earlier.as_deref(), Some(&*facts.now)];
        let (count, look) = looks
            .into_iter()
            .flatten()
            .filter_map(|look| Some((look.sockstat.get("TCP.orphan")?, look)))
            .max_by_key(|(count, _)| *count)
            .unwrap_or((0, &facts.now));
        let count = count.max(0);
        let cost = OrphanCost::of(look, facts, measured);
        let own = facts.settings.tcp_mem;
        let right = own.filter(|_| MarksFault::of(facts).is_none());
        let marks = right
            .or_else(|| sound_tcp_mem(facts))
            .or_else(|| expected_tcp_mem(facts));
        Self {
            count,
            look,
            peak: count.saturating_add(would_be_there(facts, measured)),
            payable: marks
                .map(|[_, _, high]| high.saturating_mul(facts.page_bytes) / cost.bytes.max(1)),
            marks_are_live: own == marks,
            marks,
            cost,
        }
    }

    /// What the limit has to be above: the kernel compares it with up to four times the
    /// count.
    pub(super) fn needed(&self) -> u64 {
        self.peak.cast_unsigned().saturating_mul(4)
    }

    /// The power of two above that.
    fn wanted(&self) -> Option<u64> {
        self.needed().checked_add(1)?.checked_next_power_of_two()
    }

    /// A higher limit that the memory pays for: what is wanted, or as much of it as is
    /// paid for. `None` where that is hardly more than there is, or too few for those
    /// that are there.
    pub(super) fn higher_limit(&self, limit: i64) -> Option<u64> {
        let payable = self.payable?;
        let limit = u64::try_from(limit).unwrap_or(0);
        // The kernel's setting is an int.
        let wanted = self
            .wanted()
            .filter(|wanted| i32::try_from(*wanted).is_ok());
        if let Some(wanted) = wanted.filter(|wanted| *wanted <= payable) {
            return (wanted > limit).then_some(wanted);
        }
        let round = if payable >= 1024 { 1024 } else { 1 };
        let most = payable.min(i32::MAX.cast_unsigned().into()) / round * round;
        let is_worth_it = most > limit.saturating_add(limit / 4);
        (is_worth_it && most > self.peak.cast_unsigned()).then_some(most)
    }

    /// Whether a proposed limit is enough for the orphans that there are.
    pub(super) fn is_enough(&self, proposed: u64) -> String {
        let needed = self.needed();
        if proposed > needed {
            return "The proposal is above four times the count.".to_owned();
        }
        format!(
            "That is less than four times the {} that there are. For a limit above {needed} the \
             memory is missing: {} for as many.",
            self.peak,
            bytes(needed.saturating_mul(self.cost.bytes))
        )
    }

    /// What a limit costs, at most, if that many come.
    pub(super) fn cost_of(&self, limit: u64) -> String {
        format!(
            "up to {} of memory that cannot be swapped, if so many orphans come",
            bytes(limit.saturating_mul(self.cost.bytes))
        )
    }

    /// What the answer rests on.
    pub(super) fn evidence(&self) -> Vec<Evidence> {
        let mut evidence = vec![Evidence::new(
            "host.sockets.orphan.bytes",
            i64::try_from(self.cost.bytes).unwrap_or(i64::MAX).into(),
            &self.cost.source,
        )];
        if let Some(marks) = self.marks {
            let [low, pressure, high] = marks;
            let text = format!("{low} {pressure} {high}");
            let mut marks = Evidence::sysctl("net.ipv4.tcp_mem", text.as_str().into());
            if !self.marks_are_live {
                PLANNED_VALUE.clone_into(&mut marks.source);
            }
            evidence.push(marks);
        }
        evidence
    }

    /// The orphans that were seen, by their conditions; the commonest first.
    pub(super) fn kinds(&self) -> Vec<(Condition, u64)> {
        let mut kinds: Vec<(Condition, u64)> = Condition::ALL
            .into_iter()
            .filter(|condition| condition.is_orphan())
            .map(|condition| (condition, 0))
            .collect();
        for (_, socket) in self.look.every_socket() {
            let condition = Condition::of(socket);
            if let Some((_, count)) = kinds.iter_mut().find(|(kind, _)| *kind == condition) {
                *count += 1;
            }
        }
        kinds.retain(|(_, count)| *count > 0);
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        kinds
    }
}

/// The connections that were reset for want of memory in the window, in every network
/// namespace that was seen.
pub(super) fn resets(facts: &Facts) -> i64 {
    facts
        .places()
        .map(|place| place.grown(RESETS).unwrap_or(0).max(0))
        .fold(0, i64::saturating_add)
}

/// Whether the memory of TCP is so near the high mark that it can have been the reason.
pub(super) fn memory_is_near(facts: &Facts) -> bool {
    facts.settings.tcp_mem.is_some_and(|[_, _, high]| {
        tcp_pages(facts).unwrap_or(0).saturating_mul(10) > high.saturating_mul(9)
    })
}

/// How many of those that were reset in the window would be there at once by Little's law:
/// their rate times the life of an orphan with a silent peer.
fn would_be_there(facts: &Facts, measured: &Measured) -> i64 {
    let Some((window, _)) = facts.window() else {
        return 0;
    };
    if memory_is_near(facts) {
        return 0;
    }
    let life_s = facts
        .settings
        .tcp_orphan_retries
        .and_then(|retries| measured.life_s.get(&retries))
        .map_or(LIFE_S, |life| life.value);
    let (resets, window) = (
        i128::from(resets(facts)),
        i128::from(window.as_secs().max(1)),
    );
    let there = resets * i128::from(life_s).min(window) / window;
    i64::try_from(there).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::{add_namespace, host, sockstat};

    fn orphans(facts: &Facts) -> Orphans<'_> {
        Orphans::of(facts, &Measured::default())
    }

    #[test]
    fn the_gauge_bounds_what_an_orphan_holds() {
        let mut facts = host("quiet");
        facts.now.sockets = None;
        facts.now.sockstat = sockstat("TCP: orphan 65738 mem 22016 alloc 121429\n");
        let cost = orphans(&facts).cost;
        assert_eq!(cost.bytes, 22_016 * 4096 / 65_738);
        assert!(cost.source.contains("TCP.mem"));
        // What the CPUs may hold back counts where it is much.
        facts.now.sockstat = sockstat("TCP: orphan 1000 mem 100 alloc 1000\n");
        let noise = facts.cpus * facts.settings.mem_pcpu_rsv.unwrap();
        assert_eq!(orphans(&facts).cost.bytes, (100 + noise) * 4096 / 1000);
        // Few orphans among much memory: the documented case is less.
        facts.now.sockstat = sockstat("TCP: orphan 2 mem 90000 alloc 1000\n");
        assert_eq!(orphans(&facts).cost.bytes, 64 << 10);
        // A gauge that does not count everything bounds nothing.
        facts.now.sockstat = sockstat("TCP: orphan 65738 mem 22016 alloc 121429\n");
        facts.settings.bypass_prot_mem = Some(1);
        assert_eq!(orphans(&facts).cost.bytes, 64 << 10);
    }

    #[test]
    fn on_large_pages_the_gauge_of_an_older_kernel_counts_4_kib() {
        let mut facts = host("quiet");
        facts.now.sockets = None;
        facts.page_bytes = 64 << 10;
        facts.settings.mem_pcpu_rsv = None;
        facts.now.sockstat = sockstat("TCP: orphan 1000 mem 2000 alloc 1000\n");
        facts.kernel = "5.14.0-503.el9.aarch64".to_owned();
        assert_eq!(orphans(&facts).cost.bytes, 2 * 4096);
        facts.kernel = "6.12.0".to_owned();
        assert_eq!(orphans(&facts).cost.bytes, 64 << 10);
    }

    #[test]
    fn orphans_of_other_namespaces_are_seen() {
        let mut facts = host("orphan-limit-near-unpaid");
        facts.set_earlier({
            let mut earlier = host("quiet").now;
            earlier.uptime = std::time::Duration::ZERO;
            earlier
        });
        let here = orphans(&facts).cost;
        assert!(here.source.contains("sock_diag"), "{}", here.source);
        add_namespace(&mut facts, 9, &[]);
        facts.now.sockets = None;
        assert_eq!(orphans(&facts).cost, here);
    }

    #[test]
    fn resets_count_for_as_long_as_an_orphan_lives() {
        let mut facts = host("quiet");
        facts.now.sockstat = sockstat("TCP: orphan 1100 mem 3000 alloc 2000\n");
        add_namespace(&mut facts, 9, &[("TCPAbortOnMemory", 10_000)]);
        let window = facts.window().unwrap().0.as_secs();
        let expected = 10_000 * 109.min(window) / window;
        assert_eq!(
            orphans(&facts).peak,
            1100 + i64::try_from(expected).unwrap()
        );
    }
}
