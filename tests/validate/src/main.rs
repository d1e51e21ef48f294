//! `cargo validate`: the whole check, cheapest first, the same on a laptop and in CI. Enters: a clean checkout. Leaves: a line
//! for each step, the output of the first that fails, exit code 0 or 1 (2 when a needed tool is neither there nor
//! installable). Nothing is skipped in silence: a step that cannot run names the package it misses.
//!
//! `cargo validate NAME...` runs only the named steps; `cargo validate --list` prints them.

use intact_validate::tools::{self, Tool};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// One command of the check.
struct Step {
    name: &'static str,
    tools: &'static [Tool],
    command: &'static [&'static str],
}

const STEPS: &[Step] = &[
    Step { name: "format", tools: &[], command: &["cargo", "fmt", "--all", "--check"] },
    Step {
        name: "runtime",
        tools: &[],
        // In the dev profile, for its overflow checks: the one crate where they prove something that release hides.
        command: &["cargo", "test", "--package", "intact-runtime"],
    },
    // The kernels of a Raspberry Pi, under QEMU's user mode.
    Step {
        name: "runtime-aarch64",
        tools: &[Tool::Aarch64Toolchain, Tool::QemuUser],
        command: &[
            "cargo",
            "test",
            "--release",
            "--package",
            "intact-runtime",
            "--lib",
            "--target",
            "aarch64-unknown-linux-gnu",
            "--config",
            ".cargo/pi.toml",
            "--",
            "kernels::",
            "host::tests",
        ],
    },
    Step {
        name: "lint",
        tools: &[],
        command: &["cargo", "clippy", "--release", "--workspace", "--all-targets", "--", "--deny", "warnings"],
    },
    // The command line for small machines: no burn below it.
    Step {
        name: "lint-without-train",
        tools: &[],
        command: &[
            "cargo",
            "clippy",
            "--release",
            "--package",
            "intact",
            "--no-default-features",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ],
    },
    Step {
        name: "docs",
        tools: &[],
        command: &[
            "cargo",
            "doc",
            "--release",
            "--workspace",
            "--no-deps",
            "--config",
            "build.rustdocflags=[\"--deny\",\"warnings\"]",
        ],
    },
    Step { name: "build", tools: &[], command: &["cargo", "build", "--release", "--workspace", "--bins"] },
    Step {
        name: "test",
        tools: &[Tool::ArmToolchain, Tool::Qemu, Tool::Aarch64Toolchain, Tool::QemuUser, Tool::PythonEnvironment],
        command: &["cargo", "test", "--release", "--workspace"],
    },
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.iter().any(|w| w == "--list") {
        for step in STEPS {
            println!("{:18} {}", step.name, step.command.join(" "));
        }
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = wanted.iter().find(|w| STEPS.iter().all(|s| s.name != *w)) {
        eprintln!("error: no step `{unknown}`; `cargo validate --list` names them");
        return ExitCode::from(2);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the package lies in the workspace");
    let steps: Vec<&Step> = STEPS.iter().filter(|s| wanted.is_empty() || wanted.iter().any(|w| w == s.name)).collect();
    // Everything that has to be fetched is fetched first, so that a missing tool does not show after half an hour.
    for tool in steps.iter().flat_map(|s| s.tools) {
        if let Err(problem) = tools::provide(*tool, root) {
            eprintln!("error: {problem}");
            return ExitCode::from(2);
        }
    }
    let mut passed = 0;
    for step in &steps {
        let start = Instant::now();
        println!("validate: {} ({})", step.name, step.command.join(" "));
        let status = Command::new(step.command[0])
            .args(&step.command[1..])
            .current_dir(root)
            .envs(tools::environment(root))
            .stdin(Stdio::null())
            .status();
        match status {
            Ok(status) if status.success() => {
                passed += 1;
                println!("validate: {} passed in {:.0} s", step.name, start.elapsed().as_secs_f64());
            }
            Ok(status) => {
                eprintln!("validate: {} failed ({status}): {}", step.name, step.command.join(" "));
                println!("{passed} passed, 1 failed");
                return ExitCode::from(1);
            }
            Err(error) => {
                eprintln!("error: {} could not start: {error}", step.command[0]);
                return ExitCode::from(2);
            }
        }
    }
    println!("{passed} passed, 0 failed");
    ExitCode::SUCCESS
}
