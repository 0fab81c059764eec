"""python -m broker.sandbox DIRECTORY: the process of a sandbox's broker."""

from __future__ import annotations

import sys
from pathlib import Path

from broker.sandbox.serving import serve

if __name__ == "__main__":
    serve(Path(sys.argv[1]))
