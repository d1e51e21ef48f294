//! The weights of one layer. Enters: floats and the factors that folding will multiply them with. Leaves: the values that
//! their integers stand for. Refused: values that are not finite.

use super::QuantError;
use exporter::calibrate::{Clipping, percentile};
use exporter::network::Encoding;
use exporter::quantize::{Scheme, Weights};

/// A layer's weights after quantization.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulated {
    /// In the layout of the weights.
    pub values: Vec<f32>,
    /// 1 where the gradient passes, 0 where the range cut the weight off.
    pub mask: Vec<f32>,
    /// Of the folded weights: the one that export will use.
    pub encoding: Encoding,
}

/// Quantizes the weights of a layer with `factors.len()` output channels: of [`Scheme::AsymmetricUnfolded`] as they are, of
/// all others as folding makes them. `name` is for the error.
///
/// A channel whose factor is 0 keeps its floats: what it computes is multiplied with 0 later, and it can still learn.
///
/// # Errors
/// [`QuantError`]: not finite, or percentiles that are none.
pub fn simulate(name: &str, weight: &[f32], factors: &[f64], form: Weights) -> Result<Simulated, QuantError> {
    let row = weight.len() / factors.len();
    let ones = vec![1.0; factors.len()];
    let factors = if form.scheme == Scheme::AsymmetricUnfolded { &ones } else { factors };
    // As folding does it: in f64, rounded once.
    let folded: Vec<f32> = weight.iter().enumerate().map(|(i, &w)| (f64::from(w) * factors[i / row]) as f32).collect();
    let encoding = encode(&folded, row, form).map_err(|fault| match fault {
        Fault::NotFinite => QuantError::NotFinite { name: name.into() },
        Fault::Parameter(reason) => QuantError::Parameter(reason),
    })?;
    // Two's complement without its lowest integer, so that the range is symmetric.
    let lowest = encoding.qmin() + i32::from(form.scheme == Scheme::SymmetricPerChannel);
    let (mut values, mut mask) = (weight.to_vec(), vec![1.0; weight.len()]);
    for (k, &factor) in factors.iter().enumerate().filter(|(_, factor)| **factor != 0.0) {
        let (scale, zero_point) = encoding.channel(k);
        for i in k * row..(k + 1) * row {
            let free = f64::from((folded[i] / scale).round_ties_even()) + f64::from(zero_point);
            let q = encoding.quantize(k, folded[i]).max(lowest);
            mask[i] = f32::from(u8::from(free == f64::from(q)));
            values[i] = (f64::from(q - zero_point) * f64::from(scale) / factor) as f32;
        }
    }
    Ok(Simulated { values, mask, encoding })
}

enum Fault {
    NotFinite,
    Parameter(String),
}

fn encode(folded: &[f32], row: usize, form: Weights) -> Result<Encoding, Fault> {
    match form.scheme {
        Scheme::AsymmetricPerTensor | Scheme::AsymmetricUnfolded => {
            let [min, max] = range(folded, form.clipping)?;
            Ok(Encoding::asymmetric(form.bits, false, min, max))
        }
        Scheme::SymmetricPerChannel => {
            let top = ((1 << (form.bits - 1)) - 1) as f32;
            let scale = folded
                .chunks_exact(row)
                .map(|row| {
                    let [min, max] = range(row, form.clipping)?;
                    let scale = min.abs().max(max.abs()) / top;
                    Ok(if scale > 0.0 { scale } else { 1.0 })
                })
                .collect::<Result<Vec<f32>, Fault>>()?;
            Ok(Encoding { bits: form.bits, signed: true, zero_point: vec![0; scale.len()], scale })
        }
        other => Err(Fault::Parameter(format!("weights are not trained as {other:?}, only exported so"))),
    }
}

fn range(values: &[f32], clipping: Clipping) -> Result<[f32; 2], Fault> {
    if !values.iter().all(|v| v.is_finite()) {
        return Err(Fault::NotFinite);
    }
    match clipping {
        // Without sorting, since this runs in every step.
        Clipping::MinMax => Ok(values.iter().fold([0.0; 2], |[min, max], &v| [min.min(v), max.max(v)])),
        clipping => {
            let (min, max) = percentile(values, clipping).map_err(|e| Fault::Parameter(e.to_string()))?;
            Ok([min, max])
        }
    }
}
