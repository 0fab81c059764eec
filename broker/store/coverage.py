"""What a selector covers, in SQL: what `Lease.selectors` says of one lease, said of a table of them.

It is said once, of a value: whether that is one that is given, or a column of rules, makes no difference.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, exists, func, literal, or_, true

from broker.model.principal import ANY_TENANT
from broker.model.selector import Selector, Target
from broker.store.schema import leases, rules


def leases_of(selector: Selector) -> list[ColumnElement[bool]]:
    """Return the conditions for a lease to be covered by a selector."""
    conditions = [_has(selector.target, literal(selector.value))]
    if selector.tenant != ANY_TENANT:
        conditions.append(leases.c.tenant == selector.tenant)
    if selector.target is Target.TOOL:  # said again in the way that an index serves
        conditions.append(leases.c.resource == selector.value.rpartition("#")[0])
    return conditions


def ended() -> ColumnElement[bool]:
    """Return the condition for a lease to be covered by a recorded rule that came after it."""
    return or_(
        *(
            exists().where(
                rules.c.target == target.value,
                _has(target, rules.c.value),
                rules.c.tenant.in_([leases.c.tenant, ANY_TENANT]),
                rules.c.index > leases.c.index,
            )
            for target in Target
        )
    )


def _has(target: Target, value: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition for a lease to have this value for a target."""
    match target:
        case Target.LEASE:
            return leases.c.id == value
        case Target.TASK:
            return leases.c.task_id == value
        case Target.AGENT:
            return leases.c.holder == value
        case Target.TOOL:
            return _grants(value)
        case Target.ALL:
            return true()


def _grants(value: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition for a lease to grant the tool `resource#tool`.

    A quotation mark inside a JSON text is escaped, so what is sought can be nothing but the name of a grant's tool.
    `replace` changes the text only if that is in it: containment that neither wildcards nor capitals can fool.
    """
    length = func.length(leases.c.resource)
    named = '{"tool":"' + func.substr(value, length + 2) + '"'
    at_resource = func.substr(value, 1, length + 1) == leases.c.resource + "#"
    return at_resource & (func.replace(leases.c.grants, named, "") != leases.c.grants)
