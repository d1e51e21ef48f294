//! Everything one does with an image that came from anywhere: check it, print it, run it.

use crate::{
    Image, ImageError, Kernels, Session,
    host::{Executor, Isa, Origin, Packing, Prepared, pack},
};

/// Arena and multiply-accumulates up to which an image is run: hostile ones may ask for gigabytes and hours.
const LIMITS: (usize, u64) = (1 << 15, 1 << 18);

/// Checks `bytes`, prints the image and runs it with all kernels.
///
/// # Errors
/// That of the check.
///
/// # Panics
/// When anything fails on an image that the check accepted, or two kernels differ: a defect, which tests and the fuzz
/// target look for.
pub fn exercise(bytes: &[u8]) -> Result<(), ImageError> {
    let image = Image::check(bytes)?;
    assert!(!image.to_string().is_empty());
    let macs = image.ops().map(|op| op.macs()).fold(0, u64::saturating_add);
    if image.arena_bytes() > LIMITS.0 || macs > LIMITS.1 {
        return Ok(());
    }
    let pixels: Vec<u8> = (0..image.input().len()).map(|i| (i * 89 + i / 7) as u8).collect();
    let logits = [(Kernels::Reference, 0), (Kernels::Portable, 0xaa)].map(|(kernels, filler)| {
        let mut arena = vec![filler; image.arena_bytes()];
        let mut session =
            Session::new(image, &mut arena).expect("an arena of the size asked for").with_kernels(kernels);
        let output = session.run_pixels(&pixels).expect("a picture of the size asked for");
        assert!(output.argmax() < output.len());
        output.bytes().to_vec()
    });
    assert_eq!(logits[0], logits[1], "reference and portable kernels");
    // Weights that the image holds packed may be others than those it holds plainly: then they give other integers, and no harm is done.
    let packings: Vec<Packing> = image.packed().map(|packed| packed.packing).collect();
    let sound = packings.is_empty() || pack(bytes, &packings).is_ok_and(|packed| packed == bytes);
    for isa in Isa::all() {
        let mut prepared = Prepared::with(image, Executor::Simd(isa));
        let origin = prepared.origin();
        let output = prepared.run_pixels(&pixels).expect("a picture of the size asked for");
        assert!(output.argmax() < output.len());
        if sound || origin != Origin::Image {
            assert_eq!(output.bytes(), logits[0], "{} kernels, {origin}", isa.name());
        }
    }
    Ok(())
}
