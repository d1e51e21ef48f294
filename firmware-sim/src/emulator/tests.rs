//! Replies that no sound firmware gives.

use super::*;

const LOGITS: usize = 3;
const OPS: usize = 2;
const FLAGS: u32 = protocol::CRC | protocol::EACH | protocol::COUNT;
/// Of a loop of a million instructions, and of nothing.
const TICKS: u64 = 1_600_000 + 5;

/// The reply for one picture, in the order of `protocol.rs`.
fn reply(change: impl FnOnce(&mut Greeting)) -> Vec<u8> {
    let (logits, ops) = (LOGITS as u32, OPS as u32);
    let mut greeting = Greeting { logits, ops, flags: FLAGS, calibration_ticks: TICKS, idle_ticks: 5 };
    change(&mut greeting);
    let mut bytes = greeting.emit().to_vec();
    bytes.extend([7u32, 8].map(u32::to_le_bytes).as_flattened());
    bytes.extend([1, 2, 3]);
    bytes.extend([16 + 5u64, 160 + 5].map(u64::to_le_bytes).as_flattened());
    bytes.extend([1, 2, 3]);
    bytes.extend((1600 + 5u64).to_le_bytes());
    bytes.extend([1, 2, 3]);
    assert_eq!(bytes.len(), Greeting::BYTES + protocol::record_bytes(LOGITS, OPS, FLAGS));
    bytes.extend(Farewell { stack_used: 100, stack_size: 8192 }.emit());
    bytes
}

fn read(bytes: &[u8]) -> Result<Share, Error> {
    Reader { bytes, at: 0, clock: 25_000_000 }.share(1, [LOGITS, OPS], FLAGS, true)
}

#[test]
fn a_whole_reply_is_read() {
    let share = read(&reply(|_| {})).unwrap();
    let expected =
        Inference { logits: vec![1, 2, 3], crcs: vec![7, 8], instructions: Some(1000), op_instructions: vec![10, 100] };
    assert_eq!(share.inferences, [expected]);
    assert_eq!(share.farewell, Farewell { stack_used: 100, stack_size: 8192 });
}

#[test]
fn a_reply_cut_anywhere_is_refused() {
    let whole = reply(|_| {});
    for length in 0..whole.len() {
        let error = read(&whole[..length]).err().unwrap_or_else(|| panic!("{length} bytes were enough"));
        assert!(matches!(error, Error::Reply { at, .. } if at <= length), "{error}");
    }
}

#[test]
fn a_reply_that_contradicts_itself_or_the_request_is_refused() {
    let mut longer = reply(|_| {});
    longer.push(0);
    let mut differing = reply(|_| {});
    let last_logit = differing.len() - Farewell::BYTES - 1;
    differing[last_logit] ^= 1;
    let mut foreign = reply(|_| {});
    foreign[0] ^= 1;
    let cases = [
        (longer, "1 bytes follow the farewell"),
        (differing, "logits [1, 2, 2], but another run of the same picture gave [1, 2, 3]"),
        (foreign, "no greeting"),
        (reply(|g| g.ops = 9), "logits, ops and flags are [3, 9, 7], expected [3, 2, 7]"),
        (reply(|g| g.flags = 1), "logits, ops and flags are [3, 2, 1], expected [3, 2, 7]"),
    ];
    for (bytes, expected) in cases {
        let text = read(&bytes).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.starts_with("the firmware's reply, at byte ") && text.ends_with(expected), "{text}");
    }
}

/// A QEMU whose counter runs at another frequency.
#[test]
fn a_counter_that_counts_something_else_is_refused() {
    let error = read(&reply(|g| g.calibration_ticks *= 2)).err().unwrap();
    assert!(matches!(error, Error::Miscounted { found: 2_000_003, expected: 1_000_000 }), "{error}");
    assert!(read(&reply(|g| g.calibration_ticks += 30)).is_ok());
}
