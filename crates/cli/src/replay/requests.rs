//! Plain request logs: one body a line, in either dialect; three seconds apart.
//!
//! **Invariant**: the body that is replayed is the line as it stands.

use anyhow::bail;
use sim::replay::{Call, Input};
use wire::dialect::Dialect;
use wire::usage::Tokens;

use super::Player;
use super::trajectory::STEP_MS;

/// Plays one line. Answers are not recorded, so output counts nothing on either side.
pub(super) fn play(line: &str, player: &mut Player<'_>) -> anyhow::Result<()> {
    let bytes = line.trim().as_bytes();
    let dialect = dialect_of(bytes)?;
    if dialect != player.dialect {
        bail!(
            "the request is written in {}, but `{}` takes {}; name a model of that dialect with --model",
            dialect.id(),
            player.model,
            player.dialect.id()
        );
    }
    let call = Call {
        task: None,
        at: player.clock,
        input: Input::Body { dialect, bytes },
        output: Tokens(0),
        session: None,
    };
    player.play(&call, "")?;
    player.clock = player.clock.after(STEP_MS);
    Ok(())
}

/// Tells the dialects apart by what only one of them has.
fn dialect_of(body: &[u8]) -> anyhow::Result<Dialect> {
    let value: serde_json::Value = serde_json::from_slice(body)?;
    let named = value["model"].as_str().unwrap_or_default();
    let tool = &value["tools"][0];
    let is_anthropic = value.get("system").is_some()
        || value.get("anthropic_version").is_some()
        || tool.get("input_schema").is_some()
        || named.contains("claude") && value.get("max_tokens").is_some();
    Ok(if is_anthropic {
        Dialect::AnthropicMessages
    } else {
        Dialect::OpenAiChat
    })
}
