"""A policy bundle in a folder. Checking it is `broker.policy.bundle`'s."""

from __future__ import annotations

from pathlib import Path

from broker.policy import bundle
from broker.policy.bundle import POLICIES, PolicyBundle, PolicyBundleFiles


def load(folder: Path) -> PolicyBundle:
    """Read and check the bundle in a folder.

    Raises:
        PolicyBundleError: it has problems.
    """
    return bundle.check(read(folder))


def read(folder: Path) -> PolicyBundleFiles:
    """Read each file of a bundle once, so that what is checked is what is used and hashed."""
    contents: dict[str, bytes] = {}
    unreadable: dict[str, str] = {}
    names = [name for name in _names(folder) if name != POLICIES]
    names += [f"{POLICIES}/{name}" for name in _names(folder / POLICIES)]
    for name in filter(bundle.is_part, names):
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            unreadable[name] = error.strerror or str(error)
    return PolicyBundleFiles(contents, unreadable, frozenset(names) - contents.keys() - unreadable.keys())


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        # As good as empty, which is a problem already.
        return []
