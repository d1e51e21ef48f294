//! Whether helpers pay. Enters: how long runs took, alone and together. Leaves: how the next one should go. Waking a helper
//! takes microseconds on an idle machine, and on a busy one it may not come at all: that is measured, not assumed, in blocks of
//! runs, for a helper that has just been there needs no waking.

use std::time::Duration;

/// Runs that are remembered, each way.
const WINDOW: usize = 7;

/// Runs in a row that go one way to find out how long they take: enough to forget the first ones.
const BLOCK: u32 = 10;

/// At last one block in so many goes the other way, to notice that things have changed; after a change, one sooner, and then after
/// twice as many each time: what made the difference may have been a moment's.
const PROBE: u32 = 48;

/// Helpers pay when they save one part in so many. Where both cores are threads of the same one they change next to nothing,
/// either way, and what decides then should not be chance.
const LEAST: u32 = 20;

/// How long the last runs took.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Of the present block.
    runs: u32,
    /// Whether that goes together.
    together: bool,
    /// Which way was the faster one at its start.
    preferred: bool,
    /// Blocks until one goes the other way, and how many there were after the last one that did.
    next: u32,
    gap: u32,
    /// Alone, together.
    times: [Times; 2],
}

/// A ring of times.
#[derive(Debug, Default)]
struct Times {
    last: [Duration; WINDOW],
    next: usize,
}

impl Times {
    fn note(&mut self, took: Duration) {
        self.last[self.next] = took;
        self.next = (self.next + 1) % WINDOW;
    }

    fn is_empty(&self) -> bool {
        self.last == [Duration::ZERO; WINDOW]
    }

    /// Neither the run that was lucky nor the one that was interrupted.
    fn median(&self) -> Duration {
        let mut sorted = self.last;
        sorted.sort_unstable();
        sorted[WINDOW / 2]
    }
}

impl Pace {
    /// Whether the next run should be together.
    pub(super) fn together(&mut self) -> bool {
        if self.runs == BLOCK {
            self.runs = 0;
            self.together = self.next_block();
        }
        self.runs += 1;
        self.together
    }

    /// With a first block that goes together.
    #[cfg(test)]
    pub(super) fn helped() -> Self {
        Self { together: true, ..Self::default() }
    }

    /// Whether the next block should be together: once each way, and then as was faster, most of the time.
    fn next_block(&mut self) -> bool {
        if self.times[1].is_empty() {
            return true;
        }
        let preferred = self.preferred();
        if preferred != self.preferred {
            (self.preferred, self.next, self.gap) = (preferred, 1, 1);
        }
        if self.next > 0 {
            self.next -= 1;
            return preferred;
        }
        self.gap = (2 * self.gap).clamp(1, PROBE);
        self.next = self.gap;
        !preferred
    }

    /// Whether helpers pay, by what is known.
    fn preferred(&self) -> bool {
        let [alone, together] = self.times.each_ref().map(Times::median);
        together < alone - alone / LEAST
    }

    /// Notes how long that run took.
    pub(super) fn note(&mut self, together: bool, took: Duration) {
        self.times[usize::from(together)].note(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `runs`, how many went together, when they take so many microseconds alone and together.
    fn together(pace: &mut Pace, runs: u32, took: [u64; 2]) -> u32 {
        let mut count = 0;
        for _ in 0..runs {
            let together = pace.together();
            pace.note(together, Duration::from_micros(took[usize::from(together)]));
            count += u32::from(together);
        }
        count
    }

    #[test]
    fn the_faster_way_is_taken_and_a_change_is_noticed() {
        let mut pace = Pace::default();
        assert!(together(&mut pace, 1000, [100, 60]) > 900);
        together(&mut pace, 10 * PROBE, [100, 150]);
        assert!(together(&mut pace, 1000, [100, 150]) < 100);
        assert!(together(&mut pace, 10_000, [100, 150]) < 300);
        together(&mut pace, 10 * PROBE, [100, 60]);
        assert!(together(&mut pace, 1000, [100, 60]) > 900);
    }

    #[test]
    fn helpers_that_save_next_to_nothing_stay_home() {
        let mut pace = Pace::default();
        together(&mut pace, 10 * PROBE, [100, 98]);
        assert!(together(&mut pace, 10_000, [100, 98]) < 300);
        assert!(together(&mut Pace::default(), 10_000, [100, 90]) > 9000);
    }

    #[test]
    fn a_moment_does_not_last() {
        let mut pace = Pace::default();
        together(&mut pace, 5000, [100, 60]);
        together(&mut pace, 10, [100, 1000]);
        assert!(together(&mut pace, 200, [100, 60]) >= 150);
    }

    #[test]
    fn a_run_that_was_interrupted_changes_nothing() {
        let mut paces = [Pace::default(), Pace::default()];
        paces.iter_mut().for_each(|pace| _ = together(pace, 100, [100, 60]));
        paces[0].note(true, Duration::from_secs(1));
        let [with, without] = paces.each_mut().map(|pace| together(pace, 400, [100, 60]));
        assert_eq!(with, without);
    }
}
