"""The bench's own broker: that of `credbroker dev`, and the empty RPC beside its services.

python -m broker.cli.bench.daemon DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

from broker.cli.bench import empty
from broker.cli.developing import develop

if __name__ == "__main__":
    develop(Path(sys.argv[1]), port=0, also=(empty.handler(),))
