//! Many pictures through the integer runtime on this machine. Enters: a flash image and pixels `N H W C`. Leaves: the class
//! or the stored logits of each. Refused: what the runtime refuses.

use anyhow::Result;
use rayon::prelude::*;
use runtime::host::Prepared;
use runtime::image::Image;

/// The class of each picture: the first of its largest logits.
pub(crate) fn classify(image: &[u8], pixels: &[u8]) -> Result<Vec<usize>> {
    let image = Image::check(image)?;
    let bytes: usize = image.input().shape().into_iter().product();
    pixels
        .par_chunks_exact(bytes)
        .map_init(|| Prepared::new(image), |session, picture| Ok(session.run_pixels(picture)?.argmax()))
        .collect()
}
