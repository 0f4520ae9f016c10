//! What rules find in each network namespace.

use advisor_facts::Facts;
use advisor_facts::namespaces::Place;
use advisor_report::measured::Measured;

use super::finding::is_of_the_kernel;
use super::program::names_a_process;
use super::{AppliesTo, Finding, Outcome, Rule};

/// A finding, and where the setting is that it is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placed {
    pub finding: Finding,
    /// The network namespace; `None` is the reader's own, or the whole kernel.
    pub place: Option<Place>,
}

impl Outcome {
    /// An outcome about a network namespace.
    pub(super) fn at(self, place: Option<&Place>) -> Outcome<Placed> {
        match self {
            Self::Fired(findings) => {
                let placed = findings.into_iter().map(|finding| Placed {
                    finding,
                    place: place.cloned(),
                });
                Outcome::Fired(placed.collect())
            }
            Self::Quiet(why) => Outcome::Quiet(why),
            Self::NotEvaluated(why) => Outcome::NotEvaluated(why),
        }
    }
}

/// Asks a rule about each network namespace. Where it finds nothing, the answer is that
/// of the reader's own, which is the first.
pub(super) fn in_each_namespace(
    rule: &Rule,
    namespaces: &[Facts],
    measured: &Measured,
) -> Outcome<Placed> {
    let mut here = None;
    let mut placed = Vec::new();
    for facts in namespaces {
        match (rule.check)(facts, measured).at(facts.place.as_ref()) {
            Outcome::Fired(mut found) => {
                // What the whole kernel has is told once: for the host, or where the
                // host has no need of it, for the first namespace that has.
                for one in found.drain(..) {
                    let setting = &one.finding.setting;
                    if one.place.is_none() || !is_of_the_kernel(facts, setting) {
                        placed.push(one);
                    } else if placed.iter().all(|told| told.finding.setting != *setting) {
                        placed.push(Placed {
                            finding: one.named(&[]),
                            place: None,
                        });
                    }
                }
            }
            quiet if facts.place.is_none() => here = Some(quiet),
            _ => {}
        }
    }
    match here {
        Some(quiet) if placed.is_empty() => quiet,
        _ => Outcome::Fired(placed),
    }
}

impl Placed {
    /// Whether two network namespaces have the same setting wrong: people set it in one
    /// place for all containers.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        let (one, other, elsewhere) = (
            &self.finding,
            &other.finding,
            self.place.is_some() && other.place.is_some(),
        );
        elsewhere
            && one.applies_to == AppliesTo::Host
            && (&one.setting, &one.current, &one.proposed, &one.summary)
                == (
                    &other.setting,
                    &other.current,
                    &other.proposed,
                    &other.summary,
                )
    }

    /// The finding, with the names of its network namespace and of `others` that have it
    /// too.
    pub(crate) fn named(self, others: &[Place]) -> Finding {
        /// So many are named.
        const NAMED: usize = 5;
        let Self { mut finding, place } = self;
        let Some(place) = place else {
            return finding;
        };
        let first = place.label_beside(&finding.summary);
        let whose = match others.len() {
            0 => first.clone(),
            1 => format!("{first} and another one"),
            count => format!("{first} and {count} others"),
        };
        // A process is found by its number, wherever it is.
        let is_found =
            finding.applies_to == AppliesTo::Program && names_a_process(&finding.subject);
        if !is_found {
            finding.summary = format!("{}, in {whose}", finding.summary);
        }
        finding.subject = finding.subject.replace("this network namespace", &whose);
        if !is_found && !finding.subject.contains(&first) {
            finding.subject = format!("{}, in {whose}", finding.subject);
        }
        for evidence in &mut finding.evidence {
            if evidence.source.starts_with("/proc/") && !evidence.source.contains(&first) {
                let end = evidence.source.find(',').unwrap_or(evidence.source.len());
                evidence.source.insert_str(end, &format!(" of {first}"));
            }
        }
        if !others.is_empty() {
            let labels: Vec<String> = others.iter().take(NAMED).map(Place::label).collect();
            let more = match others.len() {
                count if count > NAMED => format!(" and {} more", count - NAMED),
                _ => String::new(),
            };
            finding.apply = format!("{}; the same in {}{more}", finding.apply, labels.join(", "));
        }
        finding
    }
}

