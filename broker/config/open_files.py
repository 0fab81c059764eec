"""How many files the process may have open: the bound of all bounds on connections."""

from __future__ import annotations

import resource

_ENOUGH = 65_536


def allow_as_many_as_possible() -> int:
    """Raise the process's own limit on open files as far as the system lets it, and return it."""
    own, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if most == resource.RLIM_INFINITY else min(_ENOUGH, most)
    if own != resource.RLIM_INFINITY and own < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
        return wanted
    return _ENOUGH if own == resource.RLIM_INFINITY else own
