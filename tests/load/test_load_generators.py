from __future__ import annotations

from pathlib import Path

import pytest

from model_load_test.components.load.generators import (
    Attack,
    Generator,
    GeneratorMissing,
    attack_command,
    find_generator,
)
from model_load_test.components.load.spec import parse_load_spec
from model_load_test.components.protocols.endpoint import parse_endpoint


def attack(endpoint: str, rate_rps: float, load_seconds: float = 2.5) -> Attack:
    return Attack(
        parse_endpoint(endpoint), rate_rps, Path("payload"), load_seconds, Path("work/candidate-0001.json")
    )


def test_ghz_is_open_loop_and_ends_with_the_last_answer() -> None:
    command = attack_command(
        Generator("ghz", "/opt/ghz", "0.120.0"), parse_load_spec({}), attack("grpc://127.0.0.1:8500", 201)
    )
    words = command.attack
    assert "--async" in words
    assert "--rps=201" in words
    assert "--total=503" in words, "2.5 s of 201 requests a second, rounded up"
    assert not [word for word in words if word.startswith(("--duration=", "-z", "-x"))]
    assert words[-1] == "127.0.0.1:8500"
    assert "--insecure" in words


def test_ghz_encrypts_to_a_grpcs_endpoint() -> None:
    command = attack_command(
        Generator("ghz", "ghz", "0.120.0"), parse_load_spec({}), attack("grpcs://models.example:443", 200)
    )
    assert "--insecure" not in command.attack


@pytest.mark.parametrize(
    ("rate_rps", "flag"),
    [(200.0, "-rate=200/1s"), (0.5, "-rate=1/2s"), (12.4, "-rate=62/5s"), (201, "-rate=201/1s")],
)
def test_vegeta_gets_whole_requests_in_whole_seconds(rate_rps: float, flag: str) -> None:
    spec = parse_load_spec({"protocol": "http", "rate_rps": rate_rps})
    command = attack_command(
        Generator("vegeta", "vegeta", "12.13.0"), spec, attack("http://127.0.0.1:8501", rate_rps)
    )
    assert flag in command.attack
    assert command.decode[1] == "encode"


def test_a_closed_loop_has_workers_and_a_duration_instead_of_a_rate() -> None:
    ghz = attack_command(
        Generator("ghz", "ghz", "0.120.0"),
        parse_load_spec({"concurrency": 8, "connections": 2}),
        attack("grpc://127.0.0.1:8500", 0),
    ).attack
    assert {"--concurrency=8", "--connections=2", "--duration=2.5s", "--duration-stop=wait"} <= set(ghz)
    assert not [word for word in ghz if word.startswith(("--async", "--rps", "--total"))]
    vegeta = attack_command(
        Generator("vegeta", "vegeta", "12.13.0"),
        parse_load_spec({"protocol": "http", "concurrency": 8}),
        attack("http://127.0.0.1:8501", 0),
    ).attack
    assert {"-rate=0", "-workers=8", "-max-workers=8", "-duration=2.5s"} <= set(vegeta)


def test_ghz_wants_a_worker_for_each_connection() -> None:
    command = attack_command(
        Generator("ghz", "ghz", "0.120.0"), parse_load_spec({"connections": 4}), attack("grpc://a:1", 200)
    ).attack
    assert {"--connections=4", "--concurrency=4", "--async"} <= set(command)


def test_a_missing_generator_is_an_error_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(GeneratorMissing, match="make tools"):
        find_generator("vegeta")


def test_ghz_built_by_go_install_still_tells_its_version(repository: Path) -> None:
    if not (repository / ".tools" / "bin" / "ghz").exists():
        pytest.skip("ghz is not at .tools/bin (run `make tools`)")
    assert find_generator("ghz").version == "0.120.0"
