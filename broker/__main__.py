"""The way in: `credbroker` and `python -m broker`."""

from __future__ import annotations

import atexit
import gc
import sys

_CLI = ("click", "rich")


def main() -> None:
    """Run the command line, or say what is missing where not all of it is installed."""
    gc.set_threshold(50_000, 50, 50)  # imports leave no garbage behind, and commands hardly any
    atexit.register(gc.freeze)  # nor need the end of the process look for any
    try:
        from broker.cli import main as run  # noqa: PLC0415 (it needs more than the base install has)

        run()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "broker":
            raise
        extra, what = (
            ("cli", "the command line") if error.name.partition(".")[0] in _CLI else ("server", "this command")
        )
        sys.exit(f"credbroker: {what} needs `{error.name}`: pip install 'credbroker[{extra}]'")


if __name__ == "__main__":
    main()
