//! The scanner behind the tape: one pass over the bytes, no recursion.
//!
//! **Invariant**: it goes forward only, in time linear in the text, and accepts nothing but JSON
//! (property `accepts_what_serde_json_accepts`).

use wide::u8x16;

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
        self.at += 1;
        // Most names and many values end within the first vector.
        if let Some(vector) = self.ahead() {
            let (quote, other) = ends_in(vector);
            if quote.trailing_zeros() < other.trailing_zeros() {
                self.at += quote.trailing_zeros() as usize;
                self.end_string(Shape::Plain, start);
                return Ok(());
            }
        }
        let mut shape = Shape::Plain;
        let mut carried = Carried::Nothing;
        while let Some(block) = self.ahead::<BLOCK>() {
            let marks = Marks::of(block);
            if marks.backslash | carried.bit() == 0 {
                if marks.quote | marks.control == 0 {
                    self.at += BLOCK;
                    continue;
                }
                let end = marks.quote.trailing_zeros();
                if marks.control.trailing_zeros() < end {
                    break;
                }
                self.at += end as usize;
                self.end_string(shape, start);
                return Ok(());
            }
            let (escaped, carries) = carried.escaped(marks.backslash);
            let quote = marks.quote & !escaped;
            // Everything before the closing quote, or all 64.
            let inside = quote.wrapping_sub(1) & !quote;
            if marks.backslash & inside | carried.bit() != 0 {
                shape = Shape::Escaped;
            }
            if marks.control & inside != 0 || !self.are_escapes(block, marks, escaped & inside) {
                break;
            }
            if quote != 0 {
                self.at += quote.trailing_zeros() as usize;
                self.end_string(shape, start);
                return Ok(());
            }
            carried = carries;
            self.at += BLOCK;
        }
        // The end of the text, or a fault, which is found again at its exact place.
        self.at -= usize::from(carried == Carried::Backslash);
        self.rest_of_string(shape, start)
    }

    /// The next bytes, if there are so many.
    #[inline]
    fn ahead<const N: usize>(&self) -> Option<&[u8; N]> {
        self.bytes.get(self.at..)?.first_chunk()
    }

    /// Whether each of these bytes of the block may stand behind a backslash.
    #[inline]
    fn are_escapes(&self, block: &[u8; BLOCK], marks: Marks, escaped: u64) -> bool {
        // A quote, a backslash, `n` and `t` are nearly all that occurs.
        let letters = mask(block, |bytes| {
            bytes.simd_eq(u8x16::splat(b'n')) | bytes.simd_eq(u8x16::splat(b't'))
        });
        let mut unusual = escaped & !(marks.quote | marks.backslash | letters);
        while unusual != 0 {
            let place = unusual.trailing_zeros() as usize;
            let is_escape = match block.get(place) {
                Some(b'/' | b'b' | b'f' | b'r') => true,
                Some(b'u') => {
                    let digits = self.bytes.get(self.at + place + 1..);
                    let digits = digits.and_then(<[u8]>::first_chunk::<4>);
                    digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
                }
                _ => false,
            };
            if !is_escape {
                return false;
            }
            unusual &= unusual - 1;
        }
        true
    }

    /// Byte by byte.
    fn rest_of_string(&mut self, mut shape: Shape, start: usize) -> Result<(), JsonError> {
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    shape = Shape::Escaped;
                    self.escape()?;
                }
                None => return Err(self.fault("the string's closing quote")),
                Some(0..0x20) => return Err(self.fault("an escape for this control character")),
                Some(_) => self.at += 1,
            }
        }
        self.end_string(shape, start);
        Ok(())
    }

    /// Steps over the closing quote.
    fn end_string(&mut self, shape: Shape, start: usize) {
        self.at += 1;
        self.push(shape, start, self.at);
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.peek() {
            Some(b'n' | b'"' | b'\\' | b'/' | b'b' | b'f' | b'r' | b't') => self.at += 1,
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

/// 64 bytes: as many as a mask has bits.
const BLOCK: usize = 64;

/// 16 bytes: the vectors that every x86-64 and every 64-bit ARM has.
const LANES: usize = 16;

/// A bit for each byte of a block that means something in a string; the lowest for the first.
///
/// Escapes in code come every 30 bytes or so: masks of 64 bytes find them all at once.
#[derive(Clone, Copy, Debug)]
struct Marks {
    quote: u64,
    backslash: u64,
    control: u64,
}

impl Marks {
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Self {
        Self {
            quote: mask(block, |bytes| bytes.simd_eq(u8x16::splat(b'"'))),
            backslash: mask(block, |bytes| bytes.simd_eq(u8x16::splat(b'\\'))),
            control: mask(block, is_control),
        }
    }
}

/// What the block before means for the first byte of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    Nothing,
    /// It ended with a backslash that is not itself escaped.
    Backslash,
}

impl Carried {
    #[inline]
    fn bit(self) -> u64 {
        u64::from(self == Self::Backslash)
    }

    /// A bit for each byte behind a backslash that escapes it, and what the next block is told.
    ///
    /// In a run of backslashes every second one is escaped. Adding a bit at the start of each run
    /// that begins at an odd place carries through it, which tells those runs from the others
    /// (Langdale and Lemire, "Parsing gigabytes of JSON per second", 2019).
    #[inline]
    fn escaped(self, backslash: u64) -> (u64, Self) {
        const EVEN: u64 = 0x5555_5555_5555_5555;
        let backslash = backslash & !self.bit();
        let behind = backslash << 1 | self.bit();
        let odd_starts = backslash & !EVEN & !behind;
        let (from_even, overflows) = odd_starts.overflowing_add(backslash);
        let escaped = (EVEN ^ from_even << 1) & behind;
        let carries = if overflows {
            Self::Backslash
        } else {
            Self::Nothing
        };
        (escaped, carries)
    }
}

/// Where a quote stands, and where anything else does that a plain string cannot hold.
#[inline]
fn ends_in(vector: &[u8; LANES]) -> (u32, u32) {
    let bytes = u8x16::new(*vector);
    let quote = bytes.simd_eq(u8x16::splat(b'"'));
    let other = bytes.simd_eq(u8x16::splat(b'\\')) | is_control(bytes);
    (quote.to_bitmask(), other.to_bitmask())
}

#[inline]
fn is_control(bytes: u8x16) -> u8x16 {
    bytes.min(u8x16::splat(0x1f)).simd_eq(bytes)
}

/// A bit for each byte that is found; the lowest for the first.
#[inline]
fn mask(block: &[u8; BLOCK], found: impl Fn(u8x16) -> u8x16) -> u64 {
    let (vectors, _) = block.as_chunks::<LANES>();
    let vectors = vectors.iter().rev();
    vectors.fold(0, |mask, vector| {
        mask << LANES | u64::from(found(u8x16::new(*vector)).to_bitmask())
    })
}
