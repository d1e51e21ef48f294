//! Images and labels in memory. Enters: bytes, labels and class names. Leaves: the same, indexed, cut into parts and
//! hashed. Refuses: lengths that do not fit and labels without a class.

use rayon::prelude::*;

use super::{DataError, choice, picture};

/// Labelled RGB images of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    name: String,
    height: usize,
    width: usize,
    classes: Vec<String>,
    labels: Vec<u16>,
    images: Vec<u8>,
    notes: Vec<String>,
}

impl Dataset {
    /// A data set from its parts: `images` is `N H W 3`, red first; `labels` has `N` indices into `classes`.
    ///
    /// # Errors
    /// [`DataError::Size`] if a side is not 1 to 4096; [`DataError::Dataset`] if there are no images, the lengths do
    /// not fit, or a label has no class.
    pub fn new(
        name: impl Into<String>,
        [height, width]: [usize; 2],
        classes: Vec<String>,
        labels: Vec<u16>,
        images: Vec<u8>,
    ) -> Result<Self, DataError> {
        let name = name.into();
        let fault = |reason| Err(DataError::Dataset { name: name.clone(), reason });
        picture::check_size([height, width])?;
        if labels.is_empty() {
            return fault("no image".into());
        }
        let (n, found) = (labels.len(), images.len());
        let expected = n * height * width * 3;
        if found != expected {
            let images = format!("{n} images of {height}x{width}");
            return fault(format!("found {found} bytes of pixels, expected {expected} for {images}"));
        }
        if let Some(i) = labels.iter().position(|&label| usize::from(label) >= classes.len()) {
            return fault(format!("image {i} has label {}, but there are {} classes", labels[i], classes.len()));
        }
        Ok(Self { name, height, width, classes, labels, images, notes: Vec::new() })
    }

    pub(super) fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// `cifar10`, `shapes10` or the folder's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image; only a [`subset`](Self::subset) can be empty.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels from left to right.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Class names; a label is an index into them.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The label of each image.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// All pixels, `N H W 3`.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// Image `i` as `H W 3`.
    ///
    /// # Panics
    /// If there is no image `i`.
    pub fn image(&self, i: usize) -> &[u8] {
        let bytes = self.height * self.width * 3;
        &self.images[i * bytes..(i + 1) * bytes]
    }

    /// What was found beside the images and not read, one sentence each, for people.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The images with these indices, in this order; an index may repeat.
    ///
    /// # Panics
    /// If an index is not below [`Self::len`].
    pub fn subset(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let (mut labels, mut images) = (Vec::new(), Vec::new());
        for i in indices {
            labels.push(self.labels[i]);
            images.extend_from_slice(self.image(i));
        }
        Self {
            name: self.name.clone(),
            classes: self.classes.clone(),
            notes: self.notes.clone(),
            labels,
            images,
            ..*self
        }
    }

    /// `count` images, or all if there are fewer, taken from the classes in turn: the first of each class, then the second
    /// of each. Whatever order a data set is in, a part of it then stands for the whole.
    pub fn sample(&self, count: usize) -> Self {
        self.subset(choice::in_turns(&self.labels).into_iter().take(count))
    }

    /// Every image resized as [`super::read_image`] does.
    ///
    /// # Errors
    /// [`DataError::Size`] if a side is not 1 to 4096.
    pub fn resized(&self, size: [usize; 2]) -> Result<Self, DataError> {
        picture::check_size(size)?;
        let here = [self.height, self.width];
        let resize = |image: &[u8]| picture::resize_bytes(image.to_vec(), here, size);
        let images = self.images.par_chunks_exact(self.height * self.width * 3).flat_map_iter(resize).collect();
        let [height, width] = size;
        Ok(Self {
            name: self.name.clone(),
            height,
            width,
            classes: self.classes.clone(),
            labels: self.labels.clone(),
            images,
            notes: self.notes.clone(),
        })
    }

    /// Cuts off a share of each class: `(rest, held out)`, both in the order of this data set. Which images are held
    /// out depends on the labels, the share and the seed alone.
    ///
    /// A class of `n` images gives `n * share` of them, rounded, but at least one and at most `n - 1`.
    ///
    /// # Errors
    /// [`DataError::Dataset`] if the share is not between 0 and 1 (exclusive) or a class has a single image.
    pub fn hold_out(&self, share: f64, seed: u64) -> Result<(Self, Self), DataError> {
        let held = choice::held_out(&self.labels, &self.classes, share, seed)
            .map_err(|reason| DataError::Dataset { name: self.name.clone(), reason })?;
        let part = |wanted: bool| self.subset((0..self.len()).filter(|&i| held[i] == wanted));
        Ok((part(false), part(true)))
    }

    /// BLAKE3 of size, class names, labels and pixels, as hex: the same for the same content wherever it was read from.
    pub fn content_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"intact data set 1");
        for extent in [self.height, self.width, self.classes.len(), self.len()] {
            hasher.update(&(extent as u64).to_le_bytes());
        }
        for class in &self.classes {
            hasher.update(&(class.len() as u64).to_le_bytes());
            hasher.update(class.as_bytes());
        }
        for label in &self.labels {
            hasher.update(&label.to_le_bytes());
        }
        hasher.update(&self.images);
        hasher.finalize().to_hex().to_string()
    }
}
