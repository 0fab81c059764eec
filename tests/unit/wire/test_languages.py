"""The protos for other languages: each file says what its package is called there."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import FileDescriptor

from broker.api import descriptors
from broker.v1 import error_reason_pb2, grant_pb2, lease_pb2, ledger_pb2, selector_pb2, status_pb2, task_pb2

NOUNS = (error_reason_pb2, grant_pb2, lease_pb2, ledger_pb2, selector_pb2, status_pb2, task_pb2)
FILES = [noun.DESCRIPTOR for noun in NOUNS] + [service.file for service in descriptors.ALL]


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_each_file_names_its_package_for_go_java_and_c_sharp(file: FileDescriptor) -> None:
    options = file.GetOptions()
    assert options.go_package == "credbroker/broker/v1;brokerv1"
    assert (options.java_package, options.java_multiple_files) == ("credbroker.broker.v1", True)
    assert options.csharp_namespace == "Credbroker.Broker.V1"
