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
    REPORTS.iter().any(|word| line.contains(word))
        || BEGINNINGS.iter().any(|word| line.starts_with(word))
        || names_exception(line)
}

/// `ValueError: …`, `java.lang.IllegalStateException: …` at the beginning of a line.
fn names_exception(line: &str) -> bool {
    let Some((name, _)) = line.split_once(':') else {
        return false;
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_';
    (name.ends_with("Error") || name.ends_with("Exception")) && name.bytes().all(is_name)
}

#[cfg(test)]
mod tests {
    use super::is_reported;

    #[test]
    fn reports_of_failures_are_told_from_code() {
        for line in [
            "ValueError: bad",
            "E   assert 1 == 2",
            "error[E0308]: mismatched types",
            "[ERROR] COMPILATION ERROR :",
            "FAILED test_a.py::test_b - AssertionError",
            "java.lang.IllegalStateException: no",
        ] {
            assert!(is_reported(line), "{line}");
        }
        for line in [
            "        raise ValueError(\"bad\")",
            "except KeyError:",
            "    def error(self):",
            "test_a.py::test_b PASSED",
            "",
        ] {
            assert!(!is_reported(line), "{line}");
        }
    }
}
