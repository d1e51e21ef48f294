//! What dense layers multiply on a Cortex-M. Enters: two slices of bytes. Leaves: the sum of their products. Refuses nothing.

/// Two slices of one length.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Factors<'a> {
    /// Inputs, and weights of 8 bits.
    pub(in crate::kernels) bytes: [&'a [u8]; 2],
    /// Whether they are two's complement.
    pub(in crate::kernels) signed: [bool; 2],
    /// What is subtracted from each.
    pub(in crate::kernels) zero_points: [i32; 2],
}

impl Factors<'_> {
    /// `sum (x - zx) (w - zw)`, wrapping; one loop for bytes of every sign, whose top bits are flipped where they are signed.
    #[cfg(not(intact_mve))]
    pub(in crate::kernels) fn dot(&self) -> i32 {
        let flips = self.signed.map(|signed| if signed { 0x80 } else { 0 });
        let zeros = [0, 1].map(|i| self.zero_points[i] + i32::from(flips[i]));
        let centred = |byte: &u8, i: usize| i32::from(byte ^ flips[i]) - zeros[i];
        let products = self.bytes[0].iter().zip(self.bytes[1]).map(|(x, w)| centred(x, 0) * centred(w, 1));
        products.fold(0, i32::wrapping_add)
    }
}
