#!/usr/bin/env python3
"""Side-by-side gateway measurements. Standard library only. See README.md.
All gateways under test run at the same time, idle but one; each cell of the matrix is run for every gateway in
turn, the order rotates from round to round, and ratios are taken within a round (paired), then summarised."""
import argparse, json, os, re, shlex, signal, socket, statistics as st, subprocess, sys, time, urllib.request, pathlib, http.client
HERE = pathlib.Path(__file__).resolve().parent
RUN, PEERS, OUT, BIN = HERE / "run", HERE / "peers", HERE / "out", HERE / "target" / "release"
CLK = os.sysconf("SC_CLK_TCK")

# cell: (name, mode, api, payload, conns, options)   options: tokens interval_us rate needs
CELLS = [
 *[(f"max-{p}-c{c}", "closed", "openai", p, c, {}) for p, cs in (("small", (1, 16, 64, 256)), ("agent", (1, 16, 64, 256)), ("large", (1, 16))) for c in cs],
 *[(f"max-anthropic-{p}-c{c}", "closed", "anthropic", p, c, {}) for p, c in (("small", 16), ("agent", 16), ("large", 4))],
 *[(f"open{r}-{p}", "open", "openai", p, 16, {"rate": r, **({"skip_slow": 1} if r > 60 else {})}) for p, r in (("small", 40), ("small", 150), ("agent", 30), ("large", 5))],
 ("stream-c8-5ms", "stream", "openai", "small-stream", 8, {"tokens": 64, "interval_us": 5000}),
 ("stream-c64-20ms", "stream", "openai", "small-stream", 64, {"tokens": 64, "interval_us": 20000}),
 ("stream-agent-c8-5ms", "stream", "openai", "agent-stream", 8, {"tokens": 64, "interval_us": 5000}),
 ("stream-burst-c16", "stream", "openai", "small-stream", 16, {"tokens": 256, "interval_us": 0}),
 ("stream-anthropic-c8-5ms", "stream", "anthropic", "small-stream", 8, {"tokens": 64, "interval_us": 5000}),
 ("hold-1000", "hold", "openai", "small-stream", 1000, {"interval_us": 1000000, "hold": 1}),
 ("hold-9500", "hold", "openai", "small-stream", 9500, {"interval_us": 2000000, "hold": 1}),
]

def free_port():
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); return s.getsockname()[1]
def tree(pid):
    kids = {}
    for p in filter(str.isdigit, os.listdir("/proc")):
        try: f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split(); kids.setdefault(int(f[1]), []).append(int(p))
        except OSError: pass
    out, todo = [], [pid]
    while todo: x = todo.pop(); out.append(x); todo += kids.get(x, [])
    return out
def cpu_s(pid):
    t = 0.0
    for p in tree(pid):
        try: f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split(); t += (int(f[11]) + int(f[12]) + int(f[13]) + int(f[14])) / CLK
        except OSError: pass
    return t
def mem(pid):
    rss = pss = 0
    for p in tree(pid):
        try:
            for l in open(f"/proc/{p}/smaps_rollup"):
                if l.startswith("Rss:"): rss += int(l.split()[1])
                elif l.startswith("Pss:"): pss += int(l.split()[1])
        except OSError: pass
    return rss, pss

