"""Names and labels: valid, bounded, and different for different runs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_load_test.components.cluster.labels import RunIdentity, run_selector
from model_load_test.components.cluster.names import NAME_LIMIT, label_value, object_name
from model_load_test.components.errors import InputError

SERVICE_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


@given(st.text(max_size=200), st.lists(st.text(max_size=50), max_size=3))
def test_every_name_is_one_a_service_may_have(stem: str, identity: list[str]) -> None:
    name = object_name(stem, *identity)
    assert SERVICE_NAME.fullmatch(name)
    assert len(name) <= NAME_LIMIT


@given(st.text(max_size=200))
def test_every_label_value_is_valid(text: str) -> None:
    assert LABEL.fullmatch(label_value(text))


def test_two_runs_at_once_do_not_meet() -> None:
    names = {object_name("mlt-candidate", run, task) for run in ("a", "b") for task in ("1", "2")}
    assert len(names) == 4
    # The parts are told apart, not only what they make together.
    assert object_name("x", "ab", "c") != object_name("x", "a", "bc")


def test_a_retried_task_finds_its_names_again() -> None:
    assert object_name("mlt-candidate", "run", "task") == object_name("mlt-candidate", "run", "task")


def test_long_ids_keep_apart_what_their_beginnings_do_not() -> None:
    assert label_value("r" * 80 + "1") != label_value("r" * 80 + "2")


def test_what_selects_a_run_selects_its_tasks_and_no_other_runs() -> None:
    one, other = RunIdentity("run-1", "deploy"), RunIdentity("run-12", "deploy")
    assert one.selector.startswith(run_selector("run-1"))
    assert run_selector("run-1") != run_selector("run-12")
    assert one.labels("server", "candidate")["model-load-test/arm"] == "candidate"
    assert one.selector != other.selector


@pytest.mark.parametrize("field", ["run", "task"])
def test_a_nameless_run_is_refused(field: str) -> None:
    with pytest.raises(InputError, match=field):
        RunIdentity(**{"run": "r", "task": "t", field: ""})
