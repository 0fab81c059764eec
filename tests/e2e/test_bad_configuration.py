"""Mistakes in the configuration of identities and doors: the broker does not start, and names key and remedy."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from broker.config.settings import load
from broker.config.table import ConfigError
from broker.identity.spiffe import parse_spiffe_id
from broker.sandbox.authority import read_authority
from broker.sandbox.broker import prepare
from broker.sandbox.certificates import issue_svid
from broker.system import system_clock
from tests.support.doors import DAY

LEAST = """
[broker]
issuer = "https://broker.example.org"
[listen]
{listen}
[database]
url = "broker.db"
[policy]
bundle = "bundle"
[keys]
dir = "keys"
[identity]
svid_dir = "svids/broker"
{identity}
"""
ISSUER = """
[[identity.issuer]]
name = "ci"
url = "https://ci.example"
"""
RULE = """
[[identity.rule]]
match = "spiffe://example.org/tool-server/repo"
tenant = "acme"
groups = ["verifiers"]
"""
CONDITION = "[[identity.issuer.condition]]\n"
AT, WHEN = "identity.issuer[0].", "identity.issuer[0].condition[0]."


def problem(folder: Path, *, identity: str = "", listen: str = "", issuer: str = "https://broker.example.org") -> str:
    path = folder / "broker.toml"
    text = LEAST.format(identity=identity, listen=listen).replace("https://broker.example.org", issuer)
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(path)
    return str(error.value)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('name = "ci"', "", AT + "name: missing"),
        ('name = "ci"', 'name = ""', AT + "name: must be a text"),
        ('name = "ci"', 'name = "CI"', AT + "name: must be 1 to 32 characters a-z, 0-9 and `-`"),
        ('name = "ci"', 'name = "c:i"', AT + "name: must be 1 to 32 characters"),
        ('name = "ci"', f'name = "{"c" * 33}"', AT + "name: must be 1 to 32 characters"),
        ('name = "ci"', 'nane = "ci"', AT + "name: missing"),
        ('url = "https://ci.example"', "", AT + "url: missing"),
        ('url = "https', 'url = "http', AT + "url: must be an https URL, or the keys must come from jwks_file or jwks"),
        ('url = "https://ci.example"', 'url = "ci"\njwks_file = "a"', AT + "url: must be a URL such as https://host"),
        ('url = "https://ci.example"', 'url = "https://"\njwks_file = "a"', AT + "url: must be a URL such as"),
        ('url = "https://ci.example"', "url = 7", AT + "url: must be a text, and is int"),
        ('url = "https://ci.example"', 'url = "https://broker.example.org"', AT + "url: is the broker's own"),
        ("url =", 'access_tokens = "yes"\nurl =', AT + "access_tokens: must be true or false, and is str"),
        ("url =", 'audience = ""\nurl =', AT + "audience: must be a text"),
        ("url =", 'audience = ["a"]\nurl =', AT + "audience: must be a text, and is list"),
        ("url =", 'algorithms = ["HS256"]\nurl =', AT + "algorithms: the algorithms are ES256, ES384"),
        ("url =", 'algorithms = ["none"]\nurl =', AT + "algorithms: the algorithms are"),
        ("url =", 'algorithms = "RS256"\nurl =', AT + "algorithms: must be a list of texts"),
        ("url =", 'max_lifetime = "0s"\nurl =', AT + "max_lifetime: must be longer than nothing"),
        ("url =", 'max_lifetime = "an hour"\nurl =', AT + "max_lifetime: `an hour` is not a duration; write"),
        ("url =", "max_lifetime = -1\nurl =", AT + "max_lifetime: `-1` is not a duration"),
        ("url =", 'subject = "all"\nurl =', AT + "subject: must name claims, such as {sub}"),
        ("url =", 'subject = "{a}{b}"\nurl =', AT + "subject: needs a text between two claims"),
        ("url =", 'task_claim = "/~2"\nurl =', AT + "task_claim: must be a claim's name, or a JSON Pointer"),
        ("url =", 'task_claim = ""\nurl =', AT + "task_claim: must be a text"),
        ("url =", 'one_time = "yes"\nurl =', AT + "one_time: must be true or false, and is str"),
        ("url =", "one_tme = true\nurl =", AT + "one_tme: unknown key; did you mean `one_time`?"),
        ("url =", 'jwks_file = "a"\njwks_url = "https://b"\nurl =', AT + "jwks_file: goes without jwks_url and ca_"),
        ("url =", 'jwks_file = "a"\nca_file = "b"\nurl =', AT + "jwks_file: goes without jwks_url and ca_file"),
        ("url =", 'jwks_url = "http://b"\nurl =', AT + "jwks_url: must be an https URL"),
        ("url =", 'jwks_url = "https:///keys"\nurl =', AT + "jwks_url: must be an https URL"),
        ("url =", 'jwks_url = ""\nurl =', AT + "jwks_url: must be a text"),
        ("[[identity.issuer]]", "[identity.issuer]", "identity.issuer: must be a list of tables, and is dict"),
        (ISSUER, ISSUER + ISSUER, "identity.issuer[1].name: an issuer is named twice, by its name or its url"),
        (ISSUER, ISSUER + ISSUER.replace('"ci"', '"cd"'), "identity.issuer[1].name: an issuer is named twice"),
        (ISSUER, ISSUER + ISSUER.replace("//ci", "//cd"), "identity.issuer[1].name: an issuer is named twice"),
        (ISSUER, ISSUER + CONDITION, WHEN + "claim: missing"),
        (ISSUER, ISSUER + CONDITION + 'claim = "a"', WHEN + "claim: say what it must be by one of equals, in, prefix"),
        (ISSUER, ISSUER + CONDITION + 'claim = "a"\nequals = 1\nin = [1]', WHEN + "claim: say what it must be by one"),
        (ISSUER, ISSUER + CONDITION + 'claim = "/a~"\nequals = 1', WHEN + "claim: must be a claim's name, or a JSON"),
        (ISSUER, ISSUER + CONDITION + 'claim = ["a"]\nequals = 1', WHEN + "claim: must be a text, and is list"),
        (ISSUER, ISSUER + CONDITION + 'claim = "a"\nequals = 1.5', WHEN + "equals: must be a text, a whole number or"),
        (ISSUER, ISSUER + CONDITION + 'claim = "a"\nequals = {}', WHEN + "equals: must be a text, a whole number or"),
        (ISSUER, ISSUER + CONDITION + 'claim = "a"\nin = []', WHEN + "in: must be a text, a whole number or a flag"),
        (ISSUER, ISSUER + CONDITION + 'claim = "a"\nin = [[1]]', WHEN + "in: must be a text, a whole number or a flag"),
        (ISSUER, ISSUER + CONDITION + 'claim = "a"\nprefix = ""', WHEN + "prefix: must be a text"),
        (ISSUER, ISSUER + CONDITION + 'claim = "a"\nprefix = ["x"]', WHEN + "prefix: must be a text, and is list"),
        (ISSUER, ISSUER + CONDITION + 'claim = "a"\nequal = 1', WHEN + "claim: say what it must be by one of equals"),
        (ISSUER, ISSUER + CONDITION + 'claim = "a"\nin = [1]\nnot = 1', WHEN + "not: unknown key; known here: claim"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_issuer_is_named(before: str, after: str, told: str, tmp_path: Path) -> None:
    assert before in ISSUER
    assert told in problem(tmp_path, identity=ISSUER.replace(before, after, 1))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('resources = "https://repo.example"', "identity.rule[0].resources: must be a list of texts"),
        ("resources = [1]", "identity.rule[0].resources: must be a list of texts"),
        ('resources = ["repo"]', "identity.rule[0].resources: must be an absolute URI in ASCII, without fragment or"),
        ('resources = [""]', "identity.rule[0].resources: must be an absolute URI"),
        ('resources = ["https://repo.example#x"]', "identity.rule[0].resources: must be an absolute URI"),
        ('resources = ["https://me@repo.example"]', "identity.rule[0].resources: must be an absolute URI"),
        ('resources = ["https://repo.example", "*"]', "identity.rule[0].resources: must be an absolute URI"),
        ('resource = ["https://repo.example"]', "identity.rule[0].resource: unknown key; did you mean `resources`?"),
    ],
)
def test_what_is_wrong_with_a_rules_resources_is_named(line: str, told: str, tmp_path: Path) -> None:
    assert told in problem(tmp_path, identity=RULE + line)


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        ('workload_api = "unix:///run/agent.sock"', "identity.svid_dir: say where our SVID comes from"),
        ('[identity.bundles]\n"Example.org" = "x"', "identity.bundles.Example.org: is not the name of a trust domain"),
        ('[identity.bundles]\n"spiffe://b.example" = "x"', "identity.bundles.spiffe://b.example: is not the name of a"),
        ('[identity.bundles]\n"b.example/x" = "x"', "identity.bundles.b.example/x: is not the name of a trust domain"),
        ('[identity.bundles]\n"b.example" = 1', "identity.bundles.b.example: must be a text, and is int"),
        ('[identity.jwt_bundles]\n"" = "x"', "identity.jwt_bundles.: is not the name of a trust domain"),
        ('jwt_bundles = "x"', "identity.jwt_bundles: must be a table, and is str"),
        ('audience = ["a"]', "identity.audience: must be a text, and is list"),
    ],
)
def test_what_is_wrong_with_trust_domains_is_named(identity: str, told: str, tmp_path: Path) -> None:
    assert told in problem(tmp_path, identity=identity)


@pytest.mark.parametrize("key", ["address", "jwt_address", "http_address"])
@pytest.mark.parametrize(
    "address",
    ["8443", ":8443", "localhost", "localhost:", "localhost:http", "localhost:65536", "localhost:-1", "::1:8443",
     "https://localhost:8443", "local host:1", "localhost:8443/x", "unix:/x", "[::1:8443", "localhost:\uff11",
     "127.0.0..1:8443", ".example:1", f"{'x' * 64}.example:1"],
)  # fmt: skip
def test_an_address_that_is_none_is_named(key: str, address: str, tmp_path: Path) -> None:
    assert f"listen.{key}: must be HOST:PORT, such as" in problem(tmp_path, listen=f'{key} = "{address}"')


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:8443", "[::ffff:127.0.0.1]:1", "broker-1.example.org:65535"])
def test_an_address_that_is_one_is_taken(address: str, tmp_path: Path) -> None:
    (tmp_path / "broker.toml").write_text(LEAST.format(identity="", listen=f'http_address = "{address}"'))
    assert load(tmp_path / "broker.toml").listen.http_address == address


@pytest.mark.parametrize(
    ("listen", "told"),
    [
        ('http_address = ""', "listen.http_address: must be a text"),
        ("http_address = 8443", "listen.http_address: must be a text, and is int"),
        ('http_adress = "localhost:1"', "listen.http_adress: unknown key; did you mean `http_address`?"),
        (
            'http_cert = "c"\nhttp_address = "localhost:1"',
            "listen.http_cert: goes with http_key: give both, or neither",
        ),
        ('http_key = "k"\nhttp_address = "localhost:1"', "listen.http_cert: goes with http_key"),
        ('http_cert = "c"\nhttp_key = "k"', "listen.http_cert: is for http_address, which is not there"),
        ('jwt_address = "127.0.0.1:8443"', "listen.jwt_address: is that of listen.address: each listener needs a port"),
        (
            'jwt_address = "localhost:1"\nhttp_address = "localhost:1"',
            "listen.http_address: is that of listen.jwt_address",
        ),
    ],
)
def test_what_is_wrong_with_the_doors_is_named(listen: str, told: str, tmp_path: Path) -> None:
    assert told in problem(tmp_path, listen=listen)


@pytest.mark.parametrize(
    "issuer",
    ["http://broker.example", "broker.example", "https://", "https://broker.example/", "https://broker.example?x=y",
     "https://broker.example#x", "https://broker.example?", "https://[broker.example", "https:/broker.example"],
)  # fmt: skip
def test_an_issuer_that_oauth_cannot_have_is_named_where_there_is_oauth(issuer: str, tmp_path: Path) -> None:
    told = problem(tmp_path, listen='http_address = "localhost:1"', issuer=issuer)
    assert "broker.issuer: must be an https URL without query, fragment and final `/`, with http_address" in told


@pytest.mark.parametrize(
    "issuer",
    ["broker", "broker.example", "//broker.example", "urn:broker", "ftp://broker.example", "https://",
     "https://broker.example?x=y", "https://broker.example#x", "https://me@broker.example", "https://[broker.example",
     "https://broker.example:http", "https://broker example", "https://br\u00f6ker.example",
     "https://broker.example/{tenant:x}", "https://broker.example/<x>"],
)  # fmt: skip
def test_an_issuer_that_is_no_url_is_named(issuer: str, tmp_path: Path) -> None:
    assert "broker.issuer: must be a URL such as https://host.example" in problem(tmp_path, issuer=issuer)


# What only the start can tell: files, and addresses of this machine.


def started(folder: Path, *, identity: str = "", listen: str = "") -> str:
    """Start a broker that cannot; return what it says."""
    configuration = prepare(folder).configuration
    head, marker, tail = configuration.read_text().partition("# The first rule that matches holds.")
    head = head.replace('address = "127.0.0.1:8443"', f'address = "127.0.0.1:0"\n{listen}')
    configuration.write_text(head + identity + marker + tail)
    command = [sys.executable, "-m", "broker", "serve", "--config", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "PRIVATE" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('ca_file = "none.pem"', "`ci`: ca_file: {folder}/none.pem: is not a file of certificates in PEM"),
        ('ca_file = "broker.toml"', "`ci`: ca_file: {folder}/broker.toml: is not a file of certificates in PEM"),
        ('jwks_file = "none.json"', "`ci`: jwks_file: {folder}/none.json: No such file or directory"),
        ('jwks_file = "broker.toml"', "`ci`: jwks_file: {folder}/broker.toml: "),
        ('[identity.jwt_bundles]\n"b.example" = "none.json"', "{folder}/none.json: No such file or directory"),
        ('[identity.bundles]\n"b.example" = "broker.toml"', "{folder}/broker.toml: is not a bundle of certificates"),
        ('[identity.bundles]\n"example.org" = "svids/ca.pem"', "the bundle of our own trust domain `example.org` is"),
    ],
)
def test_a_file_of_keys_or_roots_that_cannot_be_used_is_named(lines: str, told: str, tmp_path: Path) -> None:
    assert told.format(folder=tmp_path) in started(tmp_path, identity=f"{ISSUER}{lines}\n")


def test_a_certificate_of_the_https_listener_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    svids = prepare(tmp_path).svids
    root = read_authority(svids)
    other = issue_svid(root, parse_spiffe_id("spiffe://example.org/x"), ["localhost"], DAY, system_clock())
    listen = 'http_address = "127.0.0.1:0"\nhttp_cert = "c.pem"\nhttp_key = "k.pem"\n'
    assert "`{}`: No such file".format(tmp_path / "c.pem") in started(tmp_path, listen=listen)
    (tmp_path / "c.pem").write_bytes(root.cert_pem)
    (tmp_path / "k.pem").write_bytes(other.key_pem)
    assert "listen.http_cert" in started(tmp_path)
    encrypted = (
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGjMF8GCSqGSIb3DQEFDTBSMDE=\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    (tmp_path / "k.pem").write_bytes(encrypted)
    assert "listen.http_cert" in started(tmp_path), "nobody is asked for a password"


@pytest.mark.parametrize("key", ["jwt_address", "http_address"])
def test_an_address_that_cannot_be_listened_on_is_named(key: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert address in started(tmp_path, listen=f'{key} = "{address}"\n')


def test_a_host_that_there_is_not_is_named(tmp_path: Path) -> None:
    assert "http_address no-such-host.invalid:1" in started(
        tmp_path, listen='http_address = "no-such-host.invalid:1"\n'
    )
