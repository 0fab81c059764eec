"""What stock clients learn of the services from the server itself, by either version of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import (
    ExtensionRequest,
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from broker.api import descriptors
from tests.support.doors import METHODS, Doors

V1, V1ALPHA = "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"
NOT_FOUND, INVALID = (code.value[0] for code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT))
SERVICES = [service.full_name for service in descriptors.ALL]
Ask = Callable[..., ServerReflectionResponse]


@pytest.fixture(params=[V1, V1ALPHA])
def ask(doors: Doors, request: pytest.FixtureRequest) -> Ask:
    call: Any = doors.channel("researcher").stream_stream(
        f"/{request.param}/ServerReflectionInfo",
        ServerReflectionRequest.SerializeToString,
        ServerReflectionResponse.FromString,
    )

    def one(**asked: Any) -> ServerReflectionResponse:
        answers: Iterator[ServerReflectionResponse] = call(iter([ServerReflectionRequest(**asked)]), timeout=20)
        return next(answers)

    return one


def files(answer: ServerReflectionResponse) -> dict[str, FileDescriptorProto]:
    found = [FileDescriptorProto.FromString(data) for data in answer.file_descriptor_response.file_descriptor_proto]
    return {file.name: file for file in found}


def test_every_service_is_listed(ask: Ask) -> None:
    listed = {service.name for service in ask(list_services="*").list_services_response.service}
    assert listed == {*SERVICES, "grpc.health.v1.Health", V1, V1ALPHA}


@pytest.mark.parametrize(
    "symbol",
    [
        *SERVICES,
        *(path[1:].replace("/", ".") for path in METHODS),
        "grpc.health.v1.Health",
        "grpc.health.v1.Health.Check",
        V1,
        V1ALPHA,
        f"{V1}.ServerReflectionInfo",
        f"{V1ALPHA}.ServerReflectionInfo",
        "grpc.reflection.v1.ServerReflectionRequest",
        "broker.v1.Grant",
        "broker.v1.Grant.tool",
        "broker.v1.Operator",
        "broker.v1.OPERATOR_EQ",
    ],
)
def test_every_symbol_is_resolved_with_all_that_its_file_needs(ask: Ask, symbol: str) -> None:
    found = files(ask(file_containing_symbol=symbol))
    assert any(symbol.startswith(f"{file.package}.") for file in found.values())
    assert {needed for file in found.values() for needed in file.dependency} <= found.keys()
    for name, file in found.items():
        assert files(ask(file_by_filename=name))[name] == file


def test_version_1_describes_itself_in_its_own_words(ask: Ask) -> None:
    (file,) = files(ask(file_containing_symbol=V1)).values()
    assert (file.name, file.package) == ("grpc/reflection/v1/reflection.proto", "grpc.reflection.v1")
    assert "v1alpha" not in str(file)


def test_extensions_are_told(ask: Ask) -> None:
    told = ask(all_extension_numbers_of_type="broker.v1.Grant").all_extension_numbers_response
    assert (told.base_type_name, list(told.extension_number)) == ("broker.v1.Grant", [])
    extension = ExtensionRequest(containing_type="broker.v1.Grant", extension_number=7)
    assert ask(file_containing_extension=extension).error_response.error_code == NOT_FOUND


@pytest.mark.parametrize(
    "symbol", ["", "x", ".", "broker.v1", "broker.v1.AgentService.Nothing", "broker.v1.Grant.Nothing"]
)
def test_what_is_not_there_is_not_found_and_the_stream_goes_on(ask: Ask, symbol: str) -> None:
    assert ask(file_containing_symbol=symbol).error_response.error_code == NOT_FOUND
    assert ask(file_by_filename=symbol).error_response.error_code == NOT_FOUND
    assert ask(all_extension_numbers_of_type=symbol).error_response.error_code == NOT_FOUND
    assert ask().error_response.error_code == INVALID
