"""Makes a client key, leaves its secret where the harness looks for it, and becomes the gateway."""
import json, os, pathlib, subprocess, sys

binary, run, port = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
config = str(run / "tokenwise.toml")
for old in run.glob("ledger.db*"):
    old.unlink()
made = subprocess.run([binary, "keys", "create", "bench", "--config", config, "--json"], check=True, capture_output=True)
(run / "key").write_text(json.loads(made.stdout)["secret"])
os.execv(binary, [binary, "serve", "--config", config, "--listen", f"127.0.0.1:{port}"])
