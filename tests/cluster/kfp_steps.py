"""Runs a compiled pipeline's steps on a cluster, each in a pod of its own, as Kubeflow Pipelines would.

What KFP's driver does (inputs resolved, executor input and command line made from the compiled IR,
Kubernetes settings put into the pod) is done here; what its launcher does, by kfp_launcher.py in the
pod; artifacts travel through artifact_store.py. Left out are Argo, ML Metadata, caching, loops and
conditions: an IR that needs one of those, or any setting not known here, is refused.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from cluster_api import Kube, Manifest, wait_for
from cluster_fixtures import restricted_pod
from google.protobuf import json_format
from kfp.local.placeholder_utils import resolve_struct_placeholders
from kfp.pipeline_spec import pipeline_spec_pb2

Values = dict[str, Any]

HERE = Path(__file__).parent
STORE_PORT = 8080
SCRATCH = ("/minio", "/.local", "/.cache", "/.config")
"""Empty volumes that KFP's pods have beside /tmp; the first is where artifacts are."""
STEP_SECONDS = 240.0
WHOLE = {"NUMBER_INTEGER"}


@dataclass(frozen=True)
class Step:
    """What became of one task."""

    state: str
    """SUCCEEDED, FAILED or SKIPPED."""
    log: str = ""
    parameters: Values = field(default_factory=dict)
    artifacts: Values = field(default_factory=dict)
    """Output artifacts by name, as the next task's executor input has them."""
    spec: Manifest = field(default_factory=dict)
    """Its pod's, as it was scheduled."""


@dataclass(frozen=True)
class PipelineRun:
    """A finished run. Steps are keyed by their path, such as `load-test-gate/enforce-gate`."""

    steps: Mapping[str, Step]
    outputs: Values
    _runner: Runner

    @property
    def succeeded(self) -> bool:
        """Whether KFP would show the run as succeeded."""
        return all(step.state == "SUCCEEDED" for step in self.steps.values())

    def artifact(self, step: str, name: str) -> bytes:
        """The content of an output artifact that is one file."""
        return self._runner.stored(self.steps[step].artifacts[name]["uri"].partition("://")[2])

    def executor_input(self, step: str) -> Values:
        """What the step was given."""
        return self._runner.executor_inputs[step]


@contextmanager
def pipeline_runner(kube: Kube, namespace: str, image: str) -> Iterator[Runner]:
    """A store for artifacts in the namespace, and what runs pipelines with it.

    Args:
        kube: The cluster.
        namespace: Where the pods go.
        image: Runs the store; has Python.
    """
    scripts = {name: (HERE / name).read_text() for name in ("artifact_store.py", "kfp_launcher.py")}
    store = restricted_pod(
        "artifact-store", image, ["python3", "/scripts/artifact_store.py", "/tmp/store", str(STORE_PORT)]
    )
    store["metadata"]["labels"] = {"app": "artifact-store"}
    store["spec"]["volumes"].append({"name": "scripts", "configMap": {"name": "kfp-stand-in"}})
    store["spec"]["containers"][0]["volumeMounts"].append({"name": "scripts", "mountPath": "/scripts"})
    store["spec"]["containers"][0]["readinessProbe"] = {
        "httpGet": {"path": "/none?keys", "port": STORE_PORT},
        "periodSeconds": 1,
    }
    kube.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kfp-stand-in"}, "data": scripts},
        store,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "artifact-store"},
            "spec": {"selector": {"app": "artifact-store"}, "ports": [{"port": STORE_PORT}]},
        },
        namespace=namespace,
    )
    path = f"/api/v1/namespaces/{namespace}/pods/artifact-store"
    wait_for("readiness of the artifact store", 60, lambda: _is_ready(kube.get(path)))
    yield Runner(kube, namespace)


