"""From a path to a parsed protobuf, or to the reason why the file is none."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from planner.errors import ModelError
from planner.graph import proto
from planner.units import format_size

MAX_SIZE_BYTES = 2**31 - 1
"""What one protobuf may hold."""
_MAGIC = (
    (b"version https://git-lfs", "a Git LFS pointer, not the model", "run `git lfs pull`"),
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint?)", "export it with torch.onnx.export"),
    (b"\x80\x02", "a Python pickle (a PyTorch checkpoint?)", "export it with torch.onnx.export"),
    (b"\x89HDF", "an HDF5 file (a Keras model?)", "export it with tf2onnx"),
    (b"\x1f\x8b", "gzip-compressed", "unpack it with gunzip"),
    (b"GGUF", "a GGUF file", "infopt plans ONNX models: export the original one to ONNX"),
    (b"<", "a web page or XML, not a model", "download the file itself, not the page about it"),
)


def check_path(path: Path) -> None:
    """Refuses what cannot be an ONNX file, without parsing it.

    Raises:
        ModelError: missing, a directory, empty, too large for a protobuf, or another known format.
    """
    where = str(path)
    if path.is_dir():
        raise _directory(path)
    if not path.exists():
        raise ModelError("no such file", where=where, fix=_similar(path))
    if not path.is_file():
        raise ModelError("not a regular file", where=where)
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise ModelError("the file is empty", where=where, fix="export or download it again")
    if size_bytes > MAX_SIZE_BYTES:
        raise ModelError(
            f"{format_size(size_bytes)} are more than a protobuf can hold",
            where=where,
            fix="save it with onnx.save_model(..., save_as_external_data=True)",
        )
    _check_magic(path)


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ModelError(
            f"cannot be read: {error.strerror}", where=str(path), fix="check its permissions"
        ) from None
    # FlatBuffers carry their name behind a length.
    if head[4:8] in (b"TFL3", b"ORTM"):
        raise ModelError(
            "a TFLite or ORT-format file", where=str(path), fix="plan the ONNX file it came from"
        )
    for magic, what, fix in _MAGIC:
        if head.startswith(magic):
            raise ModelError(f"the file is {what}", where=str(path), fix=fix)


def _directory(path: Path) -> ModelError:
    inside = sorted(file.name for file in path.glob("*.onnx"))[:5]
    fix = f"one of the files in it: {', '.join(inside)}" if inside else "give the .onnx file itself"
    return ModelError("is a directory", where=str(path), fix=fix)


def _similar(path: Path) -> str:
    near = sorted(file.name for file in path.parent.glob("*.onnx"))[:5]
    return f"in that folder: {', '.join(near)}" if near else "check the path"


def parse(path: Path) -> ModelProto:
    """The protobuf without its external data.

    Raises:
        ModelError: it does not parse, or parses to something without a graph.
    """
    try:
        model = proto.read(path)
    except (DecodeError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"not an ONNX model: the protobuf does not parse ({reason})",
            fix="the file is damaged or incomplete: export or download it again",
        ) from None
    if not model.ir_version and not model.HasField("graph"):
        raise ModelError("not an ONNX model: it has no IR version and no graph")
    if not model.HasField("graph"):
        raise ModelError("the model has no graph", fix="export it again")
    return model


def check_versions(model: ModelProto, min_ir: int) -> None:
    """Refuses what is older than the format's first stable versions, or newer than this onnx.

    Raises:
        ModelError: naming the version found and those understood.
    """
    if model.ir_version < min_ir:
        raise ModelError(
            f"IR version {model.ir_version} is older than {min_ir}, the first with operator sets",
            fix="export the model again with a current exporter",
        )
    if model.ir_version > onnx.IR_VERSION:
        raise _from_the_future("IR version", int(model.ir_version), int(onnx.IR_VERSION))
    newest = _newest_opsets()
    for entry in model.opset_import:
        domain = proto.domain_of(entry.domain)
        if domain in newest and entry.version > newest[domain]:
            raise _from_the_future(
                f"opset of {domain or 'ai.onnx'}", int(entry.version), newest[domain]
            )


def _from_the_future(what: str, found: int, newest: int) -> ModelError:
    return ModelError(
        f"{what} {found} is newer than {newest}, the newest this version of onnx knows",
        fix=f"export for {newest} or older, or upgrade onnx",
    )


def _newest_opsets() -> dict[str, int]:
    """Domain -> newest version that onnx has released."""
    newest: dict[str, int] = {}
    for row in onnx.helper.VERSION_TABLE:
        for domain, version in zip(("", "ai.onnx.ml"), row[2:4], strict=True):
            newest[domain] = max(newest.get(domain, 0), version)
    return newest
