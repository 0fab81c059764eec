"""`credbroker bench renew`: renewals per second, beside issues in the same run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from broker.cli.bench.rounds import Load, Tally, loads, ratio
from broker.sandbox.broker import Broker

_HELD_PER_SECOND = 64  # of a round: the sample policies let each be renewed for so often that these suffice


def measure(broker: Broker, load: Load, logs: Path) -> dict[str, Any]:
    """Alternate rounds of issuing and of renewing; what is renewed was issued before the round."""
    issue, renew, is_ours = Tally(), Tally(), broker.pid is not None
    held = max(load.concurrency, math.ceil(_HELD_PER_SECOND * load.seconds))
    with loads([broker], load, logs) as processes:
        processes.round("issue", Tally())  # warm
        for _ in range(load.rounds):
            processes.round("issue", issue)
            processes.hold(held)
            processes.round("renew", renew)
    return {
        "ratio_to_issue": ratio(renew, issue),
        **renew.figures(with_processor=is_ours),
        "issue": issue.figures(with_processor=is_ours),
        "requests": len(renew.latencies),
    }
