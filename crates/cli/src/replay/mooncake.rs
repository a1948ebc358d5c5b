//! Serving traces: for each request a time, lengths, and hashes of its prompt's blocks.
//!
//! A block is 512 tokens, and its hash stands for everything up to it. A block that the prompt does
//! not fill is no prefix that another prompt could share, so no breakpoint reaches it.
//!
//! **Invariant**: blocks and rest add up to the input's length (test `formats_replay` in `replay`).

use policy::moment::Moment;
use serde::Deserialize;
use sim::replay::{Call, Input};
use wire::prompt::{Chain, Kind, Part, Prompt, Role, Segment, Slot};
use wire::usage::Tokens;

use super::Player;

/// Tokens of a block.
const BLOCK: u64 = 512;

#[derive(Debug, Deserialize)]
struct Line {
    timestamp: u64,
    input_length: u64,
    output_length: u64,
    hash_ids: Vec<u64>,
}

/// Plays one line.
pub(super) fn play(line: &str, begin: Moment, player: &mut Player<'_>) -> anyhow::Result<()> {
    let Line {
        timestamp,
        input_length,
        output_length,
        hash_ids,
    } = serde_json::from_str(line)?;
    let full = usize::try_from(input_length / BLOCK)?.min(hash_ids.len());
    let blocks = hash_ids.get(..full).unwrap_or_default();
    let segments = (0..).zip(blocks).map(|(index, hash)| Segment {
        part: Part::Messages,
        role: Role::User,
        kind: Kind::Text,
        index,
        block: 0,
        span: 0..0,
        chain: Chain(u128::from(*hash) + 1),
        position: index,
        marker: None,
        slot: Slot::Member { at: 0 },
    });
    let prompt = Prompt {
        segments: segments.collect(),
    };
    let sizes = vec![Tokens(BLOCK); full];
    let rest = Tokens(input_length - BLOCK * u64::try_from(full)?);
    player.clock = player.clock.max(begin.after(timestamp));
    player.play(
        &Call {
            task: None,
            at: player.clock,
            input: Input::Shape {
                prompt,
                sizes,
                rest,
            },
            output: Tokens(output_length),
            session: None,
        },
        "",
    )
}
