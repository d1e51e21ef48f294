//! A float that may be infinite, in JSON. Enters: f32. Leaves: a number, or the text `inf` or `-inf`, since JSON has no
//! infinity. Refused: any other text, and NaN.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Limit {
    Number(f32),
    Text(String),
}

pub(super) fn serialize<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    let limit = if value.is_finite() { Limit::Number(*value) } else { Limit::Text(value.to_string()) };
    limit.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    match Limit::deserialize(deserializer)? {
        Limit::Number(value) => Ok(value),
        Limit::Text(text) if text == "inf" => Ok(f32::INFINITY),
        Limit::Text(text) if text == "-inf" => Ok(f32::NEG_INFINITY),
        Limit::Text(text) => Err(D::Error::custom(format!("limit `{text}`, expected a number, `inf` or `-inf`"))),
    }
}
