//! Compiles a kernel for every vector width of the machine's family and picks one at run time. Enters: a function over
//! slices. Leaves: the same function, vectorized. Nothing is refused; an unknown machine gets the plain version.

/// Declares functions whose bodies are compiled for each instruction set that `pulp` knows.
macro_rules! simd {
    ($(#[$doc:meta])* fn $name:ident<$l:lifetime>($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "a kernel takes its geometry as numbers")]
        fn $name<$l>($($arg: $type),*) $(-> $out)? {
            struct Kernel<$l> { $($arg: $type,)* unused: std::marker::PhantomData<&$l ()> }
            impl<$l> pulp::WithSimd for Kernel<$l> {
                type Output = simd!(@out $($out)?);
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
                    let Self { $($arg,)* unused: _ } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Kernel { $($arg,)* unused: std::marker::PhantomData })
        }
    };
    (@out) => { () };
    (@out $out:ty) => { $out };
}
pub(crate) use simd;

/// Lanes of the accumulators: enough to hide the latency of an addition on 512-bit vectors, and one fixed order of
/// summation whatever the width.
pub(crate) const LANES: usize = 32;

/// Adds up lanes in a fixed order, a tree, so that no addition waits for all before it.
#[inline(always)]
pub(crate) fn fold(lanes: &[f32; LANES]) -> f64 {
    const PART: usize = LANES / 4;
    let mut sums = [0f64; PART];
    for i in 0..PART {
        let (a, b) = (f64::from(lanes[i]), f64::from(lanes[PART + i]));
        let (c, d) = (f64::from(lanes[2 * PART + i]), f64::from(lanes[3 * PART + i]));
        sums[i] = (a + b) + (c + d);
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}
