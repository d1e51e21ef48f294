//! Both requantizers against each other, and each against a third computation that shares no code with them.

use super::*;
use proptest::prelude::*;

/// The contract as it is written: binary32 arithmetic of the standard library.
fn as_written(acc: i32, m: f32, zero_point: i32, [low, high]: [i32; 2]) -> i32 {
    ((acc as f32 * m).round_ties_even() as i64 + i64::from(zero_point)).clamp(low.into(), high.into()) as i32
}

#[track_caller]
fn all_agree(acc: i32, m: f32, zero_point: i32, clamp: [i32; 2]) {
    let expected = as_written(acc, m, zero_point, clamp);
    let float = FloatRequantizer::new(m, zero_point, clamp).apply(acc);
    let integer = IntegerRequantizer::new(m, zero_point, clamp).apply(acc);
    assert!(
        float == expected && integer == expected,
        "acc {acc} M {m:e} ({:#010x}) zy {zero_point} clamp {clamp:?}: float {float}, integer {integer}, expected {expected}",
        m.to_bits()
    );
}

const U8: [i32; 2] = [0, 255];
const I8: [i32; 2] = [-128, 127];

/// Multipliers of all magnitudes, with mantissas that round up, round down and tie.
fn sampled_multipliers() -> impl Iterator<Item = f32> {
    (1..=157u32).flat_map(|exponent| {
        [0, 1, 0x40_0000, 0x55_5555, 0x7f_ffff].map(|mantissa| f32::from_bits(exponent << 23 | mantissa))
    })
}

#[test]
fn every_multiplier_of_the_samples_is_allowed() {
    assert!(sampled_multipliers().all(is_multiplier));
    for m in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 2.0, 2_147_483_648.0] {
        assert!(!is_multiplier(m), "{m:e}");
    }
}

#[test]
fn wide_ranges_of_accumulators_for_sampled_multipliers() {
    for m in [0.5, 0.25, 1.0 / 3.0, 1e-3, 0.000_976_562_5, 0.017_531_2, 1.5, 3.0e-6, 255.0] {
        for acc in -70_000..=70_000 {
            all_agree(acc, m, 3, U8);
            all_agree(acc, m, -5, I8);
        }
    }
}

#[test]
fn every_magnitude_of_multiplier_and_accumulator() {
    for m in sampled_multipliers() {
        for bit in 0..32 {
            for near in -2i64..=2 {
                for acc in [(1i64 << bit) + near, -(1i64 << bit) + near] {
                    let acc = acc.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
                    all_agree(acc, m, 0, I8);
                    all_agree(acc, m, 255, U8);
                    all_agree(acc, m, 0, U8);
                }
            }
        }
    }
}

#[test]
fn every_mantissa_for_sampled_accumulators() {
    for mantissa in 0..1u32 << 23 {
        let m = f32::from_bits(119 << 23 | mantissa);
        for acc in [128, 12_345, -31_999, 16_777_217] {
            all_agree(acc, m, 7, I8);
        }
    }
}

/// For every mantissa the accumulators whose products lie on both sides of a tie, as close as they come: of another tie, another
/// multiplier's magnitude, each time.
#[test]
fn every_mantissa_at_its_ties() {
    for mantissa in 0..1u32 << 23 {
        let m = f32::from_bits((111 + mantissa % 12) << 23 | mantissa);
        let tie = f64::from(mantissa % 251) + 0.5;
        let acc = (tie / f64::from(m)) as i32;
        all_agree(acc, m, 0, U8);
        all_agree(-acc - 1, m, 127, I8);
    }
}

/// Any multiplier that is allowed, magnitudes evenly likely.
fn multiplier() -> impl Strategy<Value = f32> {
    (1u32..=157, 0u32..1 << 23).prop_map(|(exponent, mantissa)| f32::from_bits(exponent << 23 | mantissa))
}

fn encoding_and_clamp() -> impl Strategy<Value = (i32, [i32; 2])> {
    (2u8..=8, any::<bool>()).prop_flat_map(|(bits, signed)| {
        let (low, high) = limits(bits, signed);
        (low..=high, low..=high, low..=high).prop_map(|(zero_point, a, b)| (zero_point, [a.min(b), a.max(b)]))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_accumulator_and_multiplier(acc: i32, m in multiplier(), (zero_point, clamp) in encoding_and_clamp()) {
        all_agree(acc, m, zero_point, clamp);
    }

    /// Accumulators whose product with the multiplier is about half way between two integers of the output.
    #[test]
    fn near_ties(steps in -300i32..300, m in 1e-7f32..2.0, off in -2i32..=2, (zero_point, clamp) in encoding_and_clamp()) {
        let acc = ((f64::from(steps) + 0.5) / f64::from(m)).round() as i32;
        all_agree(acc.saturating_add(off), m, zero_point, clamp);
    }

    /// Exact ties: a power of two as multiplier.
    #[test]
    fn exact_ties(odd in -600i32..600, shift in 1u32..20, (zero_point, clamp) in encoding_and_clamp()) {
        let acc = (2 * odd + 1) << (shift - 1);
        all_agree(acc, 1.0 / (1u32 << shift) as f32, zero_point, clamp);
    }

    /// The sum as the contract writes it, in i128 and with a division.
    #[test]
    fn add_is_as_written(
        a: u8, b: u8, signed: bool, za in 0..=255i32, zb in 0..=255i32,
        multipliers in [0..=ADD_MULTIPLIER_MAX, 0..=ADD_MULTIPLIER_MAX], shift in 0..=u32::from(ADD_SHIFT_MAX),
        (zero_point, clamp) in encoding_and_clamp()
    ) {
        let low = limits(8, signed).0;
        let add = AddRescale { input_zero_points: [za + low, zb + low], multipliers, shift, zero_point, clamp };
        let (a, b) = (widen(a, signed), widen(b, signed));
        let acc = i128::from(a - za - low) * i128::from(multipliers[0]) + i128::from(b - zb - low) * i128::from(multipliers[1]);
        let (unit, floor) = (1i128 << shift, acc.div_euclid(1 << shift));
        let twice = 2 * acc.rem_euclid(unit);
        let q = floor + i128::from(twice > unit || (twice == unit && floor % 2 != 0));
        let expected = (q + i128::from(zero_point)).clamp(clamp[0].into(), clamp[1].into());
        prop_assert_eq!(i128::from(add.apply(a, b)), expected);
    }
}

#[test]
fn rounding_shift_at_its_edges() {
    let cases = [
        (0, 0, 0),
        (5, 0, 5),
        (1, 1, 0),
        (2, 1, 1),
        (3, 1, 2),
        (5, 1, 2),
        (7, 1, 4),
        (6, 2, 2),
        (10, 2, 2),
        (u64::MAX, 63, 2),
        (1 << 63, 64, 0),
        ((1 << 63) + 1, 64, 1),
        (u64::MAX, 65, 0),
        (u64::MAX, 200, 0),
    ];
    for (v, s, expected) in cases {
        assert_eq!(rne_shr(v, s), expected, "{v} >> {s}");
    }
}

#[test]
fn bounds_of_encodings() {
    assert_eq!(limits(8, true), (-128, 127));
    assert_eq!(limits(2, false), (0, 3));
    assert_eq!(reach(8, false, 0), 255);
    assert_eq!(reach(8, true, 127), 255);
    assert_eq!(reach(4, false, 8), 8);
    assert_eq!(accumulator_bound(-10, 255, [-3, 2, 0].into_iter()), 10 + 255 * 5);
}
