"""A worker without torch: answers from a script, and fails as it is told to.

The script is JSON: variant name -> {"seconds": of a step, "noise": its relative spread, "loss", "errors",
"observed": metrics, "fail": {"verb", "how", "from_launch"?, "to_launch"?}}. `python tests/scripted_worker.py
SCRIPT.json --cli run ...` runs the command line with this worker in place of the real one.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # a worker is started without the folder of its file
from made_trace import step_events, write_trace

OPERATORS = [{"name": "aten::mm", "seconds": 0.01, "calls": 4}]
AMOUNTS = {"tokens": 1024, "samples": 8, "parameters": 1000}
FACTS = {"device": "cpu", "threads": 2, "weights_sha256": "w", "batch_sha256": "b"}
ENVIRONMENT = {
    "line": "scripted machine · torch 0.0", "fingerprint": "scripted", "calibration": {"gemm_seconds": 0.001},
    "device": "cpu", "cpu": "scripted", "cores_usable": 2,
}  # fmt: skip


def fail(how: str) -> dict:
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        time.sleep(60)
    if how == "garbage":
        return {"raw": "this is not JSON"}
    if how == "exit":
        print("the script says so", file=sys.stderr)
        os._exit(7)
    if how == "disk":
        return {"ok": False, "error": "OSError", "message": "scripted", "traceback": "", "errno": 28}
    return {"ok": False, "error": how, "message": f"scripted {how}", "traceback": ""}


def answer(message: dict, lines: dict, state: dict) -> dict:
    verb = message["verb"]
    if verb == "build":
        name = message["variant"]["name"]
        role = name.split()[-1]  # of a side of the gate: "v1 base"
        state |= {"line": lines.get(name) or lines.get(role, {}), "draw": random.Random(f"{name}{state['launch']}")}
        state |= {"size": message["workload"]}
    if verb == "probe":
        return probed(message, lines.get(message["variant"]["name"], {}), state)
    line = state.get("line", {})
    if verb == "measure" and any(state["size"][what] > most for what, most in line.get("fits", {}).items()):
        return fail("OutOfMemoryError")
    if verb == "measure" and any(state["size"][what] > most for what, most in line.get("breaks", {}).items()):
        return fail("RuntimeError")
    wanted = line.get("fail", {})
    if wanted.get("verb") == verb and wanted.get("from_launch", 1) <= state["launch"] <= wanted.get("to_launch", 99):
        return fail(wanted["how"])
    loss, errors = line.get("loss", 1.0), line.get("errors", {"output_error": 1e-6})
    if verb == "measure":
        center, noise = line.get("seconds", 0.05), line.get("noise", 0.0)
        seconds = [center * state["draw"].gauss(1, noise) for _ in range(message["steps"])]
        return {"seconds": seconds, "wall": sum(seconds), "loss": loss, "step": 9}
    if verb == "trace":
        write_trace(Path(message["folder"]) / "cpu.1.pt.trace.json", [*step_events(), *step_events(1000, 2)])
    if verb == "write":
        Path(message["folder"]).mkdir()
        (Path(message["folder"]) / "config.json").write_text("{}")
    return {
        "hello": {
            "torch": "0.0",
            "environment": ENVIRONMENT,
            "misfit": None,
            "unavailable": [lines.get(variant["name"], {}).get("unavailable") for variant in message.get("can", [])],
        },
        "build": {"metrics": AMOUNTS, "facts": FACTS | line.get("facts", {})},
        "check": {"seconds": [0.1], "losses": [loss] * message.get("steps", 0), "errors": errors},
        "quality": {
            "losses": line.get("trained", {}).get(str(message.get("steps")), [loss]),
            "scores": {
                part: line.get("scores", {}).get(part, {}).get(str(message.get("steps")), {"held_out_loss": loss})
                for part in message.get("parts", ())
            },
        },
        "observe": {"metrics": {"forward_seconds": 0.02, "memory_peak_bytes": 1e8} | line.get("observed", {})},
        "trace": line.get("traced") or {"operators": OPERATORS, "attention_actual": "formula"},
        "explain": {"metrics": {"saliency_agreement": line.get("agreement", 1.0)}},
        "write": {},
        "release": {"verb": "release"},
    }[verb]  # fmt: skip


def probed(message: dict, line: dict, state: dict) -> dict:
    wanted = line.get("fail", {})
    state["probes"] = state.get("probes", 0) + 1
    if wanted.get("verb") == "probe" and state["probes"] >= wanted.get("from_probe", 1):
        return fail(wanted["how"])
    seconds = [line.get("seconds", 0.05)] * message["steps"]
    amount = line.get("amount", {"flop": 1e9})
    told = {"metrics": amount, "device": "cpu", "errors": line.get("errors", {})}
    return {**told, "seconds": seconds, "wall": sum(seconds), "state": {"celsius": 40.0}}


def work(script: Path) -> None:
    state = {"launch": 1 + len(list(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent.glob("launch*")))}
    mark = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).parent / f"launch{state['launch']}"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    for text in sys.stdin:
        reply = {"ok": True, **answer(json.loads(text), json.loads(script.read_text()), state)}
        print(reply.get("raw") or json.dumps(reply), flush=True)
        if reply.get("verb") == "release":
            return


if __name__ == "__main__":
    script = Path(sys.argv[1])
    if sys.argv[2:3] == ["--cli"]:
        import harness.cli
        import harness.conditions

        harness.conditions.WORKER = (__file__, str(script))
        sys.argv[1:] = sys.argv[3:]
        harness.cli.main()
    work(script)
