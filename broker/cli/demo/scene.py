"""A scene of the demo: what is told, what is expected, and what is done to find out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from broker.cli.demo.stage import NotAsTold, Stage
from broker.model.errors import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One step. `act` gives what was observed; a refusal's reason counts as that."""

    name: str
    told: str
    expected: str
    act: Callable[[Stage], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of a scene; `detail` is a refusal's message, for people."""

    scene: Scene
    observed: str
    detail: str
    ms: float

    @property
    def ok(self) -> bool:
        """Report whether it is as told."""
        return self.observed == self.scene.expected


def play(stage: Stage, scenes: Sequence[Scene]) -> Iterator[Seen]:
    """Play scene after scene, up to the first that is not as told."""
    for scene in scenes:
        before = time.perf_counter()
        try:
            observed, detail = scene.act(stage), ""
        except Refusal as refusal:
            observed, detail = refusal.reason.value, refusal.message
        except NotAsTold as error:
            observed, detail = "FAILED", str(error)
        seen = Seen(scene=scene, observed=observed, detail=detail, ms=round((time.perf_counter() - before) * 1_000, 1))
        yield seen
        if not seen.ok:
            return
