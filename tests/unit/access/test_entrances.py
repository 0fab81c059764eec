"""The lines of all ways in are those of what is served, no more and no fewer; and what has none is not served."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from starlette.responses import Response
from starlette.routing import Route

from broker.access import entrances
from broker.access.authentication import Authentication
from broker.access.entrances import ANYBODY, ENTRANCES, NoEntrance, Tenancy, entrance_of, open_entrance
from broker.access.lanes import Lanes
from broker.access.refusals import Refusals
from broker.api import descriptors, reflection
from broker.api.agents import AgentService
from broker.api.auditors import AuditorService
from broker.api.health import Health
from broker.api.operators import OperatorService
from broker.api.orchestrators import OrchestratorService
from broker.api.pipeline import Pipeline, serve_anybody
from broker.api.verifiers import VerifierService
from broker.lease.desk import Limits
from broker.model.errors import Reason, Refusal
from broker.model.principal import Role
from broker.web.app import application
from broker.web.forms import Form
from broker.web.introspection_endpoint import IntrospectionEndpoint
from broker.web.pipeline import HttpPipeline
from tests.support.world import World, principal


def names(service: ServiceDescriptor) -> set[str]:
    return {f"/{service.full_name}/{method.name}" for method in service.methods}


def served_over_http(world: World, pipeline: HttpPipeline) -> set[str]:
    routes = application(pipeline, world.desk, lambda: world.keys).routes
    return {route.path for route in routes if isinstance(route, Route)}


async def test_the_lines_are_those_of_what_is_served(
    world: World, authentication: Authentication, refusals: Refusals
) -> None:
    pipeline = HttpPipeline(world.desk.issuer, authentication, refusals, Lanes())
    ours = set().union(*(names(service) for service in descriptors.ALL))
    health = {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}
    reflected = {f"/{name}/ServerReflectionInfo" for name in reflection.NAMES}
    assert set(ENTRANCES) == ours | health | reflected | served_over_http(world, pipeline)


def test_each_has_one_literal_line() -> None:
    source = Path(entrances.__file__).read_text()
    assert re.findall(r'^ +Entrance\(\s*"([^"]+)"', source, re.MULTILINE) == [*ENTRANCES]


def newcomer() -> ServiceDescriptor:
    """A service that nobody has given a line."""
    file = FileDescriptorProto(name="new.proto", package="broker.v1")
    file.message_type.add(name="Request")
    service = file.service.add(name="NewService")
    service.method.add(name="DropEverything", input_type=".broker.v1.Request", output_type=".broker.v1.Request")
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("broker.v1.NewService")


async def test_an_rpc_without_a_line_is_not_served(
    world: World, authentication: Authentication, refusals: Refusals
) -> None:
    class NewService:
        async def drop_everything(self) -> None:
            raise AssertionError

    pipeline = Pipeline(world.desk.issuer, authentication, refusals, Lanes())
    with pytest.raises(NoEntrance, match="DropEverything` has no line"):
        pipeline.serve(newcomer(), NewService())


async def test_an_endpoint_without_a_line_is_not_served(
    world: World, authentication: Authentication, refusals: Refusals
) -> None:
    async def answer(_form: Form) -> Response:
        raise AssertionError

    pipeline = HttpPipeline(world.desk.issuer, authentication, refusals, Lanes())
    introspection = IntrospectionEndpoint(world.desk, lambda: world.keys)
    with pytest.raises(NoEntrance, match="`/new` has no line"):
        pipeline.endpoint("/new", "/new", introspection)
    with pytest.raises(NoEntrance, match="`/new` has no line"):
        pipeline.open_endpoint("/new", "/new", answer)
    with pytest.raises(NoEntrance, match="`/new` has no line"):
        pipeline.document("/new", "/new", ["GET"], lambda _method: Response())


async def test_what_has_callers_is_not_served_to_anybody(
    world: World, authentication: Authentication, refusals: Refusals
) -> None:
    async def answer(_form: Form) -> Response:
        raise AssertionError

    pipeline = HttpPipeline(world.desk.issuer, authentication, refusals, Lanes())
    with pytest.raises(NoEntrance, match="`/token` is for agents"):
        pipeline.open_endpoint("/token", "/token", answer)
    handler: grpc.RpcMethodHandler[object, object] = grpc.unary_unary_rpc_method_handler(lambda *_: object())
    with pytest.raises(NoEntrance, match="IssueCredential` is for agents"):
        serve_anybody("broker.v1.AgentService", {"IssueCredential": handler})


def test_health_that_has_a_line_is_served() -> None:
    assert Health([]).handler().service_name() == health_pb2.DESCRIPTOR.services_by_name["Health"].full_name  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", sorted(ENTRANCES))
def test_an_entrance_admits_the_role_of_its_line_alone(path: str) -> None:
    entrance = entrance_of(path)
    for role in Role:
        caller = principal("spiffe://example.org/x", role)
        if entrance.caller in (ANYBODY, role):
            entrance.admit(caller)
        else:
            with pytest.raises(Refusal) as refused:
                entrance.admit(caller)
            assert refused.value.reason is Reason.GROUP_REQUIRED


IMPLEMENTATIONS: dict[ServiceDescriptor, type] = {
    descriptors.AGENT: AgentService,
    descriptors.ORCHESTRATOR: OrchestratorService,
    descriptors.OPERATOR: OperatorService,
    descriptors.VERIFIER: VerifierService,
    descriptors.AUDITOR: AuditorService,
}


def test_what_is_alike_for_all_never_looks_at_its_caller_and_the_rest_does() -> None:
    """A parameter that is not used has a leading underscore; ruff sees to it."""
    for service, implementation in IMPLEMENTATIONS.items():
        for method in service.methods:
            function = getattr(implementation, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
            _, caller, _ = inspect.signature(function).parameters
            is_alike = entrance_of(f"/{service.full_name}/{method.name}").tenancy is Tenancy.ALL_ALIKE
            assert caller.startswith("_") == is_alike, method.name


def test_an_endpoint_asks_what_its_rpc_asks() -> None:
    for path, rpc in (
        ("/token", "AgentService/IssueCredential"),
        ("/introspect", "VerifierService/IntrospectCredential"),
    ):
        http, grpc_ = entrance_of(path), entrance_of(f"/broker.v1.{rpc}")
        for name in ("name", "caller", "tenancy", "recorded", "proves_key", "limit"):
            assert getattr(http, name) == getattr(grpc_, name), (path, name)


def test_every_quota_limits_an_entrance_and_every_limit_is_a_quota() -> None:
    quotas = {field.name for field in fields(Limits) if field.type == "int"}
    assert {name for entrance in ENTRANCES.values() for name in entrance.limit} == quotas


def test_what_nobody_is_asked_to_prove_records_nothing() -> None:
    for path, entrance in ENTRANCES.items():
        if entrance.caller == ANYBODY:
            assert open_entrance(path) is entrance
            assert not entrance.recorded
            assert not entrance.proves_key
