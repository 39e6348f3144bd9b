"""Batches are made, refused and split as TF Serving's are."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.trial import try_payload
from model_load_test.components.serving.embedded.__main__ import main
from model_load_test.components.serving.embedded.batching import (
    Batcher,
    BatchingParameters,
    read_batching_parameters,
)
from model_load_test.components.serving.embedded.failure import Code, ServingError
from model_load_test.components.serving.embedded.metrics import Metrics
from model_load_test.components.serving.embedded.process import embedded_server
from model_load_test.components.serving.embedded.servables import Servable
from model_load_test.components.serving.tf_serving import batching_file

WAIT_SECONDS = 20.0


class Model:
    """Doubles its input, remembers the batches it saw, and waits where it is told to."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.entered = threading.Semaphore(0)

    def run(self, feeds: Any, fetches: Sequence[str]) -> list[Any]:
        self.sizes.append(len(feeds["x"]))
        self.entered.release()
        assert self.may_go.wait(WAIT_SECONDS)
        return [feeds["x"] * 2 for _ in fetches]

    @property
    def servable(self) -> Servable:
        return Servable("digits", 1, {}, self.run)


def rows(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def batcher(**parameters: Any) -> Batcher:
    return Batcher(BatchingParameters(**{"num_batch_threads": 1, **parameters}), Metrics())


def ask(own: Batcher, model: Model, values: np.ndarray) -> list[float]:
    return own.run(model.servable, {"x": values}, ["y"])[0].ravel().tolist()


def blocked(own: Batcher, model: Model, pool: ThreadPoolExecutor) -> Any:
    """Has the only thread compute, so that what comes next waits."""
    model.may_go.clear()
    first = pool.submit(ask, own, model, rows(0))
    assert model.entered.acquire(timeout=WAIT_SECONDS)
    return first


def test_requests_that_wait_together_are_computed_together() -> None:
    own, model = batcher(max_batch_size=8), Model()
    with ThreadPoolExecutor(8) as pool:
        first = blocked(own, model, pool)
        waiting = [pool.submit(ask, own, model, rows(value, value + 1)) for value in (10, 20, 30)]
        _until(lambda: own._waiting and own._waiting[0].size == 6)
        model.may_go.set()
        assert first.result() == [0]
        assert [one.result() for one in waiting] == [[20, 22], [40, 42], [60, 62]]
    assert model.sizes == [1, 6]


def test_a_batch_is_no_larger_than_it_may_be() -> None:
    own, model = batcher(max_batch_size=4), Model()
    with ThreadPoolExecutor(8) as pool:
        first = blocked(own, model, pool)
        waiting = [pool.submit(ask, own, model, rows(value, value)) for value in range(5)]
        _until(lambda: sum(batch.size for batch in own._waiting) == 10)
        model.may_go.set()
        first.result()
        for one in waiting:
            one.result()
    assert sorted(model.sizes) == [1, 2, 4, 4]


def test_a_batch_waits_for_others_until_its_time_is_over() -> None:
    own, model = batcher(max_batch_size=2, batch_timeout_micros=30_000_000), Model()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda value: ask(own, model, rows(value)), (1, 2)))
    assert sorted(answers) == [[2], [4]]
    assert model.sizes == [2]
    soon = batcher(max_batch_size=2, batch_timeout_micros=1000)
    assert ask(soon, model, rows(5)) == [10]


def test_a_full_queue_refuses() -> None:
    own, model = batcher(max_batch_size=1, max_enqueued_batches=2), Model()
    with ThreadPoolExecutor(8) as pool:
        first = blocked(own, model, pool)
        waiting = [pool.submit(ask, own, model, rows(value)) for value in (1, 2)]
        _until(lambda: len(own._waiting) == 2)
        with pytest.raises(
            ServingError, match="currently 2 batches enqueued and max_enqueued_batches is 2"
        ) as no:
            ask(own, model, rows(3))
        assert no.value.code is Code.UNAVAILABLE
        model.may_go.set()
        assert [one.result() for one in (first, *waiting)] == [[0], [2], [4]]
    assert ask(own, model, rows(3)) == [6]


def test_batches_are_filled_up_to_the_next_allowed_size() -> None:
    own, model = batcher(max_batch_size=8, allowed_batch_sizes=(4, 8)), Model()
    assert ask(own, model, rows(1, 2, 3)) == [2, 4, 6]
    assert model.sizes == [4]


