//! Extras: what a body asks for whose size it does not show: images, files, pages, tools that the
//! provider runs, sound.
//!
//! **Invariant**: looks once over the bytes, and takes a word in a string for nothing, since quotes
//! in strings are escaped (test `extras_are_found_by_their_type`).

use memchr::memmem;

/// What is in a body besides text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// How many images.
    pub images: u64,
    /// Whether more goes in than the body holds.
    pub inputs: Inputs,
    /// Whether sound is sent or asked for.
    pub speech: Speech,
    /// Whether the client names a speed, which has its own prices.
    pub speed: Speed,
}

/// Where a prompt's content comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inputs {
    /// All of it is in the body.
    #[default]
    InBody,
    /// Some is a file, or is fetched or made by the provider.
    Fetched,
    /// The provider may search for it, which has its own fee.
    Searched,
}

/// Whether there is sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speech {
    /// There is none.
    #[default]
    None,
    /// There may be.
    Named,
}

/// Whether a speed is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speed {
    /// The usual one.
    #[default]
    Usual,
    /// The client names one.
    Named,
}

/// Types of blocks and tools with which the provider takes in more than it was sent; tools have a
/// date behind their name.
const FETCHED: [&[u8]; 9] = [
    b"document\"",
    b"file\"",
    b"container_upload\"",
    b"web_fetch",
    b"code_execution",
    b"mcp",
    b"file_search",
    b"code_interpreter",
    b"tool_search",
];

/// Looks for what a body asks for.
pub fn extras(body: &[u8]) -> Extras {
    let mut extras = Extras::default();
    for place in memmem::find_iter(body, b"\"type\"") {
        let Some(kind) = string_after(body, place + b"\"type\"".len()) else {
            continue;
        };
        if is_picture(kind) {
            extras.images += 1;
        } else if kind.starts_with(b"input_audio\"") {
            extras.speech = Speech::Named;
        } else if kind.starts_with(b"web_search") {
            extras.inputs = Inputs::Searched;
        } else if FETCHED.iter().any(|name| kind.starts_with(name)) {
            extras.inputs = extras.inputs.max(Inputs::Fetched);
        }
    }
    let names = |name: &[u8]| memmem::find(body, name).is_some();
    if names(b"\"web_search_options\"") {
        extras.inputs = Inputs::Searched;
    } else if names(b"\"mcp_servers\"") {
        extras.inputs = extras.inputs.max(Inputs::Fetched);
    }
    if names(b"\"modalities\"") {
        extras.speech = Speech::Named;
    }
    if names(b"\"speed\"") {
        extras.speed = Speed::Named;
    }
    extras
}

/// Whether a block of a conversation is an image.
pub fn is_image(block: &[u8]) -> bool {
    let mut kinds = memmem::find_iter(block, b"\"type\"");
    kinds.any(|place| string_after(block, place + b"\"type\"".len()).is_some_and(is_picture))
}

fn is_picture(kind: &[u8]) -> bool {
    kind.starts_with(b"image\"") || kind.starts_with(b"image_url\"")
}

/// The bytes behind the opening quote of a member's value, if that is a string.
fn string_after(body: &[u8], from: usize) -> Option<&[u8]> {
    let rest = body.get(from..)?.trim_ascii_start();
    let value = rest.strip_prefix(b":")?.trim_ascii_start();
    value.strip_prefix(b"\"")
}

#[cfg(test)]
mod tests {
    use super::{Extras, Inputs, Speech, Speed, extras, is_image};

    #[test]
    fn extras_are_found_by_their_type() {
        let none = Extras::default();
        let fetched = Extras {
            inputs: Inputs::Fetched,
            ..none
        };
        let searched = Extras {
            inputs: Inputs::Searched,
            ..none
        };
        let speech = Extras {
            speech: Speech::Named,
            ..none
        };
        for (body, expect) in [
            (r#"{"content":[{"type":"text","text":"an image"}]}"#, none),
            (r#"{"content":"{\"type\":\"image\"}"}"#, none),
            (r#"{"tools":[{"parameters":{"type":"object"}}]}"#, none),
            (
                r#"[{"type":"image","source":{"type":"base64"}},{ "type" : "image" }]"#,
                Extras { images: 2, ..none },
            ),
            (
                r#"[{"type":"image_url","image_url":{"url":"data:"}}]"#,
                Extras { images: 1, ..none },
            ),
            (r#"[{"type":"document","source":{"type":"url"}}]"#, fetched),
            (r#"[{"type":"file","file":{"file_id":"f"}}]"#, fetched),
            (r#"{"tools":[{"type":"web_fetch_20250910"}]}"#, fetched),
            (
                r#"{"tools":[{"type":"web_search_20250305"},{"type":"file_search"}]}"#,
                searched,
            ),
            (r#"{"web_search_options":{}}"#, searched),
            (r#"{"modalities":["text","audio"]}"#, speech),
            (r#"[{"type":"input_audio","input_audio":{}}]"#, speech),
            (
                r#"{"speed":"fast"}"#,
                Extras {
                    speed: Speed::Named,
                    ..none
                },
            ),
        ] {
            assert_eq!(extras(body.as_bytes()), expect, "{body}");
        }
        assert!(is_image(br#"{"source":{"type":"base64"},"type":"image"}"#));
        assert!(!is_image(br#"{"type":"document","title":"image"}"#));
    }
}
