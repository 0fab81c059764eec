"""The lines of all ways in are those of what is served, no more and no fewer; and what has none is not served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from starlette.responses import Response
from starlette.routing import Route

from broker.access.authentication import Authentication
from broker.access.entrances import ANYBODY, ENTRANCES, NoEntrance, entrance_of, open_entrance
from broker.access.refusals import Refusals
from broker.api import descriptors, reflection
from broker.api.health import Health
from broker.api.pipeline import Pipeline, serve_anybody
from broker.credential.replays import Replays
from broker.identity.directory import Directory
from broker.identity.jwt import JwtAuthenticator
from broker.identity.trust_bundles import TrustBundles
from broker.identity.x509 import Authenticator
from broker.lease.desk import Limits
from broker.model.errors import Reason, Refusal
from broker.model.principal import Role
from broker.store import migrate
from broker.trust.issuer_keys import TrustedIssuers
from broker.trust.source import SvidMaterial
from broker.web.app import application
from broker.web.forms import Form
from broker.web.introspection_endpoint import IntrospectionEndpoint
from broker.web.pipeline import HttpPipeline
from tests.support.world import ManualClock, World, opened, principal

NOBODY_TRUSTED = TrustBundles(1, {})
OWN = SvidMaterial(1, b"", b"", NOBODY_TRUSTED, datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True)
class Source:
    """Our own identity, for ever."""

    material: SvidMaterial
    problem: str | None = None

    def refresh(self) -> bool:
        return False


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    url = f"sqlite:///{tmp_path / 'broker.sqlite'}"
    migrate.upgrade(url)
    async with opened(url, clock=ManualClock()) as world:
        yield world


def authentication(world: World) -> Authentication:
    directory, issuers = Directory((), frozenset()), TrustedIssuers({})
    tokens = JwtAuthenticator(issuers.issuers, issuers.current, lambda: NOBODY_TRUSTED, "broker", directory)
    certificates = Authenticator(lambda: NOBODY_TRUSTED, directory)
    return Authentication(world.desk, Source(OWN), certificates, tokens, issuers, Replays())


def names(service: ServiceDescriptor) -> set[str]:
    return {f"/{service.full_name}/{method.name}" for method in service.methods}


def served_over_http(world: World) -> set[str]:
    pipeline = HttpPipeline(world.desk.issuer, authentication(world), Refusals(world.desk))
    routes = application(pipeline, world.desk, lambda: world.keys).routes
    return {route.path for route in routes if isinstance(route, Route)}


async def test_the_lines_are_those_of_what_is_served(world: World) -> None:
    ours = set().union(*(names(service) for service in descriptors.ALL))
    health = {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"}
    reflected = {f"/{name}/ServerReflectionInfo" for name in reflection.NAMES}
    assert set(ENTRANCES) == ours | health | reflected | served_over_http(world)


def newcomer() -> ServiceDescriptor:
    """A service that nobody has given a line."""
    file = FileDescriptorProto(name="new.proto", package="broker.v1")
    file.message_type.add(name="Request")
    service = file.service.add(name="NewService")
    service.method.add(name="DropEverything", input_type=".broker.v1.Request", output_type=".broker.v1.Request")
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("broker.v1.NewService")


async def test_an_rpc_without_a_line_is_not_served(world: World) -> None:
    class NewService:
        async def drop_everything(self) -> None:
            raise AssertionError

    pipeline = Pipeline(world.desk.issuer, authentication(world), Refusals(world.desk))
    with pytest.raises(NoEntrance, match="DropEverything` has no line"):
        pipeline.serve(newcomer(), NewService())


async def test_an_endpoint_without_a_line_is_not_served(world: World) -> None:
    async def answer(_form: Form) -> Response:
        raise AssertionError

    pipeline = HttpPipeline(world.desk.issuer, authentication(world), Refusals(world.desk))
    introspection = IntrospectionEndpoint(world.desk, lambda: world.keys)
    with pytest.raises(NoEntrance, match="`/new` has no line"):
        pipeline.endpoint("/new", "/new", introspection)
    with pytest.raises(NoEntrance, match="`/new` has no line"):
        pipeline.open_endpoint("/new", "/new", answer)
    with pytest.raises(NoEntrance, match="`/new` has no line"):
        pipeline.document("/new", "/new", ["GET"], lambda _method: Response())


async def test_what_has_callers_is_not_served_to_anybody(world: World) -> None:
    async def answer(_form: Form) -> Response:
        raise AssertionError

    pipeline = HttpPipeline(world.desk.issuer, authentication(world), Refusals(world.desk))
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