def test_shapes_that_differ_share_a_batch_only_where_padding_is_on() -> None:
    def together(own: Batcher) -> list[Any]:
        model = Model()
        with ThreadPoolExecutor(4) as pool:
            first = blocked(own, model, pool)
            waiting = [
                pool.submit(own.run, model.servable, {"x": np.ones((1, width), np.float32)}, ["y"])
                for width in (2, 3)
            ]
            _until(lambda: own._waiting and own._waiting[0].size == 2)
            model.may_go.set()
            first.result()
            return [one.exception() or one.result()[0].tolist() for one in waiting]

    refused = together(batcher(max_batch_size=8))
    assert all(isinstance(one, ServingError) and "padding is turned off" in one.message for one in refused)
    padded = together(batcher(max_batch_size=8, pad_variable_length_inputs=True))
    assert sorted(padded) == [[[2, 2, 0]], [[2, 2, 2]]]


def test_what_cannot_be_batched_is_refused() -> None:
    own, model = batcher(max_batch_size=2), Model()
    with pytest.raises(ServingError, match="Task size 3 is larger than maximum input batch size 2"):
        ask(own, model, rows(1, 2, 3))
    with pytest.raises(ServingError, match="at least one dimension"):
        own.run(model.servable, {"x": np.float32(1).reshape(())}, ["y"])
    with pytest.raises(ServingError, match="equal 0th-dimension"):
        own.run(model.servable, {"x": rows(1), "z": rows(1, 2)}, ["y"])


def test_a_model_that_refuses_refuses_each_request_and_the_next_batch_is_computed() -> None:
    own, model = batcher(), Model()

    def refuse(feeds: Any, fetches: Sequence[str]) -> list[Any]:
        raise ServingError(Code.INVALID_ARGUMENT, "no")

    with pytest.raises(ServingError, match="no"):
        own.run(Servable("digits", 1, {}, refuse), {"x": rows(1)}, ["y"])
    assert ask(own, model, rows(4)) == [8]


def test_the_file_that_we_write_for_tf_serving_is_read(tmp_path: Path) -> None:
    path = tmp_path / "batching.pbtxt"
    given = {
        "max_batch_size": 32,
        "batch_timeout_micros": 500,
        "max_enqueued_batches": 7,
        "num_batch_threads": 3,
        "allowed_batch_sizes": [8, 32],
        "pad_variable_length_inputs": True,
    }
    path.write_text(batching_file(given))
    assert read_batching_parameters(path) == BatchingParameters(32, 500, 7, 3, (8, 32), True)
    path.write_text("")
    assert read_batching_parameters(path).max_batch_size == 1000


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("max_batch_sise { value: 1 }", "max_batch_sise"),
        ("max_batch_size { value: 0 }", "1 or more"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "the last of them max_batch_size"),
        ("batch_timeout_micros { value: -1 }", "0 or more"),
    ],
)
def test_a_file_that_means_nothing_is_refused(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "batching.pbtxt"
    path.write_text(text)
    with pytest.raises(InputError, match=named):
        read_batching_parameters(path)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--batching_parameters_file=x"], "give --enable_batching too"),
        (["--enable_batching", "--batching_parameters_file=/nonexistent"], "cannot be read"),
        (["--enable_batching=true", "--api=oip"], "batching is TF Serving's"),
    ],
)
def test_flags_that_do_not_fit_together_end_the_server(
    flags: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--backend=numpy", "--port=0", "--rest_api_port=0", *flags]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_batching_server_answers_as_one_that_does_not(tmp_path: Path, protocol: str) -> None:
    import urllib.request

    flags = ("--enable_batching=true",)
    with embedded_server("digits", backend="numpy", compute_ms=1, flags=flags) as server:
        endpoint = server.grpc if protocol == "grpc" else server.rest
        make_payload(
            endpoint, model_name="digits", out_dir=tmp_path / "payload", requests=10, batch_sizes=[2]
        )
        assert try_payload(tmp_path / "payload", endpoint) == 10
        url = f"http://{server.rest.host}:{server.rest.port}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as page:
            text = page.read().decode()
    assert ":tensorflow:serving:batching_session:processed_batch_size_sum{} 20" in text
    assert 'batching_session:queuing_latency_count{thread_pool_name="model_server_batch_threads"} 10' in text


def _until(condition: Any) -> None:
    import time

    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
