"""A KServe InferenceService: infopt's own server in a container of yours, or Triton's.

    FOLDER/inferenceservice.yaml
    FOLDER/repository/             without an image: what Triton serves

With an image, `storageUri` holds the engine directory and the image runs `infopt serve`: the engine
runs with the settings that were measured, and checks its files when it loads. Without one it holds
the Triton repository. KServe mounts what it fetched at /mnt/models; a custom container is told by
the variable STORAGE_URI, and only if it is called `kserve-container`.

Field names: serving.kserve.io/v1beta1 and the cluster runtime `kserve-tritonserver`.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.emit.targets.base import Source, Target, Wishes, Written, cores, peak_size_bytes
from planner.emit.targets.triton import write_repository

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "inferenceservice.yaml"
REPOSITORY = "repository"
_MOUNT = "/mnt/models"
_PORT = 8080
_MEMORY_MARGIN = 1.5
"""Over the peak of the process that was measured: requests in flight and the server itself."""
_LONGEST_NAME = 50
"""Kubernetes allows 63 characters, of which KServe takes some for its suffixes."""


def check(wishes: Wishes) -> None:
    """An InferenceService has to say where its files are.

    Raises:
        UsageError: no storage URI, or one that is none.
    """
    from planner.errors import UsageError

    uri = wishes.storage_uri
    if uri is None:
        raise UsageError(
            "KServe fetches what it serves, and must be told from where",
            where="--storage-uri",
            fix="--storage-uri s3://bucket/path (or pvc://, gs://, hf://, https://)",
        )
    if re.match(r"[a-z][a-z0-9+.-]*://\S+\Z", uri) is None:
        raise UsageError(
            f"{uri!r} is no storage URI", where="--storage-uri", fix="s3://bucket/path"
        )


def write(source: Source, folder: Path) -> Written:
    """Writes the manifest for `kubectl apply`, and the repository where Triton serves.

    Raises:
        UsageError: see `planner.emit.targets.triton`.
    """
    from planner.spec.yaml_text import to_yaml

    uri, image = source.wishes.storage_uri, source.wishes.image
    notes: tuple[str, ...] = ()
    if image is None:
        alone = replace(source, wishes=replace(source.wishes, replicas=1))
        notes = write_repository(alone, folder / REPOSITORY).notes
        what = f"{{folder}}/{REPOSITORY}"
    else:
        what = str(source.engine)
    settings = source.segments[0].settings
    if settings.intra_op_threads == 0:
        notes += (
            "the plan leaves the number of threads to ONNX Runtime, which counts the cores of the "
            "node, not the container's share",
        )
    (folder / FILE).write_text(to_yaml(service(source)), encoding="utf-8")
    return Written(f"upload {what} to {uri}, then kubectl apply -f {{folder}}/{FILE}", notes)


def service(source: Source) -> dict[str, Any]:
    """The InferenceService as plain data."""
    wishes = source.wishes
    model = _container(source) if wishes.image is not None else _triton(source)
    predictor = {"minReplicas": wishes.replicas, "maxReplicas": wishes.replicas, **model}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": _resource_name(source.manifest.name),
            "annotations": {"infopt/plan-digest": source.manifest.plan_digest},
        },
        "spec": {"predictor": predictor},
    }


def _triton(source: Source) -> dict[str, Any]:
    return {
        "model": {
            "modelFormat": {"name": "triton", "version": "2"},
            "runtime": "kserve-tritonserver",
            "protocolVersion": "v2",
            "storageUri": source.wishes.storage_uri,
            "resources": _resources(source),
        }
    }


def _container(source: Source) -> dict[str, Any]:
    serve = ["infopt", "serve", _MOUNT, "--host", "0.0.0.0", "--port", str(_PORT)]
    container = {
        "name": "kserve-container",
        "image": source.wishes.image,
        "command": serve,
        "env": [{"name": "STORAGE_URI", "value": source.wishes.storage_uri}],
        "ports": [{"containerPort": _PORT, "protocol": "TCP"}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": _PORT}},
        "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": _PORT}},
        "resources": _resources(source),
    }
    return {"containers": [container]}


def _resources(source: Source) -> Mapping[str, Any]:
    """As much as was measured; whole cores, so that a pod may have them to itself."""
    memory_mib = math.ceil(peak_size_bytes(source.plan) * _MEMORY_MARGIN / 2**20)
    share = {"cpu": str(cores(source)), "memory": f"{memory_mib}Mi"}
    if source.segments[0].settings.provider == "cuda":
        share["nvidia.com/gpu"] = str(source.manifest.ranks)
    return {"requests": dict(share), "limits": dict(share)}


def _resource_name(name: str) -> str:
    """A DNS label that begins with a letter: `My_model.v2` -> `my-model-v2`."""
    label = re.sub(r"[^a-z0-9]+", "-", name.lower())[:_LONGEST_NAME].strip("-")
    return label if label[:1].isalpha() else f"model-{label}".rstrip("-")


KSERVE = Target("kserve", "a KServe InferenceService", check, write)
