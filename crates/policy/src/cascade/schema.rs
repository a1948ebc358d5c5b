//! JSON Schema, as far as answers need it: whether a value fits, does not fit, or cannot be told.
//!
//! Read are `type`, `required`, `properties`, `additionalProperties`, `items`, `enum`, `const`,
//! `anyOf`, `allOf` and references within the document. Whatever else restricts a value makes the
//! answer "unknown", unless a keyword that is read already rules the value out.
//!
//! **Invariant**: a value is never called fitting while a keyword that could forbid it was left
//! unread (tests `values_fit_or_do_not`, `what_is_not_read_is_unknown`).

use std::cell::Cell;
use std::cmp::Ordering;

use wire::json::{JsonError, Node, Shape, Tape};

/// 64 references and levels: half of what a body may nest, and a schema that refers to itself must
/// end.
const DEPTH_MAX: usize = 64;

/// 100,000 schemas looked at for one value: an array of that many simple items, and the end of a
/// document that refers to itself in two places, which doubles with every level.
const STEPS_MAX: usize = 100_000;

/// Keywords that say something about a value without restricting it.
const ANNOTATIONS: &[&str] = &[
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "example",
    "examples",
    "format",
    "readOnly",
    "strict",
    "title",
    "writeOnly",
];

/// A schema as its owner wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    text: String,
}

/// Whether a value is what a schema asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is.
    Fits,
    /// It is not.
    Breaks {
        /// Where, as a path from the root: `$.items[2].name`.
        path: String,
        /// What the schema asks for there.
        wanted: String,
    },
    /// The schema uses something that is not read here.
    Unknown {
        /// The keyword or reference.
        keyword: String,
    },
}

impl Fit {
    /// Both must fit; what breaks counts more than what is unknown.
    fn and(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Breaks { .. }, _)
            | (Self::Unknown { .. }, Self::Fits | Self::Unknown { .. }) => self,
            (Self::Fits, _) | (Self::Unknown { .. }, Self::Breaks { .. }) => other,
        }
    }

    fn breaks(path: &str, wanted: impl Into<String>) -> Self {
        Self::Breaks {
            path: path.to_owned(),
            wanted: wanted.into(),
        }
    }

    fn unknown(keyword: impl Into<String>) -> Self {
        Self::Unknown {
            keyword: keyword.into(),
        }
    }
}

impl Schema {
    /// Keeps a schema; it must be JSON.
    pub fn read(text: &str) -> Result<Self, JsonError> {
        Tape::read(text.as_bytes())?;
        Ok(Self {
            text: text.to_owned(),
        })
    }

    /// Whether `value`, which must be JSON, is what the schema asks for. Allocates two tapes.
    ///
    /// ```
    /// use policy::cascade::schema::{Fit, Schema};
    ///
    /// let schema = Schema::read(r#"{"type":"object","required":["city"]}"#).unwrap();
    /// assert_eq!(schema.fit(r#"{"city":"Bern"}"#), Fit::Fits);
    /// assert!(matches!(schema.fit(r#"{"town":"Bern"}"#), Fit::Breaks { .. }));
    /// ```
    pub fn fit(&self, value: &str) -> Fit {
        let value = match Tape::read(value.as_bytes()) {
            Ok(value) => value,
            Err(error) => return Fit::breaks("$", format!("JSON: {error}")),
        };
        // The text was accepted when the schema was read.
        let Ok(schema) = Tape::read(self.text.as_bytes()) else {
            return Fit::unknown("schema");
        };
        let steps = Cell::new(0);
        let reader = Reader {
            root: schema.root(),
            steps: &steps,
        };
        reader.fit(schema.root(), value.root(), "$", 0)
    }
}

/// One reading of a value against one document.
#[derive(Clone, Copy)]
struct Reader<'t> {
    root: Node<'t>,
    /// How many schemas have been looked at.
    steps: &'t Cell<usize>,
}

