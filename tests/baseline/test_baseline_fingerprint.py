import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_load_test.components.baseline.canonical import canonical_json
from model_load_test.components.baseline.fingerprint import (
    Fingerprint,
    collect_fingerprint,
    explain_difference,
    explain_spec_difference,
    fingerprint_hash,
    fingerprint_json,
    fingerprint_text,
    parse_fingerprint,
)
from model_load_test.components.baseline.key import BaselineKey, load_spec_hash
from model_load_test.components.baseline.record import decode_record, encode_record
from model_load_test.components.errors import InputError

SERVED = Fingerprint(
    server_kind="tf-serving",
    server_image="tensorflow/serving@sha256:ab",
    server_flags=("--enable_batching", "--name=a b"),
    replicas=3,
    cpu_cores=8,
)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
fingerprints = st.builds(
    Fingerprint,
    server_kind=st.sampled_from(["embedded", "tf-serving", "triton"]),
    server_image=texts,
    server_flags=st.lists(texts, max_size=3).map(tuple),
    replicas=st.integers(0, 1000),
    node_type=texts,
    cpu_cores=st.integers(0, 512),
)


@given(fingerprints)
def test_a_fingerprint_survives_json_and_text(fingerprint):
    assert parse_fingerprint(fingerprint_json(fingerprint)) == fingerprint
    assert parse_fingerprint(msgspec.to_builtins(fingerprint)) == fingerprint
    assert parse_fingerprint(fingerprint_text(fingerprint)) == fingerprint


@given(fingerprints, fingerprints)
def test_fingerprints_hash_alike_exactly_when_nothing_differs(one, other):
    same = fingerprint_hash(one) == fingerprint_hash(other)
    assert same == (one == other) == (explain_difference(one, other) == [])


def test_a_difference_is_told_in_words():
    other = msgspec.structs.replace(SERVED, server_kind="embedded", replicas=1, node_type="e2-standard-4")
    assert explain_difference(SERVED, other) == [
        "server kind tf-serving against embedded",
        "replicas 3 against 1",
        "node type unknown against e2-standard-4",
    ]


def test_a_spec_difference_is_told_in_words():
    one = {"rate_rps": 200, "mode": "duet", "seed": 0}
    assert explain_spec_difference(one, {"rate_rps": 250.0, "mode": "duet", "tool": "ghz"}) == [
        "rate rps 200 against 250",
        "seed 0 against nothing",
        'tool nothing against "ghz"',
    ]
    assert explain_spec_difference(one, {**one, "rate_rps": 200.0}) == []


def test_the_order_of_flags_means_nothing():
    one = collect_fingerprint("tf-serving", server_flags=["--b", "--a"], environment={})
    other = collect_fingerprint("tf-serving", server_flags=["--a", "--b"], environment={})
    assert fingerprint_hash(one) == fingerprint_hash(other)


def test_a_laptop_names_its_system_and_cores():
    fingerprint = collect_fingerprint(
        "embedded", generator="ghz", generator_version="0.120.0", environment={}
    )
    assert fingerprint.cpu_cores >= 1
    assert "-" in fingerprint.node_type
    assert (fingerprint.generator, fingerprint.generator_version) == ("ghz", "0.120.0")


def test_a_pod_is_told_what_it_cannot_see():
    environment = {
        "MODEL_LOAD_TEST_NODE_TYPE": "n2-standard-8",
        "MODEL_LOAD_TEST_CPU_LIMIT": "4",
        "MODEL_LOAD_TEST_ACCELERATOR": "1 x NVIDIA L4",
        "MODEL_LOAD_TEST_SERVER_IMAGE": "tensorflow/serving@sha256:cd",
    }
    fingerprint = collect_fingerprint("kserve", replicas=2, environment=environment)
    assert fingerprint.node_type == "n2-standard-8"
    assert fingerprint.cpu_cores == 4
    assert fingerprint.accelerator == "1 x NVIDIA L4"
    assert fingerprint.server_image == "tensorflow/serving@sha256:cd"


def test_an_unknown_server_kind_is_refused():
    with pytest.raises(InputError, match="server_kind"):
        collect_fingerprint("apache", environment={})


