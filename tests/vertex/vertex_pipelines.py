"""A FAKE of Vertex Pipelines: runs a compiled pipeline on this machine as Vertex AI's documents say it does.

On top of what KFP's own driver and launcher do (tests/tfx/kfp_backend.py): branches, Google's
placeholders, artifacts' metadata in arguments, arguments that are put together from pieces, and CustomJobs,
whose payload must be one by google-cloud-aiplatform's definition; its container is run here in place of
the machine it asks for. GCPC's own launchers run as they are, against the fake of Vertex AI's API.
"""

import json
import re
import sys
import uuid

from google.cloud.aiplatform_v1 import types
from google.protobuf import json_format

kfp_backend = sys.modules["tests_tfx_kfp_backend"]
TaskRun, defaults, upstream = kfp_backend.TaskRun, kfp_backend.defaults, kfp_backend.upstream

kfp_backend.MOUNT_OF_SCHEME["https://"] = "/gcs/resources/"
"""Resources are artifacts too, with nothing where they are mounted."""

NOT_TRIGGERED = "NOT_TRIGGERED"
_PARAMETER = re.compile(r"inputs\.parameter_values\['([^']+)'\]")
_METADATA = re.compile(r"\{\{\$\.inputs\.artifacts\['([^']+)'\]\.metadata\['([^']+)'\]\}\}")


class VertexPipelines(kfp_backend.Backend):
    """Runs pipelines of one project, location and service account."""

    def __init__(self, folder, root, images, around):
        super().__init__(folder, root, images)
        self.around = around
        """Google's placeholders without their braces, to what they mean here."""
        self.custom_jobs = []

    def _dag(self, path, component, parameters, artifacts):
        parameters = {**defaults(component), **parameters}
        parameters = {name: self._resolved(value) for name, value in parameters.items()}
        tasks, done = component["dag"]["tasks"], {}
        while len(done) < len(tasks):
            ready = [name for name in tasks if name not in done and upstream(tasks[name]) <= set(done)]
            assert ready, f"the tasks {sorted(set(tasks) - set(done))} wait for each other"
            for name in ready:
                done[name] = self._turn(f"{path}{name}", tasks[name], done, parameters, artifacts)
                self.tasks[f"{path}{name}"] = done[name]
        ended = {run.state for run in done.values()}
        outcome = TaskRun("SUCCEEDED" if ended <= {"SUCCEEDED", NOT_TRIGGERED} else "FAILED")
        if outcome.state == "SUCCEEDED":
            outputs = component["dag"].get("outputs", {})
            for name, chosen in outputs.get("parameters", {}).items():
                one = chosen["valueFromParameter"]
                outcome.parameters[name] = done[one["producerSubtask"]].parameters[one["outputParameterKey"]]
            for name, chosen in outputs.get("artifacts", {}).items():
                (one,) = chosen["artifactSelectors"]
                outcome.artifacts[name] = done[one["producerSubtask"]].artifacts[one["outputArtifactKey"]]
        return outcome

    def _turn(self, path, task, done, parameters, artifacts):
        policy = task.get("triggerPolicy", {})
        always = policy.get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
        if not always and any(done[other].state in ("FAILED", "SKIPPED") for other in upstream(task)):
            return TaskRun("SKIPPED")
        if "condition" in policy:
            given = {
                name: done[one["taskOutputParameter"]["producerTask"]].parameters[
                    one["taskOutputParameter"]["outputParameterKey"]
                ]
                if "taskOutputParameter" in one
                else parameters[one["componentInputParameter"]]
                for name, one in task["inputs"]["parameters"].items()
                if "runtimeValue" not in one
            }
            if not holds(policy["condition"], given):
                return TaskRun(NOT_TRIGGERED)
        return self._task(path, task, done, parameters, artifacts)

    def _constant(self, value):
        return self._resolved(super()._constant(value))

    def _resolved(self, value):
        if isinstance(value, str):
            for place, meant in self.around.items():
                value = value.replace("{{$." + place + "}}", meant)
        return value

    def _container(self, path, component, container, parameters, artifacts):
        given = {**defaults(component), **parameters}
        given = {name: self._resolved(value) for name, value in given.items()}
        words = [*container.get("command", ()), *container.get("args", ())]
        words = [piece for word in words for piece in put_together(word, artifacts)]
        words = [
            _METADATA.sub(lambda found: artifacts[found[1]]["metadata"][found[2]], word) for word in words
        ]
        words = [self._resolved(word) for word in words]
        if "google_cloud_pipeline_components.container.v1.custom_job.launcher" in words:
            image, words = self._custom_job(words, given)
            container = {**container, "image": image}
        made = super()._container(
            path, component, {**container, "command": words, "args": []}, given, artifacts
        )
        declared = component.get("outputDefinitions", {}).get("parameters", {})
        for name, value in made.parameters.items():
            made.parameters[name] = typed(value, declared[name]["parameterType"])
        return made

    def _custom_job(self, words, given):
        """The image and the command of the job's one container."""
        payload = words[words.index("--payload") + 1]
        payload = payload.replace("{{$.json_escape[1]}}", "EXECUTOR_INPUT")
        for name, value in given.items():
            text = value if isinstance(value, str) else json.dumps(value)
            payload = payload.replace("{{$.inputs.parameters['" + name + "']}}", text)
        # What was put in may itself have places to be filled.
        payload = payload.replace("{{$.json_escape[1]}}", "EXECUTOR_INPUT")
        for name, value in given.items():
            if isinstance(value, str):
                payload = payload.replace("{{$.inputs.parameters['" + name + "']}}", value)
        job = types.CustomJob()
        json_format.ParseDict(without_empty(json.loads(self._resolved(payload))), types.CustomJob.pb(job))
        self.custom_jobs.append(job)
        (pool,) = job.job_spec.worker_pool_specs
        command = [*pool.container_spec.command, *pool.container_spec.args]
        return pool.container_spec.image_uri, [
            "{{$}}" if word == "EXECUTOR_INPUT" else word for word in command
        ]


def holds(condition, given):
    """Whether a condition of kfp's compiler holds."""
    text = _PARAMETER.sub(lambda found: repr(given[found[1]]), condition)
    text = text.replace("&&", " and ").replace("||", " or ")
    text = re.sub(r"!(?!=)", " not ", text)
    return bool(eval(text, {"__builtins__": {}, "true": True, "false": False}))


def put_together(word, artifacts):
    """The words that an argument of kfp's compiler stands for."""
    if not word.startswith(('{"Concat"', '{"IfPresent"')):
        return [word]
    return words_of(json.loads(word), artifacts)


def words_of(piece, artifacts):
    if isinstance(piece, str):
        return [piece]
    if "Concat" in piece:
        return ["".join(word for one in piece["Concat"] for word in words_of(one, artifacts))]
    asked = piece["IfPresent"]
    chosen = asked.get("Then" if asked["InputName"] in artifacts else "Else", [])
    return [
        word
        for one in (chosen if isinstance(chosen, list) else [chosen])
        for word in words_of(one, artifacts)
    ]


def typed(value, kind):
    """An output as its type has it: what was written to a file is text."""
    if not isinstance(value, str) or kind == "STRING":
        return value
    return json.loads(value) if value else None


def without_empty(value):
    """As GCPC's launcher does before it sends a payload."""
    if isinstance(value, dict):
        return {name: without_empty(one) for name, one in value.items() if one}
    return [without_empty(one) for one in value] if isinstance(value, list) else value


def new_job_id():
    return f"load-test-gate-{uuid.uuid4().hex[:14]}"