impl<'t> Reader<'t> {
    fn fit(self, schema: Node<'t>, value: Node<'_>, path: &str, depth: usize) -> Fit {
        self.steps.set(self.steps.get() + 1);
        if depth > DEPTH_MAX || self.steps.get() > STEPS_MAX {
            return Fit::unknown("depth");
        }
        match schema.as_bool() {
            Some(true) => return Fit::Fits,
            Some(false) => return Fit::breaks(path, "nothing"),
            None => {}
        }
        if !schema.is_object() {
            return Fit::unknown("schema");
        }
        let mut fit = Fit::Fits;
        for (key, rule) in schema.members() {
            let name = key.name();
            let next = match name.as_ref() {
                // A keyword that is not written as the standard says restricts nobody knows what.
                name if !is_well_formed(name, rule) => Fit::unknown(name),
                "type" => typed(rule, value, path),
                "enum" => among(rule.items(), rule, value, path),
                "const" => among(std::iter::once(rule), rule, value, path),
                "required" => required(rule, value, path),
                "properties" => self.properties(rule, value, path, depth),
                "additionalProperties" => self.additional(schema, rule, value, path, depth),
                "items" => self.items(schema, rule, value, path, depth),
                "anyOf" => self.any_of(rule, value, path, depth),
                "allOf" => rule.items().fold(Fit::Fits, |fit, part| {
                    fit.and(self.fit(part, value, path, depth + 1))
                }),
                "$ref" => match self.referred(rule) {
                    Some(target) => self.fit(target, value, path, depth + 1),
                    None => Fit::unknown("$ref"),
                },
                name if ANNOTATIONS.contains(&name) => Fit::Fits,
                name => Fit::unknown(name),
            };
            fit = fit.and(next);
            if matches!(fit, Fit::Breaks { .. }) {
                break;
            }
        }
        fit
    }

    fn properties(self, rules: Node<'t>, value: Node<'_>, path: &str, depth: usize) -> Fit {
        rules.members().fold(Fit::Fits, |fit, (key, rule)| {
            let name = key.name();
            match value.get(&name) {
                Some(member) => {
                    fit.and(self.fit(rule, member, &format!("{path}.{name}"), depth + 1))
                }
                None => fit,
            }
        })
    }

    fn additional(
        self,
        schema: Node<'t>,
        rule: Node<'t>,
        value: Node<'_>,
        path: &str,
        depth: usize,
    ) -> Fit {
        if schema.get("patternProperties").is_some() {
            return Fit::unknown("patternProperties");
        }
        let known = schema.get("properties");
        value.members().fold(Fit::Fits, |fit, (key, member)| {
            let name = key.name();
            if known.is_some_and(|known| known.get(&name).is_some()) {
                return fit;
            }
            fit.and(self.fit(rule, member, &format!("{path}.{name}"), depth + 1))
        })
    }

    fn items(
        self,
        schema: Node<'t>,
        rule: Node<'t>,
        value: Node<'_>,
        path: &str,
        depth: usize,
    ) -> Fit {
        // A list of schemas is the tuple of older drafts.
        if rule.is_array() || schema.get("prefixItems").is_some() {
            return Fit::unknown("prefixItems");
        }
        value
            .items()
            .enumerate()
            .fold(Fit::Fits, |fit, (at, item)| {
                fit.and(self.fit(rule, item, &format!("{path}[{at}]"), depth + 1))
            })
    }

    fn any_of(self, rules: Node<'t>, value: Node<'_>, path: &str, depth: usize) -> Fit {
        let mut unknown = None;
        for rule in rules.items() {
            match self.fit(rule, value, path, depth + 1) {
                Fit::Fits => return Fit::Fits,
                Fit::Unknown { keyword } => unknown = Some(Fit::Unknown { keyword }),
                Fit::Breaks { .. } => {}
            }
        }
        unknown.unwrap_or_else(|| Fit::breaks(path, "one of `anyOf`"))
    }

