"""The bench's own broker: that of a sandbox, and the empty RPC beside its services.

python -m broker.cli.bench.daemon DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

from broker.cli.bench import empty
from broker.sandbox.serving import serve

if __name__ == "__main__":
    serve(Path(sys.argv[1]), also=(empty.handler(),))
