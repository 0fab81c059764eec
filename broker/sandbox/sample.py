"""The sample policy bundle."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from shutil import copytree, ignore_patterns


def write_sample(directory: Path) -> None:
    """Copy the sample bundle, hidden and compiled files left out."""
    with as_file(files("broker.policy") / "sample") as sample:
        copytree(sample, directory, dirs_exist_ok=True, ignore=ignore_patterns(".*", "__pycache__"))
