//! `advisor metrics`: gauges with their limits, for Prometheus.

use std::process::ExitCode;

use super::host::{HostArguments, LookArguments};
use super::{Error, print};
use crate::metrics::{Format, Metrics, alerts};
use crate::plan;

/// Print metrics for Prometheus, once
///
/// Usage and limit of TCP's memory, of orphans, TIME_WAIT, open files and tracked
/// connections, the counters of what goes wrong, and the findings, in the text format
/// 0.0.4. It is for the textfile collector of node_exporter, from cron or a timer:
/// advisor metrics > FILE.tmp && mv FILE.tmp FILE.prom. `advisor watch --listen` serves
/// the same, and resets by reason and process.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status:\n  \
    0  they are printed\n  \
    2  wrong usage, or facts that cannot be read\n  \
    3  the host cannot be read")]
pub(super) struct MetricsCommand {
    /// Print alerting rules for Prometheus 2.42 or later in their place, made from the
    /// bounds of the advisor's rules
    #[arg(long, exclusive = true)]
    alert_rules: bool,
    #[command(flatten)]
    scope: LookArguments,
    #[command(flatten)]
    host: HostArguments,
}

impl MetricsCommand {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        if self.alert_rules {
            print(|out| out.write_all(alerts::text().as_bytes()))?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.host.directory().is_some() {
            return Err(Error::OneHost("metrics"));
        }
        let facts = self.host.facts(&self.scope)?;
        let advice = plan::advise(&facts, &[]);
        let metrics = Metrics::of_facts(&facts, &advice);
        print(|out| out.write_all(metrics.text(Format::Text).as_bytes()))?;
        Ok(ExitCode::SUCCESS)
    }
}
