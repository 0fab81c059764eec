"""SVID files: what changes is picked up, and what is broken never replaces what is good."""

import base64
import json
import stat
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

from broker.identity.spiffe import parse_spiffe_id
from broker.identity.trust_bundles import parse_certificates
from broker.sandbox.authority import write_svid
from broker.sandbox.certificates import Authority, Svid, issue_svid, new_authority
from broker.system import system_clock
from broker.trust.files import SvidFileSource
from broker.trust.kept import SvidFileError
from tests.support.certificates import Shape, make, of_a_version_that_there_is_not
from tests.support.issuer import jwk

DAY = timedelta(days=1)
ROOT = new_authority("example.org", DAY, system_clock())


def svid(root: Authority = ROOT, spiffe_id: str = "spiffe://example.org/broker") -> Svid:
    return issue_svid(root, parse_spiffe_id(spiffe_id), ["localhost"], DAY, system_clock())


@dataclass
class Folder:
    """A folder with an SVID, and what was written into it first."""

    path: Path
    first: Svid

    def write(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Put a file in the place of another, in one step."""
        fresh = self.path / f"{name}.fresh"
        fresh.write_bytes(data)
        fresh.chmod(mode)
        fresh.replace(self.path / name)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    first = svid()
    write_svid(tmp_path / "svid", first, ROOT.cert_pem)
    return Folder(tmp_path / "svid", first)


def test_what_is_written_is_read(folder: Folder) -> None:
    files = SvidFileSource(folder.path)
    assert files.material.cert_chain_pem == folder.first.cert_pem
    assert files.material.private_key_pem == folder.first.key_pem
    assert files.material.trust_bundles.roots == {"example.org": parse_certificates(ROOT.cert_pem)}
    assert files.problem is None


def test_only_the_owner_may_read_the_key_that_is_written(folder: Folder) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()}
    assert modes == {"svid.pem": 0o644, "key.pem": 0o600, "bundle.pem": 0o644}
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_nothing_new_is_nothing_new(folder: Folder) -> None:
    files = SvidFileSource(folder.path)
    before = files.material
    assert not files.refresh()
    assert files.material is before


def test_a_rotation_is_picked_up(folder: Folder) -> None:
    files, fresh = SvidFileSource(folder.path), svid()
    write_svid(folder.path, fresh, ROOT.cert_pem)
    assert files.refresh()
    assert (files.material.generation, files.material.cert_chain_pem) == (2, fresh.cert_pem)
    assert files.material.trust_bundles.generation == 2
    assert not files.refresh()


def test_another_root_is_picked_up_with_the_pair_as_it_was(folder: Folder) -> None:
    files, other = SvidFileSource(folder.path), new_authority("example.org", DAY, system_clock())
    folder.write("bundle.pem", ROOT.cert_pem + other.cert_pem)
    assert files.refresh()
    assert len(files.material.trust_bundles.roots["example.org"]) == 2
    assert files.material.cert_chain_pem == folder.first.cert_pem


P256, UNKNOWN = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")


def of_an_unknown_curve(pem: bytes) -> bytes:
    """Say of a key, or of a certificate's key, that it is on a curve that nobody has heard of."""
    first, *middle, last = pem.decode().splitlines()
    der = base64.b64decode("".join(middle))
    assert P256 in der
    return "\n".join([first, base64.b64encode(der.replace(P256, UNKNOWN)).decode(), last, ""]).encode()


def with_names_of_an_unknown_kind() -> bytes:
    names = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x04\xa3\x02\x30\x00")
    return make(Shape(uris=(), more=((names, True),)), system_clock()).pem


BROKEN = {
    "a certificate of an unknown curve": ("svid.pem", of_an_unknown_curve(svid().cert_pem)),
    "a certificate of no version": ("svid.pem", of_a_version_that_there_is_not(svid().cert_pem)),
    "a bundle of no version": ("bundle.pem", of_a_version_that_there_is_not(ROOT.cert_pem)),
    "names of an unknown kind": ("svid.pem", with_names_of_an_unknown_kind()),
    "a certificate without names": ("svid.pem", make(Shape(uris=()), system_clock()).pem),
    "a key of an unknown curve": ("key.pem", of_an_unknown_curve(svid().key_pem)),
    "half a certificate": ("svid.pem", svid().cert_pem[:200]),
    "an empty certificate": ("svid.pem", b""),
    "a certificate of another key": ("svid.pem", svid().cert_pem),
    "no certificate": ("svid.pem", ROOT.key_pem),
    "half a key": ("key.pem", svid().key_pem[:100]),
    "an empty key": ("key.pem", b""),
    "a key of another certificate": ("key.pem", svid().key_pem),
    "an empty bundle": ("bundle.pem", b""),
    "half a bundle": ("bundle.pem", ROOT.cert_pem + ROOT.cert_pem[:200]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_does_not_replace_what_is_good(folder: Folder, case: str) -> None:
    files = SvidFileSource(folder.path)
    before = files.material
    name, data = BROKEN[case]
    good = (folder.path / name).read_bytes()
    folder.write(name, data)
    for _ in range(2):
        assert not files.refresh()
        assert files.material is before
        assert files.problem is not None
        assert name in files.problem
        assert "BEGIN" not in files.problem
    folder.write(name, good)
    assert files.refresh()
    assert files.problem is None


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_at_the_start_is_refused_with_the_files_name(folder: Folder, case: str) -> None:
    name, data = BROKEN[case]
    folder.write(name, data)
    with pytest.raises(SvidFileError, match=name):
        SvidFileSource(folder.path)


def test_half_an_intermediate_does_not_count_as_a_shorter_chain(folder: Folder) -> None:
    files = SvidFileSource(folder.path)
    folder.write("svid.pem", folder.first.cert_pem + ROOT.cert_pem[:200])
    assert not files.refresh()
    folder.write("svid.pem", folder.first.cert_pem + ROOT.cert_pem)
    assert files.refresh()


def test_a_pair_that_is_written_one_after_the_other_counts_when_it_is_whole(folder: Folder) -> None:
    files, fresh = SvidFileSource(folder.path), svid()
    folder.write("key.pem", fresh.key_pem)
    assert not files.refresh()
    assert files.material.private_key_pem == folder.first.key_pem
    folder.write("svid.pem", fresh.cert_pem)
    assert files.refresh()
    assert (files.material.cert_chain_pem, files.material.private_key_pem) == (fresh.cert_pem, fresh.key_pem)


@pytest.mark.parametrize("name", ["svid.pem", "key.pem", "bundle.pem"])
def test_a_file_that_goes_missing_is_a_problem_and_no_change(folder: Folder, name: str) -> None:
    files = SvidFileSource(folder.path)
    gone = folder.path / name
    data = gone.read_bytes()
    gone.unlink()
    assert not files.refresh()
    assert files.problem is not None
    assert str(gone) in files.problem
    assert files.material.generation == 1
    with pytest.raises(SvidFileError, match=name):
        SvidFileSource(folder.path)
    folder.write(name, data)
    assert files.refresh()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_that_others_may_read_is_refused_with_the_remedy(folder: Folder, mode: int) -> None:
    files = SvidFileSource(folder.path)
    fresh = svid()
    folder.write("svid.pem", fresh.cert_pem)
    folder.write("key.pem", fresh.key_pem, mode)
    assert not files.refresh()
    assert files.problem is not None
    assert "chmod 600" in files.problem
    with pytest.raises(SvidFileError, match="chmod 600"):
        SvidFileSource(folder.path)
    (folder.path / "key.pem").chmod(0o400)
    assert files.refresh()


def test_further_trust_domains_have_roots_of_their_own(folder: Folder, tmp_path: Path) -> None:
    other = new_authority("other.example", DAY, system_clock())
    bundle = tmp_path / "other.pem"
    bundle.write_bytes(other.cert_pem)
    files = SvidFileSource(folder.path, {"other.example": bundle})
    assert files.material.trust_bundles.roots == {
        "example.org": parse_certificates(ROOT.cert_pem),
        "other.example": parse_certificates(other.cert_pem),
    }
    bundle.write_bytes(other.cert_pem + ROOT.cert_pem)
    assert files.refresh()
    bundle.write_bytes(b"")
    assert not files.refresh()
    assert str(bundle) in str(files.problem)
    assert len(files.material.trust_bundles.roots["other.example"]) == 2


JWKS = json.dumps({"keys": [jwk(ec.generate_private_key(ec.SECP256R1()), "p1", use="jwt-svid")]}).encode()
OTHER = new_authority("other.example", DAY, system_clock())


@pytest.mark.parametrize("what", ["emptied", "cut short", "gone", "of something else"])
@pytest.mark.parametrize("name", ["other.pem", "third.pem", "other.json", "svid/bundle.pem"])
def test_a_broken_file_keeps_no_other_from_being_read(folder: Folder, tmp_path: Path, name: str, what: str) -> None:
    for pem in ("other.pem", "third.pem"):
        (tmp_path / pem).write_bytes(OTHER.cert_pem)
    (tmp_path / "other.json").write_bytes(JWKS)
    files = SvidFileSource(
        folder.path,
        {"other.example": tmp_path / "other.pem", "third.example": tmp_path / "third.pem"},
        {"other.example": tmp_path / "other.json"},
    )
    before = files.material.trust_bundles
    broken, good = tmp_path / name, (tmp_path / name).read_bytes()
    if what == "gone":
        broken.unlink()
    else:
        broken.write_bytes({"emptied": b"", "cut short": good[:150], "of something else": folder.first.key_pem}[what])
    rotated = svid()
    for file, data in (("key.pem", rotated.key_pem), ("svid.pem", rotated.cert_pem)):
        folder.write(file, data)
    other = tmp_path / ("third.pem" if name == "other.pem" else "other.pem")
    other.write_bytes(OTHER.cert_pem + ROOT.cert_pem)
    assert files.refresh()
    assert files.material.cert_chain_pem == rotated.cert_pem
    assert str(broken) in str(files.problem)
    after = files.material.trust_bundles
    changed = {domain for domain, roots in after.roots.items() if roots != before.roots[domain]}
    assert changed == {other.stem + ".example"}
    assert after.jwt_keys["other.example"] == before.jwt_keys["other.example"]
    broken.write_bytes(good)
    files.refresh()
    assert files.problem is None


def test_a_file_that_comes_back_as_it_was_is_a_problem_no_more(folder: Folder) -> None:
    files, bundle = SvidFileSource(folder.path), folder.path / "bundle.pem"
    bundle.rename(folder.path / "away")
    assert not files.refresh()
    assert files.problem
    (folder.path / "away").rename(bundle)
    assert not files.refresh()
    assert files.problem is None


def test_our_own_trust_domain_has_one_bundle_only(folder: Folder, tmp_path: Path) -> None:
    bundle = tmp_path / "mine.pem"
    bundle.write_bytes(ROOT.cert_pem)
    with pytest.raises(SvidFileError, match=r"mine\.pem"):
        SvidFileSource(folder.path, {"example.org": bundle})


def test_the_private_key_does_not_show(folder: Folder) -> None:
    assert "PRIVATE KEY" not in repr(SvidFileSource(folder.path).material)


def test_what_an_earlier_writer_left_behind_does_not_stop_the_next(folder: Folder) -> None:
    (folder.path / ".key.pem.new").write_bytes(b"left")
    (folder.path / ".key.pem.new").chmod(0o644)
    fresh = svid()
    write_svid(folder.path, fresh, ROOT.cert_pem)
    assert SvidFileSource(folder.path).material.private_key_pem == fresh.key_pem
