//! What is not declared does not change.

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
use wire::dialect::Dialect;
use wire::prompt::Slot;
use wire::splice::{Reason, Splice};
use wire::usage::Ttl;

use crate::conversation::conversation;

/// The lifetime that a dialect knows whatever the model.
pub(crate) fn lifetime(dialect: Dialect) -> Ttl {
    match dialect {
        Dialect::AnthropicMessages => Ttl::Minutes5,
        Dialect::OpenAiChat => Ttl::Minutes30,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn untouched_bodies_are_identical(conversation in conversation()) {
        let body = conversation.whole();
        let request = conversation.dialect.read(body.as_bytes()).expect("generated bodies are read");
        prop_assert_eq!(request.body, body.as_bytes());
        prop_assert_eq!(Splice::default().apply(request.body), body.as_bytes());
        for segment in &request.prompt.segments {
            let read = &request.body[segment.span.clone()];
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(read).is_ok());
        }
    }

    #[test]
    fn marking_only_inserts(
        conversation in conversation(),
        wanted in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let body = conversation.whole();
        let request = conversation.dialect.read(body.as_bytes()).expect("generated bodies are read");
        let segments = &request.prompt.segments;
        let mut splice = Splice::default();
        let mut marked = Vec::new();
        if segments.is_empty() {
            return Ok(());
        }
        for index in wanted {
            let index = index.index(segments.len());
            let result = request.mark(index, lifetime(conversation.dialect), &mut splice);
            let may = segments[index].slot != Slot::Closed && !marked.contains(&index);
            prop_assert_eq!(result.is_ok(), may, "{:?}", result);
            if may {
                marked.push(index);
            }
        }
        prop_assert!(splice.edits().iter().all(|edit| edit.range.is_empty()));
        prop_assert!(splice.edits().iter().all(|edit| edit.reason == Reason::CacheMarker));
        let edited = splice.apply(body.as_bytes());

        // The markers are there, in a body that reads as before.
        let again = conversation.dialect.read(&edited).expect("marked bodies are read");
        prop_assert_eq!(again.prompt.segments.len(), segments.len());
        prop_assert_eq!(again.cache.markers, request.cache.markers + marked.len());
        for (index, (old, new)) in segments.iter().zip(&again.prompt.segments).enumerate() {
            let ours = marked.contains(&index).then_some(lifetime(conversation.dialect));
            prop_assert_eq!(new.marker, ours.or(old.marker));
            prop_assert_eq!((new.kind, new.role, new.part, new.position), (old.kind, old.role, old.part, old.position));
        }

        // Without them it is the original.
        let mut restored = edited.clone();
        for (range, original) in splice.undo(body.as_bytes()).into_iter().rev() {
            restored.splice(range, original.iter().copied());
        }
        prop_assert_eq!(restored, body.as_bytes());
    }

    #[test]
    fn other_edits_leave_the_prompt_alone(conversation in conversation()) {
        let body = conversation.whole();
        let request = conversation.dialect.read(body.as_bytes()).expect("generated bodies are read");
        let mut splice = Splice::default();
        request.ask_usage(&mut splice);
        request.set_cache_key("key", &mut splice);
        request.set_cache_explicit(&mut splice);
        request.rename_model("n", &mut splice);
        let edited = splice.apply(body.as_bytes());
        let again = conversation.dialect.read(&edited).expect("edited bodies are read");
        prop_assert_eq!(again.model.as_str(), "n");
        prop_assert!(again.usage_asked);
        if conversation.dialect == Dialect::OpenAiChat {
            prop_assert_eq!(again.client.prompt_cache_key.as_deref(), Some("key"));
            prop_assert!(again.cache.options_given);
        }
        prop_assert_eq!(again.prompt.segments.len(), request.prompt.segments.len());
        prop_assert_eq!(again.prompt.common_with(&request.prompt), request.prompt.segments.len());
    }

    #[test]
    fn torn_bodies_never_panic(
        conversation in conversation(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        other in prop::sample::select(Dialect::ALL.to_vec()),
    ) {
        let mut body = conversation.whole().into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        for body in [&body[..], &body[..at]] {
            match other.read(body) {
                Ok(request) => {
                    let mut splice = Splice::default();
                    request.ask_usage(&mut splice);
                    for index in 0..=request.prompt.segments.len() {
                        _ = request.mark(index, lifetime(other), &mut splice);
                    }
                    prop_assert!(other.read(&splice.apply(body)).is_ok());
                }
                Err(error) => prop_assert!(!error.problem().message.is_empty()),
            }
            other.read_answer(body);
        }
    }
}
