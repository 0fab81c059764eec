"""The benches, small: they run and give their figures. What the figures are is for a quiet machine to say."""

import json
import subprocess
import sys
from typing import Any


def bench(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "broker", "bench", *arguments, "-o", "json"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def test_issue_compares_with_empty_rpcs_and_tells_the_latencies() -> None:
    figures = bench("issue", "--rounds", "1", "--seconds", "0.5", "--concurrency", "8", "--processes", "2")
    assert figures["requests"] > 10
    assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"]
    assert 0 < figures["ratio_to_empty_rpc"] < 2
    assert figures["server_cpu_us_per_request"] > figures["empty_rpc"]["server_cpu_us_per_request"] > 0


def test_verify_compares_with_the_bare_signature_and_with_a_token_seen_before() -> None:
    figures = bench("verify", "--tokens", "20", "--rounds", "3")
    assert figures["tokens"] == 20
    assert 0 < figures["ratio_to_bare_es256"] < 1.2  # it does all that bare ES256 does, and more
    assert figures["cached_speedup"] > 1


def test_revoke_sees_every_verifier_refuse() -> None:
    figures = bench("revoke", "--verifiers", "3", "--leases", "50", "--rounds", "2")
    assert figures["refusals"] == 6
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert figures["mass_ratio"] > 0


def test_scale_starts_on_a_filled_database_and_on_an_empty_one() -> None:
    figures = bench("scale", "--leases", "300", "--rounds", "1")
    assert figures["leases"] == 300
    assert figures["startup_ratio"] > 0
    assert figures["memory_ratio"] > 0
