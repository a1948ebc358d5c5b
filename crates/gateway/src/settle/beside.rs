//! Notes of several stages in one JSON object.
//!
//! **Invariant**: what is put together is an object again, each part under its own name (test
//! `parts_make_an_object`).

use serde::Serialize;

/// Notes, with a part before them.
pub fn beside(name: &str, part: &impl Serialize, notes: &str) -> String {
    // Strings and integers only: this cannot fail, and an empty note would not be a wrong one.
    let part = serde_json::to_string(part).unwrap_or_default();
    let rest = notes.strip_prefix('{').unwrap_or("}");
    let comma = if rest == "}" { "" } else { "," };
    format!(r#"{{"{name}":{part}{comma}{rest}"#)
}

/// The same, if there is such a part.
pub fn beside_if(name: &str, part: Option<&impl Serialize>, notes: String) -> String {
    match part {
        Some(part) => beside(name, part, &notes),
        None => notes,
    }
}

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn parts_make_an_object() {
        let notes = beside("a", &1, "{}");
        assert_eq!(notes, r#"{"a":1}"#);
        assert_eq!(beside("b", &["x"], &notes), r#"{"b":["x"],"a":1}"#);
        assert_eq!(beside("b", &2, ""), r#"{"b":2}"#);
    }
}
