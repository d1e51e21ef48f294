//! How noisy the hypernetwork's gradient is, and where that comes from. Enters: the gradient of each of some networks on each of
//! some batches of images. Leaves: of the whole gradient or of a part, the squared length of its mean, and its variance by
//! networks, by batches, and by what only this network and this batch have together: a two-way layout with one value in each cell,
//! whose estimates are unbiased and so can fall below 0. Refuses nothing.

use std::ops::Range;

/// Gradients, summed up.
#[derive(Clone, Debug)]
pub struct Noise {
    squares: Vec<f64>,
    of_net: Vec<Vec<f64>>,
    of_batch: Vec<Vec<f64>>,
}

/// Squared lengths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variance {
    /// Of the mean over all networks and images.
    pub mean: f64,
    /// By which networks differ, whatever the images.
    pub nets: f64,
    /// By which batches differ, whatever the network.
    pub images: f64,
    /// The rest.
    pub both: f64,
}

impl Noise {
    /// Of so many networks and batches, at least two of each, and so many values in a gradient.
    ///
    /// # Panics
    /// With fewer.
    pub fn new(nets: usize, batches: usize, values: usize) -> Self {
        assert!(nets > 1 && batches > 1, "a variance is of two at least");
        let zeros = || vec![0.0; values];
        Self { squares: zeros(), of_net: vec![zeros(); nets], of_batch: vec![zeros(); batches] }
    }

    /// Adds the gradient of a network on a batch; every pair is added once.
    pub fn add(&mut self, net: usize, batch: usize, gradient: &[f32]) {
        let (of_net, of_batch) = (&mut self.of_net[net], &mut self.of_batch[batch]);
        for (i, g) in gradient.iter().map(|&g| f64::from(g)).enumerate() {
            self.squares[i] += g * g;
            of_net[i] += g;
            of_batch[i] += g;
        }
    }

    /// Of those values of the gradient.
    pub fn variance(&self, values: Range<usize>) -> Variance {
        let (nets, batches) = (self.of_net.len() as f64, self.of_batch.len() as f64);
        let cells = nets * batches;
        // Mean squares: of a cell, and of the means of each network, of each batch and of all.
        let cell = self.squares[values.clone()].iter().sum::<f64>() / cells;
        let mean_square = |sums: &[Vec<f64>], of: f64| {
            let squares = sums.iter().flat_map(|sums| &sums[values.clone()]).map(|sum| (sum / of).powi(2));
            squares.sum::<f64>() / sums.len() as f64
        };
        let (net, batch) = (mean_square(&self.of_net, batches), mean_square(&self.of_batch, nets));
        let total = |i: usize| self.of_net.iter().map(|sums| sums[i]).sum::<f64>() / cells;
        let all = values.clone().map(|i| total(i).powi(2)).sum::<f64>();
        let both = (cell - net - batch + all) * cells / ((nets - 1.0) * (batches - 1.0));
        let of_nets = (net - all) * nets / (nets - 1.0) - both / batches;
        let of_images = (batch - all) * batches / (batches - 1.0) - both / nets;
        let mean = all - of_nets / nets - of_images / batches - both / cells;
        Variance { mean, nets: of_nets, images: of_images, both }
    }
}

impl Variance {
    /// Of a step of so many networks that see the same images.
    pub fn shared(&self, nets: usize) -> f64 {
        self.images + (self.nets + self.both) / nets as f64
    }

    /// Of a step of so many networks that see images of their own.
    pub fn own(&self, nets: usize) -> f64 {
        (self.images + self.nets + self.both) / nets as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypernet::parameters::uniform;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn finds_what_was_put_in() {
        const VALUES: usize = 40_000;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        // Uniform with this variance.
        let mut draw = |variance: f32| {
            (0..VALUES).map(|_| (uniform(&mut rng) - 0.5) * (12.0 * variance).sqrt()).collect::<Vec<f32>>()
        };
        let (nets, batches) = (9, 7);
        let mean = draw(0.25);
        let of_net: Vec<_> = (0..nets).map(|_| draw(4.0)).collect();
        let of_batch: Vec<_> = (0..batches).map(|_| draw(1.0)).collect();
        let mut noise = Noise::new(nets, batches, VALUES);
        for (i, of_net) in of_net.iter().enumerate() {
            for (j, of_batch) in of_batch.iter().enumerate() {
                let both = draw(9.0);
                let gradient: Vec<f32> = (0..VALUES).map(|v| mean[v] + of_net[v] + of_batch[v] + both[v]).collect();
                noise.add(i, j, &gradient);
            }
        }
        for part in [0..VALUES / 2, 0..VALUES] {
            let found = noise.variance(part.clone());
            let each = |v: f64| v / part.len() as f64;
            for (name, found, expected) in [
                ("mean", found.mean, 0.25),
                ("nets", found.nets, 4.0),
                ("images", found.images, 1.0),
                ("both", found.both, 9.0),
            ] {
                assert!((each(found) - expected).abs() < 0.05 * (1.0 + expected), "{name}: {} {expected}", each(found));
            }
            assert!((each(found.shared(4)) - (1.0 + 13.0 / 4.0)).abs() < 0.2);
            assert!((each(found.own(4)) - 14.0 / 4.0).abs() < 0.2);
        }
    }
}
