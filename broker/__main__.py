"""The way in: `credbroker` and `python -m broker`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what is missing where only the client and the verifier are installed."""
    try:
        from broker.cli import main as run  # noqa: PLC0415 (it needs more than the base install has)
    except ModuleNotFoundError as error:
        sys.exit(f"credbroker: the command line needs `{error.name}`: pip install 'credbroker[server]'")
    run()


if __name__ == "__main__":
    main()
