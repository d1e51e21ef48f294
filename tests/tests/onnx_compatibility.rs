//! Which engine runs which file, and does it compute the runtime's integers? Presets x precisions x engines, on a trained
//! ResNet-8 (CIFAR-10, `tests/models`) that is quantized here.
//!
//! `the_table` makes `docs/results/onnx-compatibility.md`; it takes some time and is run by name:
//!
//! ```text
//! INTACT_CIFAR10=DIR INTACT_PYTHONS=VENV/bin/python:... INTACT_TABLE=docs/results/onnx-compatibility.md \
//!     cargo test --release -p intact-tests --test onnx_compatibility -- --ignored --nocapture
//! ```
//!
//! `INTACT_PYTHONS` names interpreters with `onnxruntime` and `onnx`; `INTACT_IMAGES` how many test images the integer kernels of
//! each are given (10000; `10000:2000` gives the first 10,000 and the others 2,000), `INTACT_FLOAT_IMAGES` the same for float
//! ones (1000). The other test is the same over a few images and forms.

use exporter::calibrate::Ranges;
use exporter::data::{Dataset, Options, Split, open};
use exporter::network::Network;
use exporter::onnx::{Form, Preset, ReadOptions, Storage, WriteOptions, read, write_qdq};
use exporter::pipeline::quantize_network;
use exporter::verify::{Answers, Difference, Level, Request, check, onnx_runtime, reference, tract};
use runtime::host::Executor;
use std::path::{Path, PathBuf};
use std::process::Command;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet8-cifar10.safetensors");
const PRECISIONS: [[u8; 2]; 4] = [[8, 8], [4, 8], [4, 4], [2, 2]];

/// What stands before the table.
const HEAD: &str = "\
# Presets x precisions x engines

Made by `the_table` in `tests/tests/onnx_compatibility.rs`, whose head says how. A ResNet-8 trained on CIFAR-10
(`tests/models`), quantized with 500 training images (no corrections: the question here is equality, not accuracy), and test
images of CIFAR-10: FEW for native types and for tract, which compute convolutions in float. Default optimization unless `basic`
is said (`ORT_ENABLE_BASIC`), x86, one thread, `session.qdqisint8allowed = 1` as on ARM64.

A cell says: *fused* if no operator of the optimized graph computes in float, else how many do; logits that are not the integer
runtime's, of how many (ten an image), by how many steps (LSB) at most; and where there are any, the answers that differ and a
note on the ops that differ of themselves, with all inputs equal, on the images concerned.

This run: `INTACT_IMAGES=COUNTS INTACT_FLOAT_IMAGES=FEW`, the runtime with its KERNELS kernels.

";

/// One file: what it is, the network in it, its bytes.
struct File {
    preset: Preset,
    bits: [u8; 2],
    form: Form,
    storage: Storage,
    network: Network,
    bytes: Vec<u8>,
}

impl File {
    fn new(float: &Network, training: &Dataset, preset: Preset, bits: [u8; 2], storage: Storage, form: Form) -> Self {
        let mut options = preset.options(bits[0], bits[1]);
        options.ranges = Some(Ranges::Measured(preset.clipping()));
        let quantized = quantize_network(float, training.images(), &options).unwrap().network;
        let options = WriteOptions { preset: Some(preset), storage, form, ..Default::default() };
        let bytes = write_qdq(&preset.arrange(quantized), &options).unwrap();
        let network = read(&bytes, "compatibility.onnx", &ReadOptions::default()).unwrap().network;
        Self { preset, bits, form, storage, network, bytes }
    }

    fn is_native(&self) -> bool {
        self.storage == Storage::Native && self.bits != [8, 8]
    }

    fn name(&self) -> String {
        let form = match (self.form, self.is_native()) {
            (Form::QOperator, _) => ", qoperator",
            (Form::OnnxRuntime, _) => ", onnx-runtime",
            (Form::Qdq, true) => ", native",
            (Form::Qdq, false) => "",
        };
        format!("{} W{}A{}{form}", self.preset.name(), self.bits[0], self.bits[1])
    }

    fn request<'a>(&'a self, pixels: &'a [u8]) -> Request<'a> {
        let (path, kernels) = (Path::new("compatibility.onnx"), Executor::best());
        Request { path, bytes: &self.bytes, network: &self.network, quantized: true, pixels, tapped: 4, kernels }
    }

    /// What an engine makes of the file.
    fn run(&self, pixels: &[u8], engine: &Engine, level: Level) -> Result<Difference, String> {
        let request = self.request(pixels);
        check(&request, &reference(&request)?, |request| engine.answer(request, level))
    }
}

enum Engine {
    Tract,
    OnnxRuntime(PathBuf),
}

impl Engine {
    fn answer(&self, request: &Request, level: Level) -> Result<Answers, String> {
        match self {
            Self::Tract => tract(request),
            Self::OnnxRuntime(python) => onnx_runtime(request, python, level),
        }
    }

