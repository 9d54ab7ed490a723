"""Reflection: services and methods by name, for grpcurl and buf curl."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from tests.servicekit.scripted_server import SERVICE, VALID, scripted_server

BUF = Path(sys.executable).with_name("buf")


async def reflected(channel: grpc.aio.Channel, version: str, request: Any) -> Any:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(iter([request]))
    return await anext(aiter(call))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_and_describes_the_services(version: str) -> None:
    async with scripted_server() as running:
        listing = await reflected(
            running.channel, version, reflection_pb2.ServerReflectionRequest(list_services="*")
        )
        assert {service.name for service in listing.list_services_response.service} == {
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        described = await reflected(
            running.channel, version, reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
        )
        assert described.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_finds_methods_by_name(version: str) -> None:
    async def found(symbol: str) -> Any:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
        return await reflected(running.channel, version, request)

    async with scripted_server() as running:
        for method in (
            f"{SERVICE}.Get",
            "grpc.health.v1.Health.Watch",
            f"grpc.reflection.{version}.ServerReflection.ServerReflectionInfo",
        ):
            service = (await found(method.rpartition(".")[0])).file_descriptor_response
            assert service.file_descriptor_proto
            answer = await found(method)
            assert answer.file_descriptor_response == service
            assert answer.original_request.file_containing_symbol == method
        missing = await found(f"{SERVICE}.NoSuchMethod")
        assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_can_be_switched_off(version: str) -> None:
    async with scripted_server(reflection=False) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reflected(
                running.channel, version, reflection_pb2.ServerReflectionRequest(list_services="*")
            )
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("protocol", ["grpc-v1", "grpc-v1alpha"])
async def test_buf_curl_calls_by_reflection_alone(protocol: str, tmp_path: Path) -> None:
    async with scripted_server() as running:
        process = await asyncio.create_subprocess_exec(
            BUF,
            "curl",
            "--protocol=grpc",
            "--http2-prior-knowledge",
            f"--reflect-protocol={protocol}",
            "--data",
            json.dumps({"incidentId": VALID.incident_id}),
            f"http://{running.server.address}/{SERVICE}/Get",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        assert json.loads(out) == {}
        assert running.service.calls == 1
