"""What callers of OAuth ask for."""

from __future__ import annotations

import base64
from typing import Any

import grpc

from broker.sdk.connect.refusals import refusal_from
from broker.v1 import agent_service_pb2 as pb
from broker.v1 import agent_service_pb2_grpc as pb_grpc
from broker.v1 import grant_pb2
from tests.support.facade import NOTES, Facade

WIF = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"


def issue(facade: Facade, token: str, request: pb.IssueCredentialRequest, *metadata: tuple[str, str]) -> Any:
    """Issue over gRPC, as who the token says."""
    with facade.channel() as channel:
        stub = pb_grpc.AgentServiceStub(channel)
        try:
            return stub.IssueCredential(request, metadata=(("authorization", f"Bearer {token}"), *metadata), timeout=60)
        except grpc.RpcError as error:
            raise refusal_from(error) from error


def asking(task_id: str, resource: str = NOTES, tool: str = "search_notes") -> pb.IssueCredentialRequest:
    return pb.IssueCredentialRequest(task_id=task_id, resource=resource, grants=[grant_pb2.Grant(tool=tool)])


def payload(token: str) -> bytes:
    segment = token.split(".")[1]
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