/// Findings by what they have in common: each with the network namespaces beside its own
/// that have the same.
pub(crate) fn grouped<T>(
    found: impl IntoIterator<Item = T>,
    placed: impl Fn(&T) -> &Placed,
) -> Vec<(T, Vec<Place>)> {
    let mut groups: Vec<(T, Vec<Place>)> = Vec::new();
    for one in found {
        let same = groups
            .iter_mut()
            .find(|(first, _)| placed(first).is_alike(placed(&one)));
        match same {
            Some((_, others)) => others.extend(placed(&one).place.clone()),
            None => groups.push((one, Vec::new())),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use crate::plan::advise;
    use crate::rules::testing::{add_namespace, bare_host, host};

    #[test]
    fn a_failure_in_a_container_is_told_where_the_whole_kernel_has_the_setting() {
        use crate::rules::testing::moved_to_namespace;
        let mut facts = host("ports-run-out");
        facts.kernel = "3.10.0-1160.el7.x86_64".to_owned();
        let step = |facts: &_| {
            let recommendations = advise(facts, &[]).recommendations;
            let of_it = recommendations.into_iter();
            let mut of_it = of_it.filter(|step| step.code == "LB303");
            of_it.next().expect("LB303")
        };
        let here = step(&facts);
        let there = step(&moved_to_namespace(&facts));
        assert_eq!(there.finding.setting, here.finding.setting);
        assert!(there.finding.summary.contains("(of process 4242"));
        // It can be written on the host alone.
        assert!(
            there.finding.apply.contains("sysctl -w net.ipv4"),
            "{}",
            there.finding.apply
        );
        assert!(!there.finding.apply.contains("nsenter"));
    }

    #[test]
    fn a_namespace_is_named_by_the_program_in_it_once() {
        use crate::rules::testing::add_process;
        let mut facts = host("quiet");
        add_namespace(&mut facts, 7, &[]);
        facts.now.elsewhere[0].name = None;
        facts.now.elsewhere[0].pid = Some(7100);
        facts.now.elsewhere[0].settings.somaxconn = Some(128);
        add_process(&mut facts, (7100, "java"), Some("app"), [55]);
        let place = facts.now.elsewhere[0].place().named_by(&facts.processes);
        let label = "network namespace 7 (of process 7100, java, container app)";
        assert_eq!(place.label(), label);
        assert_eq!(
            place.label_beside("27560 ports are in use by java (7100, container app)"),
            "network namespace 7 (of process 7100)"
        );
        let step = advise(&facts, &[]).recommendations.remove(0);
        assert!(
            step.finding.summary.ends_with(label),
            "{}",
            step.finding.summary
        );
    }

    #[test]
    fn the_same_setting_of_many_containers_is_told_once() {
        let mut facts = host("quiet");
        for inode in [7, 8, 9] {
            add_namespace(&mut facts, inode, &[]);
        }
        for other in &mut facts.now.elsewhere {
            other.settings.somaxconn = Some(128);
        }
        facts.now.elsewhere[2].settings.somaxconn = Some(1024);
        let advice = advise(&facts, &[]);
        let told: Vec<_> = advice
            .recommendations
            .iter()
            .map(|step| (step.finding.summary.as_str(), step.namespaces.as_slice()))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "somaxconn is 128, below the kernel's default of 4096, in network namespace \
                     pod-7 and another one",
                    &[7, 8][..]
                ),
                (
                    "somaxconn is 1024, below the kernel's default of 4096, in network namespace \
                     pod-9",
                    &[9][..]
                ),
            ]
        );
        let first = &advice.recommendations[0].finding;
        assert!(
            first
                .apply
                .starts_with("ip netns exec pod-7 sysctl -w net.core.somaxconn=4096; to keep it"),
            "{}",
            first.apply
        );
        assert!(first.apply.ends_with("the same in network namespace pod-8"));
        // Whoever does it is done.
        for step in &advice.recommendations {
            step.change().unwrap().apply(&mut facts);
        }
        assert!(advise(&facts, &[]).recommendations.is_empty());
    }

    #[test]
    fn what_the_whole_kernel_has_is_the_same_in_every_view() {
        let mut facts = bare_host(1 << 30);
        facts.settings.tcp_rmem = Some([4096, 131_072, 6_291_456]);
        facts.earlier = None;
        let mut other = facts.clone();
        other.settings.tcp_mem = None;
        other.settings.tcp_rmem = Some([4096, 4096, 4096]);
        facts.now.elsewhere = Vec::new();
        let mut with = host("quiet");
        add_namespace(&mut with, 7, &[]);
        let mut namespace = with.now.elsewhere[0].clone();
        namespace.settings = other.settings;
        facts.now.elsewhere.push(namespace);
        let views = facts.by_namespace();
        assert_eq!(views.len(), 2);
        assert_eq!(views[1].settings.tcp_mem, facts.settings.tcp_mem);
        assert_eq!(views[1].settings.tcp_rmem, Some([4096, 4096, 4096]));
        assert!(views.iter().all(|view| view.now.elsewhere.is_empty()));
    }
}