class Runner:
    """Runs compiled pipelines in one namespace, one step after the other."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self.executor_inputs: dict[str, Values] = {}
        self._artifact_ids = iter(range(1, 10**6))

    def run(
        self, compiled: Path, arguments: Values, *, service_account: str = "", run_id: str = ""
    ) -> PipelineRun:
        """Runs a compiled pipeline with these arguments.

        Args:
            compiled: The YAML, with Kubernetes settings as a second document where it has any.
            arguments: The root's parameters; what is not given takes its default.
            service_account: Of the steps' pods, as KFP's `pipeline-runner`.
            run_id: The run's id; a new one by default.
        """
        documents = list(yaml.safe_load_all(compiled.read_text()))
        run = _Run(self, documents[0], _platform(documents[1:]), service_account, run_id or str(uuid.uuid4()))
        root = documents[0]["root"]
        parameters = {**_defaults(root), **arguments}
        outputs = run.dag("", root, parameters, {})
        return PipelineRun(run.steps, outputs.parameters, self)

    def stored(self, key: str) -> bytes:
        """The bytes under a key of the store."""
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        return self.kube.read(f"{pods}/artifact-store:{STORE_PORT}/proxy/{quote(key)}")

    def name_artifact(self) -> str:
        """The next artifact's id, which KFP takes from ML Metadata and gives as its name."""
        return str(next(self._artifact_ids))


