//! Equal chains are equal prefixes.

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
use wire::prompt::Chain;
use wire::splice::Splice;

use crate::conversation::{Conversation, conversation};
use crate::untouched::lifetime;

fn chains(conversation: &Conversation, body: &str) -> Vec<Chain> {
    let request = conversation
        .dialect
        .read(body.as_bytes())
        .expect("generated bodies are read");
    request
        .prompt
        .segments
        .iter()
        .map(|segment| segment.chain)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_turn_extends_the_chain(conversation in conversation()) {
        let mut earlier: Vec<Chain> = Vec::new();
        for count in 0..=conversation.messages.len() {
            let later = chains(&conversation, &conversation.body(count));
            prop_assert!(later.starts_with(&earlier), "turn {}", count);
            prop_assert!(count == 0 || later.len() > earlier.len());
            earlier = later;
        }
        let mut unique = earlier.clone();
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), earlier.len(), "no two prefixes of one prompt are equal");
    }

    #[test]
    fn markers_do_not_change_chains(
        conversation in conversation(),
        keep in prop::collection::vec(any::<bool>(), 40),
    ) {
        let body = conversation.whole();
        let request = conversation.dialect.read(body.as_bytes()).expect("generated bodies are read");
        let mut splice = Splice::default();
        for (index, _) in keep.iter().enumerate().filter(|(_, keep)| **keep) {
            // Segments that cannot be marked stay as they are.
            _ = request.mark(index, lifetime(conversation.dialect), &mut splice);
        }
        let edited = String::from_utf8(splice.apply(body.as_bytes())).expect("text into text");
        prop_assert_eq!(chains(&conversation, &body), chains(&conversation, &edited));
    }

    #[test]
    fn a_changed_message_changes_the_chain_from_there_on(
        conversation in conversation(),
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(conversation.messages.len());
        let old = chains(&conversation, &conversation.whole());
        let kept = chains(&conversation, &conversation.body(at)).len();
        let mut changed = conversation.clone();
        changed.messages[at] = changed.messages[at].replacen('{', "{\"name\":\"n\",", 1);
        let new = chains(&changed, &changed.whole());
        prop_assert_eq!(old.len(), new.len());
        prop_assert_eq!(&old[..kept], &new[..kept]);
        prop_assert!(old[kept..].iter().zip(&new[kept..]).all(|(one, two)| one != two));
    }
}
