"""The revocation endpoint (RFC 7009): whoever has a token may end it, a holder that is done or a finder of a leak."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response

from broker.credential.keys import KeySet
from broker.lease.desk import Desk
from broker.lease.release import revoke_token
from broker.web.errors import NO_STORE
from broker.web.forms import Form

_SCHEME = re.compile(r"^\s*(authorization:)?\s*(bearer|dpop)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RevocationEndpoint:
    """Ends the lease of a token."""

    desk: Desk
    keys: Callable[[], KeySet]

    async def answer(self, form: Form) -> Response:
        """Answer the same, whether there was something to end or not (section 2.2).

        Only a token of ours that cannot be read is an error: whoever sent it would take it for dead.
        """
        await revoke_token(self.desk, self.keys(), _bare(form.required("token")))
        return Response(status_code=200, headers=NO_STORE)


def _bare(text: str) -> str:
    """Return a token without what people copy along: line breaks, and the scheme of the header it was in."""
    return "".join(_SCHEME.sub("", text).split())