class Gateway:
    def __init__(s, spec, a):
        s.d, s.a, s.name, s.p, s.port = spec, a, spec["name"], None, None
    def sub(s, t, **k):
        key = s.run / "key"  # a gateway that makes its own keys leaves the secret here
        return t.format(key=key.read_text().strip() if key.exists() else "", run=s.run, peers=PEERS, here=HERE, port=s.port, upstream=s.a.upstream, **k)
    def start(s, taskset=True):
        s.run = RUN / s.name; s.run.mkdir(parents=True, exist_ok=True)
        if s.d.get("kind") == "none": s.port = int(s.a.upstream.split(":")[1]); return
        s.port = s.d.get("port") or free_port()
        for src, dst in s.d.get("templates", {}).items():
            (s.run / dst).write_text((HERE / "gateways" / src).read_text().replace("@PORT@", str(s.port)).replace("@UPSTREAM@", s.a.upstream).replace("@RUN@", str(s.run)))
        cmd = [s.sub(c) for c in s.d["cmd"]]
        if taskset and s.a.gw_cpu != "": cmd = ["taskset", "-c", s.a.gw_cpu] + cmd
        s.log = open(s.run / "log", "wb+"); s.t0 = time.monotonic()
        s.p = subprocess.Popen(cmd, stdout=s.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env={**os.environ, **{k: s.sub(v) for k, v in s.d.get("env", {}).items()}}, start_new_session=True, cwd=s.run)
    def wait(s):
        """until the first request is served; returns (wall s, CPU s)"""
        if s.p is None: return 0, 0
        api = "openai" if "openai" in s.d else "anthropic"
        body = s.body(api, "small").read_bytes()
        end = time.monotonic() + s.d.get("ready_timeout", 60)
        while time.monotonic() < end:
            if s.p.poll() is not None: break
            if s.d.get("port_regex"):
                m = re.search(s.d["port_regex"], pathlib.Path(s.run / "log").read_text(errors="replace"))
                if not m: time.sleep(0.005); continue
                s.port = int(m[1])
            try:
                c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=30)
                c.request("POST", s.d[api]["path"], body, {"content-type": "application/json", **dict(h.split(": ", 1) for h in s.headers(api))})
                r = c.getresponse(); r.read(); c.close()
                if r.status == 200: return time.monotonic() - s.t0, cpu_s(s.p.pid)
                s.last = f"HTTP {r.status}"
                time.sleep(0.05)
            except OSError: time.sleep(0.005)
        raise RuntimeError(f"{s.name} did not start: " + (s.run / "log").read_text(errors="replace")[-1500:] + getattr(s, "last", ""))
    def stop(s):
        if s.p is None or s.p.poll() is not None: return
        for p in reversed(tree(s.p.pid)):
            try: os.kill(p, signal.SIGTERM)
            except OSError: pass
        try: s.p.wait(8)
        except subprocess.TimeoutExpired:
            for p in reversed(tree(s.p.pid)):
                try: os.kill(p, signal.SIGKILL)
                except OSError: pass
            s.p.wait()
        s.p = None
    def headers(s, api): return [s.sub(h) for h in s.d.get("headers", []) + s.d.get(api, {}).get("headers", [])]
    def body(s, api, payload):
        src = HERE / "payloads" / f"{api}-{payload}.json"
        m = s.d.get(api, {}).get("model")
        if not m: return src
        dst = s.run / src.name
        if not dst.exists():
            old = '"model":"mock"' if api == "openai" else '"model":"claude-mock"'
            dst.write_bytes(src.read_bytes().replace(old.encode(), f'"model":"{m}"'.encode(), 1))
        return dst
    def can(s, cell):
        name, mode, api, payload, conns, o = cell
        if api not in s.d or ("only" in s.d and api not in s.d["only"]): return False
        if s.d.get("slow") and o.get("skip_slow"): return False
        if mode == "hold" and s.d.get("kind") != "none" and conns > s.d.get("max_hold", 9500): return False
        return name not in s.d.get("skip", [])

def ctl(a, **k):
    q = "&".join(f"{x}={v}" for x, v in k.items())
    return json.load(urllib.request.urlopen(f"http://{a.upstream}/__ctl?{q}", timeout=10))
KNOBS = dict(latency_us=0, tokens=64, interval_us=0, err_permille=0, cut_permille=0, stall_permille=0, hold=0)

