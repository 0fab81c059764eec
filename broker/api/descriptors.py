"""The services, by their descriptors."""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor

from broker.v1 import (
    agent_service_pb2,
    auditor_service_pb2,
    operator_service_pb2,
    orchestrator_service_pb2,
    verifier_service_pb2,
)

AGENT: ServiceDescriptor = agent_service_pb2.DESCRIPTOR.services_by_name["AgentService"]
ORCHESTRATOR: ServiceDescriptor = orchestrator_service_pb2.DESCRIPTOR.services_by_name["OrchestratorService"]
OPERATOR: ServiceDescriptor = operator_service_pb2.DESCRIPTOR.services_by_name["OperatorService"]
VERIFIER: ServiceDescriptor = verifier_service_pb2.DESCRIPTOR.services_by_name["VerifierService"]
AUDITOR: ServiceDescriptor = auditor_service_pb2.DESCRIPTOR.services_by_name["AuditorService"]

ALL = (AGENT, ORCHESTRATOR, OPERATOR, VERIFIER, AUDITOR)
