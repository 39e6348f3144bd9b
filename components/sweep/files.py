"""What a sweep leaves behind, as files: report, page, and what the best configuration is started with."""

from __future__ import annotations

from pathlib import Path

import msgspec

from model_load_test.components.serving.model_uri import Storage
from model_load_test.components.serving.spec import ServingSpec
from model_load_test.components.sweep.manifest import batching_text, manifests_text
from model_load_test.components.sweep.page import render_sweep
from model_load_test.components.sweep.parameters import configure
from model_load_test.components.sweep.result import SweepReport, write_sweep
from model_load_test.components.sweep.spec import SweepSpec


def best_serving(spec: SweepSpec, report: SweepReport) -> ServingSpec | None:
    """How the best configuration is served; None where there is none."""
    if not report.best:
        return None
    parameters = report.configuration(report.best).parameters
    return configure(spec.serving, spec.model_name, {**spec.reference, **parameters})


def write_sweep_files(
    folder: Path, spec: SweepSpec, report: SweepReport, model_uri: str, storage: Storage | None = None
) -> None:
    """Writes `sweep.json` and `sweep.html`, and of the best configuration, where there is one, its files.

    `best.yaml` are its manifests, `batching.txt` the file that says how it makes batches, and
    `serving.json` its serving spec, which `deploy_and_gate` takes.

    Args:
        folder: Where to; made where it is missing.
        spec: The sweep.
        report: What it found.
        model_uri: The model that the manifests serve.
        storage: How to get at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_sweep(folder / "sweep.json", report)
    (folder / "sweep.html").write_text(render_sweep(report), encoding="utf-8")
    serving = best_serving(spec, report)
    texts = {"best.yaml": "", "batching.txt": "", "serving.json": ""}
    if serving is not None:
        rates = ", ".join(f"{rate:g}" for rate in report.rates_rps)
        remark = f"{report.best_text}\nMeasured by a serving sweep at {rates} requests/s."
        texts["best.yaml"] = manifests_text(serving, model_uri, remark, storage)
        texts["batching.txt"] = batching_text(serving)
        given = msgspec.to_builtins(serving)
        defaults = msgspec.to_builtins(ServingSpec(model_name=serving.model_name))
        told = {name: value for name, value in given.items() if name == "kind" or value != defaults[name]}
        texts["serving.json"] = msgspec.json.format(msgspec.json.encode(told), indent=2).decode()
    for name, text in texts.items():
        if text:
            (folder / name).write_text(text, encoding="utf-8")
        else:
            (folder / name).unlink(missing_ok=True)
