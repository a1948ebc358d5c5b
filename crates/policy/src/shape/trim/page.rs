//! HTML pages as their text: what a reader would see, with the targets of links.
//!
//! **Invariant**: only whole pages are changed, and every visible word stays in its order (test
//! `pages_become_text`).

/// What a page begins with, in small letters.
const BEGINNINGS: [&str; 2] = ["<!doctype html", "<html"];

/// A page declares itself near its beginning.
const BEGINNING_BYTES: usize = 400;

/// Elements whose content nobody sees.
const UNSEEN: [&str; 5] = ["script", "style", "noscript", "svg", "template"];

/// Elements that begin a line.
const LINES: [&str; 21] = [
    "address",
    "article",
    "blockquote",
    "br",
    "dd",
    "div",
    "dt",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "li",
    "p",
    "pre",
    "section",
    "table",
    "title",
    "tr",
];

/// The page's text; none if it is no page.
pub(super) fn text(page: &str) -> Option<String> {
    let start = (0..=BEGINNING_BYTES.min(page.len()))
        .rev()
        .find(|end| page.is_char_boundary(*end))?;
    let start = page.get(..start)?.to_ascii_lowercase();
    if !BEGINNINGS.iter().any(|beginning| start.contains(beginning)) {
        return None;
    }
    let mut seen = Seen::default();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        let (words, tag) = rest.split_at(at);
        seen.words(words);
        let comment = tag
            .strip_prefix("<!--")
            .and_then(|tag| tag.split_once("-->"));
        if let Some((_, after)) = comment {
            rest = after;
            continue;
        }
        let Some((tag, after)) = tag.split_once('>') else {
            rest = "";
            break;
        };
        rest = seen.tag(tag.trim_start_matches('<'), after);
    }
    seen.words(rest);
    Some(seen.text.trim().to_owned())
}

#[derive(Default)]
struct Seen {
    text: String,
    /// The target of the link that is open.
    link: Option<String>,
}

impl Seen {
    fn words(&mut self, words: &str) {
        let is_apart = words.starts_with(char::is_whitespace);
        for (index, word) in words.split_whitespace().enumerate() {
            if (index > 0 || is_apart) && !self.text.ends_with(['\n', ' ']) {
                self.text.push(' ');
            }
            self.text.push_str(&decoded(word));
        }
        if words.ends_with(char::is_whitespace) && !self.text.ends_with(['\n', ' ']) {
            self.text.push(' ');
        }
    }

    /// Carries out a tag; gives what follows it, or what follows the element if nobody sees it.
    fn tag<'p>(&mut self, tag: &str, after: &'p str) -> &'p str {
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_ascii_lowercase();
        let is_end = tag.starts_with('/');
        if UNSEEN.contains(&name.as_str()) && !is_end {
            let end = format!("</{name}");
            let lower = after.to_ascii_lowercase();
            let after = lower.find(&end).and_then(|at| after.get(at..));
            return after
                .and_then(|it| it.split_once('>'))
                .map_or("", |it| it.1);
        }
        if LINES.contains(&name.as_str()) && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        if name == "a" && !is_end {
            let href = tag
                .split_once("href=\"")
                .and_then(|it| it.1.split_once('"'));
            let href = href.map(|it| it.0.to_owned());
            self.link = href.filter(|it| !it.is_empty() && !it.starts_with(['#', 'j']));
        } else if name == "a" {
            let target = self.link.take();
            self.text
                .extend(target.map(|target| format!(" ({target})")));
        }
        after
    }
}

fn decoded(word: &str) -> String {
    let pairs = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ];
    let replaced = |word: String, (from, to): (&str, &str)| word.replace(from, to);
    pairs.into_iter().fold(word.to_owned(), replaced)
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn pages_become_text() {
        let check = |page: &str, expect: Option<&str>| {
            assert_eq!(text(page).as_deref(), expect, "{page}");
        };
        check("<div>a part of a page</div>", None);
        check(
            "<!DOCTYPE html><html><head><title>A &amp; B</title><style>p{}</style></head><body>\n\
             <script>let x = '<p>';</script><!-- no --><p>See <a href=\"/docs\">the\n docs</a>, <b>now</b>.</p>\
             <ul><li>one</li><li>two</li></ul></body></html>",
            Some("A & B\nSee the docs (/docs), now.\none\ntwo"),
        );
    }
}
