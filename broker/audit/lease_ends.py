"""When a lease ends, read from its entry without parsing it: who follows a ledger asks of most leases nothing else.

An entry in the usual form is matched as a whole: canonical JSON, with the members that a lease's entry has, and plain
ASCII. Whatever matches, `readings.effects` reads as well, and to the same end; about all else it alone decides.
"""

from __future__ import annotations

import re

from broker.model.grant import Operator
from broker.model.lease import Binding


def _list(item: str) -> str:
    return rf"\[(?:{item}(?:,{item})*)?\]"


def _one_of(values: type[Binding | Operator]) -> str:
    return rf'"(?:{"|".join(re.escape(value.value) for value in values)})"'


_TEXT = r'"[ !#-\[\]-\x7f]*"'  # that has nothing to escape
_NUMBER = r"(?:0|[1-9][0-9]{0,14}|[1-8][0-9]{15})"  # less than 2^53
_TEXTS = _list(_TEXT)
_CONSTRAINT = rf"\[{_TEXT},{_one_of(Operator)},{_list(f'(?:{_TEXT}|{_NUMBER}|true|false)')}\]"
_GRANTS = _list(rf'\{{(?:"constraints":{_list(_CONSTRAINT)},)?"tool":{_TEXT}\}}')
_ENTRY = re.compile(
    rf'\{{"asserted":\{{(?:"explanation":{_TEXT})?\}},"at":{_NUMBER},'
    rf'"decided":\{{"decision_id":{_TEXT},"effect":{_TEXT},"policies":{_TEXTS},"policy_revision":{_TEXT},'
    rf'"risk":{_NUMBER},"risk_factors":{_TEXTS}\}},'
    rf'"effected":\{{"binding":{_one_of(Binding)},(?:"confirmation":{_TEXT},)?"expires_at":({_NUMBER}),'
    rf'"grants":{_GRANTS},"holder":{_TEXT},"lease":{_TEXT},"max_expires_at":{_NUMBER},'
    rf'(?:"renewals":{_NUMBER},)?"resource":{_TEXT}\}},'
    rf'"kind":"lease\.(?:issued|renewed)","observed":\{{"method":{_TEXT},"principal":{_TEXT},"proof":{_TEXT}\}},'
    rf'"task_id":{_TEXT},"tenant":{_TEXT},"v":1\}}'.encode()
)


def end_of(body: object) -> int | None:
    """Return when the lease ends that an entry issues or renews, in microseconds; None, if it has to be parsed."""
    found = _ENTRY.fullmatch(body) if isinstance(body, bytes) else None
    return None if found is None else int(found[1])
