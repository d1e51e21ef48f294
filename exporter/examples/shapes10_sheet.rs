//! Writes a contact sheet of `shapes10`: one row for each class, each picture doubled in size.
//!
//! `cargo run --release -p intact-exporter --example shapes10_sheet -- sheet.png`

use std::error::Error;

use exporter::data::{Split, shapes10};
use image::imageops::{self, FilterType};
use image::{ImageFormat, RgbImage};

const COLUMNS: usize = 16;
const ZOOM: u32 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: shapes10_sheet <file.png>")?;
    let side = shapes10::SIDE as u32;
    let classes = shapes10::CLASSES.len();
    let data = shapes10::draw(0, Split::Test, classes * COLUMNS)?;
    let mut sheet = RgbImage::new(COLUMNS as u32 * side, classes as u32 * side);
    for i in 0..data.len() {
        let picture = RgbImage::from_raw(side, side, data.image(i).to_vec()).ok_or("an image of another size")?;
        // Image i has class i mod 10.
        let (row, column) = (i % classes, i / classes);
        imageops::replace(&mut sheet, &picture, (column as u32 * side).into(), (row as u32 * side).into());
    }
    let size = (sheet.width() * ZOOM, sheet.height() * ZOOM);
    imageops::resize(&sheet, size.0, size.1, FilterType::Nearest).save_with_format(&path, ImageFormat::Png)?;
    eprintln!("{path}: {COLUMNS} pictures of each of {}", data.classes().join(", "));
    Ok(())
}
