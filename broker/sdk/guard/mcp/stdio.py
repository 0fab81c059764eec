"""The credential of an MCP server that is reached over its standard input: from the environment, as MCP has it.

Whoever starts the server names a file or an open descriptor that holds the token, as `credbroker run` does. A pipe
shows nothing of its caller, so only credentials that are bound to nobody (`binding` "bearer") pass here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from broker.model.errors import Hints, Reason, Refusal

TOKEN_FILE_VARIABLE = "CREDBROKER_TOKEN_FILE"
TOKEN_FD_VARIABLE = "CREDBROKER_TOKEN_FD"
_LARGEST = 64 * 1024

TokenSource = Callable[[], str]
"""Returns the token that a call carries, or raises `Refusal`: TOKEN_INVALID."""


def token_from_environment(environment: Mapping[str, str] = os.environ) -> TokenSource:
    """Find where the token is: CREDBROKER_TOKEN_FILE is a path, CREDBROKER_TOKEN_FD the number of a descriptor.

    It is read anew for each call, as it is renewed there.

    Raises:
        Refusal: INVALID_ARGUMENT, if not exactly one of the two is set, or it is no number.
    """
    path, descriptor = environment.get(TOKEN_FILE_VARIABLE), environment.get(TOKEN_FD_VARIABLE)
    if bool(path) == bool(descriptor):
        raise Refusal(
            Reason.INVALID_ARGUMENT,
            f"exactly one of {TOKEN_FILE_VARIABLE} and {TOKEN_FD_VARIABLE} must be set",
            Hints(missing=TOKEN_FILE_VARIABLE, next="start the server with `credbroker run`"),
        )
    if path:
        return lambda: _read(TOKEN_FILE_VARIABLE, lambda: Path(path).read_bytes())
    if not (descriptor or "").isdecimal():
        raise Refusal(Reason.INVALID_ARGUMENT, f"{TOKEN_FD_VARIABLE} must be the number of an open descriptor")
    # From its start each time: the command's own place in the file does not count.
    return lambda: _read(TOKEN_FD_VARIABLE, lambda: os.pread(int(descriptor or ""), _LARGEST, 0))


def _read(variable: str, read: Callable[[], bytes]) -> str:
    try:
        token = read().decode("ascii").strip()
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not text"
        raise _no_token(variable, f"cannot be read: {what}") from None
    if not token:
        raise _no_token(variable, "is empty")
    return token


def _no_token(variable: str, what: str) -> Refusal:
    return Refusal(
        Reason.TOKEN_INVALID,
        f"what {variable} names {what}",
        Hints(missing=variable, next="look at what starts this server, and whether its task has ended"),
    )
