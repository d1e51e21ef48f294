//! Single picture files of every kind.

use std::fs;

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};

use crate::data::read_image;

fn read(picture: impl Into<DynamicImage>, height: usize, width: usize) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    picture.into().save_with_format(file.path(), ImageFormat::Png).unwrap();
    read_image(file.path(), height, width).unwrap()
}

#[test]
fn every_colour_type_becomes_rgb() {
    assert_eq!(read(GrayImage::from_pixel(2, 1, Luma([77])), 1, 2), [77; 6]);
    let deep = ImageBuffer::from_pixel(1, 1, Rgb([0xffffu16, 0x8080, 0]));
    assert_eq!(read(deep, 1, 1), [255, 128, 0]);
    let transparent = ImageBuffer::from_fn(3, 1, |x, _| Rgba([10u8, 20, 30, [255, 0, 128][x as usize]]));
    assert_eq!(read(transparent, 1, 3), [10, 20, 30, 255, 255, 255, 132, 137, 142]);
    assert_eq!(read(ImageBuffer::from_pixel(1, 1, LumaA([100u8, 0])), 1, 1), [255; 3]);
}

#[test]
fn resizing_averages_what_it_covers_and_cuts_nothing_off() {
    // Left half black, right half white.
    let halves = RgbImage::from_fn(64, 20, |x, _| Rgb([if x < 32 { 0 } else { 255 }; 3]));
    let small = read(halves, 10, 4);
    assert_eq!(small.len(), 10 * 4 * 3);
    let row: Vec<u8> = small[..12].iter().step_by(3).copied().collect();
    assert!(row[0] == 0 && row[3] == 255 && u16::from(row[1]) + u16::from(row[2]) == 255, "{row:?}");
    assert!(row.is_sorted(), "{row:?}");
}

#[test]
fn the_orientation_in_exif_is_applied() {
    // Left red, right blue, to be turned by 180 degrees (orientation 3).
    let picture = RgbImage::from_fn(32, 16, |x, _| Rgb(if x < 16 { [255, 0, 0] } else { [0, 0, 255] }));
    let mut jpeg = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let tiff = [&b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"[..]].concat();
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1, 0, tiff.len() as u8 + 2];
    bytes.extend(tiff);
    bytes.extend(&jpeg.get_ref()[2..]);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let pixels = read_image(file.path(), 16, 32).unwrap();
    assert!(pixels[2] > 200 && pixels[0] < 50, "the first pixel is {:?}, expected blue", &pixels[..3]);
}

#[test]
fn a_jpeg_cut_anywhere_is_refused_even_with_a_thumbnail() {
    let picture = RgbImage::from_fn(40, 40, |x, y| Rgb([(x * 6) as u8, (y * 6) as u8, (x * y) as u8]));
    let mut jpeg = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    // An APP9 segment that holds an end-of-image marker, as thumbnails do.
    let with_thumbnail = [&[0xff, 0xd8, 0xff, 0xe9, 0, 4, 0xff, 0xd9], &jpeg[2..]].concat();
    let file = tempfile::NamedTempFile::new().unwrap();
    let read = |bytes: &[u8]| {
        fs::write(file.path(), bytes).unwrap();
        read_image(file.path(), 8, 8)
    };
    assert!(read(&with_thumbnail).is_ok());
    assert!(read(&[&with_thumbnail[..], b"trailing bytes"].concat()).is_ok());
    for length in 0..with_thumbnail.len() {
        assert!(read(&with_thumbnail[..length]).is_err(), "{length} of {} bytes", with_thumbnail.len());
    }
}

#[test]
fn a_missing_picture_and_an_impossible_size_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.png");
    let error = read_image(&path, 8, 8).unwrap_err().to_string();
    let expected = format!("cannot read the image `{}`: No such file or directory (os error 2)", path.display());
    assert_eq!(error, expected);
    let error = read_image(&path, 8, 5000).unwrap_err().to_string();
    assert_eq!(error, "found a size of 8x5000 pixels, expected 1x1 to 4096x4096");
}
