import pytest

from model_load_test.components.gate.policy import may_continue
from model_load_test.components.gate.spec import GateSpecError, parse_gate_spec
from model_load_test.components.gate.verdict import Outcome, Verdict


@pytest.mark.parametrize(
    ("outcome", "values", "continues"),
    [
        ("PASS", {"on_inconclusive": "fail", "on_missing_baseline": "fail"}, True),
        ("FAIL", {"on_inconclusive": "pass", "on_missing_baseline": "pass-and-record"}, False),
        ("INVALID", {"on_inconclusive": "pass", "on_missing_baseline": "pass-and-record"}, False),
        ("INCONCLUSIVE", {}, False),
        ("INCONCLUSIVE", {"on_inconclusive": "warn"}, True),
        ("INCONCLUSIVE", {"on_inconclusive": "pass"}, True),
        ("NO_BASELINE", {}, True),
        ("NO_BASELINE", {"on_missing_baseline": "warn"}, True),
        ("NO_BASELINE", {"on_missing_baseline": "fail"}, False),
    ],
)
def test_policies(outcome: Outcome, values: dict[str, str], continues: bool) -> None:
    verdict = Verdict(outcome, ("The first reason.", "Another."))
    goes_on, line = may_continue(verdict, parse_gate_spec(values))
    assert goes_on is continues
    assert outcome in line
    assert "The first reason." in line
    assert "\n" not in line
    assert ("WARNING" in line) == ("warn" in values.values())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"on_no_baseline": "fail"}, "did you mean 'on_missing_baseline'"),
        ({"on_missing_baseline": "pass"}, "choose one of pass-and-record, warn, fail"),
        ({"on_inconclusive": "ignore"}, "choose one of fail, warn, pass"),
    ],
)
def test_what_is_no_policy_is_refused(values: dict[str, str], said: str) -> None:
    with pytest.raises(GateSpecError, match=said):
        parse_gate_spec(values)
