"""A Ray Serve application: the engine in as many replicas as asked, each with the cores it needs.

    FOLDER/ray_app.py      serve run ray_app:app
    FOLDER/engine/         what each replica loads

Ray listens on every interface of its host and asks the cloud's metadata service who it is; run it
where that may be.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from planner.emit.targets.base import Source, Target, Written, accept, cores

FILE = "ray_app.py"
ENGINE = "engine"
_DIGITS = 16
"""Of a digest, for people."""
_APP = '''\
"""An engine on Ray Serve, written by infopt for plan {digest}.

    serve run ray_app:app      in this folder; answers at http://127.0.0.1:8000/v2

It speaks the Open Inference Protocol v2, as `infopt serve` does. Every node needs `infopt[serve]`
and `ray[serve]`; on several nodes, `--working-dir .` takes this folder to each of them.
"""

from pathlib import Path

from planner.serve.replica import Replica
from ray import serve

NAME = {name}
REPLICAS = {replicas}
RESOURCES = {resources}


class Engine(Replica):
    """One replica: a copy of the engine in a process of its own."""

    def __init__(self):
        super().__init__(Path(__file__).resolve().parent / "{engine}")


app = serve.deployment(
    Engine,
    name=NAME,
    num_replicas=REPLICAS,
    ray_actor_options=RESOURCES,
    max_ongoing_requests=Replica.MAX_IN_FLIGHT,
).bind()
'''


def write(source: Source, folder: Path) -> Written:
    """Writes the application and a copy of the engine."""
    shutil.copytree(source.engine, folder / ENGINE, copy_function=shutil.copyfile)
    (folder / FILE).write_text(application(source), encoding="utf-8")
    return Written("cd {folder} && serve run ray_app:app")


def application(source: Source) -> str:
    """The text of `ray_app.py`."""
    resources = {"num_cpus": cores(source)}
    if source.segments[0].settings.provider == "cuda":
        resources["num_gpus"] = source.manifest.ranks
    return _APP.format(
        digest=source.manifest.plan_digest[:_DIGITS],
        name=json.dumps(source.manifest.name),
        replicas=source.wishes.replicas,
        resources=json.dumps(resources),
        engine=ENGINE,
    )


RAY = Target("ray", "a Ray Serve application", accept, write)
