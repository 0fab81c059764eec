import click
import pytest
from click.testing import CliRunner, Result

from broker.cli.paging import take
from broker.cli.render import plain
from broker.cli.selection import required, selector_options
from broker.v1.selector_pb2 import Selector


@click.command()
@selector_options
def select(selector: Selector | None) -> None:
    click.echo("none" if selector is None else str(plain(selector)))


def run(*arguments: str, tenant: str | None = None) -> Result:
    return CliRunner().invoke(select, arguments, env={"CREDBROKER_TENANT": tenant})


@pytest.mark.parametrize(
    ("arguments", "selected"),
    [
        (["--lease", "l", "--tenant", "acme"], {"tenant": "acme", "lease_id": "l"}),
        (["--task", "t", "--tenant", "acme"], {"tenant": "acme", "task_id": "t"}),
        (["--agent", "spiffe://a/b", "--tenant", "*"], {"tenant": "*", "agent": "spiffe://a/b"}),
        (["--tool", "https://r#t", "--tenant", "acme"], {"tenant": "acme", "tool": "https://r#t"}),
        (["--tenant", "acme"], {"tenant": "acme", "everything": True}),
        (["--all", "--tenant", "acme"], {"tenant": "acme", "everything": True}),
        (["--all"], {"tenant": "*", "everything": True}),
    ],
)
def test_options_become_a_selector(arguments: list[str], selected: dict[str, object]) -> None:
    assert run(*arguments).stdout.strip() == str(selected)


def test_a_tenant_from_the_environment_confines_and_is_no_target() -> None:
    assert run(tenant="acme").stdout == "none\n"
    assert run("--lease", "l", tenant="acme").stdout.strip() == str({"tenant": "acme", "lease_id": "l"})
    assert run("--all", tenant="acme").stdout.strip() == str({"tenant": "acme", "everything": True})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--lease", "l"], "CREDBROKER_TENANT"),
        (["--lease", "l", "--task", "t", "--tenant", "acme"], "name one of"),
        (["--lease", "l", "--all", "--tenant", "acme"], "name one of"),
        (["--tool", "read", "--tenant", "acme"], "RESOURCE#TOOL"),
    ],
)
def test_a_vague_selection_is_a_usage_error(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_revoking_nothing_in_particular_is_refused() -> None:
    with pytest.raises(click.UsageError):
        required(None)


def test_pages_are_fetched_until_there_are_enough() -> None:
    asked: list[tuple[int, str]] = []

    def page(size: int, token: str) -> tuple[list[int], str]:
        asked.append((size, token))
        start = int(token or 0)
        end = min(start + min(size, 1000), 2500)
        return list(range(start, end)), str(end) if end < 2500 else ""

    assert take(1500, page) == (list(range(1500)), True)
    assert asked == [(1000, ""), (500, "1000")]
    assert take(9000, page) == (list(range(2500)), False)
