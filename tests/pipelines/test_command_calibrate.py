import argparse
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from model_load_test.components.baseline.noise_floor import find_noise_floor
from model_load_test.components.baseline.store import open_store
from model_load_test.components.errors import InputError
from model_load_test.components.serving.embedded.process import EmbeddedServer, embedded_server
from model_load_test.pipelines.command_line import calibrate

QUICK = ("--rate", "100", "--pairs", "20", "--block-seconds", "0.2")


@pytest.fixture(scope="module")
def servers() -> Iterator[list[EmbeddedServer]]:
    """Two alike and one three times slower."""
    if shutil.which("ghz") is None:
        pytest.skip("ghz is not on PATH (`make tools` says why it could not be installed)")
    with ExitStack() as stack:
        yield [
            stack.enter_context(embedded_server("digits", backend="numpy", delay_ms=delay_ms))
            for delay_ms in (10.0, 10.0, 30.0)
        ]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    parser = argparse.ArgumentParser()
    calibrate.add_parser(parser.add_subparsers())

    def call(*words: object) -> tuple[int, str, str]:
        code = calibrate.run(parser.parse_args(["calibrate", *map(str, words)]))
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_a_calibration_is_shown_written_and_kept(
    servers: list[EmbeddedServer], command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    store, output = f"file://{tmp_path}/store", tmp_path / "floor.json"
    words = ("--candidate", servers[0].grpc, "--baseline", servers[1].grpc, "--model-name", "digits")
    code, out, err = command(*words, *QUICK, "--store", store, "--output", output, "--format", "json")
    assert code == 0, err
    found = json.loads(out)
    assert json.loads(output.read_text()) == found
    assert 15 <= found["pairs"] <= 20
    assert found["verdict"] in ("PASS", "INCONCLUSIVE")
    assert 0 < found["noise_floor"]["p50"] < 0.5
    assert found["margins"]["p50"] == max(0.05, 2 * found["noise_floor"]["p50"])
    budgets = {budget["pairs"]: budget for budget in found["budgets"]}
    assert list(budgets) == [10, 15, 20, 30, 60]
    assert budgets[60]["fails"]["p50"] < budgets[15]["fails"]["p50"]
    assert budgets[60]["load_seconds"] == pytest.approx(12)
    (key,) = open_store(store).list_keys()
    (kept,) = open_store(store).history(key)
    assert kept.metrics["noise_floor_p50"] == found["noise_floor"]["p50"]
    assert kept.fingerprint.server_kind == "embedded"
    assert find_noise_floor(open_store(store), key) == found["noise_floor"]


def test_a_server_that_fails_cannot_be_calibrated(
    servers: list[EmbeddedServer], command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    output = tmp_path / "floor.json"
    with embedded_server("digits", backend="numpy", error_rate=1.0) as broken:
        words = ("--candidate", servers[0].grpc, "--baseline", broken.grpc, "--model-name", "digits")
        with pytest.raises(InputError, match="no answer to request 1") as refused:
            command(*words, *QUICK, "--output", output)
    assert refused.value.value == str(broken.grpc)
    assert not output.exists()


def test_a_slower_server_is_no_twin_and_its_floor_is_not_kept(
    servers: list[EmbeddedServer], command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    store = f"file://{tmp_path}/store"
    words = ("--candidate", servers[2].grpc, "--baseline", servers[1].grpc, "--model-name", "digits")
    code, out, err = command(*words, *QUICK, "--mode", "interleaved", "--store", store)
    assert code == calibrate.NOT_CALIBRATED
    assert "identical servers FAILED" in err
    assert "the gate says FAIL" in out
    assert open_store(store).list_keys() == []


@pytest.mark.parametrize(
    ("words", "field", "remedy"),
    [
        (("--pairs", "19"), "--pairs", "at least 20"),
        (("--rate", "0"), "rate_rps", "above 0"),
        (("--rate", "nan"), "rate_rps", "above 0"),
        (("--block-seconds", "-1"), "block_seconds", "from 0.2"),
        (("--candidate", "127.0.0.1:8500"), "--candidate", "scheme is missing"),
        (("--baseline", "grpc://127.0.0.1"), "--baseline", "port"),
        (("--baseline", "http://127.0.0.1:9"), "baseline_endpoint", "use the candidate's protocol"),
        (("--model-name", "digit"), "model_name", "digit"),
        (("--server-kind", "tfserving"), "server_kind", "use one of"),
        (("--store", "nowhere"), "baseline_store", "no scheme"),
        (("--output", "/nowhere/floor.json"), "--output", "folder that exists"),
        (("--output", "."), "--output", "this is a folder"),
        (("--payload", "/nowhere"), "", "nowhere"),
        (("--server-replicas", "0"), "--server-replicas", "at least 1"),
        (("--namespace", " "), "key.namespace", "not blank"),
    ],
)
def test_bad_input_is_told_before_any_load(
    words: tuple[str, str],
    field: str,
    remedy: str,
    servers: list[EmbeddedServer],
    command: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from model_load_test.components.load import run as load

    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("load was sent")

    monkeypatch.setattr(load, "run_load_test", refuse)
    given = {"--candidate": servers[0].grpc, "--baseline": servers[1].grpc, "--model-name": "digits"}
    given.update({words[0]: words[1]})
    with pytest.raises(InputError, match=remedy) as caught:
        command(*(word for option in given.items() for word in option))
    assert not field or caught.value.field == field
    assert "\n" not in str(caught.value)
