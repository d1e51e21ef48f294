//! What goes wrong on the device is an error on the host, with what the device said.

use crate::{build, expect, run, sample, wanted};
use firmware_sim::protocol::Drill;
use firmware_sim::{Error, Placement, RunOptions};
use std::ops::ControlFlow;
use std::time::Duration;

#[test]
fn every_accident_is_noticed() {
    if !wanted() {
        return;
    }
    let image = runtime::testing::zoo();
    let firmware = expect(build(&image, "stm32f446re", Placement::Emulator));
    let pictures = sample::pictures(&image, 2);
    let fails = |drill| {
        let options = RunOptions { drill, patience: Duration::from_secs(3), ..RunOptions::default() };
        run(&firmware, &pictures, &options).unwrap_err()
    };
    let text = fails(Drill::Panic).to_string();
    let head = "the emulated firmware stopped after 0 of 2 pictures (exit status: 101): firmware: panicked at ";
    assert!(text.starts_with(head) && text.ends_with("drill 1"), "{text}");
    let text = fails(Drill::Fault).to_string();
    assert!(text.contains("(exit status: 102): firmware: hard fault at 0x0000"), "{text}");
    let text = fails(Drill::Hang).to_string();
    assert_eq!(
        text,
        "the emulated firmware gave no result for 3 s after 0 of 2 pictures and was ended: it printed nothing"
    );
    let error = fails(Drill::Overflow);
    assert!(matches!(error, Error::StackOverflow { available } if available == firmware.sections().stack), "{error}");
    // The same program works when nothing is wrong with it.
    expect(run(&firmware, &pictures, &RunOptions::default()));
}

#[test]
fn a_caller_can_end_it() {
    if !wanted() {
        return;
    }
    let image = runtime::testing::zoo();
    let firmware = expect(build(&image, "stm32f446re", Placement::Emulator));
    let options = RunOptions { drill: Drill::Hang, ..RunOptions::default() };
    let mut calls = 0;
    let result = firmware.run(&sample::pictures(&image, 5), &options, |_| {
        calls += 1;
        if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(result.unwrap_err().to_string(), "ended on request after 0 of 5 pictures");
    assert_eq!(calls, 3);
}