    /// What a reference within the document stands for: `#`, `#/$defs/City`.
    fn referred(self, reference: Node<'t>) -> Option<Node<'t>> {
        let reference = reference.as_str()?;
        let pointer = reference.strip_prefix('#')?;
        let mut node = self.root;
        for part in pointer.split('/').skip(1) {
            let name = part.replace("~1", "/").replace("~0", "~");
            node = match name.parse::<usize>() {
                Ok(at) if node.is_array() => node.items().nth(at)?,
                Ok(_) | Err(_) => node.get(&name)?,
            };
        }
        // `#City` names an anchor, which is not read.
        (pointer.is_empty() || pointer.starts_with('/')).then_some(node)
    }
}

/// Whether a keyword that is read here has a value of the kind that it must have.
fn is_well_formed(name: &str, rule: Node<'_>) -> bool {
    match name {
        "type" => rule.is_string() || is_list_of_names(rule),
        "required" => is_list_of_names(rule),
        "enum" | "anyOf" | "allOf" => rule.is_array(),
        "properties" => rule.is_object(),
        _ => true,
    }
}

fn is_list_of_names(rule: Node<'_>) -> bool {
    rule.is_array() && rule.items().all(|name| name.is_string())
}

/// `type`: a name, or a list of names of which one suffices.
fn typed(rule: Node<'_>, value: Node<'_>, path: &str) -> Fit {
    let one = rule.as_str();
    let names: Vec<_> = match one {
        Some(name) => vec![name],
        None => rule.items().filter_map(|name| name.as_str()).collect(),
    };
    if names.iter().any(|name| is_a(name, value)) {
        Fit::Fits
    } else {
        Fit::breaks(path, format!("type {}", rule.raw()))
    }
}

fn is_a(name: &str, value: Node<'_>) -> bool {
    match value.shape() {
        Shape::Null => name == "null",
        Shape::True | Shape::False => name == "boolean",
        Shape::Number => name == "number" || (name == "integer" && is_whole(value.raw())),
        Shape::Plain | Shape::Escaped => name == "string",
        Shape::Array => name == "array",
        Shape::Object => name == "object",
    }
}

/// Whether a number has no fraction: `12`, `12.0`, `1e3`.
fn is_whole(raw: &str) -> bool {
    let is_integer = !raw.contains(['.', 'e', 'E']);
    is_integer
        || raw
            .parse::<f64>()
            .is_ok_and(|value| value.fract().partial_cmp(&0.0) == Some(Ordering::Equal))
}

fn among<'t>(
    mut allowed: impl Iterator<Item = Node<'t>>,
    rule: Node<'_>,
    value: Node<'_>,
    path: &str,
) -> Fit {
    if allowed.any(|one| equal(one, value)) {
        Fit::Fits
    } else {
        Fit::breaks(path, rule.raw())
    }
}

fn required(rule: Node<'_>, value: Node<'_>, path: &str) -> Fit {
    if !value.is_object() {
        return Fit::Fits;
    }
    let missing = rule
        .items()
        .filter_map(|name| name.as_str())
        .find(|name| value.get(name).is_none());
    match missing {
        Some(name) => Fit::breaks(path, format!("a member `{name}`")),
        None => Fit::Fits,
    }
}

/// Equality of JSON values: objects without order, numbers by value.
fn equal(left: Node<'_>, right: Node<'_>) -> bool {
    if left.is_string() || right.is_string() {
        return left.is_string() && right.is_string() && left.as_str() == right.as_str();
    }
    if left.shape() != right.shape() {
        return false;
    }
    match left.shape() {
        Shape::Number => same_number(left.raw(), right.raw()),
        Shape::Array => {
            left.items().count() == right.items().count()
                && left.items().zip(right.items()).all(|(a, b)| equal(a, b))
        }
        Shape::Object => {
            left.members().count() == right.members().count()
                && left
                    .members()
                    .all(|(key, a)| right.get(&key.name()).is_some_and(|b| equal(a, b)))
        }
        Shape::Null | Shape::True | Shape::False | Shape::Plain | Shape::Escaped => true,
    }
}

