"""Server reflection in both versions that clients use: v1alpha, and v1, which is the same under another name."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from servicekit.rpc.registration import Registration

Request = reflection_pb2.ServerReflectionRequest
Response = reflection_pb2.ServerReflectionResponse

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
    servicer = _Servicer(names)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, registration)  # type: ignore[no-untyped-call]
    v1 = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    registration.add_registered_method_handlers(_V1_SERVICE, {"ServerReflectionInfo": v1})


class _Servicer:
    """Also finds methods by name, which the pool of descriptors does not."""

    def __init__(self, names: Sequence[str]) -> None:
        # Its type stubs declare a coroutine, not the stream that it is.
        self._by_symbol: Any = reflection.aio.ReflectionServicer(names)

    async def ServerReflectionInfo(  # noqa: N802 - the contract's name
        self, requests: AsyncIterable[Request], context: Any
    ) -> AsyncIterator[Response]:
        async for request in requests:
            async for response in self._by_symbol.ServerReflectionInfo(_each(_by_service(request)), context):
                response.original_request.CopyFrom(request)
                yield response


async def _each(request: Request) -> AsyncIterator[Request]:
    yield request


def _by_service(request: Request) -> Request:
    """Return a request for a method as one for its service, which is in the same file; others as they are."""
    try:
        method = descriptor_pool.Default().FindMethodByName(request.file_containing_symbol)
    except KeyError:
        return request
    return Request(host=request.host, file_containing_symbol=method.containing_service.full_name)


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
