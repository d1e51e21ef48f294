//! What a Cortex-M has and safe Rust does not reach: the counter SysTick, the painted stack, a loop of known length. The one
//! module of the firmware with unsafe code. Enters: nothing. Leaves: ticks and bytes. Refuses nothing.

#![allow(unsafe_code, reason = "device registers, linker symbols and assembly")]

use core::arch::asm;
use core::ptr::{addr_of, read_volatile, write_volatile};
use core::sync::atomic::{AtomicU32, Ordering, compiler_fence};
use cortex_m_rt::{ExceptionFrame, STACK_PAINT_VALUE, exception};

/// SysTick, control and status: counter on, exception on, clock of the core.
const SYST_CSR: *mut u32 = 0xe000_e010 as *mut u32;
/// SysTick, value after zero.
const SYST_RVR: *mut u32 = 0xe000_e014 as *mut u32;
/// SysTick, current value: counts down.
const SYST_CVR: *mut u32 = 0xe000_e018 as *mut u32;
/// Interrupt control and state; bit 26: SysTick is pending.
const ICSR: *const u32 = 0xe000_ed04 as *const u32;
const PENDSTSET: u32 = 1 << 26;
/// Bits of the counter.
const WIDTH: u32 = 24;
const MASK: u32 = (1 << WIDTH) - 1;

/// How often the counter has reached zero.
static WRAPS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    // Only this handler writes, so a load and a store do, without the retry loop of an exclusive pair.
    WRAPS.store(WRAPS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

// Unsafe because cortex-m-rt wants it so: it may run at any point of the program. It touches nothing of it.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    crate::host::fault(frame.pc(), frame.lr())
}

/// Starts the counter, or starts it anew: it then reaches zero at the same places in what is counted, wherever that lies.
#[inline(never)]
pub fn start_clock() {
    // SAFETY: the three registers exist on every Cortex-M at these addresses (ARMv7-M, B3.3; on ARMv6-M where the maker has put one); nothing else touches them.
    unsafe {
        write_volatile(SYST_RVR, MASK);
        write_volatile(SYST_CVR, 0);
        write_volatile(SYST_CSR, 0b111);
    }
    WRAPS.store(0, Ordering::Relaxed);
}

/// Ticks since the start. The counter goes from its greatest value down to zero, and raises the exception when it gets there.
#[inline(never)]
pub fn ticks() -> u64 {
    loop {
        let before = WRAPS.load(Ordering::Relaxed);
        // SAFETY: reading these registers of every Cortex-M changes nothing but the flag COUNTFLAG, which nobody reads.
        let (value, pending) = unsafe { (read_volatile(SYST_CVR), read_volatile(ICSR) & PENDSTSET != 0) };
        compiler_fence(Ordering::SeqCst);
        if !pending && WRAPS.load(Ordering::Relaxed) == before {
            return (u64::from(before) << WIDTH) + u64::from(value.wrapping_neg() & MASK);
        }
    }
}

/// Executes `instructions` instructions, a multiple of 2, and the few of a call.
#[inline(never)]
pub fn spin(instructions: u32) {
    let rounds = instructions / 2;
    if rounds > 0 {
        // SAFETY: the loop changes nothing but its own register and the flags.
        unsafe { asm!("2:", "subs {0}, {0}, #1", "bne 2b", inout(reg) rounds => _, options(nomem, nostack)) };
    }
}

unsafe extern "C" {
    /// Lowest address of the stack, from the linker script.
    static _stack_end: u32;
    /// First address above the stack.
    static _stack_start: u32;
}

/// Bytes of stack that have ever been written to, and bytes there are.
pub fn stack() -> [u32; 2] {
    let (end, start) = (addr_of!(_stack_end), addr_of!(_stack_start));
    let mut place = end;
    // SAFETY: from `_stack_end` to `_stack_start` the linker has placed nothing, so that every word between is RAM that
    // belongs to the stack; the start-up code has written all of them, so that all are initialized.
    while place < start && unsafe { read_volatile(place) } == STACK_PAINT_VALUE {
        place = place.wrapping_add(1);
    }
    [start as u32 - place as u32, start as u32 - end as u32]
}

/// Reads where no Cortex-M has memory: the last word of the system region.
pub fn fault() {
    // SAFETY: it is not sound; this accident is what the caller wants, and the bus answers it with a fault.
    unsafe { read_volatile(0xffff_fffc as *const u32) };
}

/// Uses the whole stack, every word of it.
#[inline(never)]
pub fn overflow() -> u32 {
    let mut frame = [0u32; 16];
    for word in &mut frame {
        // SAFETY: `word` is a local; the write is volatile so that every level of the recursion really has a frame.
        unsafe { write_volatile(word, 1) };
    }
    if addr_of!(frame).cast::<u32>() > addr_of!(_stack_end) { overflow().wrapping_add(frame[0]) } else { frame[0] }
}
