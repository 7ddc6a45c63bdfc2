"""Runs the Ray application of the current folder, asks it once, and prints what it answered."""

from __future__ import annotations

import importlib
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

URL = "http://127.0.0.1:8000/v2/models/tiny/infer"


def ask(body: bytes) -> tuple[int, bytes]:
    """(status, body) of one answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(URL, data=body), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def main() -> None:
    """Starts Ray here, deploys, asks, and shuts down what it started."""
    sys.path.insert(0, str(Path.cwd()))
    ray = importlib.import_module("ray")
    serve = importlib.import_module("ray.serve")
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=100 * 2**20)
    serve.run(importlib.import_module("ray_app").app)
    row = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [0.5] * 8}
    _, body = ask(json.dumps({"inputs": [row]}).encode())
    refused, _ = ask(b"nonsense")
    serve.shutdown()
    ray.shutdown()
    data = json.loads(body)["outputs"][0]["data"]
    sys.stdout.write("\n" + json.dumps({"data": data, "refused": refused}) + "\n")


if __name__ == "__main__":
    main()
