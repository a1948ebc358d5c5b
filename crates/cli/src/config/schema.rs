//! The JSON schema of the configuration, and the reference that people read, made from it.
//!
//! **Invariant**: `schema.json` and `docs/reference.md` say what the code says (test
//! `the_generated_reference_is_current`).

use serde_json::Value;

use super::raw::RawConfig;

const HEAD: &str = "# Configuration reference

This page is generated from `crates/cli/src/config/raw.rs` and what lies in `raw/` by `cargo xtask gen`; do not edit it.
`tokenwise check FILE` says what a file does; `tokenwise check --schema` prints the JSON schema.
Every field is optional unless it says otherwise.
Files to start from are in [examples](../examples).
";

/// The schema of the whole file.
pub(crate) fn schema() -> Value {
    let text = schemars::schema_for!(RawConfig).to_value().to_string();
    // Our prefix for what is not checked yet means nothing to whoever writes a file.
    let text = text.replace("\"Raw", "\"").replace("$defs/Raw", "$defs/");
    serde_json::from_str(&text).unwrap_or_default()
}

/// The schema as it is written to a file.
pub(crate) fn schema_text() -> String {
    format!("{:#}\n", schema())
}

/// The reference, in Markdown.
pub(crate) fn reference() -> String {
    let root = schema();
    let mut page = HEAD.to_owned();
    let mut tables = Vec::new();
    for (name, field) in fields(&root) {
        match table_of(&root, field) {
            Some((table, Shape::Table)) => tables.push((format!("[{name}]"), field, Some(table))),
            Some((table, Shape::Array)) => tables.push((format!("[[{name}]]"), field, Some(table))),
            None if field.get("additionalProperties").is_some() => {
                tables.push((format!("[{name}]"), field, None));
            }
            None => {
                if tables.is_empty() && !page.contains("## Top level") {
                    page.push_str("\n## Top level\n\n");
                }
                entry(&mut page, &root, &root, name, field);
            }
        }
    }
    for (title, field, table) in tables {
        let what = text(field, "description")
            .map(sentences)
            .unwrap_or_default();
        put!(page, "\n## `{title}`\n\n{what}\n");
        let Some(table) = table else { continue };
        page.push('\n');
        for (name, field) in fields(table) {
            entry(&mut page, &root, table, name, field);
        }
    }
    page
}

enum Shape {
    Table,
    Array,
}

/// The fields of a table, if the field is one, or a list of them.
fn table_of<'a>(root: &'a Value, field: &'a Value) -> Option<(&'a Value, Shape)> {
    let (table, shape) = match field.get("items") {
        Some(items) => (resolved(root, items), Shape::Array),
        None => (resolved(root, field), Shape::Table),
    };
    table.get("properties").map(|_| (table, shape))
}

fn entry(page: &mut String, root: &Value, table: &Value, name: &str, field: &Value) {
    let required = table["required"]
        .as_array()
        .is_some_and(|names| names.iter().any(|n| n == name));
    let mut facts = vec![kind(root, field)];
    if required {
        facts.push("required".to_owned());
    }
    if let (Some(low), Some(high)) = (field.get("minimum"), field.get("maximum")) {
        facts.push(format!("{low} to {high}"));
    }
    if let Some(default) = field.get("default").filter(|default| !default.is_null()) {
        facts.push(format!("default `{default}`"));
    }
    let what = text(field, "description")
        .map(sentences)
        .unwrap_or_default();
    let what = what.replace('\n', "\n  ");
    put!(page, "- **`{name}`** ({})\n  {what}\n", facts.join(", "));
    for choice in choices(root, field) {
        let what = text(choice, "description")
            .unwrap_or_default()
            .replace('\n', " ");
        put!(page, "  - `{}`: {what}\n", written(choice));
    }
}

/// How a value of an enumeration is written: `"block"`, or `{ hold_usd = "…" }`.
fn written(choice: &Value) -> String {
    match fields(choice).next() {
        Some((name, _)) => format!("{{ {name} = \"…\" }}"),
        None => choice["const"].to_string(),
    }
}

/// The values of an enumeration.
fn choices<'a>(root: &'a Value, field: &'a Value) -> Vec<&'a Value> {
    let field = resolved(root, field);
    let optional = field["anyOf"].as_array().and_then(|any| any.first());
    let field = optional.map_or(field, |inner| resolved(root, inner));
    field["oneOf"]
        .as_array()
        .map_or(Vec::new(), |all| all.iter().collect())
}

fn kind(root: &Value, field: &Value) -> String {
    if !choices(root, field).is_empty() {
        return "one of the values below".to_owned();
    }
    let kind = &resolved(root, field)["type"];
    let name = kind
        .as_str()
        .or_else(|| kind.get(0)?.as_str())
        .unwrap_or("value");
    match name {
        "array" => "list of strings".to_owned(),
        other => other.to_owned(),
    }
}

/// Follows a reference to a definition.
fn resolved<'a>(root: &'a Value, field: &'a Value) -> &'a Value {
    let name = text(field, "$ref").and_then(|path| path.strip_prefix("#/$defs/"));
    name.and_then(|name| root.get("$defs")?.get(name))
        .unwrap_or(field)
}

fn fields(table: &Value) -> impl Iterator<Item = (&String, &Value)> {
    table["properties"].as_object().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

/// One sentence a line.
fn sentences(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut page = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(". ") {
        let (sentence, after) = rest.split_at(at + 1);
        page.push_str(sentence);
        page.push('\n');
        rest = after.trim_start();
    }
    page + rest
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::env::{Environment, UPDATE};

    #[test]
    fn the_generated_reference_is_current() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (file, expect) in [
            ("schema.json", schema_text()),
            ("docs/reference.md", reference()),
        ] {
            let path = root.join(file);
            if Environment::of_process().get(UPDATE).is_some() {
                std::fs::write(&path, &expect).unwrap();
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(
                found, expect,
                "{file} is not current; run `cargo xtask gen`"
            );
        }
    }
}
