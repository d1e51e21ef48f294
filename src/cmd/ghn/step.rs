//! `intact ghn step`. Enters: a hypernetwork, bit widths, how many networks and images. Leaves: how long one step takes (the
//! prediction, each network forward and backward, the gradient of the hypernetwork; without the optimizer), and on request a
//! folder from which another program can do the same step and compare. Refused: what cannot be predicted.

use crate::Outcome;
use crate::terminal::print;
use anyhow::{Context, Result, ensure};
use clap::Args;
use exporter::file::write_atomically;
use exporter::network::Preprocessing;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use trainer::data::plain;
use trainer::graph::{Blueprint, Request, Sampler, Space, Split, Task};
use trainer::hypernet::train::{Images, Workers, describe, gradient};
use trainer::hypernet::{self, Mode, Setting};

/// Time one training step, and describe it for other programs
#[derive(Args)]
pub(crate) struct Arguments {
    /// The hypernetwork
    #[arg(long, value_name = "FILE")]
    ghn: PathBuf,

    /// mobile or edge
    #[arg(long, default_value = "edge")]
    space: Space,

    /// Bit widths of all networks
    #[arg(long, default_value = "float")]
    bits: Setting,

    /// Networks, the first of the split `id`
    #[arg(long, default_value_t = 4)]
    nets: u64,

    /// Images, drawn by the program
    #[arg(long, default_value_t = 32)]
    batch: usize,

    /// Measure for about so long
    #[arg(long, default_value = "5", value_parser = crate::cmd::seconds, allow_negative_numbers = true)]
    seconds: Duration,

    /// Networks that run at once
    #[arg(long, default_value_t = 2)]
    threads: usize,

    /// Write what the step reads and finds here: `step.json`, and `images.f32`, N C H W
    #[arg(long, value_name = "FOLDER")]
    dump: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let p = hypernet::load(&self.ghn)?.parameters;
        ensure!(
            self.dump.is_none() || p.config().norm_free.is_plain(),
            "--dump: found {:?}, expected a hypernetwork without these: what is written does not say them",
            p.config().norm_free
        );
        let task = Task { classes: p.config().classes, ..Task::CIFAR10 };
        let sampler = Sampler::new(Request { task, ..Request::new(self.space, Split::Id, 1) })?;
        let net = |i| Ok(Blueprint::build(&sampler.draw(i)?.0, task)?);
        let nets = (0..self.nets).map(net).collect::<Result<Vec<Blueprint>>>()?;
        let pairs: Vec<_> = nets.iter().map(|net| (net, Mode::test(self.bits))).collect();
        let data = exporter::data::open("shapes10", exporter::data::Split::Test, &Default::default())?;
        let data = data.sample(self.batch);
        let values = plain(&data, 0..data.len(), &Preprocessing::of(&data));
        let images = [Images { values, shape: [3, data.height(), data.width()], labels: data.labels().to_vec() }];
        let (workers, device) = (Workers::new(self.threads), trainer::device::by_name("cpu")?);
        let step = || gradient(&p, &pairs, &images, 10, f32::INFINITY, &workers, &device);
        let (grad, scores) = step()?;
        let loss = scores.iter().map(|score| f64::from(score.loss)).sum::<f64>() / scores.len() as f64;
        let (began, mut times) = (Instant::now(), Vec::new());
        while times.is_empty() || began.elapsed() < self.seconds {
            let step_began = Instant::now();
            step()?;
            times.push(step_began.elapsed());
        }
        times.sort_unstable();
        if let Some(folder) = &self.dump {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            let mut text = describe(&pairs.iter().map(|(net, _)| *net).collect::<Vec<_>>(), 10);
            text["weight_bits"] = self.bits.weights.into();
            text["activation_bits"] = self.bits.activations.into();
            text["kernel"] = p.config().kernel.into();
            text["labels"] = json!(images[0].labels);
            text["loss"] = loss.into();
            text["gradient_norm"] = grad.norm().into();
            write_atomically(&folder.join("step.json"), text.to_string().as_bytes())?;
            let bytes: Vec<u8> = images[0].values.iter().flat_map(|v| v.to_le_bytes()).collect();
            write_atomically(&folder.join("images.f32"), &bytes)?;
        }
        let ms = |time: Duration| 1e3 * time.as_secs_f64();
        let (median, fastest) = (ms(times[times.len() / 2]), ms(times[0]));
        print(&format!(
            "{} steps of {} networks and {} images at {}: median {median:.1} ms, fastest {fastest:.1} ms; loss {loss:.6}, \
             gradient {:.6}\n",
            times.len(),
            self.nets,
            self.batch,
            self.bits,
            grad.norm()
        ))?;
        Ok(Outcome::Done)
    }
}
