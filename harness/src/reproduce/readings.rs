//! What bystanders, and those who suffer, see of a trial.

use std::collections::BTreeMap;

use advisor_report::Value;
use advisor_report::proof::{Harm, Reading};

use crate::observation::Observations;

/// What they saw in a run.
pub fn readings(observations: &Observations) -> Vec<Reading> {
    let mut readings = vec![
        reading(
            "a transfer to a healthy peer",
            Harm::TransferStalls,
            observations,
            |step| {
                [
                    "bystander.link",
                    "bystander.transfer",
                    "bystander.delivered",
                ]
                .contains(&step)
            },
        ),
        reading(
            "a request to a server",
            Harm::ConnectionLate,
            observations,
            |step| step == "internet.visit",
        ),
        reading(
            "the last data of a connection that closes",
            Harm::DataLost,
            observations,
            |step| step == "internet.last-words-seen",
        ),
        reading(
            "a new connection of the host",
            Harm::ConnectionRefused,
            observations,
            |step| step.starts_with("caller-") && step.rsplit('.').next() == Some("call"),
        ),
        reading(
            "a restart of a server",
            Harm::CannotBind,
            observations,
            |step| step.starts_with("successor-") && step.rsplit('.').next() == Some("rebind"),
        ),
        reading(
            "a connection of the program that leaks",
            Harm::NoDescriptors,
            observations,
            |step| step == "internet.caller" || step.rsplit('.').next() == Some("leak"),
        ),
        reading(
            "a connection that was well",
            Harm::ConnectionCut,
            observations,
            |step| step.starts_with("internet.healthy-") && step.ends_with("-seen"),
        ),
    ];
    let is_burst = |step: &str| step.starts_with("internet.burst-") && !step.ends_with("-comes");
    // A burst takes as long as the last of it.
    readings.push(Reading {
        ms: mean_ms(observations, is_burst),
        ..reading(
            "the last answer to a burst of clients",
            Harm::ConnectionLate,
            observations,
            is_burst,
        )
    });
    // With tcp_abort_on_overflow some are turned away at once.
    let mut reset = reading(
        "a client of a burst that is reset",
        Harm::ConnectionRefused,
        observations,
        is_burst,
    );
    reset.errors.retain(|errno, _| errno == "ECONNRESET");
    reset.failures = reset.errors.values().sum();
    readings.push(reset);
    readings.push(reading(
        "a client of the listener in whose queue others wait",
        Harm::ConnectionLate,
        observations,
        |step| step == "internet.latecomer",
    ));
    readings.retain(|reading| reading.tries > 0);
    readings
}

/// What certain steps saw together.
fn reading(
    what: &str,
    harm: Harm,
    observations: &Observations,
    is_of: impl Fn(&str) -> bool,
) -> Reading {
    let mut reading = Reading {
        what: what.to_owned(),
        harm,
        tries: 0,
        failures: 0,
        errors: BTreeMap::new(),
        ms: None,
        bytes: None,
    };
    let (mut ms, mut steps) = (0.0, 0_u64);
    for (name, value) in observations {
        let Some((step, field)) = split(name) else {
            continue;
        };
        if !is_of(step) {
            continue;
        }
        let number = match value {
            Value::Integer(number) => u64::try_from(*number).unwrap_or(0),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "milliseconds and bytes"
            )]
            Value::Number(number) => number.round() as u64,
            _ => 0,
        };
        match field {
            "ok" => reading.tries += number,
            "ms" => {
                steps += 1;
                if let Value::Number(number) = value {
                    ms += number;
                }
            }
            // Its own time limit ended it.
            "late" => {
                reading.tries += number;
                reading.failures += number;
                *reading.errors.entry("late".to_owned()).or_default() += number;
            }
            "bytes" => *reading.bytes.get_or_insert(0) += number,
            _ => {
                if let Some(errno) = field.strip_prefix("errors.") {
                    reading.tries += number;
                    reading.failures += number;
                    *reading.errors.entry(errno.to_owned()).or_default() += number;
                }
            }
        }
    }
    let is_timed = matches!(harm, Harm::TransferStalls | Harm::ConnectionLate);
    #[expect(clippy::cast_precision_loss, reason = "a mean of a few")]
    if is_timed && steps > 0 && reading.tries > 0 {
        reading.ms = Some(ms * steps as f64 / reading.tries as f64);
    }
    reading
}

/// How long certain steps took, each.
fn mean_ms(observations: &Observations, is_of: impl Fn(&str) -> bool) -> Option<f64> {
    let took = observations.iter().filter_map(|(name, value)| {
        let (step, field) = split(name)?;
        match value {
            Value::Number(ms) if field == "ms" && is_of(step) => Some(*ms),
            _ => None,
        }
    });
    let took: Vec<f64> = took.collect();
    #[expect(clippy::cast_precision_loss, reason = "a mean of a few")]
    (!took.is_empty()).then(|| took.iter().sum::<f64>() / took.len() as f64)
}

/// `LIST.STEP` and the field of an observation.
fn split(name: &str) -> Option<(&str, &str)> {
    let (list, rest) = name.split_once('.')?;
    let (step, field) = rest.split_once('.')?;
    Some((&name[..list.len() + 1 + step.len()], field))
}
