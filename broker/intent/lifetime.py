"""How long a credential lives: the least of everything that has a say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from broker.model.errors import Hints, Reason, Refusal, invalid

_SHORTEST = timedelta(seconds=1)


def granted(at: datetime, requested: timedelta | None, caps: Mapping[str, datetime | timedelta]) -> datetime:
    """Return the instant of expiry: the least of what was asked for and every cap, in whole seconds, rounded down.

    A cap is an instant, or a duration from `at`; its name is what a refusal calls it.

    Raises:
        Refusal: INVALID_ARGUMENT, if a lifetime of nothing was asked for; LIFETIME_EXHAUSTED, if less than a second is
            left under some cap.
    """
    if requested is not None and requested < _SHORTEST:
        raise invalid("lifetime", "must be at least one second")
    ends = {name: cap if isinstance(cap, datetime) else at + cap for name, cap in caps.items()}
    name, end = min(ends.items(), key=lambda item: item[1])
    if end - at < _SHORTEST:
        raise Refusal(
            Reason.LIFETIME_EXHAUSTED,
            f"less than a second is left of {name}",
            Hints(missing="lifetime", next=f"renew or extend {name} first"),
        )
    if requested is not None:
        end = min(end, at + requested)
    # At least a second is left, so rounding down cannot reach `at`.
    return end.replace(microsecond=0)
