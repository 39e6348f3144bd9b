"""The payload's KFP components, called as a pod calls them: every number a double, examples by URI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model_load_test.components import generate_payload, generate_payload_from_examples
from model_load_test.components.errors import InputError
from model_load_test.components.payload.manifest import read_bodies, read_manifest
from model_load_test.components.payload.trial import try_payload
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with embedded_server("digits", backend="numpy") as running:
        yield running


@pytest.fixture
def payload(tmp_path: Path) -> Any:
    return SimpleNamespace(path=str(tmp_path / "payload"), metadata={})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps([row / 10] * 64) for row in range(3)))
    return path


def sent_rows(payload: Any) -> list[list[float]]:
    return [row for body in read_bodies(Path(payload.path)) for row in json.loads(body)["instances"]]


def test_mixes_distributions_and_examples(server: EmbeddedServer, payload: Any, rows: Path) -> None:
    generate_payload.python_func(
        payload=payload,
        endpoint=str(server.rest),
        model_name="digits",
        signatures={"serving_default": {"weight": 2.0, "examples": f"file://{rows}"}},
        requests=12,
        batch_sizes=[1.0, 2.0],
        distributions={"batch_size": {"distribution": "uniform", "low": 2.0, "high": 3.0}},
    )
    manifest = read_manifest(Path(payload.path))
    assert payload.metadata == {"hash": manifest.hash, "summary": manifest.summary}
    assert set(manifest.batch_sizes) == {"2", "3"}
    assert manifest.signatures[0].source == "3 examples of rows.jsonl"
    assert {row[0] for row in sent_rows(payload)} == {0.0, 0.1, 0.2}
    assert try_payload(Path(payload.path), server.rest) == 12


def test_examples_of_an_earlier_task(server: EmbeddedServer, payload: Any, rows: Path) -> None:
    folder = rows.parent / "artifact"
    folder.mkdir()
    rows.rename(folder / rows.name)
    generate_payload_from_examples.python_func(
        examples=SimpleNamespace(path=str(folder)),
        payload=payload,
        endpoint=str(server.rest),
        model_name="digits",
        requests=6,
    )
    assert {row[0] for row in sent_rows(payload)} <= {0.0, 0.1, 0.2}
    assert try_payload(Path(payload.path), server.rest) == 6


def test_what_is_not_there_is_named(server: EmbeddedServer, payload: Any) -> None:
    values = {"payload": payload, "endpoint": str(server.rest), "model_name": "digits"}
    mix = {"serving_default": {"examples": "/nowhere"}}
    for options, field in (
        ({"examples": "/nowhere"}, "examples"),
        ({"saved_model": "/nowhere"}, "saved_model"),
        ({"signatures": mix}, "signatures.serving_default.examples"),
        (
            {"distributions": {"batch_size": {"distribution": "zipf", "low": 9.0, "high": 1.0}}},
            "distributions.batch_size.high",
        ),
        ({"batch_sizes": [1.5]}, "batch_sizes"),
    ):
        with pytest.raises(InputError) as raised:
            generate_payload.python_func(**values, **options)
        assert raised.value.field == field