def run_cell(g, cell, a, mock_pid):
    name, mode, api, payload, conns, o = cell
    ctl(a, **{**KNOBS, **{k: v for k, v in o.items() if k in KNOBS}, **({"latency_us": a.latency_us} if mode == "open" else {})})
    secs, warm = (a.secs, a.warm)
    if mode == "stream": secs += 1
    if payload == "large": secs += 1
    cmd = [str(BIN / "loadgen"), "--mode", mode, "--url", f"http://127.0.0.1:{g.port}{g.d[api]['path']}", "--body", str(g.body(api, payload)), "--conns", str(conns), "--secs", str(secs), "--warm", str(warm), "--aux", str(mock_pid)]
    if "rate" in o: cmd += ["--rate", str(o["rate"])]
    if mode == "hold": cmd += ["--ramp", str(o.get("ramp", a.ramp if not g.d.get("slow") else a.ramp / 8))]
    for h in g.headers(api): cmd += ["--header", h]
    cmd += ["--pid", str(g.p.pid if g.p else mock_pid)]
    if a.load_cpu != "": cmd = ["taskset", "-c", a.load_cpu] + cmd
    if mode == "hold": idle = mem(g.p.pid) if g.p else (0, 0)
    r = subprocess.run(cmd, capture_output=True, text=True, start_new_session=True, timeout=600)
    try: d = json.loads(r.stdout)
    except ValueError: d = {"error": (r.stdout + r.stderr)[-500:]}
    if mode == "hold":
        d["idle_rss_kb"], d["idle_pss_kb"] = idle
        ctl(a, **KNOBS); time.sleep(1.5)
    return d

def load(names, ours):
    specs = [json.loads((HERE / "gateways" / f"{n}.json").read_text()) for n in names]
    for n, cmd in ours:
        specs.append({"name": n, "about": "given on the command line", "cmd": shlex.split(cmd), "openai": {"path": "/v1/chat/completions"}, "anthropic": {"path": "/v1/messages"}})
    return specs

