//! A body read in one pass: a flat tape of nodes that borrow the bytes they were read from.
//!
//! Nothing is copied and nothing is rewritten; every node knows its span, so that an edit can be
//! declared over exactly the bytes that it means.
//!
//! **Invariant**: a text is accepted if and only if it is RFC 8259 JSON no deeper than
//! [`DEPTH_MAX`], and strings decode as `serde_json` decodes them (properties
//! `accepts_what_serde_json_accepts` and `decodes_as_serde_json_does`).

mod scan;

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr;

/// 128 levels: what `serde_json` and most servers allow; tool schemas seen in traffic stay below 30.
pub const DEPTH_MAX: usize = 128;

/// Why a text is not JSON, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at} found {found}, expected {expected}")]
pub struct JsonError {
    /// Byte offset of the fault.
    pub at: usize,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub expected: &'static str,
}

/// The kinds of JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `null`.
    Null,
    /// `true`.
    True,
    /// `false`.
    False,
    /// A number.
    Number,
    /// A string without escapes: its bytes are its value.
    Plain,
    /// A string with at least one escape.
    Escaped,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// One node of the tape: 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Offset of the first byte.
    start: u32,
    /// Offset after the last byte.
    end: u32,
    /// Index of the entry after this one and all that it contains.
    next: u32,
    shape: Shape,
}

impl Entry {
    /// Stands in where a tape has no node, so that reading needs no panic.
    const NOTHING: Self = Self {
        start: 0,
        end: 0,
        next: 0,
        shape: Shape::Null,
    };
}

/// The memory of a tape that is no longer read, for the next one.
#[derive(Clone, Debug, Default)]
pub struct Spare(Vec<Entry>);

/// A JSON text and the place of everything in it.
#[derive(Debug)]
pub struct Tape<'b> {
    text: &'b str,
    entries: Vec<Entry>,
}

impl<'b> Tape<'b> {
    /// Reads a whole text in one pass; allocates the tape only.
    pub fn read(body: &'b [u8]) -> Result<Self, JsonError> {
        // A guess that spares most regrowth: agent bodies have a node every 50 to 150 bytes.
        Self::read_reusing(body, Spare(Vec::with_capacity(16 + body.len() / 64)))
    }

    /// As [`Tape::read`], into memory that an earlier tape gave back.
    pub fn read_reusing(body: &'b [u8], spare: Spare) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(body).map_err(|error| {
            let at = error.valid_up_to();
            let found = body
                .get(at)
                .map_or_else(String::new, |byte| format!("byte 0x{byte:02x}"));
            JsonError {
                at,
                found,
                expected: "UTF-8 text",
            }
        })?;
        let mut entries = spare.0;
        entries.clear();
        scan::scan(text, &mut entries)?;
        Ok(Self { text, entries })
    }

    /// Gives the memory back.
    pub fn into_spare(self) -> Spare {
        Spare(self.entries)
    }

    /// The outermost value.
    pub fn root(&self) -> Node<'_> {
        Node {
            tape: self,
            index: 0,
        }
    }

    #[inline]
    fn entry(&self, index: usize) -> Entry {
        self.entries.get(index).copied().unwrap_or(Entry::NOTHING)
    }

    /// The bytes of an entry.
    #[inline]
    fn raw(&self, entry: Entry) -> &str {
        let span = entry.start as usize..entry.end as usize;
        self.text.get(span).unwrap_or_default()
    }

    /// Whether an entry that names a member has this name.
    #[inline]
    fn is_name(&self, entry: Entry, name: &str) -> bool {
        if entry.shape == Shape::Escaped {
            return unescape(inner(self.raw(entry))) == name;
        }
        // Most names differ in length already, which costs no look at the text.
        (entry.end - entry.start) as usize == name.len() + 2 && inner(self.raw(entry)) == name
    }
}

/// A string without its quotes.
#[inline]
fn inner(raw: &str) -> &str {
    raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default()
}

/// A value of the tape.
#[derive(Clone, Copy, Debug)]
pub struct Node<'t> {
    tape: &'t Tape<'t>,
    index: usize,
}

impl<'t> Node<'t> {
    #[inline]
    fn entry(&self) -> Entry {
        self.tape.entry(self.index)
    }

    /// What kind of value it is.
    pub fn shape(&self) -> Shape {
        self.entry().shape
    }

