"""report.json: the type, its schema, and what is gathered into it."""

from __future__ import annotations

import json

import jsonschema
import msgspec
import pytest

from model_load_test.components.report.model import SCHEMA_PATH, RunReport, report_schema
from model_load_test.components.report.writing import encode_report

OUTCOMES = ("PASS", "FAIL", "INCONCLUSIVE", "NO_BASELINE", "INVALID")


def test_the_schema_in_the_package_is_the_types() -> None:
    assert json.loads(SCHEMA_PATH.read_text()) == json.loads(msgspec.json.encode(report_schema())), (
        "write report_schema() to components/report/report.schema.json"
    )


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_report_fits_its_schema_and_reads_back_as_itself(report_of, outcome: str) -> None:
    report = report_of(outcome)
    encoded = encode_report(report)
    jsonschema.Draft202012Validator(report_schema()).validate(json.loads(encoded))
    assert msgspec.json.decode(encoded, type=RunReport) == report
