"""Files that must not be lost: whole whenever one looks, whoever crashes, and for their owner alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.disk import files
from broker.disk.files import ExposedFile

# Ends a process, as a crash would, when it is about to do something for the given time.
CRASH = """
import os, sys
from pathlib import Path
from broker.disk import files

event, number, path = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
seen = 0

def watch(name, arguments):
    global seen
    if name == event and (name != "open" or str(arguments[0]).startswith(str(path.parent))):
        seen += 1
        if seen == number:
            os._exit(9)

sys.addaudithook(watch)
files.replace(path, b"new" * 100_000)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def crash(event: str, number: int, path: Path) -> None:
    """Write over a file, in a process that dies just before the given system call."""
    done = subprocess.run([sys.executable, "-c", CRASH, event, str(number), str(path)], check=False)
    assert done.returncode == 9


def test_a_file_is_for_its_owner_alone_whatever_was_there(file: Path) -> None:
    file.write_bytes(b"old")
    file.chmod(0o666)
    files.replace(file, b"new")
    assert (file.read_bytes(), mode(file)) == (b"new", 0o600)
    assert list(file.parent.iterdir()) == [file]


def test_a_public_file_is_as_public_as_the_process_lets_it_be(file: Path) -> None:
    files.replace(file, b"roots", files.PUBLIC)
    assert mode(file) == 0o644
    before = os.umask(0o077)
    try:
        files.replace(file, b"roots", files.PUBLIC)
    finally:
        os.umask(before)
    assert mode(file) == 0o600


@pytest.mark.parametrize(
    ("event", "number", "content"),
    [
        ("open", 1, b"old"),  # before anything is written
        ("os.rename", 1, b"old"),  # between write and rename
        ("open", 2, b"new" * 100_000),  # between rename and the folder's sync
    ],
)
def test_whoever_crashes_leaves_the_old_file_or_the_new(file: Path, event: str, number: int, content: bytes) -> None:
    files.replace(file, b"old")
    crash(event, number, file)
    assert file.read_bytes() == content
    assert {mode(left) for left in file.parent.iterdir()} == {0o600}, "what a crash leaves is nobody else's either"
    files.replace(file, b"newer")
    assert file.read_bytes() == b"newer"


def test_writers_at_the_same_time_leave_the_file_of_one(file: Path) -> None:
    contents = [bytes([letter]) * 50_000 for letter in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: files.replace(file, content), contents))
    assert file.read_bytes() in contents
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("write", [files.replace, files.create])
def test_a_folder_that_is_not_there_is_named_by_the_file(tmp_path: Path, write: Callable[[Path, bytes], None]) -> None:
    path = tmp_path / "no" / "secret"
    with pytest.raises(FileNotFoundError) as error:
        write(path, b"x")
    assert error.value.filename == str(path)
    assert error.value.strerror == "No such file or directory"


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(file: Path) -> None:
    (file / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="secret") as error:
        files.replace(file, b"x")
    assert error.value.filename == str(file)
    assert list(file.parent.iterdir()) == [file]


def test_a_file_system_that_syncs_no_folders_is_passed_over() -> None:
    files._sync_folder(Path("/proc/self"))
    with pytest.raises(FileNotFoundError):
        files._sync_folder(Path("/proc/self/nowhere"))


def test_a_file_is_created_where_there_is_none(file: Path) -> None:
    files.create(file, b"key")
    assert (file.read_bytes(), mode(file)) == (b"key", 0o600)
    with pytest.raises(FileExistsError):
        files.create(file, b"another")
    assert file.read_bytes() == b"key"


@pytest.mark.parametrize("wrong", [0o640, 0o604, 0o601, 0o660])
def test_a_private_file_that_others_may_use_is_refused_with_the_remedy(file: Path, wrong: int) -> None:
    files.create(file, b"key")
    assert files.read_private(file) == b"key"
    file.chmod(wrong)
    with pytest.raises(ExposedFile, match=f"{file}: others may read .* `chmod 600 {file}`"):
        files.read_private(file)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        files.read_private(file)


def test_a_passing_file_is_gone_after_its_block_however_that_ends() -> None:
    with files.passing(b"key") as path:
        assert (path.read_bytes(), mode(path)) == (b"key", 0o600)
    assert not path.exists()
    with pytest.raises(RuntimeError), files.passing(b"key") as path:
        raise RuntimeError
    assert not path.exists()
