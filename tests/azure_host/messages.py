"""The messages between the Functions host and a Python worker, as real protobuf classes.

Microsoft's proxy worker passes generated protobuf classes to the runtime, which builds its answers with them. These
classes are made from a table of names, fields and types instead. They check their values like the generated classes.
Messages are sent as JSON (:mod:`worker`), so the numbers of the fields do not matter.

The names are those of the host's language worker protocol:
https://github.com/Azure/azure-functions-language-worker-protobuf
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory, timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

__all__ = ["PROTOS", "StreamingMessage"]

PACKAGE = "functions"

# message -> {field: type}; "group/field" is a field of the oneof "group", "type*" is repeated, "map type" is a map with
# strings for keys.
MESSAGES: dict[str, dict[str, str]] = {
    "StreamingMessage": {
        "request_id": "string",
        "content/worker_init_request": "WorkerInitRequest",
        "content/worker_init_response": "WorkerInitResponse",
        "content/functions_metadata_request": "FunctionsMetadataRequest",
        "content/function_metadata_response": "FunctionMetadataResponse",
        "content/function_load_request": "FunctionLoadRequest",
        "content/function_load_response": "FunctionLoadResponse",
        "content/invocation_request": "InvocationRequest",
        "content/invocation_response": "InvocationResponse",
        "content/function_environment_reload_request": "FunctionEnvironmentReloadRequest",
        "content/function_environment_reload_response": "FunctionEnvironmentReloadResponse",
    },
    "WorkerInitRequest": {
        "host_version": "string", "capabilities": "map string", "worker_directory": "string",
        "function_app_directory": "string",
    },
    "WorkerInitResponse": {
        "worker_version": "string", "capabilities": "map string", "result": "StatusResult",
        "worker_metadata": "WorkerMetadata",
    },
    "WorkerMetadata": {
        "runtime_name": "string", "runtime_version": "string", "worker_version": "string", "worker_bitness": "string",
        "custom_properties": "map string",
    },
    "StatusResult": {"status": "StatusResult.Status", "result": "string", "exception": "RpcException"},
    "RpcException": {"source": "string", "stack_trace": "string", "message": "string"},
    "FunctionEnvironmentReloadRequest": {
        "environment_variables": "map string", "function_app_directory": "string",
    },
    "FunctionEnvironmentReloadResponse": {
        "worker_metadata": "WorkerMetadata", "capabilities": "map string", "result": "StatusResult",
    },
    "FunctionsMetadataRequest": {"function_app_directory": "string"},
    "FunctionMetadataResponse": {
        "function_metadata_results": "RpcFunctionMetadata*", "result": "StatusResult",
        "use_default_metadata_indexing": "bool",
    },
    "RpcFunctionMetadata": {
        "name": "string", "directory": "string", "script_file": "string", "entry_point": "string",
        "bindings": "map BindingInfo", "is_proxy": "bool", "status": "StatusResult", "language": "string",
        "raw_bindings": "string*", "function_id": "string", "managed_dependency_enabled": "bool",
        "retry_options": "RpcRetryOptions", "properties": "map string",
    },
    "RpcRetryOptions": {
        "max_retry_count": "int", "retry_strategy": "RpcRetryOptions.RetryStrategy", "delay_interval": "Duration",
        "minimum_interval": "Duration", "maximum_interval": "Duration",
    },
    "BindingInfo": {"type": "string", "direction": "BindingInfo.Direction", "data_type": "BindingInfo.DataType"},
    "FunctionLoadRequest": {"function_id": "string", "metadata": "RpcFunctionMetadata"},
    "FunctionLoadResponse": {"function_id": "string", "result": "StatusResult"},
    "InvocationRequest": {
        "invocation_id": "string", "function_id": "string", "input_data": "ParameterBinding*",
        "trigger_metadata": "map TypedData", "trace_context": "RpcTraceContext", "retry_context": "RetryContext",
    },
    "InvocationResponse": {
        "invocation_id": "string", "output_data": "ParameterBinding*", "return_value": "TypedData",
        "result": "StatusResult",
    },
    "RpcTraceContext": {"trace_parent": "string", "trace_state": "string", "attributes": "map string"},
    "RetryContext": {"retry_count": "int", "max_retry_count": "int", "exception": "RpcException"},
    "ParameterBinding": {"name": "string", "rpc_data/data": "TypedData"},
    "TypedData": {
        "data/string": "string", "data/json": "string", "data/bytes": "bytes", "data/http": "RpcHttp",
        "data/int": "int", "data/double": "double", "data/collection_bytes": "CollectionBytes",
        "data/collection_string": "CollectionString", "data/collection_sint64": "CollectionSInt64",
    },
    "CollectionBytes": {"bytes": "bytes*"},
    "CollectionString": {"string": "string*"},
    "CollectionSInt64": {"sint64": "int*"},
    "RpcHttp": {
        "method": "string", "url": "string", "headers": "map string", "body": "TypedData", "params": "map string",
        "status_code": "string", "query": "map string", "enable_content_negotiation": "bool",
        "cookies": "RpcHttpCookie*",
    },
    "RpcHttpCookie": {
        "name": "string", "value": "string", "domain": "NullableString", "path": "NullableString",
        "expires": "NullableTimestamp", "secure": "NullableBool", "http_only": "NullableBool",
        "same_site": "RpcHttpCookie.SameSite", "max_age": "NullableDouble",
    },
    "NullableString": {"string/value": "string"},
    "NullableBool": {"bool/value": "bool"},
    "NullableDouble": {"double/value": "double"},
    "NullableTimestamp": {"timestamp/value": "Timestamp"},
}
ENUMS = {
    "StatusResult.Status": ("Failure", "Success", "Cancelled"),
    "BindingInfo.Direction": ("in", "out", "inout"),
    "BindingInfo.DataType": ("undefined", "string", "binary", "stream"),
    "RpcRetryOptions.RetryStrategy": ("exponential_backoff", "fixed_delay"),
    "RpcHttpCookie.SameSite": ("None", "Lax", "Strict", "ExplicitNone"),
}
SCALARS = {
    "string": Field.TYPE_STRING, "bytes": Field.TYPE_BYTES, "bool": Field.TYPE_BOOL, "int": Field.TYPE_SINT64,
    "double": Field.TYPE_DOUBLE,
}
KNOWN = {"Duration": duration_pb2.DESCRIPTOR, "Timestamp": timestamp_pb2.DESCRIPTOR}


class Protos:
    """The message classes by their names, which the runtime calls ``protos``."""


def _describe() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="functions.proto", package=PACKAGE, syntax="proto3")
    file.dependency.extend(known.name for known in KNOWN.values())
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for place, values in ENUMS.items():
            owner, _, enum = place.partition(".")
            if owner == name:
                described = message.enum_type.add(name=enum)
                for number, value in enumerate(values):
                    described.value.add(name=value, number=number)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            one, _, field = field.rpartition("/")
            added = message.field.add(name=field, number=number, label=Field.LABEL_OPTIONAL)
            if one:
                if one not in [each.name for each in message.oneof_decl]:
                    message.oneof_decl.add(name=one)
                added.oneof_index = [each.name for each in message.oneof_decl].index(one)
            if kind.startswith("map "):
                entry = message.nested_type.add(name="".join(map(str.title, field.split("_"))) + "Entry")
                entry.options.map_entry = True
                _type(entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL), "string")
                _type(entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL), kind[4:])
                kind = f"{name}.{entry.name}*"
            if kind.endswith("*"):
                added.label = Field.LABEL_REPEATED
            _type(added, kind.rstrip("*"))
    return file


def _type(field: Field, kind: str) -> None:
    if kind in SCALARS:
        field.type = SCALARS[kind]
        return
    field.type = Field.TYPE_ENUM if kind in ENUMS else Field.TYPE_MESSAGE
    field.type_name = f".google.protobuf.{kind}" if kind in KNOWN else f".{PACKAGE}.{kind}"


def _build() -> Protos:
    pool = descriptor_pool.DescriptorPool()
    for known in KNOWN.values():
        pool.AddSerializedFile(known.serialized_pb)
    pool.AddSerializedFile(_describe().SerializeToString())
    protos = Protos()
    for name in [*MESSAGES, *KNOWN]:
        full = f"google.protobuf.{name}" if name in KNOWN else f"{PACKAGE}.{name}"
        setattr(protos, name, message_factory.GetMessageClass(pool.FindMessageTypeByName(full)))
    return protos


PROTOS = _build()
StreamingMessage = PROTOS.StreamingMessage  # type: ignore[attr-defined]
