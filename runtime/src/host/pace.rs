//! Whether helpers pay. Enters: how long runs took, alone and together. Leaves: how the next one should go. Waking a helper
//! takes microseconds on an idle machine, and on a busy one it may not come at all: that is measured, not assumed, in blocks of
//! runs, for a helper that has just been there needs no waking.

use std::time::Duration;

/// Runs that are remembered, each way.
const WINDOW: usize = 7;

/// Runs in a row that go one way to find out how long they take: enough to forget the first ones.
const BLOCK: u32 = 10;

/// One block in so many goes the other way, to notice that things have changed.
const PROBE: u32 = 48;

/// How long the last runs took.
#[derive(Debug, Default)]
pub(super) struct Pace {
    runs: u32,
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
        let block = self.runs / BLOCK;
        self.runs = self.runs.checked_add(1).unwrap_or(2 * BLOCK);
        match block {
            0 => false,
            1 => true,
            _ => self.preferred() != block.is_multiple_of(PROBE),
        }
    }

    /// Whether runs together are faster, by what is known.
    fn preferred(&self) -> bool {
        self.times[1].median() < self.times[0].median()
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
        assert!(together(&mut pace, 1000, [100, 60]) > 950);
        together(&mut pace, 10 * PROBE, [100, 150]);
        assert!(together(&mut pace, 1000, [100, 150]) < 50);
        together(&mut pace, 10 * PROBE, [100, 60]);
        assert!(together(&mut pace, 1000, [100, 60]) > 950);
    }

    #[test]
    fn a_run_that_was_interrupted_changes_nothing() {
        let mut pace = Pace::default();
        together(&mut pace, 100, [100, 60]);
        pace.note(true, Duration::from_secs(1));
        assert!(together(&mut pace, 40, [100, 60]) >= 39);
    }
}
