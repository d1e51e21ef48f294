//! tract. Enters: the file's bytes and images. Leaves: its answers. Refuses: files that tract does not load, in its own words.

use rayon::prelude::*;
use tract_onnx::prelude::*;

use super::files::{Element, Names};
use super::{Answers, Request, channels_first};

/// The release that this crate is built with.
pub const TRACT: &str = "tract 0.23.9";

/// What tract computes. The error is text for people.
///
/// # Errors
/// tract does not load or run the file.
pub fn tract(request: &Request) -> Result<Answers, String> {
    let names = Names::of(request)?;
    let text = |e: TractError| format!("{e:#}");
    let tapped: Vec<&(String, String)> = if request.tapped > 0 { names.taps.iter().collect() } else { Vec::new() };
    let values: Vec<&str> =
        std::iter::once(names.output.as_str()).chain(tapped.iter().map(|(_, value)| value.as_str())).collect();
    let (with_taps, found) = load(request, &names, &values).map_err(text)?;
    let (outputs_only, _) = load(request, &names, &values[..1]).map_err(text)?;
    if found.first() != Some(&true) {
        return Err(format!("tract has no value `{}` after loading", names.output));
    }
    let network = request.network;
    let input = network.tensors[network.input].shape;
    let dims = if names.channels_last { [1, input.h, input.w, input.c] } else { [1, input.c, input.h, input.w] };
    let results: Vec<Vec<(Vec<f32>, Vec<usize>)>> = request
        .pixels
        .par_chunks_exact(input.len())
        .enumerate()
        .map(|(i, pixels)| {
            let model = if i < request.tapped { &with_taps } else { &outputs_only };
            let tensor = Tensor::from_shape(&dims, &names.feed(network, pixels))?;
            let tensor = tensor.cast_to_dt(datum_type(&names))?.into_owned();
            let outputs = model.run(tvec!(tensor.into()))?;
            outputs
                .iter()
                .map(|output| {
                    let floats = output.cast_to::<f32>()?;
                    let values = floats.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
                    Ok((values, output.shape().to_vec()))
                })
                .collect()
        })
        .collect::<TractResult<_>>()
        .map_err(text)?;
    let mut answers = Answers { engine: TRACT.into(), ..Answers::default() };
    // Values that tract does not know by name are not among its outputs.
    let known: Vec<&str> =
        tapped.iter().zip(&found[1..]).filter(|(_, found)| **found).map(|((name, _), _)| name.as_str()).collect();
    for result in results {
        let mut outputs = result.into_iter();
        answers.outputs.extend(outputs.next().map(|(values, _)| values).unwrap_or_default());
        for ((values, dims), name) in outputs.zip(&known) {
            let Some(tensor) = network.tensors.iter().find(|tensor| tensor.name == *name) else { continue };
            let integers: Vec<i32> = values.iter().map(|&x| x as i32).collect();
            answers.taps.entry((*name).into()).or_default().extend(channels_first(&integers, &dims, tensor.shape));
        }
    }
    Ok(answers)
}

/// tract's type of the file's input.
fn datum_type(names: &Names) -> DatumType {
    match names.element {
        Element::Float => f32::datum_type(),
        Element::Unsigned => u8::datum_type(),
        Element::Signed => i8::datum_type(),
    }
}

/// The model with these values as outputs, for one image, and which of them there are.
fn load(request: &Request, names: &Names, values: &[&str]) -> TractResult<(Arc<TypedRunnableModel>, Vec<bool>)> {
    let mut model = tract_onnx::onnx().model_for_read(&mut &request.bytes[..])?;
    let shape = request.network.tensors[request.network.input].shape;
    let dims = if names.channels_last { [1, shape.h, shape.w, shape.c] } else { [1, shape.c, shape.h, shape.w] };
    model.set_input_fact(0, datum_type(names).fact(dims).into())?;
    let outlets: Vec<Option<OutletId>> = values.iter().map(|value| model.find_outlet_label(value)).collect();
    let found = outlets.iter().map(Option::is_some).collect();
    model.select_output_outlets(&outlets.into_iter().flatten().collect::<Vec<_>>())?;
    Ok((model.into_optimized()?.into_runnable()?, found))
}
