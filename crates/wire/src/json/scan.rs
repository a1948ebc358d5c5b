//! The scanner behind the tape: one pass over the bytes, no recursion.
//!
//! **Invariant**: it goes forward only, in time linear in the text, and accepts nothing but JSON
//! (property `accepts_what_serde_json_accepts`).

use super::{DEPTH_MAX, Entry, JsonError, Shape};

/// Appends the entries of `text`, which must hold exactly one value.
pub(super) fn scan(text: &str, entries: &mut Vec<Entry>) -> Result<(), JsonError> {
    if u32::try_from(text.len()).is_err() {
        let found = format!("a text of {} bytes", text.len());
        return Err(JsonError {
            at: 0,
            found,
            expected: "less than 4 GiB",
        });
    }
    Scanner {
        text,
        bytes: text.as_bytes(),
        at: 0,
        entries,
        innermost: NO_PARENT,
        depth: 0,
    }
    .text()
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    entries: &'a mut Vec<Entry>,
    /// Index of the innermost container that is not closed yet. Its `end`, which is not known
    /// before it closes, holds the index of the container around it, so that nothing is allocated.
    innermost: u32,
    depth: usize,
}

/// What stands for the container around the outermost one.
const NO_PARENT: u32 = u32::MAX;

impl Scanner<'_> {
    fn text(mut self) -> Result<(), JsonError> {
        loop {
            if self.value()? && !self.after_value()? {
                return Ok(());
            }
        }
    }

    /// Reads a scalar, or opens a container. True if a value ended, false if a value must follow.
    fn value(&mut self) -> Result<bool, JsonError> {
        match self.skip_space() {
            Some(b'"') => self.string(),
            Some(b'{') => return self.open(Shape::Object),
            Some(b'[') => return self.open(Shape::Array),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Shape::True),
            Some(b'f') => self.literal("false", Shape::False),
            Some(b'n') => self.literal("null", Shape::Null),
            _ => Err(self.fault("a value")),
        }?;
        Ok(true)
    }

    /// Reads on after a value: closes containers until another value must follow (true) or the
    /// text is over (false).
    fn after_value(&mut self) -> Result<bool, JsonError> {
        while let Some(&Entry { shape, .. }) = self.entries.get(self.innermost as usize) {
            match (self.skip_space(), shape) {
                (Some(b','), Shape::Object) => {
                    self.at += 1;
                    self.key()?;
                    return Ok(true);
                }
                (Some(b','), _) => {
                    self.at += 1;
                    return Ok(true);
                }
                (Some(b'}'), Shape::Object) | (Some(b']'), Shape::Array) => self.close(),
                (_, Shape::Object) => return Err(self.fault("`,` or `}`")),
                _ => return Err(self.fault("`,` or `]`")),
            }
        }
        match self.skip_space() {
            None => Ok(false),
            Some(_) => Err(self.fault("nothing after the value")),
        }
    }

    /// As [`Scanner::value`]: an empty container is a value that ended.
    fn open(&mut self, shape: Shape) -> Result<bool, JsonError> {
        if self.depth == DEPTH_MAX {
            return Err(self.fault("at most 128 levels of arrays and objects"));
        }
        let index = offset(self.entries.len());
        self.push(shape, self.at, self.innermost as usize);
        self.innermost = index;
        self.depth += 1;
        self.at += 1;
        match (self.skip_space(), shape) {
            (Some(b'}'), Shape::Object) | (Some(b']'), Shape::Array) => {
                self.close();
                Ok(true)
            }
            (_, Shape::Object) => self.key().map(|()| false),
            _ => Ok(false),
        }
    }

    fn close(&mut self) {
        self.at += 1;
        let next = offset(self.entries.len());
        let end = offset(self.at);
        if let Some(entry) = self.entries.get_mut(self.innermost as usize) {
            self.innermost = std::mem::replace(&mut entry.end, end);
            self.depth -= 1;
            entry.next = next;
        }
    }

    /// Reads a member's name and the colon.
    fn key(&mut self) -> Result<(), JsonError> {
        if self.skip_space() != Some(b'"') {
            return Err(self.fault("a member's name in double quotes"));
        }
        self.string()?;
        if self.skip_space() != Some(b':') {
            return Err(self.fault("`:`"));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let mut shape = Shape::Plain;
        self.at += 1;
        loop {
            self.at = plain_run_end(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    shape = Shape::Escaped;
                    self.escape()?;
                }
                None => return Err(self.fault("the string's closing quote")),
                Some(_) => return Err(self.fault("an escape for this control character")),
            }
        }
        self.at += 1;
        self.push(shape, start, self.at);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.fault("four hexadecimal digits after `\\u`"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.fault("one of `\" \\ / b f n r t u` after `\\`")),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return Err(self.fault("no digit after a leading zero"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.push(Shape::Number, start, self.at);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.fault("a digit"))
        } else {
            Ok(())
        }
    }

    fn literal(&mut self, word: &'static str, shape: Shape) -> Result<(), JsonError> {
        let start = self.at;
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                return Err(self.fault(word));
            }
            self.at += 1;
        }
        self.push(shape, start, self.at);
        Ok(())
    }

    fn push(&mut self, shape: Shape, start: usize, end: usize) {
        let next = offset(self.entries.len() + 1);
        self.entries.push(Entry {
            start: offset(start),
            end: offset(end),
            next,
            shape,
        });
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Steps over whitespace and shows the byte after it.
    fn skip_space(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                other => return other,
            }
        }
    }

    #[cold]
    fn fault(&self, expected: &'static str) -> JsonError {
        let found = match self
            .text
            .get(self.at..)
            .and_then(|rest| rest.chars().next())
        {
            None => "the end".to_owned(),
            Some(letter) if letter.is_control() => format!("U+{:04X}", u32::from(letter)),
            Some(letter) => format!("`{letter}`"),
        };
        JsonError {
            at: self.at,
            found,
            expected,
        }
    }
}

/// An offset or index as the tape keeps it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "`scan` refuses texts of 4 GiB and more"
)]
fn offset(at: usize) -> u32 {
    at as u32
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Offset of the first byte from `from` on that a string cannot hold as it is: a quote, a
/// backslash, or a control character. The length if there is none.
///
/// Eight bytes at a time: escapes in code come every 30 bytes or so, where wider steps lose more
/// on the restart than they gain.
fn plain_run_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let (words, tail) = rest.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*word));
        if special != 0 {
            return from + index * 8 + (special.trailing_zeros() / 8) as usize;
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let in_tail = tail.iter().position(is_special).unwrap_or(tail.len());
    from + words.len() * 8 + in_tail
}

/// Sets the high bit of each byte that is special. Bits above the lowest one may be wrong (a
/// borrow runs upwards), so that only the lowest may be used.
fn special_bytes(word: u64) -> u64 {
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero_in(word ^ (ONES * u64::from(b'"')));
    let backslash = zero_in(word ^ (ONES * u64::from(b'\\')));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & HIGHS
}
