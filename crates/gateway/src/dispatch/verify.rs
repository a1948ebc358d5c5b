//! Verify: asks a route's verifiers about the text of an answer.
//!
//! **Invariant**: a program learns nothing but the text, is over in time, and its own failure is
//! no verdict on the answer (test `programs_judge_by_their_status`); an answer that nobody could judge
//! is not given to the client (test `a_verifier_that_fails_itself_convinces_nobody`).

use std::process::Stdio;
use std::time::Duration;

use policy::cascade::signals::{AnswerSeen, Outcome};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::setup::cascade::{How, Verifier};

/// 5 s: a test of a function takes less, and the client waits meanwhile.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// 16 programs at once: as many as a server has cores to spare; others wait their turn, and their
/// time runs.
static PROGRAMS: Semaphore = Semaphore::const_new(16);

/// What a verifier says of an answer. What only calls tools has no text to look at.
pub async fn verify(verifiers: &[Verifier], name: &str, seen: &AnswerSeen) -> Outcome {
    let verifier = verifiers.iter().find(|verifier| verifier.name == name);
    let Some(verifier) = verifier.filter(|_| seen.calls.is_empty()) else {
        return Outcome::Unknown;
    };
    match &verifier.how {
        How::Pattern(pattern) if pattern.matches(&seen.text) => Outcome::Passed,
        How::Pattern(_) => Outcome::Failed,
        How::Command { program, arguments } => {
            let mut command = Command::new(program);
            command.args(arguments);
            run(command, &seen.text).await
        }
        // It is asked by a leg, not here.
        How::Judge(_) => Outcome::Unknown,
    }
}

/// Success passes, the status 1 fails; everything else is the program's own trouble.
async fn run(mut command: Command, text: &str) -> Outcome {
    command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let status = async {
        let _turn = PROGRAMS.acquire().await.ok()?;
        let mut child = command.spawn().ok()?;
        if let Some(mut input) = child.stdin.take() {
            // A program that has seen enough closes its end.
            drop(input.write_all(text.as_bytes()).await);
        }
        child.wait().await.ok()?.code()
    };
    match timeout(COMMAND_TIMEOUT, status).await {
        Ok(Some(0)) => Outcome::Passed,
        Ok(Some(1)) => Outcome::Failed,
        Ok(trouble) => {
            tracing::warn!(status = trouble, "a verifier of a cascade failed itself");
            Outcome::Unknown
        }
        Err(_) => {
            tracing::warn!("a verifier of a cascade took too long");
            Outcome::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn programs_judge_by_their_status() {
        for (script, text, expect) in [
            ("grep -q 42", "it is 42", Outcome::Passed),
            ("grep -q 42", "it is 43", Outcome::Failed),
            ("exit 3", "it is 42", Outcome::Unknown),
            ("exit 0", &"long ".repeat(100_000), Outcome::Passed),
            ("test -z \"$HOME\"", "", Outcome::Passed),
        ] {
            let verifier = Verifier {
                name: "v".into(),
                how: How::Command {
                    program: "/bin/sh".into(),
                    arguments: vec!["-c".into(), script.into()],
                },
            };
            let seen = AnswerSeen {
                text: text.to_owned(),
                ..AnswerSeen::default()
            };
            let found = verify(&[verifier], "v", &seen).await;
            assert_eq!(found, expect, "{script}");
        }
    }
}
