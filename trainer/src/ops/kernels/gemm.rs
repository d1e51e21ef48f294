//! Matrix product, the one place of this crate that needs `unsafe`: the `gemm` crate takes raw pointers. Enters: slices
//! with strides. Leaves: the product, written or added. Panics when a stride leads out of a slice, before the call.
//!
//! One call runs on one thread: callers split the work, so that a result never depends on the number of threads.

#![allow(unsafe_code)]

/// A read-only matrix inside a slice.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// Element `(i, j)` is `data[i * row + j * column]`.
    pub data: &'a [f32],
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one column to the next.
    pub column: usize,
}

impl Matrix<'_> {
    /// Whether a matrix of `rows` times `columns` lies inside the slice.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        (rows - 1) * self.row + (columns - 1) * self.column < self.data.len()
    }
}

/// `dst[m x n] (+)= a[m x k] * b[k x n]`; `dst` is row-major with `stride` elements from one row to the next.
pub(crate) fn gemm(
    [m, n, k]: [usize; 3],
    dst: &mut [f32],
    stride: usize,
    accumulate: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(k > 0 && n <= stride, "product over {k} elements into rows {stride} apart");
    assert!((m - 1) * stride + n <= dst.len() && a.holds(m, k) && b.holds(k, n), "matrix larger than its slice");
    // SAFETY: the assertions above bound every index that the strides can reach in the three slices, `dst` is
    // borrowed exclusively, rows of `dst` do not overlap because `n <= stride`, and slices are valid for their lifetime.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
