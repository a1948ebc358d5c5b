//! Percent signs in paths and queries.
//!
//! **Invariant**: what they stand for is found, and what stands for nothing is never dropped (test
//! `percent_signs_stand_for_bytes`).

/// A part of a path or query without its percent signs; none if they stand for no text.
pub(crate) fn decoded(part: &str) -> Option<String> {
    let (bytes, faults) = bytes_of(part);
    String::from_utf8(bytes).ok().filter(|_| faults == 0)
}

/// The same as far as it can be read, whatever stands beside it.
pub(crate) fn legible(part: &str) -> String {
    String::from_utf8_lossy(&bytes_of(part).0).into_owned()
}

/// The bytes that a text stands for, and how many percent signs in it stand for nothing.
fn bytes_of(part: &str) -> (Vec<u8>, usize) {
    let (mut bytes, mut faults) = (Vec::with_capacity(part.len()), 0);
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let escaped = match (first, after) {
            (b'%', [high, low, after @ ..]) => digit(*high)
                .zip(digit(*low))
                .map(|(high, low)| (high << 4 | low, after)),
            _ => None,
        };
        if let Some((byte, after)) = escaped {
            bytes.push(byte);
            rest = after;
        } else {
            faults += usize::from(*first == b'%');
            bytes.push(*first);
        }
    }
    (bytes, faults)
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_stand_for_bytes() {
        for (part, expect, read) in [
            ("", Some(""), ""),
            ("a%2fb%20%C3%BC", Some("a/b ü"), "a/b ü"),
            ("%61%", None, "a%"),
            ("%61%4", None, "a%4"),
            ("%61%zz", None, "a%zz"),
            ("%61%ff", None, "a\u{fffd}"),
        ] {
            assert_eq!(decoded(part).as_deref(), expect, "{part}");
            assert_eq!(legible(part), read, "{part}");
        }
    }
}
