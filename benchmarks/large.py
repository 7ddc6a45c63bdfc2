"""Plans of the zoo for GPUs that are not here: how long they take, and how far they are proved.

    python benchmarks/large.py [--models gpt3-175b,switch-c] [--json FILE]

Each model gets a target that suits it (`CASES`). A line per model: seconds by the clock and of CPU,
devices, layout, gap of the latency, whether fewer devices were ruled out. `--json` adds to FILE.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.zoo import write

ROOT = Path(__file__).resolve().parents[1]
A100, H100 = "a100-sxm-80gb", "h100-sxm-80gb"
CASES: dict[str, tuple[str, str, str]] = {
    "bert-base": ("t4-16gb", "1..4", "10ms"),
    "bert-large": ("l4-24gb", "1..4", "20ms"),
    "encoder-6b": ("a100-sxm-40gb", "1..8", "50ms"),
    "gpt2": ("a10-24gb", "1..4", "100ms"),
    "gpt2-xl": ("a10-24gb", "1..4", "100ms"),
    "gpt3-350m": ("a100-sxm-40gb", "1..8", "100ms"),
    "gpt3-1.3b": ("a100-sxm-40gb", "1..8", "100ms"),
    "gpt3-6.7b": (H100, "1..8", "100ms"),
    "gpt3-13b": (H100, "1..8", "100ms"),
    "gpt3-175b": (A100, "1..16", "3s"),
    "mt-nlg-530b": (H100, "1..64", "2s"),
    "m6-10b": (H100, "1..8", "100ms"),
    "t5-small": ("a100-sxm-40gb", "1..4", "200ms"),
    "t5-11b": (H100, "1..8", "200ms"),
    "switch-base": (A100, "1..8", "200ms"),
    "switch-xxl": ("h200-sxm-141gb", "1..16", "500ms"),
    "switch-c": (H100, "1..64", "500ms"),
    "vit-b16": ("l40s-48gb", "1..4", "20ms"),
    "swin-t": ("l40s-48gb", "1..4", "20ms"),
    "swin-b": ("l40s-48gb", "1..4", "20ms"),
    "resnet-50": ("v100-sxm2-16gb", "1..4", "10ms"),
    "conformer-l-streaming": ("t4-16gb", "1..4", "50ms"),
    "deepspeech2": ("v100-sxm2-16gb", "1..4", "500ms"),
}
"""Model -> target, GPUs, latency of each run."""


def planned(name: str, folder: Path) -> dict[str, Any]:
    """One model through the command line."""
    target, gpus, slo = CASES[name]
    model = write(name, "float32", folder)
    command = [
        sys.executable, str(ROOT / "cli.py"), "plan", str(model), "-c",
        str(model.with_suffix(".yaml")), "--target", target, "--gpus", gpus, "--slo", slo,
        "-o", str(folder / "plan.json"), "--json", "-q",
    ]  # fmt: skip
    before, started = _cpu_s(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found: dict[str, Any] = {
        "target": target, "gpus": gpus, "slo": slo,
        "seconds": round(time.monotonic() - started, 1),
        "cpu_s": round(_cpu_s() - before, 1),
        "load": round(os.getloadavg()[0], 1),
        "exit": done.returncode,
    }  # fmt: skip
    if done.returncode:
        return {**found, "said": done.stderr.strip().splitlines()[:2]}
    plan = json.loads(done.stdout)
    placement, solver = plan["placement"], plan["solver"]
    return {
        **found,
        "devices": placement["devices"],
        "layout": placement["layout"],
        "query_s": placement["query"]["expected"] / 1e6,
        "gap": solver["gap"],
        "is_least_proved": solver["bound"][0] >= solver["objective"][0],
        "alternatives": {
            each["name"]: [each["status"], each.get("gap")] for each in placement["alternatives"]
        },
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Plans models one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(CASES), help="names separated by commas")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.models.split(",")
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"no case is called {unknown[0]!r}: {', '.join(CASES)}")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found = planned(name, Path(folder))
        print(name, json.dumps(found), flush=True)
        if options.json is not None:
            known = json.loads(options.json.read_text()) if options.json.exists() else {}
            known[name] = found
            options.json.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
