//! The simulated `POST /v1/embeddings`.
//!
//! **Invariant**: equal texts have equal vectors of length one, and both encodings carry the same
//! numbers (test `embeddings_are_stable_unit_vectors`).

use serde_json::{Value, json};

use crate::provider::meter::Count;
use crate::provider::openai_chat::text_tokens;
use crate::provider::script::digest;
use crate::provider::{Ask, Fault, UNKNOWN_MODEL, object};

/// Length of a vector unless the request says otherwise: that of OpenAI's small model.
const DIMENSIONS: u64 = 1_536;

/// Longest vector that may be asked for: that of OpenAI's large model.
const DIMENSIONS_MAX: u64 = 3_072;

/// Embeds one text or a list of texts.
pub(super) fn embed(ask: &Ask<'_>, count: Count) -> Result<Value, Fault> {
    let request = object(ask.body)?;
    let missing = |name: &str| {
        let message = format!("missing required parameter: `{name}`");
        Fault::bad(message)
            .at(name)
            .coded("missing_required_parameter")
    };
    let model = request["model"].as_str().ok_or_else(|| missing("model"))?;
    if model.starts_with(UNKNOWN_MODEL) {
        return Err(Fault::unknown_model(model));
    }
    let input = &request["input"];
    let texts: Vec<String> = match input {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) if items.iter().all(Value::is_number) && !items.is_empty() => {
            vec![input.to_string()]
        }
        Value::Array(items) if !items.is_empty() => {
            let text = |item: &Value| {
                item.as_str()
                    .map_or_else(|| item.to_string(), str::to_owned)
            };
            items.iter().map(text).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            return Err(missing("input"));
        }
    };
    let dimensions = request["dimensions"].as_u64().unwrap_or(DIMENSIONS);
    if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
        let message = format!("`dimensions` must be between 1 and {DIMENSIONS_MAX}");
        return Err(Fault::bad(message).at("dimensions"));
    }
    let packed = request["encoding_format"] == "base64";
    let data = texts.iter().enumerate().map(|(index, text)| {
        let vector = vector(text, dimensions);
        let embedding = if packed {
            let bytes: Vec<u8> = vector
                .iter()
                .flat_map(|number| number.to_le_bytes())
                .collect();
            json!(base64(&bytes))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    let data: Vec<Value> = data.collect();
    let tokens = text_tokens(input, count);
    Ok(json!({
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
}

/// A vector of length one that follows from the text: every component has the same size, its sign
/// comes from the text's digest.
fn vector(text: &str, dimensions: u64) -> Vec<f32> {
    let size = u16::try_from(dimensions).map_or(0.0, |count| f32::from(count).sqrt().recip());
    let signs = (0..dimensions).map(|index| digest(&[text, &index.to_string()]));
    signs
        .map(|sign| {
            if sign.count_ones() % 2 == 0 {
                size
            } else {
                -size
            }
        })
        .collect()
}

/// Standard base64 with padding, the form in which the official SDKs ask for vectors.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for place in 0..4 {
            if place > group.len() {
                text.push('=');
            } else {
                let index = bits >> (18 - 6 * place) & 0x3f;
                text.push(char::from(ALPHABET[index as usize]));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        for (bytes, expect) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expect);
        }
    }

    #[test]
    fn embeddings_are_stable_unit_vectors() {
        for dimensions in [1, 8, 1_536] {
            let first = vector("hello", dimensions);
            let length: f32 = first.iter().map(|number| number * number).sum();
            assert!((length - 1.0).abs() < 1e-3, "{length}");
            assert_eq!(first, vector("hello", dimensions));
        }
        assert_ne!(vector("hello", 64), vector("other", 64));
    }
}
