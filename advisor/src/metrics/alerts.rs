//! Alerting rules for Prometheus, made from the gauges and the bounds of the rules.

use std::fmt::Write as _;

use super::bound_name;
use crate::gauges::{COUNTERS, GAUGES};
use crate::rules;

/// A gauge has to be over a mark for so long.
const FOR: &str = "1m";
/// An alert that was raised stays for so long after the last time, so that one episode is
/// one alert.
const KEEPS: &str = "10m";
/// The window of counters.
const WINDOW: &str = "5m";

/// A value in a summary: Prometheus estimates growth, and has fractions of resets.
const NUMBER: &str = "{{ $value | printf \"%.0f\" }}";

/// An alert.
struct Alert {
    name: String,
    expression: String,
    severity: &'static str,
    code: &'static str,
    waits: Option<&'static str>,
    summary: String,
}

/// Every alert.
fn alerts() -> Vec<Alert> {
    let mut alerts = Vec::new();
    for gauge in GAUGES {
        let name = camel(gauge.name);
        let bounds = [
            (
                "Near",
                "near",
                "warning",
                format!("{} is near its limit", gauge.name),
            ),
            (
                "OverMark",
                "mark",
                "critical",
                format!("{} is over its mark: {}", gauge.name, gauge.harm),
            ),
        ];
        for (end, bound, severity, summary) in bounds {
            alerts.push(Alert {
                name: format!("Lastbyte{name}{end}"),
                expression: format!("{} > {}", gauge.metric, bound_name(gauge, bound)),
                severity,
                code: gauge.code,
                waits: Some(FOR),
                summary,
            });
        }
    }
    for counter in COUNTERS {
        let rule = rules::find(counter.code);
        alerts.push(Alert {
            name: format!("Lastbyte{}", camel(metric_word(counter.metric))),
            expression: format!(
                "increase({}[{WINDOW}]) > {}",
                counter.metric, counter.chance
            ),
            severity: "warning",
            code: counter.code,
            waits: None,
            summary: format!(
                "{}: {NUMBER} in {WINDOW} ({})",
                counter.help,
                rule.map_or("", |rule| rule.name)
            ),
        });
    }
    for (name, reason, chance, code, did) in [
        (
            "LastbyteResetsByProcess",
            "TCP_ABORT_ON_CLOSE",
            4,
            "LB201",
            "closed connections with unread data",
        ),
        (
            "LastbyteResetsForMemory",
            "TCP_ABORT_ON_MEMORY",
            0,
            "LB112",
            "had connections reset for lack of memory or for too many orphans",
        ),
    ] {
        alerts.push(Alert {
            name: name.to_owned(),
            expression: format!(
                "sum by (instance, process, unit, container) \
                 (increase(lastbyte_resets_sent_total{{reason=\"{reason}\"}}[{WINDOW}])) > {chance}"
            ),
            severity: "warning",
            code,
            waits: None,
            summary: format!("{{{{ $labels.process }}}} {did}: {NUMBER} in {WINDOW}"),
        });
    }
    alerts.push(Alert {
        name: "LastbyteCriticalFinding".to_owned(),
        expression: "lastbyte_findings{severity=\"critical\"} > 0".to_owned(),
        severity: "critical",
        code: "",
        waits: Some(FOR),
        summary: "{{ $labels.code }} {{ $labels.name }}".to_owned(),
    });
    alerts
}

/// The file for `rule_files` of Prometheus 2.42 or later.
pub fn text() -> String {
    let mut text = "# Made by `advisor metrics --alert-rules`; needs Prometheus 2.42 or later.\n\
        groups:\n  - name: lastbyte\n    rules:\n"
        .to_owned();
    for alert in alerts() {
        let _ = writeln!(text, "      - alert: {}", alert.name);
        let _ = writeln!(text, "        expr: {}", quoted(&alert.expression));
        if let Some(waits) = alert.waits {
            let _ = writeln!(text, "        for: {waits}");
        }
        let _ = writeln!(text, "        keep_firing_for: {KEEPS}");
        let _ = writeln!(text, "        labels:");
        let _ = writeln!(text, "          severity: {}", alert.severity);
        let explain = match alert.code {
            "" => "advisor explain {{ $labels.code }}".to_owned(),
            code => {
                let _ = writeln!(text, "          code: {code}");
                format!("advisor explain {code}")
            }
        };
        let _ = writeln!(text, "        annotations:");
        let _ = writeln!(text, "          summary: {}", quoted(&alert.summary));
        let _ = writeln!(text, "          explain: {}", quoted(&explain));
    }
    text
}

/// `lastbyte_tcp_listen_overflows_total` -> `tcp_listen_overflows`.
fn metric_word(metric: &str) -> &str {
    let metric = metric.trim_start_matches("lastbyte_");
    metric.trim_end_matches("_total")
}

/// `tcp-memory` -> `TcpMemory`.
fn camel(name: &str) -> String {
    let words = name.split(['-', '_']);
    words
        .map(|word| {
            let mut letters = word.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(letters).collect::<String>()
        })
        .collect()
}

/// A text of YAML in single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
