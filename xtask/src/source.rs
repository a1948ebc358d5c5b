//! Reads Rust text far enough to judge it: what is code, what is test, where functions and imports are.
//!
//! **Invariant**: every blanked text has the length and the lines of the original, so that an
//! offset found in one is good in the other (test `blanking_keeps_length_and_lines`).

/// One `use` path, groups already expanded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Import {
    /// Counted from 1.
    pub(crate) line: usize,
    /// Whether it is re-exported: `pub use`, `pub(crate) use`.
    pub(crate) public: bool,
    /// As in `std::fs::File` or `super::*`.
    pub(crate) path: String,
}

/// One function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Counted from 1.
    pub(crate) line: usize,
    /// As written after `fn`.
    pub(crate) name: String,
    /// Lines between the braces that hold code, as clippy counts them.
    pub(crate) code_lines: usize,
}

/// Replaces comments and the insides of literals by spaces.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        match literal_or_comment(bytes, at) {
            Some((from, to)) => {
                blank(&mut out, from, to);
                at = to.max(at + 1);
            }
            None => at += 1,
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Replaces every item under `#[cfg(test)]` by spaces; wants text from [`code`].
pub(crate) fn shipped(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(start) = find(code, "#[cfg(test)]", from) {
        let end = item_end(code.as_bytes(), start + "#[cfg(test)]".len());
        blank(&mut out, start, end);
        from = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The functions with a body; wants text from [`code`].
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for start in words(code, "fn") {
        let rest = code[start + 2..].trim_start();
        let name: String = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let end = item_end(bytes, start);
        let Some(open) = body_open(bytes, start) else {
            continue;
        };
        if name.is_empty() || open >= end {
            continue;
        }
        let body = &code[open + 1..end - 1];
        let code_lines = body.lines().filter(|line| !line.trim().is_empty()).count();
        found.push(Function {
            line: line_of(code, start),
            name,
            code_lines,
        });
    }
    found
}

/// The `use` declarations; wants text from [`code`].
pub(crate) fn imports(code: &str) -> Vec<Import> {
    let mut found = Vec::new();
    for start in words(code, "use") {
        let before = code[..start].trim_end();
        let public =
            before.ends_with("pub") || (before.ends_with(')') && ends_in_visibility(before));
        let starts_statement =
            public || before.is_empty() || before.ends_with([';', '{', '}', ']']);
        let Some(end) = find(code, ";", start) else {
            continue;
        };
        if !starts_statement {
            continue;
        }
        let mut paths = Vec::new();
        expand(code[start + 3..end].trim(), "", &mut paths);
        let line = line_of(code, start);
        found.extend(paths.into_iter().map(|path| Import { line, public, path }));
    }
    found
}

/// The offsets at which `word` stands as a whole word.
pub(crate) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| {
            let after = bytes.get(at + word.len()).copied();
            !at.checked_sub(1)
                .is_some_and(|before| is_word(bytes[before]))
                && !after.is_some_and(is_word)
        })
}

/// The line of an offset, counted from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn find(text: &str, needle: &str, from: usize) -> Option<usize> {
    text.get(from..)?.find(needle).map(|at| at + from)
}

fn blank(out: &mut [u8], from: usize, to: usize) {
    for byte in &mut out[from..to] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// The span to blank when a comment or literal starts at `at`.
fn literal_or_comment(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = &bytes[at..];
    let after_word = at > 0 && is_word(bytes[at - 1]);
    if rest.starts_with(b"//") {
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .unwrap_or(rest.len());
        return Some((at, at + length));
    }
    if rest.starts_with(b"/*") {
        return Some((at, block_comment_end(bytes, at)));
    }
    match rest[0] {
        b'"' => Some((at + 1, string_end(bytes, at + 1))),
        b'r' | b'b' | b'c' if !after_word => raw_string(bytes, at),
        b'\'' => char_end(bytes, at).map(|end| (at + 1, end)),
        _ => None,
    }
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let mut depth = 0usize;
    let mut index = at;
    while index < bytes.len() {
        if bytes[index..].starts_with(b"/*") {
            depth += 1;
            index += 2;
        } else if bytes[index..].starts_with(b"*/") {
            depth -= 1;
            index += 2;
            if depth == 0 {
                return index;
            }
        } else {
            index += 1;
        }
    }
    bytes.len()
}

/// Just past the closing quote.
fn string_end(bytes: &[u8], mut index: usize) -> usize {
    while index < bytes.len() {
        match bytes[index] {
            b'\\' => index += 2,
            b'"' => return index + 1,
            _ => index += 1,
        }
    }
    bytes.len()
}

/// A raw string: `r"…"`, `br#"…"#`, `cr"…"`; `None` if it is an ordinary word.
fn raw_string(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut index = at + usize::from(bytes[at] != b'r');
    if bytes.get(index) != Some(&b'r') {
        return None;
    }
    index += 1;
    let hashes = bytes[index..]
        .iter()
        .take_while(|&&byte| byte == b'#')
        .count();
    if bytes.get(index + hashes) != Some(&b'"') {
        return None;
    }
    let mut closing = vec![b'"'];
    closing.resize(hashes + 1, b'#');
    let start = index + hashes + 1;
    let length = bytes[start..]
        .windows(closing.len())
        .position(|window| window == closing);
    Some((
        start,
        length.map_or(bytes.len(), |length| start + length + closing.len()),
    ))
}

/// Just past the closing quote of a character; `None` if it is a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        let close = bytes
            .get(at + 3..)?
            .iter()
            .position(|&byte| byte == b'\'')?;
        return Some(at + 3 + close + 1);
    }
    let text = std::str::from_utf8(bytes.get(at + 1..(at + 5).min(bytes.len()))?);
    let valid = match text {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[at + 1..at + 1 + error.valid_up_to()]).ok()?,
    };
    let length = valid.chars().next()?.len_utf8();
    (bytes.get(at + 1 + length) == Some(&b'\'')).then_some(at + 2 + length)
}

