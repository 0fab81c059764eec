"""Server reflection (the gRPC Server Reflection Protocol): v1, and the older v1alpha, which differs in its name alone.

grpcio ships v1alpha, and looks symbols up in a pool of descriptors that finds no methods. Ours finds them, and knows
the descriptor of version 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from broker.api.pipeline import serve_anybody

Found = TypeVar("Found")

_OLD, _NEW = "grpc.reflection.v1alpha", "grpc.reflection.v1"
_SERVICE, _METHOD = "ServerReflection", "ServerReflectionInfo"

NAMES = (f"{_NEW}.{_SERVICE}", f"{_OLD}.{_SERVICE}")
"""The full names of the services."""


def handlers(served: Iterable[str]) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return the handlers of both versions, for a server of services with these full names."""
    servicer = ReflectionServicer((*served, *NAMES), pool=_Symbols())
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return tuple(serve_anybody(name, {_METHOD: method}) for name in NAMES)


class _Symbols:
    """All that is known by name, as far as `ReflectionServicer` asks its pool. Each raises KeyError for what is not."""

    def __init__(self) -> None:
        self._served, self._ours = Default(), _newer()

    def FindFileByName(self, name: str) -> FileDescriptor:  # noqa: N802 (the pool's names)
        return self._first(lambda pool: pool.FindFileByName(name))

    def FindFileContainingSymbol(self, name: str) -> FileDescriptor:  # noqa: N802
        try:
            return self._first(lambda pool: pool.FindFileContainingSymbol(name))
        except KeyError:
            service, _, method = name.rpartition(".")
            return self._first(
                lambda pool: pool.FindServiceByName(service).methods_by_name[method].containing_service.file
            )

    def FindMessageTypeByName(self, name: str) -> Descriptor:  # noqa: N802
        return self._first(lambda pool: pool.FindMessageTypeByName(name))

    def FindExtensionByNumber(self, message: Descriptor, number: int) -> FieldDescriptor:  # noqa: N802
        return message.file.pool.FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Descriptor) -> list[FieldDescriptor]:  # noqa: N802
        return list(message.file.pool.FindAllExtensions(message))

    def _first(self, find: Callable[[DescriptorPool], Found]) -> Found:
        try:
            return find(self._served)
        except KeyError:
            return find(self._ours)


def _newer() -> DescriptorPool:
    """Make the descriptor of version 1 of the one of v1alpha, in a pool of its own: others may bring their own."""
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = "grpc/reflection/v1/reflection.proto", _NEW
    file.ClearField("options")  # packages of other languages, which have the old name
    for field in (field for message in file.message_type for field in message.field if field.type_name):
        field.type_name = _renamed(field.type_name)
    for method in file.service[0].method:
        method.input_type, method.output_type = _renamed(method.input_type), _renamed(method.output_type)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _renamed(type_name: str) -> str:
    return type_name.replace(f".{_OLD}.", f".{_NEW}.")
