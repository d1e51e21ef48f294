//! Matrix products of row-major matrices on one thread. Enters: two matrices. Leaves: their product, added to what is
//! there. Refuses by panic, before anything is read: slices whose lengths do not fit.
#![allow(unsafe_code)]

/// `c += a * b` with `a` `M L`, `b` `L N`, `c` `M N`, all row-major; `M` follows from the length of `c`.
pub(super) fn accumulate(a: &[f32], b: &[f32], c: &mut [f32], [l, n]: [usize; 2]) {
    let m = c.len() / n;
    assert!(a.len() == m * l && b.len() == l * n && c.len() == m * n, "{} = {m}x{l} * {l}x{n}", c.len());
    let (row_l, row_n) = (l as isize, n as isize);
    // SAFETY: the three slices have, by the assertion, exactly the elements that the extents and strides describe, and
    // `c` is borrowed mutably, so that it overlaps neither `a` nor `b`.
    unsafe {
        gemm::gemm(
            m,
            n,
            l,
            c.as_mut_ptr(),
            1,
            row_n,
            true,
            a.as_ptr(),
            1,
            row_l,
            b.as_ptr(),
            1,
            row_n,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `a * a'` of a matrix with rows of `l` elements, row-major.
pub(crate) fn product(a: &[f32], l: usize) -> Vec<f32> {
    let m = a.len() / l;
    let transposed: Vec<f32> = (0..l).flat_map(|column| (0..m).map(move |row| a[row * l + column])).collect();
    let mut product = vec![0.0; m * m];
    accumulate(a, &transposed, &mut product, [l, m]);
    product
}