    /// The kind in words, for messages: `a string`, `null`, …
    pub fn shape_name(&self) -> &'static str {
        match self.entry().shape {
            Shape::Null => "null",
            Shape::True | Shape::False => "a boolean",
            Shape::Number => "a number",
            Shape::Plain | Shape::Escaped => "a string",
            Shape::Array => "an array",
            Shape::Object => "an object",
        }
    }

    /// The bytes of the body that it was read from, quotes or brackets included.
    pub fn span(&self) -> Range<usize> {
        let entry = self.entry();
        entry.start as usize..entry.end as usize
    }

    /// Those bytes.
    pub fn raw(&self) -> &'t str {
        self.tape.raw(self.entry())
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.entry().shape == Shape::Null
    }

    /// Whether it is a string.
    pub fn is_string(&self) -> bool {
        matches!(self.entry().shape, Shape::Plain | Shape::Escaped)
    }

    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        self.entry().shape == Shape::Array
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.entry().shape == Shape::Object
    }

    /// The value of a string; borrowed unless it holds escapes. Half a surrogate pair, which JSON
    /// allows and Rust does not, reads as U+FFFD.
    pub fn as_str(&self) -> Option<Cow<'t, str>> {
        let inner = inner(self.raw());
        match self.entry().shape {
            Shape::Plain => Some(Cow::Borrowed(inner)),
            Shape::Escaped => Some(Cow::Owned(unescape(inner))),
            Shape::Null
            | Shape::True
            | Shape::False
            | Shape::Number
            | Shape::Array
            | Shape::Object => None,
        }
    }

    /// The value of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self.raw() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The value of a whole number that is not negative; `12.0` is one.
    pub fn as_u64(&self) -> Option<u64> {
        if self.entry().shape != Shape::Number {
            return None;
        }
        let raw = self.raw();
        let (whole, fraction) = raw.split_once('.').unwrap_or((raw, ""));
        if fraction.bytes().all(|byte| byte == b'0') {
            whole.parse().ok()
        } else {
            None
        }
    }

    /// The values of an array; none for any other kind.
    pub fn items(&self) -> Items<'t> {
        Items {
            node: *self,
            at: self.first_child(Shape::Array),
            end: self.entry().next as usize,
        }
    }

    /// The members of an object in the order written, duplicates included; none for any other kind.
    pub fn members(&self) -> Members<'t> {
        Members {
            node: *self,
            at: self.first_child(Shape::Object),
            end: self.entry().next as usize,
        }
    }

    /// The member of that name; of several, the last, as most parsers read it.
    pub fn get(&self, key: &str) -> Option<Node<'t>> {
        let (tape, end) = (self.tape, self.entry().next as usize);
        let mut name_at = self.first_child(Shape::Object);
        let mut found = None;
        while name_at < end {
            let index = name_at + 1;
            if tape.is_name(tape.entry(name_at), key) {
                found = Some(Node { tape, index });
            }
            // Never backwards, so that even a damaged tape ends.
            name_at = (tape.entry(index).next as usize).max(index + 1);
        }
        found
    }

    fn first_child(&self, container: Shape) -> usize {
        let entry = self.entry();
        if entry.shape == container {
            self.index + 1
        } else {
            entry.next as usize
        }
    }
}

/// The name of an object's member.
#[derive(Clone, Copy, Debug)]
pub struct Key<'t>(Node<'t>);

impl<'t> Key<'t> {
    /// The bytes between the quotes.
    pub fn raw(&self) -> &'t str {
        inner(self.0.raw())
    }

    /// The name with escapes read.
    pub fn name(&self) -> Cow<'t, str> {
        self.0.as_str().unwrap_or_default()
    }

    /// Whether this is its name.
    #[inline]
    pub fn is(&self, name: &str) -> bool {
        self.0.tape.is_name(self.0.entry(), name)
    }

    /// The bytes of the body, quotes included.
    pub fn span(&self) -> Range<usize> {
        self.0.span()
    }
}

/// Iterates over an array; see [`Node::items`].
#[derive(Clone, Debug)]
pub struct Items<'t> {
    node: Node<'t>,
    at: usize,
    end: usize,
}

impl<'t> Iterator for Items<'t> {
    type Item = Node<'t>;

    fn next(&mut self) -> Option<Node<'t>> {
        if self.at >= self.end {
            return None;
        }
        let item = Node {
            tape: self.node.tape,
            index: self.at,
        };
        self.at = item.entry().next as usize;
        Some(item)
    }
}

/// Iterates over an object; see [`Node::members`].
#[derive(Clone, Debug)]
pub struct Members<'t> {
    node: Node<'t>,
    at: usize,
    end: usize,
}

impl<'t> Iterator for Members<'t> {
    type Item = (Key<'t>, Node<'t>);

    fn next(&mut self) -> Option<(Key<'t>, Node<'t>)> {
        if self.at >= self.end {
            return None;
        }
        let tape = self.node.tape;
        let at = |index| Node { tape, index };
        let (key, value) = (at(self.at), at(self.at + 1));
        self.at = value.entry().next as usize;
        Some((Key(key), value))
    }
}

/// Reads the escapes of a string that the scanner has accepted.
fn unescape(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr(b'\\', rest.as_bytes()) {
        let (plain, escape) = rest.split_at(at);
        text.push_str(plain);
        let (letter, length) = escaped_char(escape);
        text.push(letter);
        rest = escape.get(length..).unwrap_or_default();
    }
    text.push_str(rest);
    text
}

/// The character that the escape at the start of `escape` stands for, and the escape's length.
fn escaped_char(escape: &str) -> (char, usize) {
    let letter = match escape.as_bytes().get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return escaped_unit(escape),
        Some(&byte) => char::from(byte),
        None => char::REPLACEMENT_CHARACTER,
    };
    (letter, 2)
}

/// As [`escaped_char`], for `\uXXXX` and for two of them that form a pair.
fn escaped_unit(escape: &str) -> (char, usize) {
    let unit = |from: usize| {
        let digits = escape.get(from..from + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let units = [unit(0).unwrap_or(0xfffd), unit(6).unwrap_or(0)];
    let is_pair = (0xd800..0xdc00).contains(&units[0]) && (0xdc00..0xe000).contains(&units[1]);
    let (read, length) = if is_pair {
        (&units[..], 12)
    } else {
        (&units[..1], 6)
    };
    let letter = char::decode_utf16(read.iter().copied())
        .next()
        .and_then(Result::ok);
    (letter.unwrap_or(char::REPLACEMENT_CHARACTER), length)
}

#[cfg(test)]
mod tests;
