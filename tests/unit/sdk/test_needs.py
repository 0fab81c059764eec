"""The client and the verifier run with grpcio, protobuf and cryptography, and with nothing else."""

import subprocess
import sys

import pytest

_ALONE = """
import sys
from importlib.abc import MetaPathFinder

class Nothing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        root = name.partition(".")[0]
        if root not in {"broker", "grpc", "google", "cryptography", "cffi", "_cffi_backend", "typing_extensions"}:
            if root not in sys.stdlib_module_names:
                raise ModuleNotFoundError(f"there is no {name}", name=name)

sys.meta_path.insert(0, Nothing())
"""


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", _ALONE + script], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module",
    [
        *("client.client", "client.sync", "connect.connection", "connect.token_file", "connect.svid"),
        *("verify.feed", "verify.verifier", "guard.grpc", "guard.http", "guard.mcp.http", "guard.mcp.stdio"),
        *("attach.grpc", "attach.langchain"),
    ],
)
def test_each_part_of_the_sdk_is_imported_alone(module: str) -> None:
    run(f"import broker.sdk.{module}")


def test_what_the_workload_api_needs_besides_is_named() -> None:
    told = run(
        "from broker.model.errors import Refusal\n"
        "from broker.sdk.connect.connection import connect_sync\n"
        "from broker.sdk.connect.identity import WorkloadSocket\n"
        "try:\n"
        "    connect_sync('localhost:1', identity=WorkloadSocket('unix:///agent.sock'))\n"
        "except Refusal as refusal:\n"
        "    print(refusal)\n"
    )
    assert "unix:///agent.sock" in told
    assert "credbroker[spiffe]" in told


def test_all_that_the_front_promises_is_had_alone() -> None:
    told = run("from broker.sdk import *\nimport broker.sdk\nprint(set(broker.sdk.__all__) <= set(globals()))")
    assert told == "True\n"