@pytest.mark.parametrize("limit", ["0", "-1", "2.5", "four", "²"])
def test_a_wrong_cpu_limit_is_refused(limit):
    with pytest.raises(InputError, match="MODEL_LOAD_TEST_CPU_LIMIT"):
        collect_fingerprint("embedded", environment={"MODEL_LOAD_TEST_CPU_LIMIT": limit})


@pytest.mark.parametrize(
    "wrong",
    [
        "no json",
        "[]",
        {},
        {"server_kind": "apache"},
        {"server_kind": "triton", "replicas": "many"},
        {"server_kind": "triton", "server_flags": '"'},
        {"server_kind": "triton", "schema_version": 99},
    ],
)
def test_what_is_no_fingerprint_is_refused(wrong):
    with pytest.raises(InputError, match="fingerprint"):
        parse_fingerprint(wrong)


def test_the_canonical_spelling_is_fixed():
    # Keys in stores depend on it: a change here orphans every recorded baseline.
    value = {"b": 200.0, "a": [1.5, True, None, "ü"], "c": {"y": -0.0, "x": (1,)}}
    assert canonical_json(value, "spec") == '{"a":[1.5,true,null,"ü"],"b":200,"c":{"x":[1],"y":0}}'
    key = BaselineKey(
        namespace="n", model_name="m", load_spec_hash=load_spec_hash(value), fingerprint_hash="f"
    )
    assert key.name == "mlt1/n/m/8a1c171a6366d0ed0a0f5d756111b6e7"


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), b"bytes", {1: 2}, {"a"}, object()])
def test_what_has_no_json_form_is_refused(wrong):
    with pytest.raises(InputError, match=r"load_spec\.load_spec\.field"):
        load_spec_hash({"field": wrong})


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=400).filter(str.strip)


@given(names, names)
def test_a_key_name_is_short_safe_and_its_own(namespace, model_name):
    key = BaselineKey(namespace=namespace, model_name=model_name, load_spec_hash="s", fingerprint_hash="f")
    parts = key.name.split("/")
    assert len(key.name) <= 255
    assert len(parts) == 4
    assert key.name.isascii()
    assert not {"", ".", ".."} & set(parts)
    swapped = msgspec.structs.replace(key, namespace=model_name, model_name=namespace)
    assert (swapped.name == key.name) == (namespace == model_name)


@pytest.mark.parametrize("field", ["namespace", "model_name", "load_spec_hash", "fingerprint_hash"])
def test_a_blank_part_of_a_key_is_refused(field):
    fields = {"namespace": "n", "model_name": "m", "load_spec_hash": "s", "fingerprint_hash": "f", field: " "}
    with pytest.raises(InputError, match=rf"key\.{field}"):
        BaselineKey(**fields)


def test_numbers_of_any_kind_become_plain_ones(make_record):
    numpy = pytest.importorskip("numpy")
    record = make_record(1, metrics={"gate_passed": True, "n": 3, "p50_ms": numpy.float32(0.5)})
    assert decode_record(encode_record(record)) == record
    assert record.metrics == {"gate_passed": 1.0, "n": 3.0, "p50_ms": 0.5}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"metrics": {"p50_ms": float("nan")}}, r"record\.metrics\.p50_ms"),
        ({"metrics": {"p50_ms": float("inf")}}, r"record\.metrics\.p50_ms"),
        ({"run_id": " "}, r"record\.run_id"),
        ({"created_at_ns": 0}, r"record\.created_at_ns"),
    ],
)
def test_a_record_that_says_nothing_is_refused(make_record, changes, field):
    with pytest.raises(InputError, match=field):
        make_record(1, **changes)


def test_a_record_of_a_later_release_is_refused(make_record):
    later = encode_record(make_record(1)).replace(b'"schema_version":1}', b'"schema_version":2}')
    with pytest.raises(InputError, match="upgrade model-load-test"):
        decode_record(later)


def test_a_record_too_large_is_refused_before_it_is_stored(make_record):
    with pytest.raises(InputError, match="keep a record under"):
        encode_record(make_record(1, load_spec={"payload": "x" * 70_000}))


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_anything_else_is_no_record(text):
    with pytest.raises(InputError):
        decode_record(text)
