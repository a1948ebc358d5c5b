//! The router of one's own: what the configuration names, read and checked against the routes.
//!
//! **Invariant**: a file that is no router, or knows none of the targets that routes would ask it
//! about, is said so before anything is served (test `a_router_is_checked_against_its_routes`).

use std::sync::Arc;

use gateway::setup::{Setup, Target};
use policy::route::predictor::{Predictor, format};

use super::build::Build;
use super::fault::ConfigError;

/// The router, if one is named.
pub(super) fn router(build: &Build<'_>) -> Result<Option<Arc<Predictor>>, ConfigError> {
    let Some(file) = &build.raw.router else {
        return Ok(None);
    };
    let path = build.environment.path(build.folder, file);
    let name = path.display();
    let fault = |problem| build.fault("router".to_owned(), problem);
    let bytes = std::fs::read(&path)
        .map_err(|error| fault(format!("names {name}, which cannot be read: {error}")))?;
    let router = format::read(&bytes).map_err(|error| fault(format!("names {name}: {error}")))?;
    Ok(Some(Arc::new(router)))
}

/// What the reader should know: targets that the router is asked about and cannot speak for.
pub(super) fn remarks(setup: &Setup) -> Vec<String> {
    let Some(router) = setup.router.as_deref() else {
        return Vec::new();
    };
    let mut remarks = Vec::new();
    for rule in &setup.rules {
        let is_unknown = |target: &&Target| {
            let name = format!("{}/{}", target.provider, target.model);
            router.place(&[&name, &target.model]).is_none()
        };
        let first = rule.cascade.iter().filter(|it| it.quality.is_some());
        let first = first.map(|it| (&it.target, "asks first"));
        let cheaper = rule.cheaper.iter().map(|it| (it, "names as cheaper"));
        let asked = cheaper.chain(first).filter(|(it, _)| is_unknown(it));
        for (target, how) in asked {
            let known: Vec<&str> = router.targets.iter().map(|it| it.name.as_str()).collect();
            remarks.push(format!(
                "the router knows nothing of `{}/{}`, which the route `{}` {how}: only outcomes \
                 can prove it; the router knows {}",
                target.provider,
                target.model,
                rule.name,
                known.join(", ")
            ));
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::super::rows::{parse, refused};
    use policy::route::predictor::{Predictor, format};

    const ROUTE: &str = "[[providers]]\nid = \"openai\"\n[[routes]]\nid = \"a\"\n\
                         cheaper = [\"openai/gpt-5.4-mini\"]\n";

    #[test]
    fn a_router_is_checked_against_its_routes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("router.model");
        let text = format!("router = \"{}\"\n{ROUTE}", file.display());
        assert!(refused(&text).contains("which cannot be read"));
        std::fs::write(&file, "GGUF").unwrap();
        assert!(refused(&text).contains("not a router model; train one with `tokenwise learn`"));
        std::fs::write(&file, format::write(Predictor::built_in())).unwrap();
        let config = parse(&text).unwrap();
        let expect = "the router knows nothing of `openai/gpt-5.4-mini`, which the route `a` names \
                      as cheaper: only outcomes can prove it; the router knows strong, weak";
        assert_eq!(config.remarks, [expect]);
    }
}
