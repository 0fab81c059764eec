"""Tables that are away for a while, as in a restore: of a broker whose database is a file of its folder."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, text


def take_away(folder: Path, table: str) -> None:
    """Let a table be missing."""
    _rename(folder, table, f"{table}_elsewhere")


def bring_back(folder: Path, table: str) -> None:
    """Put a table that was taken away where it was."""
    _rename(folder, f"{table}_elsewhere", table)


def _rename(folder: Path, old: str, new: str) -> None:
    engine = create_engine(f"sqlite:///{folder / 'broker.db'}")
    with engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))
    engine.dispose()