/// Whole numbers are compared by their digits, because a float cannot tell 2⁵³ from its neighbour.
fn same_number(left: &str, right: &str) -> bool {
    if left == right {
        return true;
    }
    let digits_only = |raw: &str| !raw.contains(['.', 'e', 'E']);
    if digits_only(left) && digits_only(right) {
        return false;
    }
    match (left.parse::<f64>(), right.parse::<f64>()) {
        (Ok(left), Ok(right)) => left.partial_cmp(&right) == Some(Ordering::Equal),
        (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Fit, Schema};

    /// What is expected: `fits`, `breaks PATH`, or `unknown KEYWORD`.
    fn check(schema: &str, value: &str, expect: &str) {
        let said = match Schema::read(schema).unwrap().fit(value) {
            Fit::Fits => "fits".to_owned(),
            Fit::Breaks { path, .. } => format!("breaks {path}"),
            Fit::Unknown { keyword } => format!("unknown {keyword}"),
        };
        assert_eq!(said, expect, "{value} against {schema}");
    }

    #[test]
    fn values_fit_or_do_not() {
        for (schema, value, expect) in [
            ("{}", "null", "fits"),
            ("true", "1", "fits"),
            ("false", "1", "breaks $"),
            (r#"{"type":"object"}"#, "{", "breaks $"),
            (r#"{"type":"object"}"#, "```json\n{}\n```", "breaks $"),
            (r#"{"type":"integer"}"#, "12", "fits"),
            (r#"{"type":"integer"}"#, "12.0", "fits"),
            (r#"{"type":"integer"}"#, "12.5", "breaks $"),
            (r#"{"type":["string","null"]}"#, "null", "fits"),
            (r#"{"type":["string","null"]}"#, "0", "breaks $"),
            (r#"{"enum":["a",1,{"b":[2]}]}"#, r#"{"b":[2.0]}"#, "fits"),
            (r#"{"enum":["a",1]}"#, r#""b""#, "breaks $"),
            (r#"{"const":"\u0061"}"#, r#""a""#, "fits"),
            (
                r#"{"const":9007199254740993}"#,
                "9007199254740992",
                "breaks $",
            ),
            (r#"{"required":["a"]}"#, r#"{"a":null}"#, "fits"),
            (r#"{"required":["a"]}"#, r#"{"b":1}"#, "breaks $"),
            (
                r#"{"properties":{"a":{"type":"string"}}}"#,
                r#"{"a":1}"#,
                "breaks $.a",
            ),
            (
                r#"{"properties":{"a":{}},"additionalProperties":false}"#,
                r#"{"a":1}"#,
                "fits",
            ),
            (
                r#"{"properties":{"a":{}},"additionalProperties":false}"#,
                r#"{"b":1}"#,
                "breaks $.b",
            ),
            (
                r#"{"additionalProperties":{"type":"number"}}"#,
                r#"{"b":"x"}"#,
                "breaks $.b",
            ),
            (r#"{"items":{"type":"number"}}"#, "[1,2]", "fits"),
            (
                r#"{"items":{"type":"number"}}"#,
                r#"[1,"2"]"#,
                "breaks $[1]",
            ),
            (
                r#"{"anyOf":[{"type":"null"},{"type":"string"}]}"#,
                "1",
                "breaks $",
            ),
            (
                r#"{"allOf":[{"type":"number"},{"enum":[1]}]}"#,
                "2",
                "breaks $",
            ),
            (
                r##"{"$defs":{"City":{"type":"string"}},"properties":{"to":{"$ref":"#/$defs/City"}}}"##,
                r#"{"to":7}"#,
                "breaks $.to",
            ),
        ] {
            check(schema, value, expect);
        }
    }

    #[test]
    fn what_is_not_read_is_unknown() {
        for (schema, value, expect) in [
            (
                r#"{"type":"string","pattern":"^a"}"#,
                r#""a""#,
                "unknown pattern",
            ),
            // A break is certain whatever the unread keyword says.
            (r#"{"pattern":"^a","type":"string"}"#, "1", "breaks $"),
            (r#"{"minimum":3}"#, "1", "unknown minimum"),
            (
                r#"{"items":[{"type":"string"}]}"#,
                "[]",
                "unknown prefixItems",
            ),
            (
                r#"{"$ref":"https://schemas.example/a"}"#,
                "1",
                "unknown $ref",
            ),
            (
                r#"{"anyOf":[{"minimum":3},{"type":"string"}]}"#,
                "1",
                "unknown minimum",
            ),
            (
                r#"{"anyOf":[{"minimum":3},{"type":"number"}]}"#,
                "1",
                "fits",
            ),
            // What is not written as the standard says restricts nobody knows what.
            (r#"{"type":5}"#, "1", "unknown type"),
            (r#"{"required":true}"#, "{}", "unknown required"),
            (r#"{"anyOf":{}}"#, "1", "unknown anyOf"),
            // A schema that refers to itself ends, also where it doubles with every level.
            (
                r##"{"allOf":[{"$ref":"#"},{"$ref":"#"}]}"##,
                "1",
                "unknown depth",
            ),
            (r##"{"$ref":"#"}"##, "1", "unknown depth"),
        ] {
            check(schema, value, expect);
        }
    }
}