/// The brace that opens the body of the item at `start`; `None` if a `;` ends it first.
fn body_open(bytes: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (index, &byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => return Some(index),
            _ => {}
        }
    }
    None
}

/// Just past the item at `start`: its closing brace, or the `;` that ends it.
fn item_end(bytes: &[u8], start: usize) -> usize {
    let Some(open) = body_open(bytes, start) else {
        let semicolon = bytes[start..].iter().position(|&byte| byte == b';');
        return semicolon.map_or(bytes.len(), |length| start + length + 1);
    };
    let mut depth = 0usize;
    for (index, &byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return index + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    bytes.len()
}

fn ends_in_visibility(before: &str) -> bool {
    before
        .rfind('(')
        .is_some_and(|open| before[..open].trim_end().ends_with("pub"))
}

/// Expands `a::{b, c::*}` into `a::b` and `a::c::*`.
fn expand(tree: &str, prefix: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    if let Some((path, group)) = tree.split_once('{') {
        let prefix = format!("{prefix}{path}");
        for member in members(group.strip_suffix('}').unwrap_or(group)) {
            expand(member, &prefix, paths);
        }
    } else if let Some(name) = tree.split_whitespace().next() {
        // What follows the name is `as other`.
        paths.push(format!("{prefix}{name}"));
    }
}

/// The members of a group, split at the commas that are not inside an inner group.
fn members(group: &str) -> Vec<&str> {
    let mut depth = 0usize;
    let split = |character: char| {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    };
    group.split(split).collect()
}

#[cfg(test)]
mod tests {
    use super::{Function, code, functions, imports, shipped};

    #[test]
    fn blanking_keeps_length_and_lines() {
        for text in [
            "let a = \"x // y\"; // z\nlet b = 'c';",
            "/* a /* b */ c */ fn f<'a>(x: &'a str) {}",
            "let raw = br#\"quote \" in\"#; let e = '\\''; let n = '\\u{1F600}';",
            "let wide = 'é'; let text = \"é\n\\\"\";",
        ] {
            let blanked = code(text);
            assert_eq!(blanked.len(), text.len(), "{text}");
            assert_eq!(blanked.lines().count(), text.lines().count(), "{text}");
        }
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        let check = |text: &str, expect: &str| assert_eq!(code(text), expect);
        check("a // b", "a     ");
        check("f(\"fs\", 'c', b\"x\")", "f(\"   , '  , b\"  )");
        check("r#\"x\"# + r", "r#\"    + r");
        check("&'a str", "&'a str");
        check("for x in y {}", "for x in y {}");
    }

    #[test]
    fn test_items_do_not_ship() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { if x {} }\n}\nfn c() {}";
        let names: Vec<String> = functions(&shipped(&code(text)))
            .into_iter()
            .map(|function| function.name)
            .collect();
        assert_eq!(names, ["a", "c"]);
        assert!(!shipped("#[cfg(test)]\nmod tests;\nfn c() {}").contains("tests"));
    }

    #[test]
    fn function_bodies_are_counted_without_comments_and_blank_lines() {
        let text = "trait T { fn no_body(&self) -> [u8; 4]; }\nfn f(\n x: [u8; 2],\n) {\n  a();\n\n  // why\n  b();\n}\n";
        let expect = Function {
            line: 2,
            name: "f".into(),
            code_lines: 2,
        };
        assert_eq!(functions(&code(text)), [expect]);
    }

    #[test]
    fn imports_are_expanded() {
        let check = |text: &str, expect: &[&str]| {
            let paths: Vec<String> = imports(text)
                .into_iter()
                .map(|import| format!("{}{}", if import.public { "pub " } else { "" }, import.path))
                .collect();
            assert_eq!(paths, expect, "{text}");
        };
        check("use a::b;", &["a::b"]);
        check(
            "use std::{fs, io::{self, Write as _}};",
            &["std::fs", "std::io::self", "std::io::Write"],
        );
        check("pub use a::*;", &["pub a::*"]);
        check("mod m { pub(crate) use a::b; }", &["pub a::b"]);
        check("fn f() -> impl Sized + use<'_> { x }", &[]);
    }
}