    /// Name and version.
    fn name(&self) -> String {
        let Self::OnnxRuntime(python) = self else { return exporter::verify::TRACT.into() };
        let output = Command::new(python).args(["-c", "import onnxruntime; print(onnxruntime.__version__)"]).output();
        format!("ONNX Runtime {}", String::from_utf8_lossy(&output.unwrap().stdout).trim())
    }
}

/// The forms that are tried: every preset at every precision as it stores integers by itself, the other way of storing them below 8
/// bit where the preset is not about that, and quantized operators.
fn forms() -> Vec<(Preset, [u8; 2], Storage, Form)> {
    let mut forms = Vec::new();
    for (preset, bits) in Preset::ALL.into_iter().flat_map(|preset| PRECISIONS.map(|bits| (preset, bits))) {
        // At 8 bit the file for QNN is that of `mobile`.
        if (preset, bits) != (Preset::Qnn, [8, 8]) {
            forms.push((preset, bits, preset.storage(), Form::Qdq));
        }
    }
    for bits in &PRECISIONS[1..] {
        forms.push((Preset::Mobile, *bits, Storage::Native, Form::Qdq));
        forms.push((Preset::MobilePerChannel, *bits, Storage::Native, Form::Qdq));
    }
    for preset in [Preset::Mobile, Preset::MobilePerChannel, Preset::Xnnpack, Preset::X86] {
        forms.extend([Form::QOperator, Form::OnnxRuntime].map(|form| (preset, [8, 8], Storage::Portable, form)));
    }
    forms
}

/// Whether a file keeps what 8 bit and portable files promise: everything in integer kernels, and the same outputs.
fn is_kept(difference: &Difference) -> bool {
    difference.in_float.as_ref().is_none_or(Vec::is_empty) && difference.differing == 0
}

/// The table in the making: cells, and what has no room in them.
#[derive(Default)]
struct Table {
    rows: Vec<String>,
    notes: Vec<String>,
}

impl Table {
    /// What a cell says.
    fn cell(&mut self, result: &Result<Difference, String>) -> String {
        let difference = match result {
            Ok(difference) => difference,
            Err(text) => return format!("does not load {}", self.note(&reason(text))),
        };
        let mut text = match &difference.in_float {
            Some(ops) if ops.is_empty() => "fused, ".to_owned(),
            Some(ops) => format!("{} in float, ", ops.len()),
            None => String::new(),
        };
        let &Difference { images, predictions, differing, values, largest, .. } = difference;
        let ops = difference.ops.iter().map(|op| {
            format!("`{}` ({}) {} of {} by {}", op.node, op.op, grouped(op.differing), grouped(op.elements), op.largest)
        });
        let ops: Vec<String> = ops.collect();
        match differing {
            0 => text.push_str(&format!("0 of {}", grouped(values))),
            n => text.push_str(&format!(
                "{} of {} by at most {largest}, {predictions} of {} answers",
                grouped(n),
                grouped(values),
                grouped(images)
            )),
        }
        if !ops.is_empty() {
            text.push_str(&format!(" {}", self.note(&format!("of themselves differ {}", ops.join(", ")))));
        }
        text
    }

    /// The number of a note.
    fn note(&mut self, text: &str) -> String {
        let at = self.notes.iter().position(|note| note == text).unwrap_or_else(|| {
            self.notes.push(text.to_owned());
            self.notes.len() - 1
        });
        format!("[{}]", at + 1)
    }

    fn text(&self, head: &str) -> String {
        let notes: Vec<String> = self.notes.iter().enumerate().map(|(i, note)| format!("{}. {note}", i + 1)).collect();
        format!("{head}{}\n\n{}\n", self.rows.join("\n"), notes.join("\n"))
    }
}

/// With a comma before every three digits.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What an engine says about a file that it does not load: without who says it, and where that is long without its middle, where
/// ONNX Runtime has the signatures of its functions.
fn reason(text: &str) -> String {
    const ENDS: [usize; 2] = [60, 200];
    let start = text.find("[ONNXRuntimeError]").unwrap_or(0);
    let text: Vec<char> = text[start..].replace(['`', '|', '\n'], " ").chars().collect();
    let all = |part: &[char]| part.iter().collect::<String>();
    match text.len().checked_sub(ENDS[0] + ENDS[1]) {
        None => format!("`{}`", all(&text)),
        Some(_) => format!("`{} ... {}`", all(&text[..ENDS[0]]), all(&text[text.len() - ENDS[1]..])),
    }
}

fn images(spec: &str, split: Split, count: usize) -> Dataset {
    spread(&open(spec, split, &Options::default()).unwrap(), count)
}

/// So many of a set. The classes of a folder lie one after the other: equal distances take some of each.
fn spread(set: &Dataset, count: usize) -> Dataset {
    let (len, count) = (set.len(), count.min(set.len()));
    set.subset((0..count).map(|i| i * len / count))
}

