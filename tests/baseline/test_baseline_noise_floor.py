from pathlib import Path

import pytest

from model_load_test.components.baseline.fingerprint import Fingerprint
from model_load_test.components.baseline.noise_floor import (
    NEWEST,
    find_noise_floor,
    noise_floor_key,
    record_noise_floor,
)
from model_load_test.components.baseline.store import BaselineStore, open_store
from model_load_test.components.errors import InputError

HERE = Fingerprint(server_kind="tf-serving", node_type="n2-standard-8")
LOAD = {
    "protocol": "grpc",
    "tool": "ghz",
    "mode": "duet",
    "rate_rps": 200.0,
    "block_seconds": 1.0,
    "connections": 1,
    "looks": [30],
    "seed": 4,
    "payload_hash": "abc",
}
KEY = noise_floor_key("team", "digits", LOAD, HERE)


@pytest.fixture(params=["file", "mlmd"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BaselineStore:
    if request.param == "mlmd":
        pytest.importorskip("ml_metadata", reason="ml-metadata has no build for this Python")
        return open_store(f"mlmd+sqlite://{tmp_path}/store.db")
    return open_store(f"file://{tmp_path}/store")


def keep(store: BaselineStore, at_ns: int, **floor: float) -> None:
    record_noise_floor(store, KEY, floor, fingerprint=HERE, load_spec=LOAD, measured_at_ns=at_ns)


def test_the_largest_of_the_newest_calibrations_counts(store: BaselineStore) -> None:
    assert find_noise_floor(store, KEY) == {}
    keep(store, 1, p50=0.5)
    for number in range(NEWEST):
        keep(store, 10 + number, p50=0.01 + 0.001 * number, p95=0.04 - 0.001 * number)
    assert find_noise_floor(store, KEY) == pytest.approx({"p50": 0.01 + 0.001 * (NEWEST - 1), "p95": 0.04})


def test_the_same_calibration_counts_once(store: BaselineStore) -> None:
    keep(store, 7, p50=0.01)
    keep(store, 7, p50=0.9)
    assert find_noise_floor(store, KEY) == {"p50": 0.01}


def test_a_longer_run_with_other_requests_has_the_same_floor() -> None:
    assert noise_floor_key("team", "digits", {**LOAD, "looks": [10, 60], "payload_hash": "def"}, HERE) == KEY


@pytest.mark.parametrize("change", [{"mode": "interleaved"}, {"rate_rps": 400.0}, {"block_seconds": 2.0}])
def test_another_load_has_another_floor(change: dict[str, object]) -> None:
    assert noise_floor_key("team", "digits", {**LOAD, **change}, HERE) != KEY


def test_another_machine_or_model_has_another_floor() -> None:
    elsewhere = Fingerprint(server_kind="tf-serving", node_type="n2-standard-4")
    assert noise_floor_key("team", "digits", LOAD, elsewhere) != KEY
    assert noise_floor_key("team", "bert", LOAD, HERE) != KEY


def test_rows_from_elsewhere_have_no_floor() -> None:
    with pytest.raises(InputError, match="kept by protocol"):
        noise_floor_key("team", "digits", {}, HERE)


def test_a_floor_does_not_change_its_key_where_everything_is_as_usual() -> None:
    usual = {
        "concurrency": 0,
        "block_rates_rps": (),
        "http_version": "1.1",
        "keep_alive": True,
        "encrypted": False,
    }
    plain = noise_floor_key("default", "digits", LOAD, HERE)
    assert noise_floor_key("default", "digits", {**LOAD, **usual}, HERE) == plain
    for change in ({"concurrency": 4}, {"encrypted": True}, {"block_rates_rps": [1.0, 2.0]}):
        assert noise_floor_key("default", "digits", {**LOAD, **usual, **change}, HERE) != plain
