//! Weights in the order and width of the flash image. Enters: integers as ONNX orders them. Leaves: bytes. Refuses nothing.

/// Rows of a convolution: `K C/groups R S` becomes, for each `K`, `R S C/groups`; a depthwise one becomes, for each tap
/// of `R S`, all `C`.
pub(super) fn convolution(weight: &[i16], out_channels: usize, taps: usize, depthwise: bool) -> Vec<Vec<i16>> {
    if depthwise {
        return (0..taps).map(|tap| every(taps, &weight[tap..]).collect()).collect();
    }
    let turned = |weight: &[i16]| {
        let mut row = Vec::with_capacity(weight.len());
        (0..taps).for_each(|tap| row.extend(every(taps, &weight[tap..])));
        row
    };
    weight.chunks_exact(weight.len() / out_channels).map(turned).collect()
}

/// The first value and every `step`th after it: of one tap, those of all channels.
fn every(step: usize, values: &[i16]) -> impl Iterator<Item = i16> {
    values.iter().step_by(step).copied()
}

/// Rows of a dense layer whose input is an image of `c` channels with `pixels` pixels each: columns go from `C H W` to
/// `H W C`. A vector (`pixels = 1`) keeps its order.
pub(super) fn dense(weight: &[i16], c: usize, pixels: usize) -> Vec<Vec<i16>> {
    let columns = c * pixels;
    let reorder = |row: &[i16]| (0..columns).map(|i| row[(i % c) * pixels + i / c]).collect();
    weight.chunks_exact(columns).map(reorder).collect()
}

/// Width that integers of `bits` bits are stored in: 2, 4 or 8.
pub(super) fn stored_bits(bits: u8) -> u8 {
    match bits {
        0..=2 => 2,
        3..=4 => 4,
        _ => 8,
    }
}

/// Bytes of rows that each start on a byte, `bits` (2, 4 or 8) an integer, `lift` above what is given, the first in the low bits.
pub(super) fn bytes(rows: &[Vec<i16>], bits: u8, lift: i16) -> Vec<u8> {
    let mask = (1u16 << bits) - 1;
    let pack = |part: &[i16]| part.iter().rev().fold(0u16, |byte, &q| byte << bits | ((q + lift) as u16 & mask)) as u8;
    let mut bytes = Vec::new();
    for row in rows {
        match bits {
            8 => bytes.extend(row.iter().map(|q| (q + lift) as u8)),
            _ => bytes.extend(row.chunks(8 / usize::from(bits)).map(pack)),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits_hold_the_first_and_rows_start_on_a_byte() {
        assert_eq!(bytes(&[vec![1, -2, 3], vec![4]], 4, 0), [0xe1, 0x03, 0x04]);
        assert_eq!(bytes(&[vec![0, 1, 2, 3, 1]], 2, 0), [0b1110_0100, 0b01]);
        assert_eq!(bytes(&[vec![-8, 7, 0]], 4, 8), [0xf0, 0x08]);
        assert_eq!(bytes(&[vec![-1, 200]], 8, 0), [255, 200]);
    }

    #[test]
    fn dense_columns_follow_the_pixels() {
        // C = 2, H W = 3: c0p0 c0p1 c0p2 c1p0 c1p1 c1p2.
        assert_eq!(dense(&[0, 1, 2, 10, 11, 12], 2, 3), [[0, 10, 1, 11, 2, 12]]);
    }

    #[test]
    fn convolutions_turn_inside_out() {
        // K = 2, C/groups = 2, one row of two taps.
        let weight = [0, 1, 10, 11, 20, 21, 30, 31];
        assert_eq!(convolution(&weight, 2, 2, false), [[0, 10, 1, 11], [20, 30, 21, 31]]);
        assert_eq!(convolution(&weight[..4], 2, 2, true), [[0, 10], [1, 11]]);
    }
}
