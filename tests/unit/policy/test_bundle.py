from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from broker.config.policy_bundle import load, read
from broker.intent.scopes import check_resource
from broker.model.errors import Reason, Refusal
from broker.model.lease import Binding
from broker.policy.bundle import PolicyBundleError, PolicyBundleFiles, check
from broker.policy.request import ATTRIBUTES
from broker.sdk.verify.verifier import Verifier
from tests.support.sample_policy import NOTES, REPO, RESEARCHER, SAMPLE

NO_RESOURCES = (
    NOTES + "#x",
    "https://n\u00f6tes.example",
    "https://user@notes.example",
    "https://notes.example/a|b",
    "https://notes.example/a b",
    "https:///notes",
    "https://?notes",
    "notes.example",
    "HTTPS://notes.example",
    "https://notes.example/" + "x" * 491,
)
"""What no task can declare, which is why no bundle may list it."""
RESEARCHERS = 'principal in Broker::Group::"researchers"'

Edit = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "bundle"))


def problems(folder: Path) -> list[str]:
    with pytest.raises(PolicyBundleError) as caught:
        load(folder)
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def extra(text: str) -> Edit:
    return lambda folder: (folder / "policies/extra.cedar").write_text(text)


def swap(file: str, old: str, new: str) -> Edit:
    def edit(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return edit


def test_the_sample_loads() -> None:
    sample = load(SAMPLE)
    assert len(sample.policies) == 20
    assert sample.policies["p-researchers-read-repo"] == {"id": "p-researchers-read-repo", "max_lifetime": "5m"}
    repo, notes = sample.resource(REPO), sample.resource(NOTES)
    assert repo
    assert repo.binding is Binding.IDENTITY
    assert set(repo.tools) == {"read_file", "list_files", "create_issue", "delete_repo"}
    assert notes
    assert notes.binding is Binding.BEARER
    assert {tool.max_lifetime for tool in notes.tools.values()} == {timedelta(minutes=2)}


def test_unknown_names_find_nothing() -> None:
    sample = load(SAMPLE)
    assert sample.tool(REPO, "read_file")
    assert sample.tool(REPO, "search_notes") is None
    assert sample.tool("https://elsewhere.example", "read_file") is None
    assert sample.resource("https://elsewhere.example") is None


@pytest.mark.parametrize(
    ("principal", "groups"),
    [
        (RESEARCHER, ("agents", "researchers")),
        (RESEARCHER + "2", ("agents",)),
        ("spiffe://example.org/agent/scribe/7", ("agents", "scribes")),
        ("spiffe://example.org/agent/", ()),
        ("spiffe://example.org/agents", ()),
        ("spiffe://other.example/agent/researcher", ()),
    ],
)
def test_groups_hold_ids_and_prefixes(principal: str, groups: tuple[str, ...]) -> None:
    assert load(SAMPLE).groups_of(principal) == groups


def test_the_revision_follows_names_and_contents(folder: Path) -> None:
    revisions = {load(folder).revision}
    assert load(SAMPLE).revision in revisions
    swap("policies/people.cedar", "10m", "9m")(folder)
    revisions.add(load(folder).revision)
    (folder / "policies/people.cedar").rename(folder / "policies/humans.cedar")
    revisions.add(load(folder).revision)
    assert len(revisions) == 3
    assert all(len(revision) == 64 for revision in revisions)


def test_what_is_beside_the_bundle_is_not_part_of_it(folder: Path) -> None:
    before = load(folder).revision
    (folder / "README.md").write_text("about it")
    (folder / "policies/.swp").write_text("an editor's")
    assert load(folder).revision == before


def test_a_bundle_is_the_same_wherever_its_files_are_kept() -> None:
    contents = read(SAMPLE).contents
    elsewhere = dict(sorted(contents.items(), reverse=True)) | {"README.md": b"about it"}
    assert check(PolicyBundleFiles(elsewhere)).revision == load(SAMPLE).revision


def test_what_a_bundle_lacks_is_told_of_files_in_hand_as_well() -> None:
    contents = {**read(SAMPLE).contents, "policies/limits.cedar.txt": b"forbid (principal, action, resource);"}
    del contents["tools.toml"]
    with pytest.raises(PolicyBundleError) as error:
        check(PolicyBundleFiles(contents, others=frozenset({"tool.toml"})))
    assert str(error.value) == (
        "policies/limits.cedar.txt:1: only files named `*.cedar` may be here\n"
        "tools.toml:1: the file is missing; is `tool.toml` meant for it?"
    )


def test_law_5_a_policy_that_reads_an_explanation_does_not_load(folder: Path) -> None:
    extra('@id("x")\npermit (principal, action, resource)\nwhen { context.explanation == "please" };\n')(folder)
    found = problems(folder)
    assert all(
        line.startswith("policies/extra.cedar:3: does not fit the schema: attribute `explanation`") for line in found
    )


def test_law_5_no_fact_is_named_after_words_of_a_model() -> None:
    assert not ATTRIBUTES & {"explanation", "reason", "message", "prompt", "justification", "description"}


@pytest.mark.parametrize(
    ("edit", "place", "reason"),
    [
        (lambda f: (f / "tools.toml").unlink(), "tools.toml:1", "missing"),
        (lambda f: (f / "groups.toml").unlink(), "groups.toml:1", "missing"),
        (lambda f: (f / "schema.cedarschema").unlink(), "schema.cedarschema:1", "missing"),
        (lambda f: shutil.rmtree(f / "policies"), "policies:1", "no policies"),
        (lambda f: (f / "policies/x.cedar.txt").write_text(""), "policies/x.cedar.txt:1", "*.cedar"),
        (lambda f: (f / "policies/x.cedar").mkdir(), "policies/x.cedar:1", "cannot be read"),
        (lambda f: (f / "policies/x.cedar").symlink_to("gone"), "policies/x.cedar:1", "cannot be read: No such file"),
        (lambda f: (f / "policies/x.cedar").write_bytes(b"\n\xff"), "policies/x.cedar:2", "not UTF-8"),
        # TOML
        (swap("tools.toml", "sensitivity = 1", "sensitivity = = 1"), "tools.toml:15", "not TOML"),
        (swap("tools.toml", "sensitivity = 0", "sensitivity = 0\ncolour = 1"), "tools.toml:23", "unknown key `colour`"),
        (swap("tools.toml", 'binding = "bearer"', 'binding = "barer"'), "tools.toml:44", "`barer` is not a binding"),
        (swap("tools.toml", 'binding = "bearer"\n', ""), "tools.toml:42", "`binding` is missing"),
        (swap("tools.toml", "sensitivity = 0", "sensitivity = 5"), "tools.toml:22", "write 0 to 4"),
        (swap("tools.toml", "sensitivity = 0", "sensitivity = true"), "tools.toml:22", "must be a whole number"),
        (swap("tools.toml", 'max_lifetime = "1m"', 'max_lifetime = "25h"'), "tools.toml:38", "1s to 24h"),
        (swap("tools.toml", 'max_lifetime = "1m"', 'max_lifetime = "0s"'), "tools.toml:38", "1s to 24h"),
        (swap("tools.toml", "side_effects = false\n", ""), "tools.toml:13", "`side_effects` is missing"),
        (swap("tools.toml", '"list_files"', '"read_file"'), "tools.toml:21", "listed twice"),
        (swap("tools.toml", '"list_files"', '""'), "tools.toml:21", "`name` is empty"),
        (swap("tools.toml", '"list_files"', '"list files"'), "tools.toml:21", "not a tool's name"),
        (swap("tools.toml", NOTES, REPO), "tools.toml:43", "listed twice"),
        *((swap("tools.toml", NOTES, uri), "tools.toml:43", "not an absolute URI") for uri in NO_RESOURCES),
        (swap("tools.toml", '["repo-admin"]', '"repo-admin"'), "tools.toml:39", "list of texts"),
        (swap("tools.toml", "[[resource]]", "colour = 1\n[[resource]]"), "tools.toml:9", "unknown key `colour`"),
        (swap("groups.toml", "[groups]", "[group]"), "groups.toml:1", "`groups` is missing"),
        (
            swap("groups.toml", "agent/writer", "agent/*/writer"),
            "groups.toml:5",
            "neither a principal's id",
        ),
        (swap("groups.toml", "agent/writer", "agent/writ*"), "groups.toml:5", "neither a principal's id"),
        *(
            (
                swap("groups.toml", "spiffe://example.org/agent/writer", member),
                "groups.toml:5",
                "neither a principal's id",
            )
            for member in ("oidc:ci:a b", "oidc:ci:é", "oidc:ci:100%", "oidc:ci:a%2fb", "oidc:ci:%0A", "oidc:ci:a b:*")
        ),
        (swap("groups.toml", '["spiffe://example.org/agent/writer"]', "7"), "groups.toml:5", "list of texts"),
        # Cedar
        (extra('@id("x")\npermit (principal, action, resource)\n whn { true };'), "policies/extra.cedar:3", "whn"),
        (extra('@id("x")\npermit (principal,\n action resource);'), "policies/extra.cedar:3", "unexpected token"),
        (
            extra('@id("x")\nforbid (principal, action, resource)\n\n@id("y")\nforbid (principal, action, resource);'),
            "policies/extra.cedar:4",
            "unexpected token `@`",
        ),
        (extra("// a note\n\nforbid (principal, action, resource)"), "policies/extra.cedar:3", "unexpected end"),
        (extra("// a; b\rforbid (principal, action, resource);"), "policies/extra.cedar:1", "no `@id"),
        (extra("\npermit (principal, action, resource);"), "policies/extra.cedar:2", "no `@id"),
        (extra("@id\npermit (principal, action, resource);"), "policies/extra.cedar:1", "no `@id"),
        (extra('@id("g-breadth")\nforbid (principal, action, resource);'), "policies/guardrails.cedar", "is taken by"),
        (
            extra('@id("x")\n@max_lifetime("soon")\npermit (principal, action, resource);'),
            "policies/extra.cedar:2",
            "`soon` is not a lifetime",
        ),
        (
            extra('@id("x") @max_lifetime("5m")\nforbid (principal, action, resource);'),
            "policies/extra.cedar:1",
            "a forbid grants no lifetime",
        ),
        (
            extra('@id("x")\npermit (principal == ?principal, action, resource);'),
            "policies/extra.cedar:1",
            "a template",
        ),
        (
            extra('@id("x")\nforbid (principal, action, resource)\nwhen {\n  context.risk > 5 };'),
            "policies/extra.cedar",
            "does not fit the schema",
        ),
        (
            extra(
                '@id("x")\nforbid (principal, action, resource)\n'
                'when { context.environment ==\n Broker::Environment::"prd" };'
            ),
            "policies/extra.cedar:4",
            "not declared as a valid eid",
        ),
        (
            extra('@id("x")\nforbid (principal, action == Broker::Action::"isue", resource);'),
            "policies/extra.cedar:2",
            "isue",
        ),
        (
            extra('@id("x")\nforbid (\n  principal in Broker::Group::"agnets",\n  action, resource);'),
            "policies/extra.cedar:3",
            'no `Broker::Group::"agnets"` in groups.toml',
        ),
        (
            extra('@id("x")\nforbid (principal, action, resource in Broker::Toolset::"rep-write");'),
            "policies/extra.cedar:2",
            "in tools.toml",
        ),
        (
            extra(f'@id("x")\nforbid (principal, action,\nresource == Broker::Tool::"{REPO}#delete");'),
            "policies/extra.cedar:3",
            "in tools.toml",
        ),
        (
            extra(f'@id("x")\nforbid (principal, action, resource) when {{ {"(" * 5000}true{")" * 5000} }};'),
            "policies/extra.cedar:1",
            "nests too much",
        ),
        # The schema
        (
            swap("schema.cedarschema", "entity Group;", "entity Group\n;;"),
            "schema.cedarschema:11",
            "not a Cedar schema",
        ),
        (swap("schema.cedarschema", "environment: Env", "environment: Emv"), "schema.cedarschema:33", "Emvironment"),
        (swap("schema.cedarschema", '"staging", ', ""), "schema.cedarschema", "does not take the broker's requests"),
        (
            swap("schema.cedarschema", "breadth: Long,", "breadth: Long,\n    depth: Long,"),
            "schema.cedarschema",
            "does not take the broker's requests",
        ),
        (
            swap("schema.cedarschema", "side_effects: Bool,", "side_effects: Bool,\n    egress: Bool,"),
            "schema.cedarschema",
            "does not take the broker's entities",
        ),
    ],
)
def test_a_bad_bundle_is_refused_with_place_and_reason(folder: Path, edit: Edit, place: str, reason: str) -> None:
    edit(folder)
    found = problems(folder)
    assert any(line.startswith(place + ":") and reason in line for line in found), found
    assert all("\n" not in line for line in found)


@pytest.mark.parametrize("uri", NO_RESOURCES)
def test_what_a_bundle_cannot_list_no_request_can_name(uri: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_resource(uri, "resource")
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    with pytest.raises(Refusal):
        Verifier(uri)


def test_the_longest_resource_is_one_for_both(folder: Path) -> None:
    longest = "https://notes.example/" + "x" * 490
    swap("tools.toml", NOTES, longest)(folder)
    assert load(folder).resource(longest)
    check_resource(longest, "resource")


def test_all_problems_are_told_at_once(folder: Path) -> None:
    extra("permit (principal, action, resource);\n\nforbid (principal);")(folder)
    swap("tools.toml", "sensitivity = 0", "sensitivity = 9")(folder)
    swap("groups.toml", "agent/writer", "agent/**")(folder)
    places = [line.rpartition(": ")[0].split(": ")[0] for line in problems(folder)]
    assert places == ["groups.toml:5", "policies/extra.cedar:1", "policies/extra.cedar:3", "tools.toml:22"]


def test_a_folder_that_is_not_there_is_a_bundle_error(tmp_path: Path) -> None:
    assert len(problems(tmp_path / "nowhere")) == 4


def test_a_semicolon_in_a_text_or_comment_ends_nothing(folder: Path) -> None:
    extra(
        '// one; two\n@id("semi;colon") // three;\n'
        'forbid (principal, action, resource) when { context.owner == "a;\\";b" };'
    )(folder)
    assert load(folder).statements["semi;colon"].line == 2
