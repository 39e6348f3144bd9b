"""The Roles in manifests/ are what the code asks for, verb by verb, each with its reason."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_load_test.components.cluster.rights import Right
from model_load_test.components.load.job.coordinator import RIGHTS
from model_load_test.components.resources.kubernetes import RIGHTS as RESOURCE_RIGHTS
from model_load_test.components.serving.backends import BACKENDS
from model_load_test.components.serving.reuse import REUSE_RIGHTS

Verbs = dict[tuple[str, str], set[str]]
SERVERS_ELSEWHERE = (Right("", "services", ("get",)), Right("", "pods", ("list",)))


def of_rights(rights: Iterable[Right]) -> Verbs:
    verbs: Verbs = defaultdict(set)
    for one in rights:
        verbs[one.group, one.resource] |= set(one.verbs)
    return verbs


def of_features(repository: Path, *features: str) -> Verbs:
    verbs: Verbs = defaultdict(set)
    for feature in features:
        role = yaml.safe_load((repository / "manifests" / "features" / feature / "role.yaml").read_text())
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    verbs[group, resource] |= set(rule["verbs"])
    return verbs


def test_the_load_jobs_role_is_what_it_asks_for(repository: Path) -> None:
    assert of_features(repository, "load-job") == of_rights(RIGHTS)


@pytest.mark.parametrize(
    ("kinds", "features"),
    [
        (("tf-serving", "embedded", "triton"), ("serving",)),
        (("kserve",), ("serving", "serving-kserve")),
        (("seldon", "seldon-v2"), ("serving", "serving-seldon")),
    ],
)
def test_the_serving_roles_are_what_deploying_asks_for(
    repository: Path, kinds: tuple[str, ...], features: tuple[str, ...]
) -> None:
    granted = of_features(repository, *features)
    asked = of_rights(one for kind in kinds for one in BACKENDS[kind].rights)
    for resource, verbs in asked.items():
        assert verbs <= granted[resource], resource
    own = of_features(repository, features[-1])
    for resource, verbs in own.items():
        assert verbs <= asked[resource], f"{resource} {verbs - asked[resource]} is granted and not asked for"


def test_looking_at_a_live_server_takes_no_more_than_it_asks_for(repository: Path) -> None:
    assert of_features(repository, "reuse") == of_rights(REUSE_RIGHTS)
    assert of_features(repository, "servers-elsewhere") == of_rights(SERVERS_ELSEWHERE)


def test_seeing_what_pods_use_takes_no_more_than_it_asks_for(repository: Path) -> None:
    assert of_features(repository, "resources") == of_rights(RESOURCE_RIGHTS)


def test_every_verb_is_justified_and_none_is_a_wildcard(repository: Path) -> None:
    roles = sorted((repository / "manifests" / "features").glob("*/*role.yaml"))
    assert len(roles) >= 7
    for path in roles:
        text = path.read_text()
        assert "*" not in text, path
        role = yaml.safe_load(text)
        granted = sum(len(rule["verbs"]) for rule in role["rules"])
        assert len(re.findall(r"^ +- [a-z]+ # \S.{8,}$", text, re.MULTILINE)) == granted, path


def kubectl() -> str:
    found = shutil.which("kubectl")
    cached = sorted((Path.home() / ".cache" / "model-load-test-cluster").glob("kubernetes-*/kubectl"))
    if not found and not cached:
        pytest.skip("kubectl is not on PATH")
    return found or str(cached[-1])


@pytest.mark.parametrize("overlay", ["load-job", "deploy-and-gate", "everything"])
def test_the_overlays_build_and_bind_every_role_to_the_account(repository: Path, overlay: str) -> None:
    folder = repository / "manifests" / "overlays" / overlay
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    built: list[dict[str, Any]] = list(yaml.safe_load_all(done.stdout))
    roles = {one["metadata"]["name"] for one in built if one["kind"] in ("Role", "ClusterRole")}
    bindings = [one for one in built if one["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    assert roles == {one["roleRef"]["name"] for one in bindings}
    assert {one["subjects"][0]["name"] for one in bindings} == {"model-load-test"}
    assert [one["metadata"]["name"] for one in built if one["kind"] == "ServiceAccount"] == [
        "model-load-test"
    ]
