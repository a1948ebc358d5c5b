//! The context of live calls: warnings.
//!
//! **Invariant**: looking at a context changes no byte of it.

use gateway::setup::{LeverMode, Setup};
use serde_json::{Value, json};
use testkit::upstream::{Step, Upstream};

use crate::stage::{SPOKEN, Stage, plain};

pub(crate) async fn answering() -> Upstream {
    let answer = json!({"id": "m", "type": "message", "role": "assistant",
        "model": "claude-haiku-4-5", "content": [{"type": "text", "text": "ok"}],
        "stop_reason": "end_turn", "usage": {"input_tokens": 100, "output_tokens": 10}});
    Upstream::playing(move |_| Step::json(200, &answer.to_string())).await
}

/// A question with a document of so many words before and behind it; the window has 200 000 tokens.
fn asked(before: usize, behind: usize) -> String {
    let text = |words: usize| json!({"type": "text", "text": "word ".repeat(words)});
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png",
        "data": "word ".repeat(behind)}});
    json!({"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [{"role": "user",
        "content": [text(before), {"type": "text", "text": "what is it?"}, image]}]})
    .to_string()
}

#[tokio::test]
async fn warnings_change_no_byte() {
    let upstream = answering().await;
    let setup = |cache| Setup {
        cache,
        ..plain(upstream.url())
    };
    for (cache, body, expect) in [
        (LeverMode::Observe, asked(10, 10), &[][..]),
        (LeverMode::Observe, asked(130_000, 10), &["window"]),
        (LeverMode::Observe, asked(150_000, 10), &["window_full"]),
        (
            LeverMode::Observe,
            asked(20_000, 20_000),
            &["buried_instruction"],
        ),
        (LeverMode::Off, asked(150_000, 10), &[]),
    ] {
        let stage = Stage::with(setup(cache)).await;
        let arrived = upstream.requests().len();
        let response = stage.ask(&SPOKEN[1], &body).await;
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(upstream.request(arrived).await.body, body.as_bytes());
        let rows = stage.books.settled(1).await;
        let notes = &rows[0].settled.as_ref().unwrap().notes;
        let notes: Value = serde_json::from_str(notes).unwrap();
        let warnings = notes["context"]["warnings"].as_array();
        let kinds = warnings.into_iter().flatten().map(|it| &it["kind"]);
        assert_eq!(kinds.collect::<Vec<_>>(), expect, "{notes}");
        let told = response.header("x-tokenwise-context").unwrap_or_default();
        let said = expect.first().map_or("", |kind| kind);
        assert!(
            told.contains(said) && told.is_empty() == said.is_empty(),
            "{told}"
        );
    }
}
