//! The quantizer of an activation. Enters: an encoding. Leaves: values on its grid, and which values lie inside its limits.
//! Refuses nothing.

use exporter::network::Encoding;

/// One scale, one zero point, limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantizer {
    /// Step size, positive.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero_point: f32,
    /// Smallest and largest integer.
    pub limits: [f32; 2],
}

impl From<&Encoding> for Quantizer {
    /// Reads the one scale and zero point of an activation.
    fn from(encoding: &Encoding) -> Self {
        let (scale, zero_point) = encoding.channel(0);
        Self { scale, zero_point: zero_point as f32, limits: [encoding.qmin() as f32, encoding.qmax() as f32] }
    }
}

impl Quantizer {
    /// The integer of a value, if there were no limits.
    #[inline(always)]
    fn free(self, v: f32) -> f32 {
        (v / self.scale).round_ties_even() + self.zero_point
    }

    /// What the integer of a value stands for.
    #[inline(always)]
    pub(crate) fn fake(self, v: f32) -> f32 {
        let v = self.free(v);
        let v = if v < self.limits[0] { self.limits[0] } else { v };
        let v = if v > self.limits[1] { self.limits[1] } else { v };
        (v - self.zero_point) * self.scale
    }

    /// The smallest and the largest value whose integer is not clamped, exactly: comparing with them says what rounding would.
    pub(crate) fn inside(self) -> [f32; 2] {
        let low = first(|v| self.free(v) >= self.limits[0]);
        let high = first(|v| self.free(v) > self.limits[1]);
        [low, high.next_down()]
    }
}

/// The smallest value that a condition holds for which, once it holds, holds for all larger ones; infinite if it never does.
fn first(holds: impl Fn(f32) -> bool) -> f32 {
    // Numbers that are ordered as the floats are.
    let float = |key: i64| f32::from_bits((if key < 0 { key as i32 ^ i32::MAX } else { key as i32 }) as u32);
    let infinity = i64::from(f32::INFINITY.to_bits());
    let (mut low, mut high) = (-infinity - 1, infinity);
    while low < high {
        let middle = (low + high) >> 1;
        if holds(float(middle)) { high = middle } else { low = middle + 1 }
    }
    float(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_inside_are_those_that_are_not_clamped() {
        for (scale, zero_point, limits) in [
            (0.07, 9.0, [0.0, 15.0]),
            (1.0, 0.0, [0.0, 255.0]),
            (0.013, 255.0, [0.0, 255.0]),
            (3e-5, -128.0, [-128.0, 127.0]),
            (1e9, 1.0, [0.0, 3.0]),
        ] {
            let q = Quantizer { scale, zero_point, limits };
            let clamped = |v: f32| !(limits[0]..=limits[1]).contains(&q.free(v));
            let [low, high] = q.inside();
            assert!(!clamped(low) && clamped(low.next_down()), "{q:?}: {low}");
            assert!(!clamped(high) && clamped(high.next_up()), "{q:?}: {high}");
        }
    }

    #[test]
    fn limits_that_no_value_reaches_leave_nothing_inside() {
        let [low, high] = Quantizer { scale: f32::NAN, zero_point: 0.0, limits: [0.0, 1.0] }.inside();
        assert_eq!((low, high), (f32::INFINITY, f32::MAX));
    }
}
