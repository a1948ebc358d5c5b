//! Lines that speak of a failure: they are kept, whatever else is left out.
//!
//! **Invariant**: what compilers, test runners and interpreters print about a failure is recognised;
//! source code that deals with errors is not (test `reports_of_failures_are_told_from_code`).

/// What stands in reports, written so.
const REPORTS: [&str; 9] = [
    "ERROR",
    "FAIL",
    "FATAL",
    "CRITICAL",
    "Traceback",
    "panicked at",
    "WARN",
    "Segmentation fault",
    "command not found",
];

/// So many first letters of all reports are compared in one pass.
const LETTERS: usize = 3;

/// Which reports have a byte as their first, second and third letter: a bit for each.
static WITH: [[u16; 256]; LETTERS] = {
    let mut with = [[0; 256]; LETTERS];
    let mut report = 0;
    while report < REPORTS.len() {
        let mut letter = 0;
        while letter < LETTERS {
            with[letter][REPORTS[report].as_bytes()[letter] as usize] |= 1 << report;
            letter += 1;
        }
        report += 1;
    }
    with
};

/// What reports begin with.
const BEGINNINGS: [&str; 9] = [
    "error:",
    "error[",
    "Error:",
    "fatal:",
    "warning:",
    "E   ",
    "E: ",
    "Warning:",
    "Caused by:",
];

/// Whether a line reports a failure or a warning.
pub(super) fn is_reported(line: &str) -> bool {
    let line = line.trim_start();
    contains_report(line.as_bytes()) || begins_as_report(line) || names_exception(line)
}

fn contains_report(line: &[u8]) -> bool {
    let letters = line.windows(LETTERS).enumerate();
    let mut candidates = letters.filter(|(_, letters)| match letters {
        [one, two, three] => {
            let [first, second, third] = &WITH;
            let with = |with: &[u16; 256], byte: u8| with[usize::from(byte)];
            with(first, *one) & with(second, *two) & with(third, *three) != 0
        }
        _ => false,
    });
    candidates.any(|(at, _)| {
        let rest = line.get(at..).unwrap_or_default();
        REPORTS.iter().any(|word| rest.starts_with(word.as_bytes()))
    })
}

fn begins_as_report(line: &str) -> bool {
    let may_begin = matches!(
        line.as_bytes(),
        [b'e' | b'E' | b'f' | b'w' | b'W' | b'C', ..]
    );
    may_begin && BEGINNINGS.iter().any(|word| line.starts_with(word))
}

/// `ValueError: …`, `java.lang.IllegalStateException: …` at the beginning of a line.
fn names_exception(line: &str) -> bool {
    let name = memchr::memchr(b':', line.as_bytes()).and_then(|end| line.get(..end));
    let Some(name) = name else { return false };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_';
    (name.ends_with("Error") || name.ends_with("Exception")) && name.bytes().all(is_name)
}

#[cfg(test)]
mod tests {
    use super::is_reported;

    #[test]
    fn reports_of_failures_are_told_from_code() {
        for word in super::REPORTS {
            assert!(is_reported(&format!("é {word}")), "{word}");
            assert!(!is_reported(&word[..word.len() - 1]), "{word}");
        }
        for word in super::BEGINNINGS {
            assert!(is_reported(&format!("\t{word}")), "{word}");
        }
        for line in [
            "ValueError: bad",
            "E   assert 1 == 2",
            "error[E0308]: mismatched types",
            "[ERROR] COMPILATION ERROR :",
            "FAILED test_a.py::test_b - AssertionError",
            "java.lang.IllegalStateException: no",
            "  Warning: unused",
            "Caused by: x",
            "sh: 1: foo: command not found",
            "thread 'main' panicked at src/main.rs",
        ] {
            assert!(is_reported(line), "{line}");
        }
        for line in [
            "        raise ValueError(\"bad\")",
            "except KeyError:",
            "    def error(self):",
            "test_a.py::test_b PASSED",
            "FATAX CRITICA pan",
            "FA",
            "",
        ] {
            assert!(!is_reported(line), "{line}");
        }
    }
}
