//! The plan over a whole time: what the looks before the last one showed is told as past.

use std::collections::BTreeSet;

use advisor_facts::happened::Happened;
use advisor_facts::{Facts, Shared};

use super::{Action, Advice, AppliesTo, advise};

impl Advice {
    /// Adds what earlier looks of the same record found and the last one does not show any
    /// more. The plan keeps one value for a setting: that of the last look.
    pub fn add_past(&mut self, looks: &[Facts], happened: Option<&Shared<Happened>>) {
        let mut known: BTreeSet<(&str, String)> = BTreeSet::new();
        let mut settings: BTreeSet<String> = BTreeSet::new();
        for step in &self.recommendations {
            known.insert((step.code, step.finding.subject.clone()));
            settings.insert(step.finding.setting.clone());
        }
        // What the latest of them shows is nearest to now.
        for (place, facts) in looks.iter().enumerate().rev() {
            let mut facts = facts.clone();
            // Who it was is known from the whole time.
            facts.happened = happened.cloned();
            if place > 0
                && let Some(first) = looks.first()
                && first.boot_id == facts.boot_id
            {
                facts.set_earlier(first.now.clone());
            }
            let Some(at) = facts.taken_at else {
                continue;
            };
            for mut step in advise(&facts, &[]).recommendations {
                let is_of_a_setting = step.action != Action::Mend;
                // What is over at that look is over at the last one.
                if step.finding.applies_to == AppliesTo::Observe
                    || is_of_a_setting && settings.contains(&step.finding.setting)
                    || !known.insert((step.code, step.finding.subject.clone()))
                {
                    continue;
                }
                settings.insert(step.finding.setting.clone());
                step.finding.summary = format!("at {at}: {}", step.finding.summary);
                step.window = format!("a look at {at}; the last look does not show it any more");
                self.recommendations.push(step);
            }
        }
        super::order::sort(&mut self.recommendations);
    }
}
