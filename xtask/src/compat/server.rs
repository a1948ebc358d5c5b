//! The simulated provider and the gateway before it, as child processes on ports of their own choice.
//!
//! **Invariant**: both end with the run, however it ends (`Drop`), and neither sees the
//! configuration or the ledger of the person who started it (test `a_line_tells_the_address`).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use crate::cargo::shown;
use crate::tree::root;

/// What the simulator is paid with; it accepts any key.
pub(super) const PROVIDER_KEY: &str = "sk-simulated";

/// A debug build on a busy machine starts within a second; beyond this it hangs.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The servers of one run.
pub(super) struct Stage {
    simulator: Server,
    gateway: Server,
    client_key: String,
}

impl Stage {
    /// Starts the simulator, creates a client key, and starts the gateway before the simulator.
    pub(super) fn open(binary: &Path, results: &Path) -> Result<Self, String> {
        let home = results.join("home");
        let failed = |what: &str, error: std::io::Error| {
            format!("cannot {what} in {}: {error}", home.display())
        };
        if home.exists() {
            fs::remove_dir_all(&home).map_err(|error| failed("start afresh", error))?;
        }
        fs::create_dir_all(&home).map_err(|error| failed("create a home", error))?;
        let simulator = ["simulate", "--listen", "127.0.0.1:0"];
        let simulator = Server::start(
            tokenwise(binary, &home).args(simulator),
            &results.join("simulator.log"),
        )?;

        let config = home.join("gateway.toml");
        let template = fs::read_to_string(root().join("compat/gateway.toml"));
        let text = template.map(|text| text.replace("http://simulator", &simulator.address));
        text.and_then(|text| fs::write(&config, text))
            .map_err(|error| failed("write the configuration", error))?;
        let client_key = create_key(
            tokenwise(binary, &home)
                .args(["keys", "create", "compat", "--config"])
                .arg(&config),
        )?;
        let gateway = ["serve", "--listen", "127.0.0.1:0", "--config"];
        let mut gateway_command = tokenwise(binary, &home);
        gateway_command.args(gateway).arg(&config);
        let gateway = Server::start(&mut gateway_command, &results.join("gateway.log"))?;
        Ok(Self {
            simulator,
            gateway,
            client_key,
        })
    }

    /// Where the simulator listens, as `http://127.0.0.1:PORT`.
    pub(super) fn simulator_address(&self) -> &str {
        &self.simulator.address
    }

    /// Where the gateway listens, as `http://127.0.0.1:PORT`.
    pub(super) fn gateway_address(&self) -> &str {
        &self.gateway.address
    }

    /// What clients of the gateway pay with.
    pub(super) fn client_key(&self) -> &str {
        &self.client_key
    }
}

/// A child process that listens.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts the command and waits until it says where it listens.
    fn start(command: &mut Command, log: &Path) -> Result<Self, String> {
        let said = fs::File::create(log)
            .map_err(|error| format!("cannot write {}: {error}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said);
        let child = command.spawn();
        let mut child = child.map_err(|error| {
            format!("cannot start {}: {error}", command.get_program().display())
        })?;
        let stdout = child.stdout.take();
        let mut server = Self {
            child,
            address: String::new(),
        };
        let (sender, receiver) = sync_channel(1);
        if let Some(stdout) = stdout {
            std::thread::spawn(move || read_all(stdout, &sender));
        }
        server.address = receiver.recv_timeout(START_TIMEOUT).map_err(|_| {
            format!(
                "`{}` did not say where it listens; see {}",
                shown(command),
                log.display()
            )
        })?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A child that has ended already cannot be killed, and has nothing to wait for either.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

/// Reads all that a child says, so that it never waits for a reader, and sends the first address.
fn read_all(stdout: ChildStdout, sender: &SyncSender<String>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some(address) = address(&line) {
            // Only the first address is waited for.
            sender.try_send(address.to_owned()).ok();
        }
    }
}

/// The address in a line such as `{"listening":"http://127.0.0.1:4000"}`.
fn address(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("\"listening\"")?;
    let (_, rest) = rest.split_once('"')?;
    rest.split_once('"')
        .map(|(address, _)| address.trim_end_matches('/'))
}

/// The binary with a home of its own and no setting of the person who started us.
fn tokenwise(binary: &Path, home: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .current_dir(home)
        .env("HOME", home)
        .env("OPENAI_API_KEY", PROVIDER_KEY)
        .env("ANTHROPIC_API_KEY", PROVIDER_KEY);
    for folder in [
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "XDG_CACHE_HOME",
    ] {
        command.env(folder, home);
    }
    command
}

/// Runs the command that creates a client key and takes the secret from what it prints.
fn create_key(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("cannot create a client key: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    secret(&said).map(str::to_owned).ok_or_else(|| {
        format!(
            "`{}` printed no key: {said}{}",
            shown(command),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// The first word that looks like a client key.
fn secret(text: &str) -> Option<&str> {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.find(|word| word.starts_with("tw-"))
}

#[cfg(test)]
mod tests {
    use super::{address, secret};

    #[test]
    fn a_line_tells_the_address() {
        let check = |line: &str, expect: Option<&str>| assert_eq!(address(line), expect, "{line}");
        check(
            "{\"listening\":\"http://127.0.0.1:4000\"}",
            Some("http://127.0.0.1:4000"),
        );
        check(
            "{\"listening\": \"http://[::1]:4000/\", \"x\": 1}",
            Some("http://[::1]:4000"),
        );
        check("listening", None);
    }

    #[test]
    fn a_key_is_found_in_what_is_printed() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(secret(text), expect, "{text}");
        check(
            "{\"id\":\"key_a1\",\"secret\":\"tw-abc123\"}",
            Some("tw-abc123"),
        );
        check("key `compat`: tw-abc123\nshown once", Some("tw-abc123"));
        check("no such command", None);
    }
}