def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--gw", action="append", default=[], metavar="NAME=CMD", help="gateway under test; {port} {upstream} are filled in")
    ap.add_argument("--peers", default="direct,nginx,litellm,portkey,tensorzero", help="names in gateways/*.json")
    ap.add_argument("--cells", default="", help="regular expression on cell names")
    ap.add_argument("--rounds", type=int, default=5); ap.add_argument("--secs", type=float, default=3); ap.add_argument("--warm", type=float, default=0.7)
    ap.add_argument("--latency-us", dest="latency_us", type=int, default=0, help="upstream latency in the open-loop cells")
    ap.add_argument("--prewarm", type=float, default=3); ap.add_argument("--ramp", type=float, default=1500)
    ap.add_argument("--gw-cpu", dest="gw_cpu", default="0"); ap.add_argument("--load-cpu", dest="load_cpu", default="1"); ap.add_argument("--mock-cpu", dest="mock_cpu", default="1")
    ap.add_argument("--port", type=int, default=9100); ap.add_argument("--out", default="")
    ap.add_argument("--cold", type=int, default=0, help="cold starts per gateway (each alone)")
    ap.add_argument("--versus", default="litellm"); ap.add_argument("--limit", default="nginx")
    ap.add_argument("--install", action="store_true", help="install the named peers from their registries and stop")
    ap.add_argument("--report", default="", help="only print the tables of an earlier results file")
    a = ap.parse_args(); a.upstream = f"127.0.0.1:{a.port}"
    import report
    if a.report: print(report.render(a.report, a.limit, a.versus)); return
    specs = load([x for x in a.peers.split(",") if x], [x.split("=", 1) for x in a.gw])
    if a.install:
        PEERS.mkdir(exist_ok=True)
        for s in specs:
            if "install" in s: print("==", s["name"]); subprocess.run(["bash", "-c", s["install"].format(peers=PEERS, here=HERE)], check=False)
        return
    OUT.mkdir(exist_ok=True); RUN.mkdir(exist_ok=True)
    if not (HERE / "payloads" / "openai-large.json").exists(): subprocess.run([sys.executable, HERE / "payloads.py", HERE / "payloads"], check=True)
    out = pathlib.Path(a.out) if a.out else OUT / time.strftime("results-%m%d-%H%M%S.jsonl")
    f = open(out, "a")
    def rec(**k): f.write(json.dumps(k) + "\n"); f.flush()
    mc = [str(BIN / "mock-upstream"), "--addr", a.upstream]
    mock = subprocess.Popen((["taskset", "-c", a.mock_cpu] if a.mock_cpu != "" else []) + mc, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(0.5)
    gws = []
    try:
        for s in specs:
            g = Gateway(s, a)
            try:
                for i in range(a.cold if s.get("cmd") else 0):
                    g.start(); w, c = g.wait(); time.sleep(1.0); rec(kind="cold", gw=g.name, wall_s=w, cpu_s=c, rss_kb=mem(g.p.pid)[0], pss_kb=mem(g.p.pid)[1]); g.stop(); time.sleep(0.3)
                g.start(); w, c = g.wait(); gws.append(g)
                print(f"# {g.name}: up in {w:.2f} s wall, {c:.2f} s CPU", flush=True)
                if g.p:
                    time.sleep(1.5); r, p = mem(g.p.pid)
                    size = sum(int(subprocess.run(["du", "-sk", g.sub(x)], capture_output=True, text=True).stdout.split()[0]) for x in s.get("size", []) if os.path.exists(g.sub(x)))
                    ver = subprocess.run(["bash", "-c", g.sub(s["version"])], capture_output=True, text=True) if "version" in s else None
                    rec(kind="idle", gw=g.name, rss_kb=r, pss_kb=p, size_kb=size, threads=sum(len(os.listdir(f"/proc/{x}/task")) for x in tree(g.p.pid)), version=(ver.stdout + ver.stderr).strip() if ver else "", about=s.get("about", ""))
            except Exception as e: print(f"# {g.name}: FAILED {e}", flush=True); rec(kind="fail", gw=g.name, why=str(e)[-600:]); g.stop()
        cells = [c for c in CELLS if re.search(a.cells, c[0])]
        for g in gws:  # warm every gateway (JIT, pools, caches) before the first round
            if g.p and a.prewarm:
                sv, a.secs = a.secs, a.prewarm
                for api in ("openai", "anthropic"):
                    for m, pl in (("closed", "small"), ("closed", "agent"), ("stream", "small-stream")):
                        c = ("warm", m, api, pl, 16, {"tokens": 64})
                        if g.can(c): run_cell(g, c, a, mock.pid)
                a.secs = sv
        for rnd in range(a.rounds):
            for ci, cell in enumerate(cells):
                order = [g for g in gws if g.can(cell)]
                if not order: continue
                k = (rnd + ci) % len(order)
                for g in order[k:] + order[:k]:
                    if g.p and g.p.poll() is not None: continue
                    d = run_cell(g, cell, a, mock.pid)
                    rec(kind="cell", round=rnd, cell=cell[0], gw=g.name, r=d)
                    l = d.get("lat_us") or {}
                    print(f"r{rnd} {cell[0]:24} {g.name:14} rps {d.get('rps', 0):9.1f} cpu/req {d.get('cpu_us_per_req', 0):9.1f} us p50 {l.get('p50', 0):9.1f} p99 {l.get('p99', 0):9.1f} bad {d.get('non2xx', 0) + d.get('err', 0) + d.get('incomplete', 0)} busy {d.get('machine_busy', 0):.2f} {d.get('sample_err', '') or d.get('error', '')}", flush=True)
    finally:
        for g in gws: g.stop()
        mock.terminate(); mock.wait()
    f.close()
    txt = report.render(str(out), a.limit, a.versus)
    pathlib.Path(str(out).replace(".jsonl", ".md")).write_text(txt); print(txt); print("raw:", out)
if __name__ == "__main__": main()
