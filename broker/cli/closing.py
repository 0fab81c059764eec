"""What a command says when the time of its barrier is up, and somebody can still accept what was ended."""

from __future__ import annotations

from broker.cli.failure import Exit, Stop
from broker.cli.output import printable
from broker.v1 import closing_pb2 as pb


def require_closed(closing: pb.Closing) -> None:
    """Make sure that nobody can accept it any more. A broker of the version before says nothing, and waits until then.

    Raises:
        Stop: somebody can.
    """
    if closing.state in (pb.CLOSING_STATE_CLOSED, pb.CLOSING_STATE_UNSPECIFIED):
        return
    awaited = len(closing.awaited_verifiers) + closing.more_awaited
    others = " and perhaps others" if closing.state == pb.CLOSING_STATE_UNKNOWN else ""
    by = closing.close_time.ToJsonString()
    raise Stop(
        printable(f"it is recorded, and {awaited} verifiers{others} can accept it until they hear of it, or {by}"),
        Exit.PARTIAL,
    )
