//! Random numbers of one network. Enters: a key (seed, space, split) and the network's index. Leaves: draws that depend on
//! nothing else, so that networks can be drawn in any order and by any number of threads.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::ops::RangeInclusive;

/// What all networks of a set have in common.
pub(super) type Key = [u8; 32];

/// ChaCha with 8 rounds; the stream number is the network's index.
pub(super) struct Stream(ChaCha8Rng);

impl Stream {
    pub(super) fn new(key: Key, index: u64) -> Self {
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Self(rng)
    }

    /// Uniform in `0..n`; `n` is at least 1.
    pub(super) fn below(&mut self, n: usize) -> usize {
        let n = n as u32;
        // Draws beyond the last whole multiple of `n` would favour small results.
        let whole = u32::MAX - (u32::MAX % n + 1) % n;
        loop {
            let draw = self.0.next_u32();
            if draw <= whole {
                return (draw % n) as usize;
            }
        }
    }

    /// Uniform in `range`.
    pub(super) fn within(&mut self, range: &RangeInclusive<u8>) -> u8 {
        range.start() + self.below(usize::from(range.end() - range.start()) + 1) as u8
    }

    /// One of `choices`, each as likely.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// True once in `n`.
    pub(super) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform() {
        let mut stream = Stream::new([7; 32], 3);
        for n in [1, 2, 3, 7, 14] {
            let mut counts = vec![0u32; n];
            for _ in 0..7000 * n {
                counts[stream.below(n)] += 1;
            }
            // Five standard deviations of a binomial count of mean 7000.
            assert!(counts.iter().all(|count| count.abs_diff(7000) < 420), "{n}: {counts:?}");
        }
    }

    #[test]
    fn streams_differ_and_repeat() {
        let draws = |index| {
            let mut stream = Stream::new([1; 32], index);
            (0..8).map(|_| stream.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draws(5), draws(5));
        assert_ne!(draws(5), draws(6));
    }
}