class _Run:
    """One run of one pipeline."""

    def __init__(
        self, runner: Runner, spec: Values, platform: Values, service_account: str, run_id: str
    ) -> None:
        self.steps: dict[str, Step] = {}
        self._runner = runner
        self._components: Values = spec.get("components", {})
        self._executors: Values = spec["deploymentSpec"]["executors"]
        self._platform = platform
        self._service_account = service_account
        self._job = {
            "pipeline_job_name": f"{spec['pipelineInfo']['name']}-{run_id[:5]}",
            "pipeline_job_resource_name": f"{spec['pipelineInfo']['name']}-{run_id[:5]}",
            "pipeline_job_uuid": run_id,
        }
        self._root = f"minio://mlpipeline/v2/artifacts/{spec['pipelineInfo']['name']}/{run_id}"

    def dag(self, prefix: str, component: Values, parameters: Values, artifacts: Values) -> Step:
        """Runs the tasks of a DAG in order; what it yields is its outputs."""
        done: dict[str, Step] = {}
        tasks: Values = dict(component["dag"]["tasks"])
        while tasks:
            name = next(n for n, t in tasks.items() if not set(t.get("dependentTasks", [])) & set(tasks))
            task = tasks.pop(name)
            done[name] = self._task(f"{prefix}{name}", task, done, parameters, artifacts)
        failed = [step for step in done.values() if step.state != "SUCCEEDED"]
        if failed:
            return Step("FAILED")
        return Step("SUCCEEDED", "", *_dag_outputs(component["dag"].get("outputs", {}), done))

    def _task(
        self, path: str, task: Values, done: Mapping[str, Step], parameters: Values, artifacts: Values
    ) -> Step:
        _refuse(task, {"artifactIterator", "parameterIterator", "iteratorPolicy"}, path)
        trigger = task.get("triggerPolicy", {})
        _refuse(trigger, {"condition"}, path)
        upstream = [done[name].state for name in task.get("dependentTasks", [])]
        always = trigger.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        if not always and any(state != "SUCCEEDED" for state in upstream):
            self.steps[path] = Step("SKIPPED")
            return self.steps[path]
        component = self._components[task["componentRef"]["name"]]
        given = task.get("inputs", {})
        values = {
            **_defaults(component),
            **self._parameters(path, given.get("parameters", {}), done, parameters),
        }
        inputs = _artifacts(given.get("artifacts", {}), done, artifacts)
        if "dag" in component:
            return self.dag(f"{path}/", component, values, inputs)
        self.steps[path] = self._step(path, component, values, inputs, parameters)
        return self.steps[path]

    def _parameters(self, path: str, given: Values, done: Mapping[str, Step], outer: Values) -> Values:
        found: Values = {}
        for name, source in given.items():
            _refuse(source, {"parameterExpressionSelector"}, f"{path}.{name}")
            if "componentInputParameter" in source:
                if source["componentInputParameter"] in outer:
                    found[name] = outer[source["componentInputParameter"]]
            elif "taskOutputParameter" in source:
                producer = done[source["taskOutputParameter"]["producerTask"]]
                key = source["taskOutputParameter"]["outputParameterKey"]
                if key in producer.parameters:
                    found[name] = producer.parameters[key]
            elif "taskFinalStatus" in source:
                producer_name = source["taskFinalStatus"]["producerTask"]
                state = done[producer_name].state
                found[name] = {
                    "state": state,
                    "pipelineJobResourceName": self._job["pipeline_job_resource_name"],
                    "pipelineTaskName": producer_name,
                    "error": {}
                    if state == "SUCCEEDED"
                    else {"code": 9, "message": f"{producer_name} failed"},
                }
            else:
                found[name] = source["runtimeValue"]["constant"]
        # Constants may name the run, or, in an f-string, other inputs of the same task.
        placeholders = {**self._of_job(path), **_of_parameters(found)}
        return {
            name: _replaced(value, placeholders) if isinstance(value, str) else value
            for name, value in found.items()
        }

    def _of_job(self, path: str) -> dict[str, str]:
        names = {**self._job, "pipeline_task_name": path.rpartition("/")[2], "pipeline_task_uuid": path}
        return {f"{{{{$.{name}}}}}": value for name, value in names.items()}

    def _step(self, path: str, component: Values, values: Values, inputs: Values, outer: Values) -> Step:
        label = component["executorLabel"]
        executor_input = self._executor_input(path, component, values, inputs)
        self._runner.executor_inputs[path] = executor_input
        container = self._executors[label]["container"]
        pod = self._pod(path, container, executor_input)
        _set_platform(pod["spec"], self._platform.get(label, {}), outer, label)
        name, kube, namespace = pod["metadata"]["name"], self._runner.kube, self._runner.namespace
        kube.create(pod, namespace=namespace)
        pod_path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        phase = wait_for(f"the end of {path}", STEP_SECONDS, lambda: _ended(kube.get(pod_path)))
        log, spec = kube.log(namespace, name), kube.get(pod_path)["spec"]
        print(f"{path}: {phase}")
        kube.delete(pod_path)
        if phase != "Succeeded":
            return Step("FAILED", log, spec=spec)
        written = json.loads(self._runner.stored(f"executions/{name}"))
        return Step(
            "SUCCEEDED",
            log,
            _typed(written.get("parameterValues", {}), component),
            self._output_artifacts(executor_input, written),
            spec,
        )

    def _executor_input(self, path: str, component: Values, values: Values, inputs: Values) -> Values:
        given = component.get("inputDefinitions", {})
        outputs = component.get("outputDefinitions", {})
        salt = uuid.uuid4()
        executor_input = {
            "inputs": {
                "parameterValues": {
                    name: _as_go_writes(value)
                    for name, value in values.items()
                    if name in given.get("parameters", {}) or name.startswith("pipelinechannel--")
                },
                "artifacts": {
                    name: {"artifacts": [artifact]}
                    for name, artifact in inputs.items()
                    if name in given.get("artifacts", {})
                },
            },
            "outputs": {
                "parameters": {
                    name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in outputs.get("parameters", {})
                },
                "artifacts": {
                    name: {
                        "artifacts": [
                            {
                                "name": name,
                                "type": definition["artifactType"],
                                "uri": f"{self._root}/{path}/{salt}/{name}",
                                "metadata": {},
                            }
                        ]
                    }
                    for name, definition in outputs.get("artifacts", {}).items()
                },
                "outputFile": "/tmp/kfp_outputs/output_metadata.json",
            },
        }
        # KFP's own message takes it, or this harness has made something that KFP never would.
        json_format.ParseDict(executor_input, pipeline_spec_pb2.ExecutorInput())
        return executor_input

    def _pod(self, path: str, container: Values, executor_input: Values) -> Manifest:
        _refuse(container, {"lifecycle"}, path)
        name = re.sub(r"[^a-z0-9-]", "-", f"{path.replace('/', '-')}-{uuid.uuid4().hex[:6]}")[-60:].strip("-")
        placeholders = {**_placeholders(executor_input), **self._of_job(path)}
        words = [*container.get("command", []), *container.get("args", [])]
        command = [_replaced(word, placeholders) for word in _present(words, executor_input)]
        store = f"http://artifact-store:{STORE_PORT}"
        text = placeholders["{{$}}"]
        launch = ["python3", "/kfp-launcher/kfp_launcher.py", store, f"executions/{name}", text, "--"]
        pod = restricted_pod(name, container["image"], [*launch, *command])
        pod["metadata"]["labels"] = {"pipeline/runid": self._job["pipeline_job_uuid"]}
        spec = pod["spec"]
        if self._service_account:
            spec["serviceAccountName"] = self._service_account
        (main,) = spec["containers"]
        main["env"] = [
            {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "KFP_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            *container.get("env", []),
        ]
        main["resources"] = _resources(container.get("resources", {}), placeholders, path)
        spec["volumes"].append({"name": "kfp-launcher", "configMap": {"name": "kfp-stand-in"}})
        main["volumeMounts"].append({"name": "kfp-launcher", "mountPath": "/kfp-launcher"})
        for folder in SCRATCH:
            volume = f"scratch{folder.replace('/', '-').replace('.', '')}"
            spec["volumes"].append({"name": volume, "emptyDir": {}})
            main["volumeMounts"].append({"name": volume, "mountPath": folder})
        return pod

    def _output_artifacts(self, executor_input: Values, written: Values) -> Values:
        """Output artifacts with what the step said of them, named as KFP names them to the next step."""
        found: Values = {}
        for name, listed in executor_input["outputs"]["artifacts"].items():
            said = written.get("artifacts", {}).get(name, {}).get("artifacts", [{}])[0]
            metadata = _as_go_writes(said.get("metadata", {}))
            found[name] = {
                **listed["artifacts"][0],
                "uri": said.get("uri") or listed["artifacts"][0]["uri"],
                "metadata": metadata,
                "name": self._runner.name_artifact(),
            }
        return found


def _platform(documents: list[Values]) -> Values:
    if not documents:
        return {}
    executors: Values = documents[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return executors


def _defaults(component: Values) -> Values:
    return {
        name: definition["defaultValue"]
        for name, definition in component.get("inputDefinitions", {}).get("parameters", {}).items()
        if "defaultValue" in definition
    }


def _artifacts(given: Values, done: Mapping[str, Step], outer: Values) -> Values:
    found: Values = {}
    for name, source in given.items():
        if "taskOutputArtifact" in source:
            producer = done[source["taskOutputArtifact"]["producerTask"]]
            key = source["taskOutputArtifact"]["outputArtifactKey"]
            if key in producer.artifacts:
                found[name] = producer.artifacts[key]
        elif source["componentInputArtifact"] in outer:
            found[name] = outer[source["componentInputArtifact"]]
    return found


def _dag_outputs(outputs: Values, done: Mapping[str, Step]) -> tuple[Values, Values]:
    parameters: Values = {}
    for name, source in outputs.get("parameters", {}).items():
        _refuse(source, {"valueFromOneof"}, name)
        selected = source["valueFromParameter"]
        producer = done[selected["producerSubtask"]]
        parameters[name] = producer.parameters[selected["outputParameterKey"]]
    artifacts: Values = {}
    for name, source in outputs.get("artifacts", {}).items():
        (selected,) = source["artifactSelectors"]
        artifacts[name] = done[selected["producerSubtask"]].artifacts[selected["outputArtifactKey"]]
    return parameters, artifacts


def _placeholders(executor_input: Values) -> dict[str, str]:
    """What KFP's launcher replaces in a command line (launcher_v2.go, getPlaceholders)."""
    found = {"{{$}}": json.dumps(executor_input)}
    for side in ("inputs", "outputs"):
        for name, listed in executor_input[side].get("artifacts", {}).items():
            uri = listed["artifacts"][0]["uri"]
            found[f"{{{{$.{side}.artifacts['{name}'].uri}}}}"] = uri
            found[f"{{{{$.{side}.artifacts['{name}'].path}}}}"] = re.sub(r"^(\w+)://", r"/\1/", uri)
    found.update(_of_parameters(executor_input["inputs"]["parameterValues"]))
    for name, parameter in executor_input["outputs"]["parameters"].items():
        found[f"{{{{$.outputs.parameters['{name}'].output_file}}}}"] = parameter["outputFile"]
    return found


def _of_parameters(values: Values) -> dict[str, str]:
    return {
        f"{{{{$.inputs.parameters['{name}']}}}}": value
        if isinstance(value, str)
        else json.dumps(_as_go_writes(value))
        for name, value in values.items()
    }


def _replaced(text: str, placeholders: Mapping[str, str]) -> str:
    for placeholder, value in placeholders.items():
        text = text.replace(placeholder, value)
    return text


def _present(words: list[str], executor_input: Values) -> list[str]:
    """The command line with KFP's optional parts decided."""
    inputs = executor_input["inputs"]
    provided = [*inputs["parameterValues"], *inputs["artifacts"]]
    decided = (resolve_struct_placeholders(word, provided) for word in words)
    return [
        word
        for found in decided
        for word in (found if isinstance(found, list) else [found])
        if word is not None
    ]


def _as_go_writes(value: Any) -> Any:
    """A value as Go's JSON has it: a whole number without a fraction."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_as_go_writes(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_go_writes(item) for key, item in value.items()}
    return value


def _typed(values: Values, component: Values) -> Values:
    """Output parameters in their types; in a file they are text."""
    definitions = component.get("outputDefinitions", {}).get("parameters", {})
    return {
        name: json.loads(value)
        if isinstance(value, str) and definitions[name]["parameterType"] != "STRING"
        else value
        for name, value in values.items()
    }


def _set_platform(spec: Manifest, settings: Values, parameters: Values, label: str) -> None:
    """Puts Kubernetes settings into a pod, as KFP's driver does (driver/k8s.go)."""

    def value(source: Values) -> Any:
        if "runtimeValue" in source:
            constant = source["runtimeValue"]["constant"]
            return json.loads(constant) if isinstance(constant, str) else constant
        return parameters.get(source["componentInputParameter"])

    for key, setting in settings.items():
        if key == "tolerations":
            for toleration in setting:
                found = value(toleration["tolerationJson"]) if "tolerationJson" in toleration else toleration
                spec.setdefault("tolerations", []).extend(
                    found if isinstance(found, list) else [found] * bool(found)
                )
        elif key == "nodeSelector":
            found = value(setting["nodeSelectorJson"]) if "nodeSelectorJson" in setting else setting["labels"]
            if found:
                spec["nodeSelector"] = found
        elif key == "nodeAffinity":
            for term in setting:
                if found := value(term["nodeAffinityJson"]):
                    spec["affinity"] = {"nodeAffinity": found}
        elif key == "secretAsVolume":
            (main,) = spec["containers"]
            for number, one in enumerate(setting):
                name = (
                    value(one["secretNameParameter"]) if "secretNameParameter" in one else one["secretName"]
                )
                secret = {"secretName": name, "optional": one.get("optional", False)}
                spec["volumes"].append({"name": f"secret-{number}", "secret": secret})
                main["volumeMounts"].append({"name": f"secret-{number}", "mountPath": one["mountPath"]})
        elif key == "fieldPathAsEnv":
            (main,) = spec["containers"]
            main["env"] += [
                {"name": one["name"], "valueFrom": {"fieldRef": {"fieldPath": one["fieldPath"]}}}
                for one in setting
            ]
        else:
            raise NotImplementedError(f"{label}: the Kubernetes setting {key} is not known here")


def _resources(settings: Values, placeholders: Mapping[str, str], where: str) -> Manifest:
    """A container's resources, as KFP's driver makes them (driver.go, initPodSpecPatch)."""
    kinds = {
        "resourceCpuRequest": ("requests", "cpu"),
        "resourceCpuLimit": ("limits", "cpu"),
        "resourceMemoryRequest": ("requests", "memory"),
        "resourceMemoryLimit": ("limits", "memory"),
    }
    _refuse(settings, set(settings) - set(kinds), where)
    resources: Manifest = {}
    for name, quantity in settings.items():
        part, resource = kinds[name]
        resources.setdefault(part, {})[resource] = _replaced(quantity, placeholders)
    return resources


def _is_ready(pod: Manifest) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _ended(pod: Manifest) -> str:
    phase: str = pod["status"]["phase"]
    return phase if phase in ("Succeeded", "Failed") else ""


def _refuse(spec: Values, keys: set[str], where: str) -> None:
    if found := keys & set(spec):
        raise NotImplementedError(f"{where}: {', '.join(sorted(found))} is not known here")