fn python() -> Option<PathBuf> {
    if std::env::var_os("INTACT_SKIP_PYTHON").is_some() {
        println!("skipped: ONNX Runtime (INTACT_SKIP_PYTHON is set)");
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let venv = std::env::var_os("INTACT_VENV").map_or_else(|| root.join("target/venv"), PathBuf::from);
    let python = venv.join("bin/python");
    assert!(python.exists(), "{} is missing: `cargo validate` makes it", python.display());
    Some(python)
}

#[test]
fn a_few_images_agree_in_every_kind_of_file() {
    let (float, _) = exporter::checkpoint::load(Path::new(MODEL)).unwrap();
    let (training, test) = (images("shapes10", Split::Train, 32), images("shapes10", Split::Test, 24));
    let python = python().map(Engine::OnnxRuntime);
    let kinds = [
        (Preset::Mobile, [8, 8], Storage::Portable, Form::Qdq),
        (Preset::Xnnpack, [8, 8], Storage::Portable, Form::Qdq),
        (Preset::MobilePerChannel, [4, 8], Storage::Portable, Form::Qdq),
        (Preset::Paper, [2, 2], Storage::Portable, Form::Qdq),
        (Preset::Mobile, [8, 8], Storage::Portable, Form::OnnxRuntime),
    ];
    for (preset, bits, storage, form) in kinds {
        let file = File::new(&float, &training, preset, bits, storage, form);
        if let Some(engine) = &python {
            let difference = file.run(test.images(), engine, Level::Default).unwrap();
            assert_eq!(difference.in_float, Some(vec![]), "{}: all in integer kernels", file.name());
            assert_eq!((difference.differing, &difference.ops[..]), (0, &[][..]), "{}", file.name());
        }
        match file.run(test.images(), &Engine::Tract, Level::Default) {
            // tract computes convolutions in float and rounds ties its own way.
            Ok(difference) => assert!(difference.largest <= 2.0, "{}: {difference:?}", file.name()),
            Err(text) => assert_eq!(form, Form::OnnxRuntime, "{}: {text}", file.name()),
        }
    }
    // Native types below 8 bit: at the level that is safe for them.
    if let Some(engine) = &python {
        let file = File::new(&float, &training, Preset::Qnn, [4, 4], Storage::Native, Form::Qdq);
        let difference = file.run(test.images(), engine, Level::Basic).unwrap();
        assert!(difference.largest <= 1.0 && !difference.in_float.unwrap().is_empty());
        let refused = file.run(test.images(), &Engine::Tract, Level::Default).unwrap_err();
        assert!(refused.to_lowercase().contains("int4"), "{refused}");
    }
}

#[test]
#[ignore = "takes long, real images and several versions of ONNX Runtime; see the module"]
fn the_table() {
    let var = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; see the module"));
    let count = |name: &str, default: usize| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let data = var("INTACT_CIFAR10");
    let mut engines: Vec<Engine> = var("INTACT_PYTHONS").split(':').map(|p| Engine::OnnxRuntime(p.into())).collect();
    engines.push(Engine::Tract);
    let (float, _) = exporter::checkpoint::load(Path::new(MODEL)).unwrap();
    let training = images(&data, Split::Train, 500);
    let test = images(&data, Split::Test, usize::MAX);
    // So many for each interpreter, or for all of them.
    let counts = std::env::var("INTACT_IMAGES").unwrap_or_else(|_| "10000".into());
    let few = count("INTACT_FLOAT_IMAGES", 1_000);
    let head = HEAD.replace("COUNTS", &counts).replace("KERNELS", &Executor::best().to_string());
    let head = head.replace("FEW", &few.to_string());
    let counts: Vec<usize> = counts.split(':').map(|n| n.parse().unwrap()).collect();
    let names: Vec<String> = engines.iter().map(Engine::name).collect();
    let mut table = Table::default();
    table.rows.push(format!("| file | bytes | {} |", names.join(" | ")));
    table.rows.push(format!("|---|---|{}", "---|".repeat(engines.len())));
    let mut broken = Vec::new();
    for (preset, bits, storage, form) in forms() {
        let file = File::new(&float, &training, preset, bits, storage, form);
        let mut cells = vec![file.name(), grouped(file.bytes.len())];
        for (i, (engine, name)) in engines.iter().zip(&names).enumerate() {
            let is_onnx_runtime = matches!(engine, Engine::OnnxRuntime(_));
            let must_keep = is_onnx_runtime && !file.is_native();
            let set = spread(&test, if must_keep { counts[i.min(counts.len() - 1)] } else { few });
            let run = |level| file.run(set.images(), engine, level);
            let result = run(Level::Default);
            let mut text = table.cell(&result);
            if must_keep && !result.as_ref().is_ok_and(is_kept) {
                broken.push(format!("{}: {name}: {text}", file.name()));
            }
            if is_onnx_runtime && file.is_native() {
                text = format!("{text}; `basic`: {}", table.cell(&run(Level::Basic)));
            }
            eprintln!("{}: {name}: {text}", file.name());
            cells.push(text);
        }
        table.rows.push(format!("| {} |", cells.join(" | ")));
        std::fs::write(var("INTACT_TABLE"), table.text(&head)).unwrap();
    }
    assert!(broken.is_empty(), "8 bit and portable files that are not fused or not equal:\n{}", broken.join("\n"));
}
