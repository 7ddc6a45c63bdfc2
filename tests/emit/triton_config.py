"""The part of Triton's `inference.ModelConfig` that is used here, to parse what was written.

Field names and types are those of the published model_config.proto; the text parser refuses every
name that is not among them.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_F = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _F.TYPE_STRING, "int32": _F.TYPE_INT32, "int64": _F.TYPE_INT64}
_MESSAGES: dict[str, tuple[str, ...]] = {
    "ModelTensorReshape": ("repeated int64 shape",),
    "ModelInput": (
        "string name", "DataType data_type", "repeated int64 dims", "ModelTensorReshape reshape",
    ),
    "ModelInstanceGroup": ("string name", "Kind kind", "int32 count", "repeated int32 gpus"),
    "Graph": ("int32 level",),
    "ModelOptimizationPolicy": ("Graph graph",),
    "ModelParameter": ("string string_value",),
    "ParametersEntry": ("string key", "ModelParameter value"),
    "ModelConfig": (
        "string name", "string platform", "string backend", "int32 max_batch_size",
        "repeated ModelInput input", "repeated ModelInput output",
        "repeated ModelInstanceGroup instance_group", "string default_model_filename",
        "repeated ParametersEntry parameters", "ModelOptimizationPolicy optimization",
    ),
}  # fmt: skip
_ENUMS = {
    "DataType": (
        "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64",
        "TYPE_INT8", "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32",
        "TYPE_FP64", "TYPE_STRING", "TYPE_BF16",
    ),
    "Kind": ("KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"),
}  # fmt: skip


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="triton_subset.proto", package="t")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields, 1):
            *label, kind, field_name = field.split()
            added = message.field.add(name=field_name, number=number)
            added.label = _F.LABEL_REPEATED if label else _F.LABEL_OPTIONAL
            added.type = _SCALARS.get(kind, _F.TYPE_ENUM if kind in _ENUMS else _F.TYPE_MESSAGE)
            if kind not in _SCALARS:
                added.type_name = f".t.{kind}"
    return file


def parse(text: str) -> Any:
    """The message.

    Raises:
        text_format.ParseError: a name or a value that the format does not have.
    """
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))
    return text_format.Parse(text, kind())
