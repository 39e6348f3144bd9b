"""Load on Vertex AI's endpoints: tokens that end while it runs, secrets that stay out of sight."""

import json
import shutil
import stat
from dataclasses import replace

import pytest

from model_load_test.components.errors import InputError
from model_load_test.components.load.connection import (
    ConnectionOptionsError,
    parse_connection_options,
    refuse_longer_than_token,
    refuse_unfit,
    write_vegeta_targets,
)
from model_load_test.components.load.preflight import prepare
from model_load_test.components.load.run import StopDecision, run_load_test
from model_load_test.components.load.spec import LoadSpec
from model_load_test.components.payload.make import make_payload
from model_load_test.components.payload.manifest import HttpBody
from model_load_test.components.protocols.endpoint import parse_endpoint

WITH_TOKEN = {"ca_file": "system", "token_source": "google"}
SHARED = "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/endpoints/1"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"token_source": "aws"}, "token_source"),
        ({"token_source": "google", "token_file": "/token"}, "token_file"),
    ],
)
def test_a_token_comes_from_one_place(options, field):
    with pytest.raises(ConnectionOptionsError) as refused:
        parse_connection_options(options)
    assert refused.value.field == field


def test_a_token_never_goes_unencrypted(google):
    options = parse_connection_options({"token_source": "google"})
    with pytest.raises(ConnectionOptionsError, match="a token is not sent unencrypted"):
        refuse_unfit(options, parse_endpoint("http://8.aiplatform.googleapis.com/v1/models/1"), "e")
    refuse_unfit(options, parse_endpoint("http://127.0.0.1:8501"), "e")


@pytest.mark.parametrize("field", ["block_seconds", "warmup_seconds"])
def test_load_that_a_token_may_not_outlive_is_refused(google, field):
    options = parse_connection_options(WITH_TOKEN)
    refuse_longer_than_token(options, LoadSpec(protocol="http", tool="vegeta", **{field: 220.0}))
    with pytest.raises(ConnectionOptionsError, match=r"may end after 225 s .* at or below 220") as refused:
        refuse_longer_than_token(options, LoadSpec(protocol="http", tool="vegeta", **{field: 221.0}))
    assert refused.value.field == field


def test_the_target_file_has_the_name_alone_as_host_and_is_its_owners(google, tmp_path):
    path = tmp_path / "targets.jsonl"
    options = parse_connection_options(WITH_TOKEN)
    write_vegeta_targets(path, parse_endpoint(SHARED), ":predict", [HttpBody(b"{}")], options)
    target = json.loads(path.read_text())
    assert target["url"] == SHARED.replace(".com/", ".com:443/") + ":predict"
    assert target["header"]["Host"] == ["europe-west4-aiplatform.googleapis.com"]
    assert target["header"]["Authorization"][0].startswith("Bearer ya29.")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.fixture
def vegeta_here(google, sibling, tmp_path, monkeypatch):
    """A vegeta on PATH for which Google's names are on this machine."""
    real = shutil.which("vegeta")
    if not real:
        pytest.skip("vegeta is not on PATH")
    folder = tmp_path / "programs"
    folder.mkdir()
    sibling("vegeta_names").write_vegeta(folder, real, google.port)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def prepared(deployed, tmp_path, **changes):
    candidate, baseline = deployed(), deployed()
    payload = tmp_path / "payload"
    endpoint = replace(parse_endpoint(candidate), access=parse_connection_options(WITH_TOKEN).access())
    make_payload(endpoint, model_name="digits", inputs={"x": "float32[?, 4]"}, requests=10, out_dir=payload)
    given = {
        "candidate_endpoint": candidate,
        "baseline_endpoint": baseline,
        "model_name": "digits",
        "signature_name": "",
        "payload_path": payload,
        "mode": "auto",
        "spec_values": {
            "rate_rps": 20,
            "block_seconds": 1.0,
            "looks": (3,),
            "warmup_seconds": 1.0,
            "timeout_seconds": 2.0,
        },
        "work_path": tmp_path / "work",
        "connection": WITH_TOKEN,
        "limits": {"allowed_hosts": ["*.googleapis.com"]},
    }
    return prepare(**{**given, **changes})


def until_the_end(_):
    return StopDecision(False, "")


def test_tokens_are_renewed_between_blocks_and_no_request_fails(
    google, deployed, tmp_path, vegeta_here, capfd
):
    google.identity.lifetime_seconds = 4
    test = prepared(deployed, tmp_path)
    assert test.server_kind == "vertex"
    table, metadata = run_load_test(test, until_the_end)
    frame = table.to_pandas()
    assert set(frame.arm) == {"candidate", "baseline"}
    assert frame.ok.all(), frame[~frame.ok].error.unique()
    used = {token for _, _, token in google.vertex.predictions}
    assert len(used) >= 4, "a token for every stretch of load"
    assert not [check for check in metadata.checks if check["consequence"] == "INVALID"]
    seen = capfd.readouterr()
    everything = seen.out + seen.err + repr(metadata) + str(table.to_pydict())
    assert not [token for token in used if token in everything]
    assert not list((tmp_path / "work").glob("targets-*")), "the files with tokens are gone"


def test_a_run_goes_on_with_the_old_token_where_none_is_given(google, deployed, tmp_path, vegeta_here):
    google.identity.lifetime_seconds = 60
    test = prepared(deployed, tmp_path)
    google.identity.refusing = True
    table, _ = run_load_test(test, until_the_end)
    assert table.to_pandas().ok.all()


def test_a_run_whose_identity_is_gone_says_so_and_keeps_its_rows(google, deployed, tmp_path, vegeta_here):
    google.identity.lifetime_seconds = 3
    test = prepared(deployed, tmp_path)
    google.identity.refusing = True
    table, metadata = run_load_test(test, until_the_end)
    codes = [check["code"] for check in metadata.checks]
    assert codes.count("credentials-not-renewed") == 1
    frame = table.to_pandas()
    assert frame.ok.any()
    assert set(frame[~frame.ok].status) == {"401"}


def test_hosts_of_google_are_loaded_only_when_they_are_named(google, deployed, tmp_path):
    with pytest.raises(InputError, match="allowed_hosts"):
        prepared(deployed, tmp_path, limits={})


def test_a_baseline_that_shares_its_traffic_out_is_refused_before_any_load(
    google, deployed, tmp_path, vegeta_here
):
    baseline = deployed()
    endpoint = google.vertex.endpoints[baseline.partition("/v1/")[2]]
    endpoint.traffic_split = {endpoint.deployed_models[0].id: 50, "1": 50}
    with pytest.raises(InputError, match="shared out"):
        prepared(deployed, tmp_path, baseline_endpoint=baseline)
