"""python -m broker.sandbox DIRECTORY PORT WORKERS: the process of a sandbox's broker; it ends when its stdin does."""

from __future__ import annotations

import sys
from pathlib import Path

from broker.model.errors import CannotStart
from broker.sandbox.process import end_with_stdin, spare_the_collector


def main() -> None:
    """Serve as the arguments say."""
    spare_the_collector()
    from broker.sandbox.serving import serve  # noqa: PLC0415 (most of what is imported)

    end_with_stdin()
    try:
        serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except CannotStart as error:
        sys.exit(str(error))  # which says what is wrong and where: whoever prepared the folder reads it


if __name__ == "__main__":
    main()
