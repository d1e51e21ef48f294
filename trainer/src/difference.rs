//! What sets two recipes apart, for the error that refuses one of them. Enters: what was found and what was expected, as serde
//! writes them. Leaves: a phrase with the fields that differ, each by its path. Refuses nothing.

use serde::Serialize;
use serde_json::Value;

/// `rate: found 0.001, expected 0.5; ranges.cut: found none, expected 0.05`; without a path where the two are no structures.
/// Empty when they are the same. What serde cannot write counts as none.
pub fn difference(found: &impl Serialize, expected: &impl Serialize) -> String {
    let mut parts = Vec::new();
    walk("", &value(found), &value(expected), &mut parts);
    parts.join("; ")
}

/// By way of text, which writes an f32 with as few digits as it needs; a value would hold it as an f64 with its error.
fn value(of: &impl Serialize) -> Value {
    serde_json::to_string(of).and_then(|text| serde_json::from_str(&text)).unwrap_or_default()
}

fn walk(path: &str, found: &Value, expected: &Value, parts: &mut Vec<String>) {
    if let (Value::Object(a), Value::Object(b)) = (found, expected) {
        let only_expected = b.keys().filter(|key| !a.contains_key(*key));
        for key in a.keys().chain(only_expected) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            walk(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), parts);
        }
    } else if found != expected {
        let [found, expected] = [found, expected].map(|v| if v.is_null() { "none".into() } else { v.to_string() });
        let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
        parts.push(format!("{place}found {found}, expected {expected}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_what_differs_and_nothing_else() {
        let found = json!({ "rate": 0.001, "steps": 7, "ranges": { "cut": 0.1, "signs": true }, "old": [1, 2] });
        let expected = json!({ "rate": 0.5, "steps": 7, "ranges": { "cut": 0.1, "signs": false }, "new": "x" });
        assert_eq!(
            difference(&found, &expected),
            "old: found [1,2], expected none; ranges.signs: found true, expected false; rate: found 0.001, expected 0.5; \
             new: found none, expected \"x\""
        );
        assert_eq!(difference(&0.1f32, &0.3f32), "found 0.1, expected 0.3");
        assert_eq!(difference(&found, &found), "");
    }
}
