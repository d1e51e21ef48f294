//! Progress on stderr: a bar on a terminal, a plain line every few seconds otherwise, with rate and time left. Enters:
//! counts of finished units. Leaves: text on stderr only. Refuses nothing.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Time between two plain lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// One long piece of work.
pub(crate) struct Progress {
    label: String,
    total: u64,
    unit: &'static str,
    start: Instant,
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

struct State {
    done: u64,
    printed: Instant,
    printed_any: bool,
}

impl Progress {
    /// Starts the clock for `total` `unit`s of `label`.
    pub(crate) fn new(label: impl Into<String>, total: u64, unit: &'static str) -> Self {
        let label = label.into();
        let start = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} {per_sec} {eta} left");
            ProgressBar::new(total)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
                .with_message(label.clone())
        });
        let state = Mutex::new(State { done: 0, printed: start, printed_any: false });
        Self { label, total, unit, start, bar, state }
    }

    /// `count` more units are done; may be called from any thread.
    pub(crate) fn add(&self, count: u64) {
        // A poisoned lock only means that another thread panicked while counting.
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.done += count;
        match &self.bar {
            Some(bar) => bar.set_position(state.done),
            None if state.printed.elapsed() >= INTERVAL => {
                state.printed = Instant::now();
                state.printed_any = true;
                eprintln!("{}", self.line(state.done));
            }
            None => {}
        }
    }

    fn line(&self, done: u64) -> String {
        let seconds = self.start.elapsed().as_secs_f64().max(1e-9);
        let rate = done as f64 / seconds;
        let left = self.total.saturating_sub(done) as f64 / rate.max(1e-9);
        format!(
            "{}: {done} of {} {}, {rate:.1} {}/s, {} left",
            self.label,
            self.total,
            self.unit,
            self.unit,
            duration(Duration::from_secs_f64(left.min(1e8)))
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (done, printed_any) = (state.done, state.printed_any);
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            // What never took long enough for a line needs no closing line either.
            None if printed_any => {
                eprintln!("{}: {done} {} in {}", self.label, self.unit, duration(self.start.elapsed()));
            }
            None => {}
        }
    }
}

/// `1 h 02 min`, `3 min 20 s`, `12.3 s`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}
