//! From pixels to the input of a network. Enters: mean and deviation of each channel, pixels, and the encoding of the
//! input. Leaves: floats `C H W` for training and simulation, or the table that the integer runtime looks pixels up in.
//! Refuses nothing: [`Network::check`](crate::network::Network::check) has seen both.
//!
//! Both are one function of one pixel ([`Preprocessing::value`]), so they cannot differ.

use crate::network::{Encoding, Preprocessing};

use super::Dataset;

/// Mean and standard deviation of each channel, red first, of pixels scaled to `0..=1`.
pub type Standard = ([f32; 3], [f32; 3]);

/// CIFAR-10's training images (the values that the GHN-2 code base uses).
pub const CIFAR10: Standard = ([0.491_399_68, 0.482_158_27, 0.446_531_24], [0.247_032_33, 0.243_485_05, 0.261_587_68]);

/// The 20,000 training images of [`shapes10`](super::shapes10) with seed 0.
pub const SHAPES10: Standard = ([0.499_389_83, 0.501_765_7, 0.497_542_38], [0.259_075_16, 0.280_945_5, 0.254_920_15]);

impl Preprocessing {
    /// From constants such as [`CIFAR10`].
    pub fn standard((mean, std): Standard) -> Self {
        Self { mean: mean.to_vec(), std: std.to_vec() }
    }

    /// The constants for data sets named `cifar10` or `shapes10`; for any other, measured on the images given.
    pub fn of(data: &Dataset) -> Self {
        match data.name() {
            "cifar10" => Self::standard(CIFAR10),
            "shapes10" => Self::standard(SHAPES10),
            _ => Self::measure(data),
        }
    }

    /// Measured over all pixels of all images. A channel with a single value gets deviation 1.
    pub fn measure(data: &Dataset) -> Self {
        // Sums of integers: exact, whatever the order.
        let (mut sum, mut squares) = ([0u64; 3], [0u64; 3]);
        for pixel in data.images().as_chunks::<3>().0 {
            for c in 0..3 {
                sum[c] += u64::from(pixel[c]);
                squares[c] += u64::from(pixel[c]).pow(2);
            }
        }
        let count = (data.images().len() / 3).max(1) as u64;
        let mean = sum.map(|sum| (sum as f64 / count as f64 / 255.0) as f32);
        let std = |c: usize| {
            // count^2 times the variance, still exact.
            match u128::from(count) * u128::from(squares[c]) - u128::from(sum[c]).pow(2) {
                0 => 1.0,
                scaled => ((scaled as f64).sqrt() / count as f64 / 255.0) as f32,
            }
        };
        Self { mean: mean.to_vec(), std: (0..3).map(std).collect() }
    }

    /// `(pixel / 255 - mean) / std` of channel `c`, in f32.
    pub fn value(&self, c: usize, pixel: u8) -> f32 {
        (f32::from(pixel) / 255.0 - self.mean[c]) / self.std[c]
    }

    /// `H W C` bytes to `C H W` values, into a buffer of the same length.
    ///
    /// # Panics
    /// If the lengths differ or are no multiple of the number of channels.
    pub fn normalize_into(&self, image: &[u8], values: &mut [f32]) {
        let channels = self.mean.len();
        assert!(
            image.len() == values.len() && image.len().is_multiple_of(channels),
            "{} bytes, {} values",
            image.len(),
            values.len()
        );
        for (c, plane) in values.chunks_exact_mut(image.len() / channels).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(image.chunks_exact(channels)) {
                *value = self.value(c, pixel[c]);
            }
        }
    }

    /// `H W C` bytes to `C H W` values.
    ///
    /// # Panics
    /// If the number of bytes is no multiple of the number of channels.
    pub fn normalize(&self, image: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; image.len()];
        self.normalize_into(image, &mut values);
        values
    }

    /// `C 256`: for each channel and pixel value the stored input integer, as the low byte of its two's complement
    /// (4- and 2-bit integers are not packed here).
    pub fn input_table(&self, input: &Encoding) -> Vec<u8> {
        let channels = 0..self.mean.len();
        channels.flat_map(|c| (0..=255).map(move |pixel| input.quantize(0, self.value(c, pixel)) as u8)).collect()
    }
}
