from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_load_test.components.load.rates import (
    Ramp,
    RateError,
    RateProfile,
    Sine,
    Steps,
    block_rates,
    parse_rate_profile,
    read_timestamps,
    replay_of,
)

positive = st.floats(1, 500)
profiles = st.one_of(
    st.builds(Ramp, positive, positive, positive),
    st.builds(
        lambda mean, share, period: Sine(mean, mean * share, period), positive, st.floats(0, 1), positive
    ),
    st.builds(
        lambda low, by, count, every: Steps(low, low + by * count, by, every),
        positive,
        positive,
        st.integers(1, 20),
        st.floats(1, 30),
    ),
    st.lists(st.floats(0, 100), min_size=1, max_size=300).map(lambda times: replay_of(np.array(times))),
)


@given(profiles, st.floats(0.2, 20), st.booleans())
def test_every_request_of_the_profile_is_offered_whole_rates_or_not(
    profile: RateProfile, block_seconds: float, whole: bool
) -> None:
    try:
        rates = block_rates(profile, block_seconds, whole=whole)
    except RateError:  # so few requests in so long blocks that each rounds to none
        assert profile.requests_until(profile.seconds) < len_of(profile, block_seconds) * block_seconds
        return
    wanted = profile.requests_until(len(rates) * block_seconds)
    # what rounding owes at the end is less than one request per second of a block
    assert abs(sum(rates) * block_seconds - wanted) <= 0.51 * block_seconds + 1e-3 * len(rates)
    assert all(rate >= 0 for rate in rates)
    assert not whole or all(rate == int(rate) for rate in rates)


def len_of(profile: RateProfile, block_seconds: float) -> int:
    return int(profile.seconds / block_seconds) + 1


@given(profiles, st.floats(0, 100), st.floats(0, 100))
def test_requests_are_the_integral_of_the_rate(profile: RateProfile, one: float, other: float) -> None:
    if hasattr(profile, "arrivals_seconds"):
        return  # a sum of single moments has no rate in between
    begin, end = sorted((one, other))
    moments = np.linspace(begin, end, 2_001)
    heights = np.array([profile.rate_rps(moment) for moment in moments])
    area = float(np.trapezoid(heights, moments))
    step = (end - begin) / 2_000
    assert profile.requests_until(end) - profile.requests_until(begin) == pytest.approx(
        area, abs=1e-3 + heights.max() * step * 25
    )


def test_a_ramp_rises_by_the_same_amount_from_pair_to_pair() -> None:
    rates = block_rates(Ramp(100, 400, 30), 1.0, whole=False)
    assert len(rates) == 30
    assert np.allclose(np.diff(rates), 10)
    assert rates[0] == pytest.approx(105)
    assert rates[-1] == pytest.approx(395)


def test_steps_hold_their_rate_and_end_where_they_are_meant_to() -> None:
    rates = block_rates(Steps(100, 350, 100, 3), 1.0, whole=True)
    assert rates == (100, 100, 100, 200, 200, 200, 300, 300, 300, 350, 350, 350)
    assert block_rates(Steps(30, 10, -10, 2), 2.0, whole=True) == (30, 20, 10)


def test_a_wave_comes_back_to_its_mean() -> None:
    rates = block_rates(Sine(100, 80, 20), 1.0, whole=False)
    assert np.mean(rates) == pytest.approx(100)
    assert max(rates) == pytest.approx(180, abs=2)
    assert min(rates) == pytest.approx(20, abs=2)


def test_a_replay_has_the_arrivals_of_each_stretch_and_its_pauses() -> None:
    arrivals = [0.0, 0.1, 0.2, 0.9, 1.5, 5.0]
    assert block_rates(replay_of(np.array(arrivals)), 1.0, whole=True) == (4, 1, 0, 0, 0, 1)


