"""Where a run is played: brokers on one database, verifiers in processes of their own, and the wires between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url

from broker.sandbox.authority import read_authority
from broker.sandbox.broker import prepare
from broker.sandbox.ports import free_port
from broker.sandbox.process import process
from tests.faults.disk import FileLimit
from tests.faults.life import ROOT, kill, settle
from tests.faults.proxy import Proxy
from tests.faults.scene import Scene
from tests.history.events import Terms
from tests.history.setting import Setting
from tests.history.spending import JOB
from tests.support.cutter import Cutter, cuttable
from tests.support.issuer import issuing

TERMS = Terms(window=10.0, leases_per_task=8, active_tasks=4)
_TOKENS = 120
_CONFIGURATION = """active_tasks = {active_tasks}

[[identity.issuer]]
name = "ci"
url = "{url}"
ca_file = "svids/ca.pem"
one_time = {one_time}

[[identity.rule]]
match = "{job}"
tenant = "acme"
groups = ["agents"]
"""


@dataclass
class Watchers:
    """A process of verifiers, which lives several times; `wire` leads to the broker that it watches in this life.

    `others` are brokers to which it goes on by itself, if it loses that one.
    """

    name: str
    count: int
    setting: Path
    others: Sequence[str] = ()
    deaf: bool = False
    lives: int = 0
    port: int = 0
    popen: subprocess.Popen[str] = field(init=False)
    wire: Cutter = field(init=False)
    _life: ExitStack = field(default_factory=ExitStack)
    _wires: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def live(self, port: int) -> None:
        """Start them, at a broker's port."""
        self.lives, self.port = self.lives + 1, port
        self.wire = await self._wires.enter_async_context(cuttable(port))
        name = f"verifiers {self.name}, life {self.lives}"
        command = [sys.executable, "-m", "tests.history.verifiers", str(self.setting), name]
        command += [",".join([self.wire.address, *self.others]), str(self.count), *["--deaf"] * self.deaf]
        log = self.setting.parent / f"verifiers-{self.name}.log"
        self.popen = self._life.enter_context(process(command, log, {**os.environ, "PYTHONPATH": str(ROOT)}))

    async def die(self) -> None:
        """Kill them, if they live, and take their wire away."""
        self.popen.kill()
        self._life.close()
        await self._wires.aclose()


@dataclass(frozen=True, slots=True)
class Stage:
    """Brokers on one database, whose URL is that by which others reach it; each is a scene of its own."""

    folder: Path
    url: str
    scenes: Sequence[Scene]
    jwt_ports: Sequence[int]
    issuer: str
    identity_tokens: Sequence[str]

    @property
    def events(self) -> Path:
        """Where everybody records."""
        return self.folder / "events"

    def port(self, number: int) -> int:
        """Return a broker's port."""
        return int(self.scenes[number].broker.address.rpartition(":")[2])

    def _each(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Name each address as often as the broker has processes: each connection leads to some one of them."""
        of_scenes = zip(addresses, self.scenes, strict=True)
        return tuple(address for address, scene in of_scenes for _ in range(max(1, scene.workers)))

    def setting(self, seed: int) -> Path:
        """Write what the processes are told; return the file."""
        file = self.folder / "setting.json"
        Setting(
            seed=seed,
            events=str(self.events),
            svids=str(self.scenes[0].broker.svids),
            issuer=self.issuer,
            brokers=self._each([scene.broker.address for scene in self.scenes]),
            jwt_brokers=self._each([f"localhost:{port}" for port in self.jwt_ports]),
            identity_tokens=tuple(self.identity_tokens),
        ).write(file)
        return file


@contextmanager
def on_server(folder: Path, url: str, *, brokers: int = 3, one_time: bool = True) -> Iterator[Stage]:
    """Play on a PostgreSQL, with a proxy between it and each broker."""
    socket = Path(str(make_url(url).query["host"])) / ".s.PGSQL.5432"
    with ExitStack() as stack:
        model, issuer, tokens = _deployed(stack, folder, one_time=one_time)
        scenes, ports = list[Scene](), list[int]()
        for number in range(brokers):
            home = Path(shutil.copytree(model, folder / f"broker-{number}"))
            proxy = stack.enter_context(Proxy(socket).running())
            near = make_url(url).set(host="127.0.0.1", port=proxy.port, query={})
            settle(home, near.render_as_string(hide_password=False))
            ports.append(_tokens_at(home))
            scenes.append(Scene(home, url, proxy=proxy))
        _live(stack, scenes[:1])
        for scene in scenes[1:]:  # as a broker that joins others is given it
            shutil.copy(scenes[0].folder / "keys" / "ledger.mark", scene.folder / "keys")
        _live(stack, scenes[1:])
        yield Stage(folder, url, scenes, ports, issuer, tokens)


@contextmanager
def on_file(folder: Path, *, workers: int = 0, one_time: bool = True) -> Iterator[Stage]:
    """Play on a SQLite file, which one broker has for itself, or its workers have."""
    with ExitStack() as stack:
        home, issuer, tokens = _deployed(stack, folder, one_time=one_time)
        url = f"sqlite:///{home / 'broker.db'}"
        settle(home, url)
        port, scene = _tokens_at(home), Scene(home, url, disk=FileLimit(home), workers=workers)
        _live(stack, [scene])
        yield Stage(folder, url, [scene], [port], issuer, tokens)


def _deployed(stack: ExitStack, folder: Path, *, one_time: bool) -> tuple[Path, str, list[str]]:
    """Write a deployment that trusts an issuer of tokens for one time; return its folder, its name, and tokens."""
    deployment = prepare(folder / "deployment")
    (folder / "events").mkdir()
    issuer = stack.enter_context(issuing(folder / "issuer", read_authority(deployment.svids)))
    configured = deployment.configuration.read_text()
    configured = configured.replace("leases_per_task = 1_000_000_000", f"leases_per_task = {TERMS.leases_per_task}")
    ours = _CONFIGURATION.format(
        active_tasks=TERMS.active_tasks, url=issuer.url, one_time=str(one_time).lower(), job=JOB
    )
    deployment.configuration.write_text(configured + ours)
    groups = deployment.directory / "bundle" / "groups.toml"
    groups.write_text(groups.read_text().replace('/agent/researcher"]', f'/agent/researcher", "{JOB}"]'))
    name = deployment.settings().issuer
    return deployment.directory, name, [issuer.token(name, jti=f"token-{number}") for number in range(_TOKENS)]


def _tokens_at(home: Path) -> int:
    """Open a broker's door for callers with tokens; return its port, which stays the same from life to life."""
    port, file = free_port(), home / "broker.toml"
    file.write_text(file.read_text().replace("[listen]\n", f'[listen]\njwt_address = "127.0.0.1:{port}"\n'))
    return port


def _live(stack: ExitStack, scenes: Sequence[Scene]) -> None:
    """Start brokers, all at once; kill them at the end."""
    with ThreadPoolExecutor() as pool:
        for scene, _none in zip(scenes, pool.map(Scene.live, scenes), strict=True):
            stack.callback(_end, scene)


def _end(scene: Scene) -> None:
    kill(scene.broker)
    scene.stop()
