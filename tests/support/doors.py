"""A running broker with two tenants, and calls to it over mutual TLS as anybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from broker.api import descriptors
from broker.identity.spiffe import parse_spiffe_id
from broker.model.errors import Refusal
from broker.sandbox import authority
from broker.sandbox.broker import Broker, prepare, running
from broker.sdk.connect.connection import connect_sync
from broker.sdk.connect.refusals import refusal_from
from broker.system import system_clock

DAY = timedelta(days=1)
GLOBEX = {"agents": "researcher", "orchestrators": "orchestrator", "operators": "operator", "auditors": "auditor"}
PEOPLE = {
    "agents": "researcher",
    "orchestrators": "orchestrator",
    "operators": "operator",
    "verifiers": "verifier",
    "auditors": "auditor",
}
"""The sample identity of each group in the tenant acme; those of globex have `globex-` before their name."""

_RULE = """
[[identity.rule]]
match = "spiffe://example.org/globex/{name}"
tenant = "globex"
groups = ["{group}"]
"""
METHODS = {f"/{service.full_name}/{method.name}": method for service in descriptors.ALL for method in service.methods}


@dataclass
class Doors:
    """A broker's doors, and a channel for each who calls."""

    broker: Broker
    stack: ExitStack
    _channels: dict[str, grpc.Channel] = field(default_factory=dict)

    def channel(self, name: str) -> grpc.Channel:
        if name not in self._channels:
            channel = connect_sync(self.broker.address, self.broker.svids / name)
            self._channels[name] = self.stack.enter_context(channel)
        return self._channels[name]

    def call(self, name: str, rpc: str, request: Message | bytes | None = None, timeout: float = 20) -> Any:
        """Call `Service.Method` as somebody; a request may be given as bytes, whatever they are.

        Raises:
            Refusal: the broker's.
        """
        service, _, method_name = rpc.partition(".")
        path = f"/broker.v1.{service}/{method_name}"
        method = METHODS[path]
        asked = GetMessageClass(method.input_type)() if request is None else request
        data = asked if isinstance(asked, bytes) else asked.SerializeToString()
        decode = GetMessageClass(method.output_type).FromString
        try:
            if method.server_streaming:
                watch: grpc.UnaryStreamMultiCallable[bytes, Any] = self.channel(name).unary_stream(path, None, decode)
                stream = watch(data, timeout=timeout)
                try:
                    return next(stream)
                finally:
                    stream.cancel()
            call: grpc.UnaryUnaryMultiCallable[bytes, Any] = self.channel(name).unary_unary(path, None, decode)
            return call(data, timeout=timeout)
        except grpc.RpcError as error:
            raise refusal_from(error) from error

    def refused(self, name: str, rpc: str, request: Message | bytes | None = None) -> Refusal:
        """Call, and return the refusal that must come."""
        try:
            answer = self.call(name, rpc, request)
        except Refusal as refusal:
            return refusal
        raise AssertionError(f"{rpc} was not refused: {answer}")


@contextmanager
def opened(folder: Path) -> Iterator[Doors]:
    """Run a broker for the tenants acme (the sample's) and globex."""
    deployment = prepare(folder)
    with deployment.configuration.open("a", encoding="utf-8") as file:
        for group, name in GLOBEX.items():
            file.write(_RULE.format(name=name, group=group))
            spiffe_id = parse_spiffe_id(f"spiffe://example.org/globex/{name}")
            authority.issue(deployment.svids, f"globex-{name}", spiffe_id, (), DAY, system_clock())
    stranger = parse_spiffe_id("spiffe://example.org/stranger")
    authority.issue(deployment.svids, "stranger", stranger, (), DAY, system_clock())
    with running(folder) as broker, ExitStack() as stack:
        yield Doors(broker, stack)
