"""The bench's own broker: that of a sandbox, and the empty RPC beside its services. It ends when its stdin does.

python -m broker.cli.bench.daemon DIRECTORY PORT WORKERS
"""

from __future__ import annotations

import sys
from pathlib import Path

from broker.sandbox.process import end_with_stdin, spare_the_collector


def main() -> None:
    """Serve as the arguments say."""
    spare_the_collector()
    from broker.cli.bench import empty
    from broker.sandbox.serving import serve

    end_with_stdin()
    serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), also=(empty.handler(),))


if __name__ == "__main__":
    main()
