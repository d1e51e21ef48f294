//! How much memory a network takes on a host. Enters: a flash image, the name of an executor. Leaves: bytes on the heap after the
//! file was read, after the network was prepared, and the most there were in between; and where the weights lie.
#![allow(unsafe_code, reason = "an allocator that counts")]

use runtime::host::{Bytes, Executor, Prepared};
use runtime::image::Image;
use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's, with a count.
struct Counting;

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, executor] = arguments.as_slice() else { return Err("expected: IMAGE EXECUTOR".into()) };
    let executor: Executor = executor.parse()?;
    let before = LIVE.load(Relaxed);
    let file = Bytes::read(image.as_ref())?;
    let read = LIVE.load(Relaxed) - before;
    let network = Prepared::with(Image::check(&file)?, executor);
    let [prepared, most] = [&LIVE, &MOST].map(|count| count.load(Relaxed) - before);
    println!("{executor}: file {read}, prepared {prepared}, at most {most}; {}", network.origin());
    Ok(())
}