def test_a_replay_takes_any_origin_and_order_and_tells_itself_apart() -> None:
    unix = replay_of(np.array([1763716202.5, 1763716200.25, 1763716201.0]))
    assert np.allclose(unix.arrivals_seconds, [0, 0.75, 2.25])
    assert str(unix) == str(replay_of(np.array([0, 0.75, 2.25])))
    assert str(unix) != str(replay_of(np.array([0, 0.76, 2.25])))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0.5\n1.25\n", [0.5, 1.25]),
        ("# of Monday\n\n1763716200\n1763716201.5\n", [1763716200, 1763716201.5]),
        ("2025-11-21T09:10:00Z\n2025-11-21T10:10:00.250+01:00\n", [1763716200, 1763716200.25]),
        ("2025-11-21 09:10:00\n1763716201\n", [1763716200, 1763716201]),
    ],
)
def test_timestamps_are_numbers_or_times(tmp_path: Path, text: str, seconds: list[float]) -> None:
    (tmp_path / "arrivals.txt").write_text(text)
    assert np.allclose(read_timestamps(str(tmp_path / "arrivals.txt")), seconds, rtol=0, atol=1e-3)
    (tmp_path / "arrivals.txt.gz").write_bytes(gzip.compress(text.encode()))
    location = f"file://{tmp_path / 'arrivals.txt.gz'}"
    assert np.allclose(read_timestamps(location), seconds, rtol=0, atol=1e-3)


def test_units_are_said_and_not_guessed(tmp_path: Path) -> None:
    file = tmp_path / "ns.txt"
    file.write_text("1763716200000000000\n1763716200500000000\n")
    with pytest.raises(RateError, match="give the unit ms, us or ns"):
        parse_rate_profile({"shape": "replay", "file": str(file)})
    replay = parse_rate_profile({"shape": "replay", "file": str(file), "unit": "ns"})
    assert replay.seconds == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "field", "remedy"),
    [
        ({}, "rate_profile.shape", "step, ramp, sine, replay"),
        ({"shape": "saw"}, "rate_profile.shape", "step, ramp, sine, replay"),
        (
            {"shape": "ramp", "from_rps": 50, "to_rps": -10, "seconds": 5},
            "rate_profile.to_rps",
            "not negative",
        ),
        ({"shape": "ramp", "from_rps": 50, "to_rps": 60}, "rate_profile.seconds", "give a number"),
        ({"shape": "ramp", "from_rps": 5, "to_rps": 6, "seconds": 0}, "rate_profile.seconds", "above 0"),
        ({"shape": "ramp", "from_rps": True, "to_rps": 6, "seconds": 9}, "rate_profile.from_rps", "a number"),
        (
            {"shape": "ramp", "from": 5, "to_rps": 6, "seconds": 9},
            "rate_profile.from",
            "did you mean 'from_rps'",
        ),
        (
            {"shape": "sine", "mean_rps": 50, "amplitude_rps": 60, "period_seconds": 9},
            "rate_profile.amplitude_rps",
            "would be negative",
        ),
        (
            {"shape": "step", "from_rps": 50, "to_rps": 20, "by_rps": 10, "every_seconds": 9},
            "rate_profile.by_rps",
            "direction",
        ),
        (
            {"shape": "step", "from_rps": 0, "to_rps": 2e6, "by_rps": 1, "every_seconds": 9},
            "rate_profile.by_rps",
            "larger steps",
        ),
        ({"shape": "replay"}, "rate_profile.file", "one timestamp a line"),
        ({"shape": "replay", "file": "/nowhere/arrivals"}, "rate_profile.file", "cannot be read"),
        ({"shape": "replay", "file": "x", "unit": "h"}, "rate_profile.unit", "s, ms, us, ns"),
    ],
)
def test_a_profile_that_cannot_be_offered_is_refused(values: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(RateError) as caught:
        parse_rate_profile(values)
    assert caught.value.field == field
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "no timestamp"),
        ("# none\n", "no timestamp"),
        ("1\nnoon\n", "'noon' is no time"),
        ("nan\n", "no seconds"),
    ],
)
def test_a_file_without_times_is_refused(tmp_path: Path, text: str, remedy: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(RateError, match=remedy):
        parse_rate_profile({"shape": "replay", "file": str(tmp_path / "a.txt")})


def test_a_profile_without_requests_or_with_too_many_pairs_is_refused() -> None:
    with pytest.raises(RateError, match="no request"):
        block_rates(Ramp(0, 0, 10), 1.0, whole=True)
    with pytest.raises(RateError, match="longer blocks"):
        block_rates(Ramp(1, 2, 20_000), 1.0, whole=True)


def test_profiles_say_what_they_are() -> None:
    assert str(Ramp(50, 400, 60)) == "ramp from 50 to 400 requests/s in 60 s"
    assert str(Sine(100, 50, 60)) == "sine of 100 +/- 50 requests/s, period 60 s"
    assert str(Steps(100, 300, 100, 10)) == "steps of +100 requests/s every 10 s from 100 to 300"
