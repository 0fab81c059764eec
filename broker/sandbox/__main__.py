"""python -m broker.sandbox DIRECTORY: the process of a sandbox's broker."""

from __future__ import annotations

import sys
from pathlib import Path

from broker.model.errors import CannotStart
from broker.sandbox.serving import serve

if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]))
    except CannotStart as error:
        sys.exit(str(error))  # which says what is wrong and where: whoever prepared the folder reads it
