//! Every fault there is, each from an image that is spoiled in one place.

use crate::{
    image::{
        Fault, Image, ImageError, MAX_OPS, Place,
        repr::{HeaderRepr, OpKind, OpRepr, Span},
    },
    testing::{Builder, lookup_builder, zoo_builder},
};

type Spoil = fn(&mut Builder);

/// `spoil`ed images, and the sentence that the check says of each.
#[track_caller]
fn all_say(good: fn() -> Builder, cases: &[(Spoil, &str)]) -> Vec<ImageError> {
    Image::check(&good().finish()).expect("the image is good before it is spoiled");
    let mut wrong = Vec::new();
    let mut errors = Vec::new();
    for (spoil, expected) in cases {
        let mut builder = good();
        spoil(&mut builder);
        match Image::check(&builder.finish()) {
            Err(error) if error.to_string() == *expected => errors.push(error),
            Err(error) => wrong.push(format!("expected: {expected}\n   found: {error}")),
            Ok(_) => wrong.push(format!("expected: {expected}\n   found: nothing wrong")),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    errors
}

/// Changes the parameters of the convolution at `op`.
fn conv(
    builder: &mut Builder,
    op: usize,
    change: impl Fn(&mut crate::image::repr::WindowRepr, &mut u16, &mut crate::image::repr::WeightsRepr),
) {
    if let OpKind::Conv2d { window, groups, weights } = &mut builder.ops[op].kind {
        change(window, groups, weights);
    }
}

/// The smallest image: two tensors, one Lookup.
const SMALL: &[(Spoil, &str)] = &[
    (|b| b.header.contract = 2, "header: arithmetic contract: found 2, expected 1"),
    (|b| b.header.output = 2, "header: tensor index: found 2, expected 0 to 1"),
    (
        |b| b.header.labels = b.data(b"one\ntwo\nthree\n"),
        "header: labels, each ended by a line feed: found 3, expected 2",
    ),
    (|b| b.header.labels = b.data(b"one\ntwo"), "header: labels, each ended by a line feed: found 1, expected 2"),
    (|b| b.header.name = b.data(b"ab\xff"), "header: text that is not UTF-8: first bad byte at offset: found 2"),
    (|b| b.header.input_tables.len = 256, "header: length of a span in bytes: found 256, expected 512"),
    (|b| b.header.preprocessing.offset += 8, "header: alignment: offset modulo 16: found 8, expected 0"),
    (|b| b.ops.clear(), "header: records in the table: found 0, expected 1 to 2048"),
    (|b| b.ops = vec![b.ops[0]; MAX_OPS as usize + 1], "header: records in the table: found 2049, expected 1 to 2048"),
    (|b| b.tensors[0].shape[0] = 0, "tensor 0: extent of a shape or window: found 0, expected 1 to 65535"),
    (|b| b.tensors[1].bits = 9, "tensor 1: bits of an encoding: found 9, expected 2 to 8"),
    (|b| b.tensors[1].zero_point = 16, "tensor 1: zero point: found 16, expected 0 to 15"),
    (
        |b| b.tensors[0].scale = f32::NAN,
        "tensor 0: scale (its f32 bits) that is not positive, normal and finite: found 0x7fc00000",
    ),
    (|b| b.tensors[0].bytes = 3, "tensor 0: bytes of the tensor: found 3, expected 2"),
    (|b| b.tensors[1].offset = 8, "tensor 1: alignment: offset modulo 16: found 8, expected 0"),
    (|b| b.tensors[1].offset = 32, "tensor 1: end of the bytes in the arena: found 34, expected at most 32"),
    (
        |b| b.tensors[0].name = Span::new(u32::MAX, u32::MAX),
        "tensor 0: end of a span of bytes, in a file of that length: found 8589934590, expected at most 1152",
    ),
    (|b| b.ops[0].output = 9, "op 0: tensor index: found 9, expected 0 to 1"),
    (|b| b.ops[0].clamp_max = 16, "op 0: end of the clamp: found 16, expected 0 to 15"),
    (|b| b.ops[0].clamp_max = 14, "op 0: entry of a table: found 15, expected 0 to 14"),
    (|b| b.ops[0].inputs.len = 8, "op 0: number of inputs: found 2, expected 1"),
    (|b| b.ops[0].inputs.len = 7, "op 0: length of a span in bytes: found 3, expected 0"),
    (
        |b| b.ops[0].kind = OpKind::GlobalAveragePool { multiplier: 0.0 },
        "op 0: multiplier (its f32 bits) that is not positive, normal and below 2^31: found 0x00000000",
    ),
    (
        |b| b.ops[0].kind = OpKind::Reshape,
        "op 0: arena offset of a reshape, whose output is made of its inputs' bytes, side by side: found 16, expected 0",
    ),
    (
        |b| {
            let extra = b.tensors[1];
            b.tensors.push(extra);
            b.tensors[2].offset = 32;
            b.header.arena_bytes = 64;
            b.header.output = 2;
        },
        "header: the input was never written: tensor: found 2",
    ),
    (
        |b| {
            let (tensor, op) = (b.tensors[1], b.ops[0]);
            b.tensors.push(tensor);
            b.ops.push(OpRepr { output: 2, ..op });
            b.header.output = 1;
        },
        "header: the input is no longer there, overwritten by op: found 1",
    ),
    (|b| b.ops[0].scratch = Span::new(0, 2), "op 0: the bytes written overlap the bytes read: offset: found 0"),
];

/// The image that has every op.
const ZOO: &[(Spoil, &str)] = &[
    (
        |b| conv(b, 0, |window, _, _| window.stride[1] = 0),
        "op 0: extent of a shape or window: found 0, expected 1 to 65535",
    ),
    (|b| conv(b, 0, |window, _, _| window.dilation[0] = 2), "op 0: extent of the output: found 9, expected 7"),
    (
        |b| conv(b, 2, |_, groups, _| *groups = 3),
        "op 2: groups, which must divide input and output channels: found 2, expected 0",
    ),
    (
        |b| conv(b, 2, |_, groups, _| *groups = 9),
        "op 2: groups, which must divide input and output channels: found 9, expected 1 to 8",
    ),
    (|b| conv(b, 2, |_, _, weights| weights.bits = 3), "op 2: bits of an encoding: found 3"),
    (|b| conv(b, 2, |_, _, weights| weights.data.len -= 1), "op 2: length of a span in bytes: found 39, expected 40"),
    (|b| b.tensors[10].shape = [1, 6, 1], "op 9: extent of the output: found 6, expected 1"),
    (
        |b| {
            let bias = b.i32s(&[i32::MIN; 8]);
            conv(b, 0, |_, _, weights| weights.bias = bias);
        },
        "op 0: largest accumulator: found 2147719078, expected at most 2147483647",
    ),
    (|b| b.ops[0].scratch.len = 53, "op 0: bytes of scratch: found 53, expected at least 54"),
    (
        |b| b.ops[2].scratch.offset = b.tensors[3].offset + 16,
        "op 2: the bytes written overlap the bytes read: offset: found 1792",
    ),
    (|b| b.tensors[4].offset += 16, "op 3: the bytes written overlap the bytes read: offset: found 1792"),
    (
        |b| b.tensors[2].offset = b.tensors[1].offset + 96,
        "op 1: the bytes written overlap the bytes read: offset: found 320",
    ),
    (|b| b.tensors[3].offset = b.tensors[2].offset, "op 3: the input is no longer there, overwritten by op: found 2"),
    (
        |b| b.ops[3].kind = OpKind::Add { multipliers: [-1, 1], shift: 3 },
        "op 3: multiplier of an Add or Softmax: found -1, expected 0 to 4194304",
    ),
    (
        |b| b.ops[3].kind = OpKind::Add { multipliers: [1, 1], shift: 31 },
        "op 3: shift of an Add or Softmax: found 31, expected 0 to 30",
    ),
    (
        |b| b.tensors[5].zero_point = 99,
        "op 4: encoding of the output, which must equal that of the input: tensor: found 5",
    ),
    (
        |b| {
            if let OpKind::MaxPool { window } = &mut b.ops[4].kind {
                window.padding = [2, 0, 0, 0];
                b.tensors[5].shape[0] = 5;
                b.tensors[5].bytes = 160;
            }
        },
        "op 4: padding of a pool, in a kernel of that extent: found 2, expected 0 to 1",
    ),
    (|b| b.tensors[7].shape = [4, 2, 32], "op 6: extent of the output: found 2, expected 4"),
    (|b| b.ops[6].clamp_max = 254, "op 6: end of the clamp: found 254, expected 255"),
    (
        |b| b.ops[10].kind = OpKind::Mul { multiplier: f32::INFINITY },
        "op 10: multiplier (its f32 bits) that is not positive, normal and below 2^31: found 0x7f800000",
    ),
    (
        |b| b.ops[10].kind = OpKind::GlobalAveragePool { multiplier: 1.0 },
        "op 10: number of inputs: found 2, expected 1",
    ),
    (|b| b.tensors[11].shape = [4, 3, 8], "op 10: extent of the output: found 3, expected 4"),
    (
        |b| b.tensors[11].offset = b.tensors[10].offset,
        "op 10: the bytes written overlap the bytes read: offset: found 4240",
    ),
    (|b| b.ops[11].kind = OpKind::Pad { padding: [1, 0, 1, 2] }, "op 11: extent of the output: found 5, expected 6"),
    (
        |b| b.tensors[12].zero_point = 8,
        "op 11: encoding of the output, which must equal that of the input: tensor: found 12",
    ),
    (|b| b.ops[11].clamp_min = 1, "op 11: end of the clamp: found 1, expected 0"),
    (
        |b| softmax(b, |_, multiplier, _| *multiplier = (1 << 22) + 1),
        "op 16: multiplier of an Add or Softmax: found 4194305, expected 0 to 4194304",
    ),
    (|b| softmax(b, |_, _, shift| *shift = 17), "op 16: shift of an Add or Softmax: found 17, expected 0 to 16"),
    (|b| softmax(b, |table, _, _| table.len = 1020), "op 16: length of a span in bytes: found 1020, expected 1024"),
    (
        |b| softmax(b, |table, _, _| table.offset += 16),
        "op 16: entry of a table: found 1008189504, expected 1073741824",
    ),
    (
        |b| (b.tensors[13].shape, b.tensors[13].bytes) = ([1, 1, 217], 217),
        "op 12: bytes of the tensor: found 217, expected 1 to 180",
    ),
    (
        |b| {
            let inputs = b.i32s(&[12, 11]);
            b.ops[12].inputs = inputs;
        },
        "op 12: arena offset of a reshape, whose output is made of its inputs' bytes, side by side: found 4256, expected 4532",
    ),
];

/// Changes what the Softmax at the end computes with.
fn softmax(builder: &mut Builder, change: impl Fn(&mut Span, &mut i32, &mut u8)) {
    let OpKind::Softmax { table, multiplier, shift } = &mut builder.ops[16].kind else { panic!("op 16 is no Softmax") };
    change(table, multiplier, shift);
}

/// Records that the builder cannot write, since they have no meaning: a byte changed afterwards.
fn changed(at: impl Fn(&HeaderRepr) -> usize, to: u8) -> ImageError {
    let mut file = zoo_builder().finish();
    let header = *Image::check(&file).unwrap().header();
    file[at(&header)] = to;
    crate::image::seal(&mut file).unwrap();
    Image::check(&file).map(drop).unwrap_err()
}

#[test]
fn every_fault_is_found_and_named() {
    let mut errors = all_say(lookup_builder, SMALL);
    errors.extend(all_say(zoo_builder, ZOO));

    let tensors = |header: &HeaderRepr| header.tensors.offset as usize;
    let ops = |header: &HeaderRepr| header.ops.offset as usize;
    for (error, place, fault) in [
        (changed(|_| 85, 1), Place::Header, Fault::Flags),
        (changed(|header| tensors(header) + 32 + 15, 2), Place::Tensor(1), Fault::Flags),
        (changed(|header| ops(header) + 3, 1), Place::Op(0), Fault::Flags),
        (changed(|header| ops(header) + 96, 13), Place::Op(1), Fault::Kind),
        (changed(|header| ops(header) + 96, 0), Place::Op(1), Fault::Kind),
    ] {
        assert_eq!((error.place, error.fault), (place, fault), "{error}");
        errors.push(error);
    }

    let file = zoo_builder().finish();
    for (at, fault) in
        [(7, Fault::Magic), (8, Fault::Version), (12, Fault::Length), (16, Fault::Checksum), (200, Fault::Checksum)]
    {
        let mut file = file.clone();
        file[at] ^= 1;
        let error = Image::check(&file).map(drop).unwrap_err();
        assert_eq!((error.place, error.fault), (Place::Header, fault), "{error}");
        errors.push(error);
    }

    // The faults of packed weights have a test of their own.
    let plain = Fault::ALL.iter().filter(|&&fault| (fault as u8) < Fault::Packing as u8);
    let missing: Vec<_> = plain.filter(|&&fault| errors.iter().all(|error| error.fault != fault)).collect();
    assert!(missing.is_empty(), "no image here has {missing:?}");
}
