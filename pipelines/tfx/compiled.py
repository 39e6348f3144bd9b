"""Compiled pipelines as documents: read, told apart by content, checked and written."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from model_load_test.components.errors import InputError
from model_load_test.components.kfp_version import require_kfp
from model_load_test.pipelines.knobs import described_once

SCHEMA_VERSION: Final = "2.1.0"
_COMPILE_SO: Final = "compile with use_pipeline_spec_2_1=True and an output_filename that ends in .yaml"


@dataclass(frozen=True)
class CompiledPipeline:
    """One pipeline in the form that KFP uploads."""

    spec: dict[str, Any]
    """The pipeline spec, schema 2.1."""
    platform: dict[str, Any] = field(default_factory=dict)
    """Settings for Kubernetes; empty where there are none."""

    def text(self) -> str:
        """The YAML: one document, or two with settings for Kubernetes."""
        documents = [self.spec, self.platform] if self.platform else [self.spec]
        return yaml.safe_dump_all(documents, sort_keys=True)

    def write(self, path: Path | str) -> Path:
        """Writes the YAML and returns its path."""
        written = Path(path)
        written.write_text(self.text(), encoding="utf-8")
        return written


def read_compiled(source: Path | str | Mapping[str, Any], name: str) -> CompiledPipeline:
    """Reads a compiled pipeline.

    Args:
        source: A file, or the pipeline spec itself.
        name: Of the parameter, for errors.

    Raises:
        InputError: It cannot be read, is no compiled pipeline, or has another schema than 2.1.
    """
    documents = [source] if isinstance(source, Mapping) else _documents(Path(source), name)
    if any("pipelineSpec" in document for document in documents):
        raise InputError(name, "a PipelineJob of schema 2.0", _COMPILE_SO)
    specs = [document for document in documents if "pipelineInfo" in document]
    platforms = [document for document in documents if "platforms" in document]
    if len(specs) != 1 or len(platforms) != len(documents) - 1:
        raise InputError(name, _shown(source), "give one compiled pipeline, as a .yaml file of KFP or TFX")
    version = str(specs[0].get("schemaVersion", ""))
    if version != SCHEMA_VERSION:
        raise InputError(name, f"schemaVersion {version or 'missing'}", _COMPILE_SO)
    return CompiledPipeline(spec=dict(specs[0]), platform=dict(platforms[0]) if platforms else {})


def compile_pipeline(pipeline: Any) -> CompiledPipeline:
    """Compiles a pipeline of the KFP SDK.

    Raises:
        InputError: The KFP SDK is not supported.
    """
    require_kfp()
    from kfp import compiler

    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(compiled))
        read = read_compiled(compiled, "pipeline")
    return CompiledPipeline(spec=described_once(read.spec), platform=read.platform)


def check_compiled(pipeline: CompiledPipeline) -> None:
    """Refuses what KFP's own message type cannot hold.

    Raises:
        ValueError: The pipeline spec is malformed.
    """
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    json_format.ParseDict(pipeline.spec, pipeline_spec_pb2.PipelineSpec())


def nearest(word: str, known: Iterable[str]) -> str:
    """What to write instead of a word that is none of the known ones, as a remedy."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose among {', '.join(sorted(names)) or 'none'}"


def _documents(path: Path, name: str) -> list[Mapping[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(name, str(path), f"give a file that can be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(name, str(path), f"give a compiled pipeline in YAML ({error})") from None
    return [document for document in documents if isinstance(document, Mapping)]


def _shown(source: Path | str | Mapping[str, Any]) -> str:
    return "a mapping" if isinstance(source, Mapping) else str(source)
