//! Many images at once. Enters: `N H W C` bytes. Leaves: logits `N K`, or whatever the caller sums up over the images.
//! Refuses: bytes that are no whole number of images.

use rayon::prelude::*;

use super::{ExecuteError, Executor, Workspace};

/// Images that a thread takes at a time at least: a workspace is made for each such run.
const RUN: usize = 16;

impl Executor<'_> {
    /// Logits of all images, `N K`; `images` is `N H W C`, as in [`Dataset::images`](crate::data::Dataset::images).
    ///
    /// # Errors
    /// [`ExecuteError::Images`] if the bytes are no whole number of images.
    pub fn logits(&self, images: &[u8]) -> Result<Vec<f32>, ExecuteError> {
        let size = self.image_size(images)?;
        let classes = self.shape(self.network.output).len();
        let mut logits = vec![0.0; images.len() / size * classes];
        let pairs = images.par_chunks_exact(size).zip(logits.par_chunks_exact_mut(classes));
        pairs.with_min_len(RUN).try_for_each_init(
            || self.workspace(),
            |workspace, (image, to)| {
                to.copy_from_slice(self.run(image, workspace)?);
                Ok::<_, ExecuteError>(())
            },
        )?;
        Ok(logits)
    }

    /// The class of each image: the index of its largest logit, the first of equals.
    ///
    /// # Errors
    /// [`ExecuteError::Images`] if the bytes are no whole number of images.
    pub fn classify(&self, images: &[u8]) -> Result<Vec<usize>, ExecuteError> {
        let classes = self.shape(self.network.output).len();
        Ok(self.logits(images)?.chunks_exact(classes).map(largest).collect())
    }

    /// Runs all images and sums up what `step` takes from each: it is called with the index of the image and all its
    /// activations. `merge` must not care about order, or the result would depend on the number of threads.
    ///
    /// # Errors
    /// [`ExecuteError::Images`] (as `E`), or the first error of `step`, by image.
    pub fn fold<T: Send, E: From<ExecuteError> + Send>(
        &self,
        images: &[u8],
        start: impl Fn() -> T + Sync + Send,
        step: impl Fn(&mut T, usize, &Workspace) -> Result<(), E> + Sync + Send,
        merge: impl Fn(T, T) -> T + Sync + Send,
    ) -> Result<T, E> {
        let size = self.image_size(images)?;
        let count = images.len() / size;
        // An order of its own for errors: the lowest image wins, whichever thread was first.
        let combine = |a: Result<T, (usize, E)>, b: Result<T, (usize, E)>| match (a, b) {
            (Ok(a), Ok(b)) => Ok(merge(a, b)),
            (Err(a), Err(b)) => Err(if a.0 <= b.0 { a } else { b }),
            (Err(e), _) | (_, Err(e)) => Err(e),
        };
        let ranges = (0..count.div_ceil(RUN)).into_par_iter().map(|i| i * RUN..count.min((i + 1) * RUN));
        ranges
            .map(|range| {
                let (mut sum, mut workspace) = (start(), self.workspace());
                for i in range {
                    let image = &images[i * size..][..size];
                    let run = self.run(image, &mut workspace).map(|_| ()).map_err(E::from);
                    run.and_then(|()| step(&mut sum, i, &workspace)).map_err(|e| (i, e))?;
                }
                Ok(sum)
            })
            .reduce(|| Ok(start()), combine)
            .map_err(|(_, e)| e)
    }

    /// Bytes of one image.
    fn image_size(&self, images: &[u8]) -> Result<usize, ExecuteError> {
        let size = self.shape(self.network.input).len();
        if images.is_empty() || !images.len().is_multiple_of(size) {
            return Err(self.wrong_size(images.len()));
        }
        Ok(size)
    }
}

/// Index of the largest value, the first of equals.
pub fn largest(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}
