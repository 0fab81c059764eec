"""A package index on this machine: a folder of tiny wheels behind a real HTTP server."""

from __future__ import annotations

import functools
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Index:
    """The wheels of an index, and what was asked of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.asked: list[str] = []
        self.holds_back = ""
        self.held = threading.Event()
        self.go_on = threading.Event()

    def release(self, name: str, version: str, *needs: str, extra: str = "") -> str:
        """Add a release of a package, whose needs belong to an extra if one is named; the lock's line for it."""
        file = self.folder / name / f"{name}-{version}-py3-none-any.whl"
        file.parent.mkdir(exist_ok=True)
        marker = f" ; extra == '{extra}'" if extra else ""
        metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        metadata += [f"Provides-Extra: {extra}"] if extra else []
        metadata += [f"Requires-Dist: {need}{marker}" for need in needs]
        info = f"{name}-{version}.dist-info"
        parts = {
            f"{name}.py": f"VERSION = {version!r}\n",
            f"{info}/METADATA": "\n".join([*metadata, "", ""]),
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        parts[f"{info}/RECORD"] = "".join(f"{part},,\n" for part in [*parts, f"{info}/RECORD"])
        with zipfile.ZipFile(file, "w") as wheel:
            for part, text in parts.items():
                wheel.writestr(part, text)
        return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"


@contextmanager
def served(folder: Path) -> Iterator[Index]:
    """Serve a folder as a package index until the context ends."""
    index = Index(folder)

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            if index.holds_back and index.holds_back in self.path:
                index.held.set()
                index.go_on.wait(120)
            with suppress(ConnectionError):  # the client was killed
                super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output to the test."""

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        index.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield index
        finally:
            index.go_on.set()
            server.shutdown()
            thread.join()
