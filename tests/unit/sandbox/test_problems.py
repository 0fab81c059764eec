"""A broker that does not start says why, without a traceback around it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from broker.sandbox.broker import prepare, running
from broker.sandbox.deployment import Deployment
from broker.sandbox.problem import SandboxProblem

FILES = "https://files.example.org"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda folder: folder.offer(FILES, ["read_file"], binding="none"), "`none` is not a binding"),
        (lambda folder: folder.offer("files", ["read_file"]), "resources: must be an absolute URI"),
        (lambda folder: folder.configuration.write_text("[nonsense]"), "nonsense: unknown key"),
    ],
)
def test_what_was_prepared_wrongly_is_named(tmp_path: Path, change: Callable[[Deployment], object], cause: str) -> None:
    change(prepare(tmp_path))
    with pytest.raises(SandboxProblem, match=cause) as problem, running(tmp_path):
        pytest.fail("the block must not run")
    assert "Traceback" not in str(problem.value)
