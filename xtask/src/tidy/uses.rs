//! What an import may look like: a reader must see where a name comes from, and it has one address.
//!
//! **Invariant**: no glob imports outside `use super::*` of tests, and no re-exports (test
//! `globs_and_reexports_are_faults`).

use super::{Fault, fault};
use crate::source::imports;
use crate::tree::Tree;

pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.rust() {
        let shipped: Vec<usize> = imports(&file.shipped)
            .into_iter()
            .map(|import| import.line)
            .collect();
        for import in imports(&file.code) {
            let of_tests = !shipped.contains(&import.line) && import.path == "super::*";
            if import.path.ends_with('*') && !of_tests {
                let message = format!(
                    "`{}` imports whatever is there; name what you use",
                    import.path
                );
                faults.push(fault(&file.path, import.line, message));
            }
            if import.public {
                let message = format!(
                    "`{}` gets a second address; let callers write the first",
                    import.path
                );
                faults.push(fault(&file.path, import.line, message));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::faults;

    #[test]
    fn globs_and_reexports_are_faults() {
        let check =
            |text: &str, expect: &[&str]| check(faults, &[("crates/wire/src/a.rs", text)], expect);
        check("use crate::usage::{Tokens, Usage};\n", &[]);
        check("use crate::usage::*;\n", &["crates/wire/src/a.rs:1"]);
        check("use super::*;\n", &["crates/wire/src/a.rs:1"]);
        check("#[cfg(test)]\nmod tests {\n    use super::*;\n}\n", &[]);
        check(
            "#[cfg(test)]\nmod tests {\n    use crate::a::*;\n}\n",
            &["crates/wire/src/a.rs:3"],
        );
        check("pub use crate::a::B;\n", &["crates/wire/src/a.rs:1"]);
        check("pub(crate) use crate::a::B;\n", &["crates/wire/src/a.rs:1"]);
    }
}
