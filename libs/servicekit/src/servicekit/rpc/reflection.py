"""Server reflection in both versions that clients ask for: v1alpha, and v1, which is the same under another name."""

from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from servicekit.rpc.registration import Registration

_ALPHA = "grpc.reflection.v1alpha"
_V1 = "grpc.reflection.v1"
_V1_SERVICE = f"{_V1}.ServerReflection"


def add_reflection(registration: Registration, services: Sequence[str]) -> None:
    """Serve reflection on `services`, by their full names, and on itself.

    grpcio-reflection speaks v1alpha alone (grpc#38576). The messages of v1 are the same byte for byte, so its servicer
    answers for both; the descriptors of v1 are v1alpha's with the package renamed.
    """
    _add_v1_descriptor()
    names = (*services, reflection.SERVICE_NAME, _V1_SERVICE)
    servicer = reflection.aio.ReflectionServicer(names)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, registration)  # type: ignore[no-untyped-call]
    v1 = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    registration.add_registered_method_handlers(_V1_SERVICE, {"ServerReflectionInfo": v1})


def _add_v1_descriptor() -> None:
    pool = descriptor_pool.Default()
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = _V1
    for message in file.message_type:
        _rename(message)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(_ALPHA, _V1)
            method.output_type = method.output_type.replace(_ALPHA, _V1)
    # The same file again is no conflict: several servers in one process share the pool.
    pool.AddSerializedFile(file.SerializeToString())


def _rename(message: DescriptorProto) -> None:
    for field in message.field:
        if field.type_name:
            field.type_name = field.type_name.replace(_ALPHA, _V1)
    for nested in message.nested_type:
        _rename(nested)
