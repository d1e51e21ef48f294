//! One network on one Cortex-M: the flash image in flash, the arena a static array of exactly the size that the image asks for,
//! no heap. Enters: pictures, through semihosting. Leaves: logits and, if asked for, the CRC-32 of each op's output, ticks of
//! each inference and of each op; at last the stack's high-water mark. Refused: a request that does not fit the network.
//! A panic or a fault of the core ends the program with a message and an exit code other than 0.
//!
//! What is said to the host, byte by byte, is in `protocol.rs`, which the host compiles too.

#![no_std]
#![no_main]

mod host;
mod machine;
mod observe;
#[path = "../../src/protocol.rs"]
#[allow(dead_code, reason = "the host's half of it")]
mod protocol;

use cortex_m_rt::entry;
use host::{Host, Problem};
use observe::{Sums, Ticks};
use protocol::{COUNT, CRC, Drill, EACH, Farewell, Greeting, Request};
use runtime::exec::Session;
use runtime::image::Image;
use runtime::observe::Observer;

include!(concat!(env!("OUT_DIR"), "/sizes.rs"));

/// Bytes at a multiple of 16.
#[repr(C, align(16))]
struct Aligned<T>(T);

/// The network, read where it lies. The host looks for it, and for arena and pixels, by name in the linked program.
static INTACT_MODEL: Aligned<[u8; IMAGE_BYTES]> = Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/model.intact")));

// `entry` turns the two variables into exclusive references: it runs once.
#[entry]
fn main() -> ! {
    static mut INTACT_ARENA: Aligned<[u8; ARENA_BYTES]> = Aligned([0; ARENA_BYTES]);
    static mut INTACT_PIXELS: [u8; PIXEL_BYTES] = [0; PIXEL_BYTES];
    match serve(&INTACT_MODEL.0, &mut INTACT_ARENA.0, INTACT_PIXELS) {
        Ok(()) => host::done(),
        Err(problem) => host::give_up(&problem),
    }
}

fn serve(model: &[u8], arena: &mut [u8], pixels: &mut [u8]) -> Result<(), Problem> {
    let mut host = Host::open()?;
    let mut bytes = [0; Request::BYTES];
    host.read(&mut bytes)?;
    let request = Request::parse(&bytes).ok_or(Problem::Refused("the request is none of this version"))?;
    if request.pixels as usize != pixels.len() {
        return Err(Problem::Refused("the pictures are not of the network's size"));
    }
    let image = Image::known(model, IMAGE_CRC).map_err(|e| Problem::Image(e.words()))?;
    let mut session =
        Session::new(image, arena).map_err(|_| Problem::Refused("the arena is smaller than the image asks for"))?;
    drill(request.drill);
    host.write(&greeting(image, &request).emit())?;
    for _ in 0..request.images {
        host.read(pixels)?;
        picture(&mut host, &mut session, pixels, request.flags)?;
    }
    let [stack_used, stack_size] = machine::stack();
    host.write(&Farewell { stack_used, stack_size }.emit())
}

/// Counts the loop of known length, and what counting itself costs.
fn greeting(image: Image, request: &Request) -> Greeting {
    machine::start_clock();
    let idle_ticks = machine::ticks() as u32;
    machine::start_clock();
    machine::spin(request.calibration);
    let calibration_ticks = machine::ticks();
    let (logits, ops) = (image.output().len() as u32, image.ops().len() as u32);
    Greeting { logits, ops, flags: request.flags, calibration_ticks, idle_ticks }
}

/// Runs one picture, once for each thing that is wanted of it, and tells the host.
fn picture(host: &mut Host, session: &mut Session, pixels: &[u8], flags: u32) -> Result<(), Problem> {
    if flags & CRC != 0 {
        let mut sums = Sums::new(host);
        let logits = run(session, pixels, &mut sums)?;
        sums.told?;
        host.write(logits)?;
    }
    if flags & EACH != 0 {
        let mut ticks = Ticks::new(host);
        let logits = run(session, pixels, &mut ticks)?;
        ticks.told?;
        host.write(logits)?;
    }
    if flags & COUNT != 0 {
        machine::start_clock();
        let logits = run(session, pixels, &mut ())?;
        let ticks = machine::ticks();
        host.write(&ticks.to_le_bytes())?;
        host.write(logits)?;
    }
    Ok(())
}

/// One inference. The observer is a trait object, and this function no part of its callers, so that the kernels are in flash
/// once and not once for each observer; that costs a call or two for each op.
#[inline(never)]
fn run<'s>(session: &'s mut Session, pixels: &[u8], mut observer: &mut dyn Observer) -> Result<&'s [u8], Problem> {
    let logits = session.run_pixels_observed(pixels, &mut observer);
    logits.map(|l| l.bytes()).map_err(|_| Problem::Refused("the pictures are not of the network's size"))
}

/// The accident that a test asks for.
fn drill(number: u32) {
    match number {
        n if n == Drill::None as u32 => {}
        n if n == Drill::Fault as u32 => machine::fault(),
        n if n == Drill::Hang as u32 => loop {
            machine::spin(1000);
        },
        n if n == Drill::Overflow as u32 => _ = machine::overflow(),
        n => panic!("drill {n}"),
    }
}
