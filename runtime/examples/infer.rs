//! A program to count the instructions of, or to hold against another machine's. Enters: a flash image, a file of pictures one
//! after the other (`H W C` bytes each), the name of an executor, or nothing more: then their names, one a line, are all that
//! leaves. Leaves: the logits of each picture in hexadecimal, a line each. Asks for its parent's process number before each
//! picture, at its end, and with `--ops` after the input is stored and after each op: a call that costs nothing, and that an emulator can watch for.

use runtime::host::{Bytes, Executor, Prepared};
use runtime::image::{Image, Op};
use runtime::observe::Observer;
use std::error::Error;
use std::os::unix::process::parent_id;

/// Marks the end of each op, and of storing the input.
struct Marks;

impl Observer for Marks {
    fn input(&mut self, _: runtime::Output) {
        let _ = parent_id();
    }

    fn after(&mut self, _: &Op, _: runtime::Output) {
        let _ = parent_id();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (image, pictures, executor, ops) = match arguments[..] {
        [] => {
            Executor::all().iter().for_each(|executor| println!("{executor}"));
            return Ok(());
        }
        [image, pictures, executor] => (image, pictures, executor, false),
        [image, pictures, executor, "--ops"] => (image, pictures, executor, true),
        _ => return Err("expected: IMAGE PICTURES EXECUTOR [--ops]".into()),
    };
    let (file, pictures) = (Bytes::read(image.as_ref())?, std::fs::read(pictures)?);
    let image = Image::check(&file)?;
    let mut network = Prepared::with(image, executor.parse::<Executor>()?);
    let mut logits = Vec::new();
    for picture in pictures.chunks(image.input().len()) {
        let _ = parent_id();
        let output =
            if ops { network.run_pixels_observed(picture, &mut Marks)? } else { network.run_pixels(picture)? };
        let _ = parent_id();
        logits.push(output.bytes().to_vec());
    }
    for logits in logits {
        println!("{}", logits.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    Ok(())
}
