"""One stream of the Workload API, followed for as long as we run: what was pushed last, and what is wrong.

Every push is the whole truth (SPIFFE Workload API section 4.3), so that the newest one is all there is to keep.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

import grpc

_Value = TypeVar("_Value")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_LONGEST_DETAILS = 200
_REMEDIES: Mapping[grpc.StatusCode, str] = MappingProxyType(
    {
        grpc.StatusCode.PERMISSION_DENIED: "; see that the agent has an entry for this process",
        grpc.StatusCode.UNAVAILABLE: "; see that the agent runs, and that this process may use its socket",
    }
)


class UnusablePush(Exception):
    """What was pushed is not kept. The message says what is wrong with it, and never what is in it."""


class WorkloadStream(Generic[_Value]):
    """A stream and what it means. One thread runs it; others read `value`, `problem` and `answered`.

    `value` is what the last usable push says; None, before the first one and once the agent has denied us everything.
    `problem` says why there may be something newer that we do not have. `answered` tells when there is a value.
    """

    def __init__(
        self,
        call: Callable[[], Iterator[bytes]],
        read: Callable[[bytes, _Value | None], _Value],
        closed: threading.Event,
        otherwise: _Value | None = None,
    ) -> None:
        """Take what opens a stream of messages, what reads one (or raises UnusablePush), and what ends it all.

        Who reads is given the value before, for what is broken in a message that is good otherwise.

        `otherwise` is the value if the agent does not have this method.
        """
        self._call = call
        self._read = read
        self._closed = closed
        self._otherwise = otherwise
        self.value: _Value | None = None
        self.problem: str | None = "the agent has not answered"
        self.answered = threading.Event()

    def run(self) -> None:
        """Follow the stream, and open it again whenever it ends, until `closed` is set."""
        pause = _SHORTEST_PAUSE
        try:
            while not self._closed.is_set():
                pause = _SHORTEST_PAUSE if self._follow() else min(2 * pause, _LONGEST_PAUSE)
                self._closed.wait(pause)
        finally:
            self.problem = "updates are no longer followed"

    def _follow(self) -> bool:
        """Take what is pushed until the stream ends; report whether anything came."""
        heard = False
        try:
            for message in self._open():
                heard = True
                self._take(message)
            self.problem = "the agent has ended the stream"
        except grpc.RpcError as error:
            self._fail(error)
        return heard

    def _open(self) -> Iterator[bytes]:
        try:
            return self._call()
        except ValueError:  # gRPC's word for a channel that has been closed meanwhile
            if not self._closed.is_set():
                raise
            return iter(())

    def _take(self, message: bytes) -> None:
        try:
            value = self._read(message, self.value)
        except UnusablePush as error:
            self.problem = f"what the agent pushed cannot be used: {error}"
            return
        self._set(value)

    def _fail(self, error: grpc.RpcError) -> None:
        code, details = grpc.StatusCode.UNKNOWN, ""
        if isinstance(error, grpc.Call):
            code, details = error.code(), " ".join((error.details() or "").split())[:_LONGEST_DETAILS]
        if code is grpc.StatusCode.UNIMPLEMENTED and self._otherwise is not None:
            self._set(self._otherwise)
            return
        if code is grpc.StatusCode.PERMISSION_DENIED:  # everything is redacted (section 5.2.1)
            self.value = None
        self.problem = f"{code.name}: {details}{_REMEDIES.get(code, '')}"

    def _set(self, value: _Value) -> None:
        self.value, self.problem = value, None
        self.answered.set()
