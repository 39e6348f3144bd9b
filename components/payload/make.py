"""Makes a payload set for a served model: valid requests, varied in signature, content and size."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from model_load_test.components.payload.content import Content, random_content
from model_load_test.components.payload.encoding import (
    Encoding,
    Protocol,
    encoding_of,
    takes_examples,
)
from model_load_test.components.payload.examples import read_examples, signature_of_examples
from model_load_test.components.payload.manifest import (
    BINARY,
    MANIFEST_NAME,
    PayloadError,
    PayloadInput,
    PayloadManifest,
    PayloadSignature,
    write_manifest,
)
from model_load_test.components.payload.mix import SignatureUse, parse_mix, proportioned
from model_load_test.components.payload.values import (
    RandomValues,
    Variation,
    batch_size_of,
    parse_variation,
    refuse_unmakeable,
)
from model_load_test.components.protocols.client import (
    Api,
    detect_api,
    dtypes_as_bytes,
    model_metadata,
    parse_api,
)
from model_load_test.components.protocols.endpoint import Endpoint
from model_load_test.components.protocols.protoset import protoset_of_method
from model_load_test.components.protocols.saved_model import read_signatures
from model_load_test.components.protocols.signature import (
    INIT_OP_SIGNATURE,
    NAMELESS,
    Signature,
    find_signature,
    parse_tensor_spec,
)
from model_load_test.components.protocols.tensors import Array
from model_load_test.components.protocols.tf_serving import DEFAULT_SIGNATURE_NAME

MAX_CONTENT_BYTES: Final = 1 << 30
"""A load generator holds the whole set in memory."""

_MAX_REQUESTS: Final = 10_000_000
_LISTED_BATCH_SIZES: Final = 6


@dataclass(frozen=True)
class _Part:
    """One signature of the set, and what its requests are made of."""

    signature: Signature
    weight: float
    content: Content
    variation: Variation


@dataclass
class _Written:
    """What has been counted while writing."""

    requests: list[int]
    """By signature."""
    batch_sizes: Counter[int]
    content_bytes: int = 0


def make_payload(
    source: Endpoint | Path | str,
    *,
    model_name: str,
    out_dir: Path | str,
    server: Endpoint | None = None,
    protocol: str = "",
    api: str = "auto",
    signature_name: str = DEFAULT_SIGNATURE_NAME,
    signatures: Mapping[str, Any] | None = None,
    requests: int = 1000,
    batch_sizes: Sequence[int] | None = None,
    distributions: Mapping[str, Any] | None = None,
    examples: Path | str | None = None,
    inputs: Mapping[str, str] | None = None,
    body_format: str = "auto",
    seed: int = 0,
) -> PayloadManifest:
    """Makes a payload set and writes it with its manifest into a folder.

    Args:
        source: Where the signature comes from: a running server's endpoint, or a SavedModel's
            folder (or its base path: then the latest version).
        model_name: The model's name on the server.
        out_dir: Folder to write into; made where it is missing.
        server: Who is to answer the requests, where `source` is a folder: asked whether it takes what JSON
            cannot carry.
        protocol: grpc or http; empty for the endpoint's own.
        api: tf-serving, oip, seldon or vertex; auto asks the server, and is tf-serving for a SavedModel.
        signature_name: The signature to call; of no meaning to APIs without signatures.
        signatures: Several signatures in one set instead: by name a weight, or an object with
            `weight`, `examples` and `distributions` of its own.
        requests: How many different requests to make.
        batch_sizes: Batch sizes to draw from, each equally likely; [1, 2, 4] where neither they nor
            a distribution of `batch_size` are given.
        distributions: What else is to vary and how, by name: `batch_size`, `sequence_length`,
            `image_size`, `string_length`, `value`, `value.INPUT`; each as
            `distributions.parse_distribution` reads it.
        examples: The user's own data to draw from, as `read_examples` reads it; without, values are
            random.
        inputs: The model's inputs, such as `{"x": "float32[?, 4]"}`, for servers that publish none.
        body_format: How requests are written where the API has a choice; auto is the one that suits
            the inputs and the server.
        seed: The same seed makes the same requests, on every machine.

    Returns:
        The manifest, as it was written.

    Raises:
        InputError: Something given cannot be used, the server does not answer, or it has no such
            model or signature.
    """
    server = source if isinstance(source, Endpoint) else server
    chosen_protocol = _protocol(server, protocol)
    _refuse_out_of_range(requests, batch_sizes, seed)
    mix = parse_mix(signatures) if signatures else (SignatureUse(signature_name),)
    known = {"batch_size": list(batch_sizes)} if batch_sizes else {}
    variation = {**known, **(distributions or {})}
    parse_variation(variation)
    chosen_api = _api(source, model_name, api)
    published = _published(source, model_name, chosen_api)
    common = Path(examples) if examples else None
    parts = tuple(
        _part(use, published, common, variation, _Model(model_name, chosen_api, inputs or {})) for use in mix
    )
    called = [part.signature for part in parts]
    if body_format == "auto" and chosen_protocol == "http" and _needs_binary(server, chosen_api, called):
        body_format = BINARY
    encoding = encoding_of(chosen_api, chosen_protocol, model_name, called, body_format)
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        head = (chosen_protocol, encoding.method, encoding.path, "")
        digest = hashlib.sha256("\0".join(head).encode())
        records = _records(parts, encoding, requests, seed)
        written = _write(folder / encoding.file_name, records, len(parts), digest)
        if encoding.protoset:
            needed = protoset_of_method(encoding.protoset.read_bytes(), encoding.method)
            (folder / encoding.protoset.name).write_bytes(needed)
        manifest = PayloadManifest(
            protocol=chosen_protocol,
            api=chosen_api,
            model_name=model_name,
            signatures=tuple(
                _described(part, count) for part, count in zip(parts, written.requests, strict=True)
            ),
            method=encoding.method,
            path=encoding.path,
            requests=requests,
            batch_sizes={str(size): written.batch_sizes[size] for size in sorted(written.batch_sizes)},
            seed=seed,
            content_bytes=written.content_bytes,
            hash=digest.hexdigest(),
            summary=_summary(chosen_protocol, model_name, parts, written),
            varied=_varied(parts),
            body_format=encoding.body_format,
            protoset=encoding.protoset.name if encoding.protoset else "",
        )
        write_manifest(folder, manifest)
    except OSError as error:
        raise PayloadError("out_dir", str(folder), f"cannot be written ({error.strerror})") from None
    return manifest


@dataclass(frozen=True)
class _Model:
    """What is known of the model beside what it publishes."""

    name: str
    api: Api
    inputs: Mapping[str, str]


def _api(source: Endpoint | Path | str, model_name: str, api: str) -> Api:
    parsed = parse_api(api)
    if parsed:
        return parsed
    return detect_api(source, model_name) if isinstance(source, Endpoint) else "tf-serving"


def _needs_binary(server: Endpoint | None, api: Api, called: Sequence[Signature]) -> bool:
    """Whether an input would not survive JSON, and the server takes its bytes as they are."""
    if api != "oip" or not server:
        return False
    dtypes = {spec.dtype for signature in called for spec in signature.inputs.values()}
    return not dtypes.isdisjoint(dtypes_as_bytes(server))


def _published(source: Endpoint | Path | str, model_name: str, api: Api) -> dict[str, Signature]:
    if isinstance(source, Endpoint):
        return model_metadata(source, model_name, api=api)
    return read_signatures(Path(source))


def _part(
    use: SignatureUse,
    published: Mapping[str, Signature],
    common_examples: Path | None,
    variation: Mapping[str, Any],
    model: _Model,
) -> _Part:
    examples = use.examples or common_examples
    signature = _signature(use.name, published, examples, model)
    place = f"signatures.{use.name}.distributions" if use.distributions else "distributions"
    varied = parse_variation({**variation, **(use.distributions or {})}, place)
    if examples:
        content = read_examples(examples, signature, varied)
    elif takes_examples(signature):
        raise PayloadError(
            "signature_name",
            use.name,
            "it takes serialised tf.Examples, whose features no signature tells; give examples (a TFRecord "
            f"file), or choose a predict signature of the model: {_predict_signatures(published)}",
        )
    else:
        content = random_content(signature, varied)
    return _Part(signature, use.weight, content, varied)


def _signature(
    name: str, published: Mapping[str, Signature], examples: Path | None, model: _Model
) -> Signature:
    if model.api == "vertex" and NAMELESS in published:
        # It publishes none, and knows none by name: the model server behind it does.
        signature = replace(published[NAMELESS], name=name)
    else:
        signature = find_signature(published, name, model.name)
    declared = {
        input_name: parse_tensor_spec(text, f"inputs.{input_name}")
        for input_name, text in model.inputs.items()
    }
    if signature.inputs and declared and dict(signature.inputs) != declared:
        shown = ", ".join(f"{one} {spec}" for one, spec in signature.inputs.items())
        raise PayloadError("inputs", dict(model.inputs), f"the model publishes {shown}; leave inputs empty")
    if signature.inputs:
        pass
    elif declared:
        signature = Signature(signature.name, signature.method_name, declared, {})
    elif model.api == "tf-serving":
        raise PayloadError("signature_name", name, "it has no inputs; choose one that has")
    else:
        told = signature_of_examples(examples) if examples else None
        if told is None:
            raise PayloadError(
                "inputs",
                dict(model.inputs),
                f"the server does not publish the inputs of {model.name!r}; declare them, such as "
                "{'x': 'float32[?, 4]'}, or give a recorded request as example",
            )
        signature = told
    named = model.api == "vertex" and name not in (NAMELESS, DEFAULT_SIGNATURE_NAME)
    if model.api != "tf-serving" and not named:
        signature = Signature(NAMELESS, "", signature.inputs, signature.outputs, signature.columns)
    refuse_unmakeable(signature)
    return signature


def _predict_signatures(published: Mapping[str, Signature]) -> str:
    names = [
        name
        for name, signature in published.items()
        if name != INIT_OP_SIGNATURE and not takes_examples(signature)
    ]
    return ", ".join(names) or "it has none"


def _records(
    parts: Sequence[_Part], encoding: Encoding, requests: int, seed: int
) -> Iterator[tuple[int, int, bytes]]:
    """For each request the place of its signature, its batch size and its record."""
    values = RandomValues(seed)
    for place in proportioned([part.weight for part in parts], requests):
        part = parts[place]
        inputs: Mapping[str, Array] = part.content.draw(values)
        yield place, batch_size_of(inputs), encoding.record(part.signature, inputs)


def _write(path: Path, records: Iterator[tuple[int, int, bytes]], signatures: int, digest: Any) -> _Written:
    written = _Written([0] * signatures, Counter())
    with path.open("wb") as file:
        for place, batch_size, record in records:
            digest.update(record)
            file.write(record)
            written.requests[place] += 1
            written.batch_sizes[batch_size] += 1
            written.content_bytes += len(record)
            if written.content_bytes > MAX_CONTENT_BYTES:
                file.truncate(0)
                raise PayloadError(
                    "requests",
                    sum(written.requests),
                    f"so many requests are {MAX_CONTENT_BYTES >> 30} GiB; make fewer, or smaller batches",
                )
    return written


def _protocol(server: Endpoint | None, protocol: str) -> Protocol:
    if not protocol:
        if server:
            return cast(Protocol, server.protocol)
        raise PayloadError("protocol", protocol, "a folder does not tell it; choose grpc or http")
    if protocol not in ("grpc", "http"):
        raise PayloadError("protocol", protocol, "choose grpc or http")
    return cast(Protocol, protocol)


def _refuse_out_of_range(requests: int, batch_sizes: Sequence[int] | None, seed: int) -> None:
    if not 1 <= requests <= _MAX_REQUESTS:
        raise PayloadError("requests", requests, f"give a number from 1 to {_MAX_REQUESTS}")
    if batch_sizes is not None and (not batch_sizes or min(batch_sizes) < 1):
        raise PayloadError("batch_sizes", list(batch_sizes), "give one batch size or more, each at least 1")
    if seed < 0:
        raise PayloadError("seed", seed, "give 0 or a positive number")


def _described(part: _Part, requests: int) -> PayloadSignature:
    return PayloadSignature(
        name=part.signature.name,
        requests=requests,
        inputs=tuple(
            PayloadInput(name, spec.dtype, spec.shape) for name, spec in part.signature.inputs.items()
        ),
        source=part.content.source,
    )


def _varied(parts: Sequence[_Part]) -> dict[str, str]:
    """The distributions in words; of a mix by signature."""
    words: dict[str, str] = {}
    for part in parts:
        prefix = f"{part.signature.name}: " if len(parts) > 1 else ""
        variation = part.variation
        named = {
            "batch_size": variation.batch_size,
            "sequence_length": variation.sequence_length,
            "string_length": variation.string_length,
            "image_size": variation.image_size,
            **{f"value.{name}" if name else "value": value for name, value in variation.values.items()},
        }
        words |= {
            f"{prefix}{name}": str(value)
            for name, value in named.items()
            if name == "batch_size" or name in variation.given
        }
    return words


def _summary(protocol: Protocol, model_name: str, parts: Sequence[_Part], written: _Written) -> str:
    requests = sum(written.requests)
    described = []
    for part, count in zip(parts, written.requests, strict=True):
        inputs = ", ".join(f"{name} {spec}" for name, spec in part.signature.inputs.items())
        name = f"{model_name}:{part.signature.name}" if part.signature.name else model_name
        share = f"{count / requests:.0%} " if len(parts) > 1 else ""
        source = "" if part.content.source == Content.source else f" from {part.content.source}"
        described.append(f"{share}{name} ({inputs}){source}")
    return (
        f"{requests} {protocol} requests for {'; '.join(described)}, "
        f"batch sizes {_batches(written.batch_sizes, requests)}, "
        f"{written.content_bytes / requests:.0f} bytes each on average"
    )


def _batches(sizes: Mapping[int, int], requests: int) -> str:
    if len(sizes) <= _LISTED_BATCH_SIZES:
        return ", ".join(f"{size} ({sizes[size] / requests:.0%})" for size in sorted(sizes))
    mean = sum(size * count for size, count in sizes.items()) / requests
    return f"{min(sizes)} to {max(sizes)} (mean {mean:.1f})"
