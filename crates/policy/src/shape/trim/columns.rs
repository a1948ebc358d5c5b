//! JSON in fewer signs: no blanks between values, and objects of one kind as rows under their names.
//!
//! **Invariant**: what is written is JSON, and every value stands in it as it stood (property
//! `values_stay_as_they_stood`).

use wire::json::{Key, Node, Tape};

use super::super::edited::{Edited, Writer};

/// Two objects as rows are no shorter than they were.
const ROWS_MIN: usize = 3;

/// A hint says this many members: mostly an id and a name.
const HINT_MEMBERS: usize = 2;

/// The text written more shortly; none if it is not a JSON object or array.
pub(super) fn written(text: &str) -> Option<Edited> {
    let is_candidate = text.trim_start().starts_with(['{', '[']);
    let tape = is_candidate.then(|| Tape::read(text.as_bytes()).ok())??;
    let mut out = Writer::of(text);
    write(tape.root(), &mut out);
    Some(out.finish())
}

/// What stands for a JSON text that was sent before: its first plain members.
pub(super) fn hint(text: &str) -> Option<String> {
    let tape = Tape::read(text.as_bytes()).ok()?;
    let root = tape.root();
    let plain = root
        .members()
        .filter(|(_, value)| !value.is_array() && !value.is_object());
    let members: Vec<String> = plain
        .take(HINT_MEMBERS)
        .map(|(key, value)| format!("\"{}\":{}", key.raw(), value.raw()))
        .collect();
    Some(format!(
        "{{\"identical_to_earlier_result\":{{{}}}}}",
        members.join(",")
    ))
}

fn write(node: Node<'_>, out: &mut Writer<'_>) {
    if node.is_array() {
        match names_of_all(node.items()) {
            Some(names) => table(&names, node.items().map(|row| (None, row)), out),
            None => listed(node.items(), out, |item, out| write(item, out), ["[", "]"]),
        }
    } else if node.is_object() {
        if let Some(names) = names_of_all(node.members().map(|(_, value)| value)) {
            let rows = node.members().map(|(key, row)| (Some(key.raw()), row));
            table(&names, rows, out);
            return;
        }
        let member = |(key, value): (Key<'_>, Node<'_>), out: &mut Writer<'_>| {
            quoted(key.raw(), out);
            out.say(":");
            write(value, out);
        };
        listed(node.members(), out, member, ["{", "}"]);
    } else {
        out.keep(node.span());
    }
}

/// Writes a name as it was written.
fn quoted(name: &str, out: &mut Writer<'_>) {
    out.say("\"");
    out.say(name);
    out.say("\"");
}

fn listed<T>(
    items: impl Iterator<Item = T>,
    out: &mut Writer<'_>,
    mut each: impl FnMut(T, &mut Writer<'_>),
    brackets: [&str; 2],
) {
    out.say(brackets[0]);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.say(",");
        }
        each(item, out);
    }
    out.say(brackets[1]);
}

/// Rows under the names of their members, by name where they had one.
fn table<'t>(
    names: &[&str],
    rows: impl Iterator<Item = (Option<&'t str>, Node<'t>)>,
    out: &mut Writer<'_>,
) {
    let mut rows = rows.peekable();
    let brackets = match rows.peek() {
        Some((Some(_), _)) => ["{", "}"],
        Some((None, _)) | None => ["[", "]"],
    };
    out.say("{\"columns\":");
    listed(names.iter(), out, |name, out| quoted(name, out), ["[", "]"]);
    out.say(",\"rows\":");
    let row = |(name, row): (Option<&str>, Node<'_>), out: &mut Writer<'_>| {
        if let Some(name) = name {
            quoted(name, out);
            out.say(":");
        }
        let values = row.members().map(|(_, value)| value);
        listed(values, out, write, ["[", "]"]);
    };
    listed(rows, out, row, brackets);
    out.say("}");
}

/// The names of the members of every value, if they are objects with the same ones in one order.
fn names_of_all<'t>(mut values: impl Iterator<Item = Node<'t>>) -> Option<Vec<&'t str>> {
    let first = values.next()?;
    let names: Vec<&str> = first.members().map(|(key, _)| key.raw()).collect();
    let mut count = 1;
    for value in values {
        let mut others = value.members().map(|(key, _)| key.raw());
        let same = names.iter().all(|name| others.next() == Some(name));
        if !same || others.next().is_some() {
            return None;
        }
        count += 1;
    }
    (count >= ROWS_MIN && names.len() > 1).then_some(names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};
    use serde_json::{Map, Value};

    use super::{hint, written};

    #[test]
    fn objects_of_one_kind_become_rows() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(written(text).map(|it| it.text).as_deref(), expect, "{text}");
        };
        check("no json", None);
        check(
            "{\"a\": 1,\n \"b\": [1.50, 2e3]}",
            Some(r#"{"a":1,"b":[1.50,2e3]}"#),
        );
        check(
            r#"[{"a": 1, "b": "x"}, {"a": 2, "b": null}, {"a": 3, "b": {}}]"#,
            Some(r#"{"columns":["a","b"],"rows":[[1,"x"],[2,null],[3,{}]]}"#),
        );
        check(
            r#"{"v": {"k1": {"a": 1, "b": 2}, "k2": {"a": 3, "b": 4}, "k3": {"a": 5, "b": 6}}}"#,
            Some(r#"{"v":{"columns":["a","b"],"rows":{"k1":[1,2],"k2":[3,4],"k3":[5,6]}}}"#),
        );
        check(
            r#"[{"a":1,"b":2},{"b":1,"a":2},{"a":1,"b":2}]"#,
            Some(r#"[{"a":1,"b":2},{"b":1,"a":2},{"a":1,"b":2}]"#),
        );
        assert_eq!(
            hint(r##"{"order":"#W1","items":[1],"user":"u","z":3}"##).as_deref(),
            Some(r##"{"identical_to_earlier_result":{"order":"#W1","user":"u"}}"##)
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let named = prop::collection::vec(("[a-c]", inner.clone()), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(Value::from),
                named.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }
    use proptest::prelude::Just;

    /// Undoes the tables.
    fn restored(value: Value) -> Value {
        match value {
            Value::Object(mut members) => {
                let is_table = members.len() == 2 && members.contains_key("columns");
                if is_table && members.contains_key("rows") {
                    let names = members.remove("columns").unwrap();
                    let row = |values: Value| {
                        let names = names
                            .as_array()
                            .unwrap()
                            .iter()
                            .map(|it| it.as_str().unwrap());
                        let values = values.as_array().unwrap().clone();
                        let values = values.into_iter().map(restored);
                        Value::Object(names.map(str::to_owned).zip(values).collect())
                    };
                    let rows = members.remove("rows").unwrap();
                    if let Some(rows) = rows.as_array() {
                        return rows.iter().cloned().map(row).collect();
                    }
                    let rows = rows.as_object().unwrap().clone();
                    let rows = rows.into_iter().map(|(name, it)| (name, row(it)));
                    return Value::Object(rows.collect::<Map<_, _>>());
                }
                Value::Object(
                    members
                        .into_iter()
                        .map(|(name, it)| (name, restored(it)))
                        .collect(),
                )
            }
            Value::Array(items) => items.into_iter().map(restored).collect(),
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
        }
    }

    proptest! {
        #[test]
        fn values_stay_as_they_stood(value in value()) {
            if value.is_array() || value.is_object() {
                let text = serde_json::to_string_pretty(&value).unwrap();
                let shorter: Value = serde_json::from_str(&written(&text).unwrap().text).unwrap();
                prop_assert_eq!(restored(shorter), value);
            }
        }
    }
}
