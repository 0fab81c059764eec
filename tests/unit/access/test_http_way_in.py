"""HTTP has one way in: refusals are recorded as their entrance says, and failures say nothing of our insides."""

from __future__ import annotations

import json
from contextlib import ExitStack

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from structlog.testing import capture_logs

from broker.access.authentication import Authentication
from broker.access.entrances import entrance_of
from broker.access.lanes import Lanes
from broker.access.refusals import Refusals
from broker.store import ledger
from broker.web.app import application
from broker.web.forms import Form
from broker.web.pipeline import HttpPipeline
from tests.support.world import World

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.fixture
def pipeline(world: World, authentication: Authentication, refusals: Refusals) -> HttpPipeline:
    return HttpPipeline(world.desk.issuer, authentication, refusals, Lanes())


async def posted(
    app: Starlette, path: str, headers: list[tuple[str, str]] | None = None, **form: str
) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="https://broker.example") as client:
        return await client.post(path, data=form, headers=headers)


async def recorded(world: World) -> list[dict[str, object]]:
    stored = await world.desk.database.read(lambda connection: list(ledger.entries(connection)))
    bodies = [json.loads(entry.body) for entry in stored]
    return [body["asserted"] | body["decided"] for body in bodies if body["kind"] == "request.refused"]


async def test_a_refusal_is_recorded_as_its_entrance_says(world: World, pipeline: HttpPipeline) -> None:
    app = application(pipeline, world.desk, lambda: world.keys)
    with capture_logs() as logs:
        answers = [
            await posted(app, "/token", grant_type="client_credentials"),
            await posted(app, "/introspect", token="x"),
            await posted(app, "/revoke"),
        ]
    assert [answer.status_code for answer in answers] == [401, 401, 400]
    assert [(entry["method"], entry["reason"]) for entry in logs] == [
        ("IssueCredential", "IDENTITY_MISSING"),
        ("IntrospectCredential", "IDENTITY_MISSING"),
        ("revoke", "INVALID_ARGUMENT"),
    ]
    (entry,) = await recorded(world)
    assert (entry["method"], entry["reason"]) == ("IssueCredential", "IDENTITY_MISSING")


async def test_a_failure_is_logged_and_says_nothing_of_our_insides(world: World, pipeline: HttpPipeline) -> None:
    async def fail(_form: Form) -> Response:
        raise RuntimeError("our insides")

    app = Starlette(routes=[pipeline.open_endpoint("/revoke", "/revoke", fail)])
    with capture_logs() as logs:
        answer = await posted(app, "/revoke", token="x")
    assert answer.status_code == 500
    assert answer.json()["reason"] == "INTERNAL"
    assert "insides" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert [(entry["event"], entry["method"]) for entry in logs] == [("request.failed", "revoke")]
    assert await recorded(world) == []


@pytest.mark.parametrize(
    ("headers", "form", "error"),
    [
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], {}, "invalid_client"),
        ([("authorization", "Basic abc")], {}, "invalid_client"),
        (
            [("authorization", "Bearer a")],
            {"client_assertion": "a", "client_assertion_type": ASSERTION},
            "invalid_client",
        ),
        (
            [("authorization", "Bearer ")],
            {"client_assertion": "a", "client_assertion_type": ASSERTION},
            "invalid_client",
        ),
        ([("dpop", "a"), ("dpop", "b")], {}, "invalid_dpop_proof"),
    ],
)
async def test_an_identity_that_is_presented_twice_is_refused(
    world: World, pipeline: HttpPipeline, headers: list[tuple[str, str]], form: dict[str, str], error: str
) -> None:
    app = application(pipeline, world.desk, lambda: world.keys)
    answer = await posted(app, "/introspect", headers, token="x", **form)
    assert answer.json()["error"] == error
    assert answer.json()["reason"] in {"IDENTITY_INVALID", "PROOF_INVALID"}


async def test_an_empty_header_presents_nothing(world: World, pipeline: HttpPipeline) -> None:
    app = application(pipeline, world.desk, lambda: world.keys)
    answer = await posted(app, "/introspect", [("authorization", "")], token="x")
    assert answer.json()["reason"] == "IDENTITY_MISSING"


async def test_who_finds_no_room_is_told_when_to_come_again(world: World, pipeline: HttpPipeline) -> None:
    app = application(pipeline, world.desk, lambda: world.keys)
    with ExitStack() as calls:
        for _ in range(1_024):
            calls.enter_context(pipeline.lanes.of(entrance_of("/token")))
        answer = await posted(app, "/token", grant_type="client_credentials")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["reason"] == "UNAVAILABLE"
        assert (await posted(app, "/introspect", token="x")).status_code == 401
    assert (await posted(app, "/token", grant_type="client_credentials")).status_code == 401
    assert [entry["reason"] for entry in await recorded(world)] == ["IDENTITY_MISSING"]
