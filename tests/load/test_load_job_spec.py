"""What a user may ask of a load Job, and what becomes of it in the manifest."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from model_load_test.components.cluster.labels import RunIdentity
from model_load_test.components.errors import InputError
from model_load_test.components.load.job.manifest import Servers, job_manifest, job_name
from model_load_test.components.load.job.spec import longest_seconds, parse_job_spec, share_of
from model_load_test.components.load.spec import parse_load_spec

TOLERATION = {"key": "pool", "operator": "Equal", "value": "load", "effect": "NoSchedule"}
IDENTITY = RunIdentity("run-1", "load")
SERVERS = (Servers("models", {"app": "candidate"}), Servers("models", {"app": "baseline"}))


def manifest(servers: tuple[Servers, ...] = SERVERS, **values: Any) -> dict[str, Any]:
    return job_manifest(
        parse_job_spec({"generators": 3, **values}),
        IDENTITY,
        image="image:1",
        coordinator="10.0.0.1:4000",
        token="s3cret",
        deadline_seconds=100.4,
        servers=servers,
    )


def pod_spec(**values: Any) -> dict[str, Any]:
    spec: dict[str, Any] = manifest(**values)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"generators": 0}, "generators"),
        ({"generators": 2.5}, "generators"),
        ({"generators": True}, "generators"),
        ({"generator": 2}, "generator"),
        ({"tolerations": {"key": "a"}}, "tolerations"),
        ({"tolerations": [{"key": "a", "operator": "In"}]}, "tolerations[0].operator"),
        ({"node_selector": ["pool"]}, "node_selector"),
        ({"affinity": {"nodeaffinity": {}}}, "affinity.nodeaffinity"),
        ({"resources": {"requests": {"cpu": "much"}}}, "resources.requests.cpu"),
        ({"avoid": {"app": "x"}}, "avoid"),
        ({"avoid": [{"app": 1}]}, "avoid[0]"),
        ({"spread": "maybe"}, "spread"),
        ({"secrets": {"tls": "my-secret"}}, "secrets"),
        ({"pod": {"containers": []}}, "pod"),
        ({"start_timeout_seconds": 0}, "start_timeout_seconds"),
        ({"ttl_seconds": -1}, "ttl_seconds"),
        ({"image": 5}, "image"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_job_spec(values)
    assert caught.value.field == field


def test_numbers_of_kfp_are_doubles() -> None:
    spec = parse_job_spec({"generators": 6.0, "ttl_seconds": 60.0})
    assert (spec.generators, spec.ttl_seconds) == (6, 60)


@pytest.mark.parametrize("generators", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_shares_add_up_to_the_whole(generators: int, protocol: str) -> None:
    whole = parse_load_spec({"protocol": protocol, "rate_rps": 200.0})
    shares = [share_of(whole, index, generators) for index in range(generators)]
    assert sum(share.rate_rps for share in shares) == pytest.approx(200.0)
    assert max(s.rate_rps for s in shares) - min(s.rate_rps for s in shares) <= (protocol == "grpc")
    assert {msgspec.structs.replace(share, rate_rps=200.0) for share in shares} == {whole}


def test_what_is_too_little_to_share_is_refused() -> None:
    with pytest.raises(InputError, match="use fewer"):
        share_of(parse_load_spec({"rate_rps": 3.0}), 0, 4)


def test_the_deadline_is_longer_than_any_run() -> None:
    spec = parse_load_spec({"mode": "interleaved", "rate_rps": 200.0, "looks": (10, 60)})
    assert longest_seconds(spec) > 2 * 60 * (spec.block_seconds + spec.timeout_seconds)


def test_the_job_is_indexed_bounded_and_never_repeats_a_generator() -> None:
    job = manifest(ttl_seconds=77)
    spec = job["spec"]
    assert job["metadata"]["name"] == job_name(IDENTITY)
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert (spec["backoffLimit"], spec["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (100, 77)
    assert spec["template"]["metadata"]["labels"]["model-load-test/run"] == "run-1"


def test_names_of_different_runs_differ_and_are_bounded() -> None:
    names = {job_name(RunIdentity(run, "load")) for run in ("a" * 300, "a" * 299, "b", "B")}
    assert len(names) == 4
    assert all(len(name) <= 63 for name in names)


def test_tolerations_go_with_a_node_selector_and_the_spread_over_nodes() -> None:
    pod = pod_spec(tolerations=[TOLERATION], node_selector={"pool": "load"})
    assert pod["tolerations"] == [TOLERATION]
    assert pod["nodeSelector"] == {"pool": "load"}
    (spread,) = pod["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (
        "kubernetes.io/hostname",
        "ScheduleAnyway",
    )
    assert (
        "topologySpreadConstraints" not in pod_spec(spread="off")
        or not pod_spec(spread="off")["topologySpreadConstraints"]
    )


def test_generators_keep_off_the_servers_nodes_and_keep_the_users_affinity() -> None:
    own = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}}
    required = pod_spec(affinity=own)["affinity"]["podAntiAffinity"]
    terms = required["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms[0] == {"topologyKey": "zone"}
    assert [term["labelSelector"]["matchLabels"] for term in terms[1:]] == [
        {"app": "candidate"},
        {"app": "baseline"},
    ]
    assert {term["namespaces"][0] for term in terms[1:]} == {"models"}
    preferred = pod_spec(keep_off_servers="preferred")["affinity"]["podAntiAffinity"]
    assert len(preferred["preferredDuringSchedulingIgnoredDuringExecution"]) == 2
    assert "affinity" not in pod_spec(keep_off_servers="off")


def test_the_pod_is_fit_for_a_restricted_namespace_and_has_no_rights() -> None:
    pod = pod_spec(pod={"priorityClassName": "load"})
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["priorityClassName"] == "load"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    labels = manifest()["spec"]["template"]["metadata"]["labels"]
    assert labels["sidecar.istio.io/inject"] == "false"


def test_the_payload_is_in_no_manifest_and_the_token_on_no_command_line() -> None:
    job = manifest(secrets={"/secrets/tls": "my-tls"})
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert "s3cret" not in json.dumps(container["command"])
    assert "configMap" not in json.dumps(job)
    assert {"name": "secret-0", "mountPath": "/secrets/tls", "readOnly": True} in container["volumeMounts"]
    volumes = {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["secret-0"]["secret"]["secretName"] == "my-tls"


def test_generators_have_no_cpu_limit_of_their_own() -> None:
    (container,) = pod_spec()["containers"]
    assert "cpu" not in container["resources"]["limits"]
    assert container["resources"]["requests"]["cpu"] == "1"
