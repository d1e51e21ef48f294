//! The sum of two tensors. Enters: two stored integers. Leaves: one. The multipliers and the shift come from the
//! exporter; their limits keep the sum within i32.

/// Constants of an Add: `acc = (a - za) * A + (b - zb) * B`, `y = clamp(RNE(acc / 2^shift) + zy, lo, hi)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddRescale {
    /// `za`, `zb`, within the limits of an encoding of at most 8 bits.
    pub input_zero_points: [i32; 2],
    /// `A`, `B`: `0 ..= `[`ADD_MULTIPLIER_MAX`](super::ADD_MULTIPLIER_MAX).
    pub multipliers: [i32; 2],
    /// `0 ..= `[`ADD_SHIFT_MAX`](super::ADD_SHIFT_MAX).
    pub shift: u32,
    /// `zy`.
    pub zero_point: i32,
    /// `lo`, `hi`.
    pub clamp: [i32; 2],
}

impl AddRescale {
    /// The stored integer, within the clamp.
    #[inline]
    pub fn apply(self, a: i32, b: i32) -> i32 {
        // 2 * 255 * 2^22 < 2^31
        let acc = (a - self.input_zero_points[0]) * self.multipliers[0]
            + (b - self.input_zero_points[1]) * self.multipliers[1];
        let floor = acc >> self.shift;
        let rest = acc & ((1 << self.shift) - 1);
        // Up when the rest is above a half, or a half and the floor odd. Without a shift the rest is 0 and stays below.
        let half = ((1 << self.shift) >> 1).max(1);
        let q = floor + i32::from(rest + (floor & 1) > half);
        (q + self.zero_point).max(self.clamp[0]).min(self.clamp[1])
    }
}
