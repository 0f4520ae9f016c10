//! Ctrl-C during a run: says what was stopped, and what had ended is reported.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use advisor_report::ScenarioResult;
use nix::sys::signal::{SigSet, Signal};

use crate::output;
use crate::runner::Progress;

/// The scenarios of a run as far as they are.
#[derive(Debug, Default)]
struct State {
    running: Vec<String>,
    ended: Vec<ScenarioResult>,
    all: usize,
    is_over: bool,
}

/// Follows a run, for the case that it is interrupted.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt(Arc<Mutex<State>>);

impl Interrupt {
    /// Takes SIGINT, SIGTERM and SIGHUP from now on, on a thread of its own. With what had
    /// ended `conclude` is called, and then this process ends: actors and guests end with
    /// it, and what they were in is gone.
    pub(super) fn watch(
        all: usize,
        conclude: impl FnOnce(Vec<ScenarioResult>) + Send + 'static,
    ) -> Self {
        let interrupt = Self::default();
        interrupt.change(|state| state.all = all);
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        // Threads that come later inherit it; a process that std starts does not.
        if signals.thread_block().is_err() {
            return interrupt;
        }
        let watched = interrupt.clone();
        std::thread::spawn(move || {
            let Ok(signal) = signals.wait() else { return };
            let status = 128 + signal as i32;
            let (running, ended, all, is_over) = watched.change(|state| {
                let ended = std::mem::take(&mut state.ended);
                (
                    std::mem::take(&mut state.running),
                    ended,
                    state.all,
                    state.is_over,
                )
            });
            if !is_over {
                let waiting = all.saturating_sub(ended.len() + running.len());
                output::say_error(&told(signal, &running, waiting));
                if !ended.is_empty() {
                    conclude(ended);
                }
            }
            std::process::exit(status);
        });
        interrupt
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes how far the run is.
    pub(super) fn note(&self, progress: &Progress) {
        match progress {
            Progress::Started(scenario) => {
                self.change(|state| state.running.push(scenario.id.clone()));
            }
            Progress::Ended(result) => self.change(|state| {
                if let Some(place) = state.running.iter().position(|id| *id == result.id) {
                    state.running.remove(place);
                }
                state.ended.push((*result).clone());
            }),
            _ => {}
        }
    }

    /// The run is over: what comes now only ends the process.
    pub(super) fn over(&self) {
        self.change(|state| {
            state.is_over = true;
            state.ended.clear();
        });
    }
}

/// What was stopped, in a few lines.
fn told(signal: Signal, running: &[String], waiting: usize) -> String {
    /// More are only counted.
    const SHOWN: usize = 5;
    let mut text = format!("interrupted by {signal}");
    if !running.is_empty() {
        let shown: Vec<&str> = running.iter().take(SHOWN).map(String::as_str).collect();
        text.push_str("; stopped: ");
        text.push_str(&shown.join(", "));
        if running.len() > SHOWN {
            let _ = write!(text, " and {} more", running.len() - SHOWN);
        }
    }
    if waiting > 0 {
        let _ = write!(text, "; not started: {waiting}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stopped_is_said() {
        let running: Vec<String> = (0..7).map(|n| format!("t/f/{n}")).collect();
        assert_eq!(
            told(Signal::SIGINT, &running, 3),
            "interrupted by SIGINT; stopped: t/f/0, t/f/1, t/f/2, t/f/3, t/f/4 and 2 more; not \
             started: 3"
        );
        assert_eq!(told(Signal::SIGTERM, &[], 0), "interrupted by SIGTERM");
    }
}
