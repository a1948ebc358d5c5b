//! Rows for line endings and data, and the property that a cut changes nothing.

use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, proptest};

use super::{Data, Frame, Framer, data, joined};

/// The frames of `text`, delivered in pieces that end at `cuts`, and what is left over.
fn frames(text: &[u8], cuts: &[usize], limit: usize) -> (Vec<(bool, Vec<u8>)>, Vec<u8>) {
    let mut framer = Framer::with_limit(limit);
    let mut found: Vec<(bool, Vec<u8>)> = Vec::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([text.len()]) {
        framer.push(&text[from..to], |frame| match frame {
            Frame::Whole(bytes) => found.push((true, bytes.to_vec())),
            Frame::Oversized(bytes) => match found.last_mut() {
                // Parts of one frame are one frame.
                Some((false, last)) => last.extend_from_slice(bytes),
                _ => found.push((false, bytes.to_vec())),
            },
        });
        from = to;
    }
    (found, framer.finish())
}

#[test]
fn frames_end_at_blank_lines_of_any_kind() {
    let check = |text: &str, expect: &[&str], rest: &str| {
        let (found, left) = frames(text.as_bytes(), &[], 1_000);
        let found: Vec<_> = found
            .iter()
            .map(|(_, frame)| String::from_utf8_lossy(frame))
            .collect();
        assert_eq!(found, expect, "{text:?}");
        assert_eq!(String::from_utf8_lossy(&left), rest, "{text:?}");
    };
    check(
        "data: 1\n\ndata: 2\n\n",
        &["data: 1\n\n", "data: 2\n\n"],
        "",
    );
    check(
        "data: 1\r\n\r\ndata: 2\r\n\r\n",
        &["data: 1\r\n\r\n", "data: 2\r\n\r\n"],
        "",
    );
    check("data: 1\r\rdata: 2\r\r", &["data: 1\r\r"], "data: 2\r\r");
    check("data: 1\n\r\n", &["data: 1\n\r\n"], "");
    check(": ping\n\n\ndata: 1", &[": ping\n\n", "\n"], "data: 1");
    check("", &[], "");
}

#[test]
fn data_is_found_line_by_line() {
    let check = |frame: &str, expect: &str| {
        let found = data(frame.as_bytes());
        assert_eq!(
            String::from_utf8_lossy(&joined(frame.as_bytes(), &found)),
            expect,
            "{frame:?}"
        );
    };
    check("data: {}\n\n", "{}");
    check("data:{}\r\n\r\n", "{}");
    check("data:  two\n\n", " two");
    check("event: x\ndata: a\nid: 1\ndata: b\n\n", "a\nb");
    check("event: x\r\ndata: a\r\ndata:\r\ndata: b\r\n\r\n", "a\n\nb");
    check("data: unfinished", "unfinished");
    assert_eq!(data(b": comment\n\n"), Data::None);
    assert_eq!(data(b"database: x\n\n"), Data::None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_cut_gives_the_same_frames(
        text in "(data: [a-c]{0,9}|: c|event: e|x|\n|\r\n|\r|\n\n|\r\n\r\n){0,30}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        limit in 1..30_usize,
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let (whole, whole_rest) = frames(text.as_bytes(), &[], limit);
        let (cut, cut_rest) = frames(text.as_bytes(), &cuts, limit);
        let bytes = |frames: &[(bool, Vec<u8>)], rest: &[u8]| {
            let mut all: Vec<u8> = frames.iter().flat_map(|(_, frame)| frame.clone()).collect();
            all.extend_from_slice(rest);
            all
        };
        prop_assert_eq!(bytes(&whole, &whole_rest), text.as_bytes());
        prop_assert_eq!(bytes(&cut, &cut_rest), text.as_bytes());
        prop_assert_eq!(whole, cut);
        prop_assert_eq!(whole_rest, cut_rest);
    }
}
