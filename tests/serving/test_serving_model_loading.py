"""Where models come from, and that what is served is what was meant."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model_load_test.components.serving.model_loading import load_model, main, tree_sha256
from model_load_test.components.serving.model_uri import (
    ModelUriError,
    Storage,
    parse_model_uri,
    parse_storage,
)


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    """What a loader can tell of a SavedModel: its files. No server reads it here."""
    folder = tmp_path / "claim" / "digits"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"weights")
    return folder


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server and the folder it shows."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def archive_of(folder: Path, path: Path) -> str:
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("text", "scheme", "place", "path"),
    [
        ("pvc://claim/models/digits/", "pvc", "claim", "models/digits"),
        ("pvc://claim", "pvc", "claim", ""),
        ("gs://bucket/a/b", "gs", "bucket", "a/b"),
        ("s3://bucket/a", "s3", "bucket", "a"),
        ("minio://mlpipeline/v2/artifacts/x/model", "minio", "mlpipeline", "v2/artifacts/x/model"),
        ("/minio/mlpipeline/v2/artifacts/x/model", "minio", "mlpipeline", "v2/artifacts/x/model"),
        ("/gcs/bucket/model", "gs", "bucket", "model"),
        ("https://host:8443/m.tar.gz", "https", "host:8443", "m.tar.gz"),
    ],
)
def test_every_place_a_model_may_lie(text: str, scheme: str, place: str, path: str) -> None:
    uri = parse_model_uri(text)
    assert (uri.scheme, uri.place, uri.path) == (scheme, place, path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("digits", "pvc://"),
        ("hf://model", "gs://"),
        ("gs://bucket", "folder in the bucket"),
        ("gs:///a", "missing"),
        ("s3://key:secret@bucket/a", "Secret"),
        ("https://host/model", "archive"),
        ("gs://b/a/../c", "leads elsewhere"),
        ("gs://b/a#md5=1", "sha256="),
        ("s3://b/a?endpoint=x", "storage"),
    ],
)
def test_a_uri_that_leads_nowhere_says_what_to_give(text: str, named: str) -> None:
    with pytest.raises(ModelUriError, match=named) as caught:
        parse_model_uri(text, "candidate_model")
    assert "candidate_model" in str(caught.value)
    assert "secret@" not in str(caught.value), "credentials are not repeated"


def test_kfps_own_store_is_known_and_its_session_info_is_read() -> None:
    minio = parse_storage({}, parse_model_uri("minio://mlpipeline/x"))
    assert minio.secret == "mlpipeline-minio-artifact"
    assert minio.endpoint == "http://minio-service.kubeflow:9000"
    info = {
        "Provider": "s3",
        "Params": {
            "endpoint": "seaweed:8333",
            "disableSSL": "true",
            "fromEnv": "false",
            "secretName": "creds",
            "accessKeyKey": "a",
            "secretKeyKey": "b",
        },
    }
    assert parse_storage(info) == Storage("http://seaweed:8333", "", "creds", "a", "b")
    from_environment = {"Provider": "s3", "Params": {"fromEnv": "true", "secretName": "unused"}}
    assert parse_storage(from_environment).secret == ""
    with pytest.raises(ModelUriError, match="did you mean 'secret'"):
        parse_storage({"secrets": "x"})


def test_a_saved_model_becomes_version_1_and_its_checksum_is_the_one_of_sha256sum(
    saved_model: Path, tmp_path: Path
) -> None:
    loaded = load_model(
        parse_model_uri("pvc://c/digits"), tmp_path / "m" / "d", "tf-serving", claim=saved_model.parent
    )
    assert (tmp_path / "m" / "d" / "1" / "variables" / "variables.index").read_bytes() == b"weights"
    assert (loaded.versions, loaded.files) == (("1",), 2)
    listed = subprocess.run(
        "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum",
        shell=True,
        cwd=saved_model,
        capture_output=True,
        check=True,
    )
    assert loaded.sha256 == hashlib.sha256(listed.stdout).hexdigest()


def test_version_folders_stay_and_what_is_no_version_is_left_behind(
    saved_model: Path, tmp_path: Path
) -> None:
    base = tmp_path / "claim" / "versions"
    shutil.copytree(saved_model, base / "3")
    shutil.copytree(saved_model, base / "12")
    (base / "7").mkdir()
    (base / "notes").mkdir()
    loaded = load_model(
        parse_model_uri("pvc://c/versions"), tmp_path / "m" / "d", "tf-serving", claim=base.parent
    )
    assert loaded.versions == ("3", "12")
    assert sorted(path.name for path in (tmp_path / "m" / "d").iterdir()) == ["12", "3"]


def test_a_container_that_starts_again_loads_anew(saved_model: Path, tmp_path: Path) -> None:
    uri, into = parse_model_uri("pvc://c/digits"), tmp_path / "m" / "d"
    for _ in range(2):
        loaded = load_model(uri, into, "tf-serving", claim=saved_model.parent)
    assert loaded.files == 2


def test_an_archive_from_the_web_is_verified_and_unpacked(
    saved_model: Path, web: tuple[str, Path], tmp_path: Path
) -> None:
    url, folder = web
    digest = archive_of(saved_model, folder / "m.tar.gz")
    uri = parse_model_uri(f"{url}/m.tar.gz#sha256={digest}")
    loaded = load_model(uri, tmp_path / "m" / "d", "tf-serving")
    assert loaded.sha256 == tree_sha256(saved_model)
    other = parse_model_uri(f"{url}/m.tar.gz#sha256={'0' * 64}")
    with pytest.raises(ModelUriError, match=digest):
        load_model(other, tmp_path / "m" / "d", "tf-serving")


def test_an_archive_that_writes_outside_of_itself_is_refused(web: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = web
    with zipfile.ZipFile(folder / "m.zip", "w") as packed:
        packed.writestr("../../outside", "x")
    with tarfile.open(folder / "m.tar", "w") as tar:
        (tmp_path / "x").write_text("x")
        tar.add(tmp_path / "x", arcname="../../outside")
    for name in ("m.zip", "m.tar"):
        with pytest.raises(ModelUriError, match="archive"):
            load_model(parse_model_uri(f"{url}/{name}"), tmp_path / "m" / "d", "tf-serving")
    assert not list(tmp_path.parent.rglob("outside"))


def test_a_file_that_is_no_archive_is_called_damaged(web: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = web
    (folder / "m.tar.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(ModelUriError, match="cannot be unpacked"):
        load_model(parse_model_uri(f"{url}/m.tar.gz"), tmp_path / "m" / "d", "tf-serving")


@pytest.mark.parametrize(
    ("path", "named"),
    [("pvc://c/none", "at its top are: digits"), ("pvc://c/digits/variables", "variables.index")],
)
def test_where_no_model_is_the_error_lists_what_is(
    path: str, named: str, saved_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report"
    arguments = ["--uri", path, "--into", str(tmp_path / "m" / "d"), "--claim", str(saved_model.parent)]
    assert main([*arguments, "--report", str(report)]) == 2
    assert named in report.read_text()
    assert named in capsys.readouterr().err


def test_the_termination_message_says_what_was_loaded(saved_model: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    arguments = [
        "--uri",
        "pvc://c/digits",
        "--into",
        str(tmp_path / "m" / "d"),
        "--claim",
        str(saved_model.parent),
    ]
    assert main([*arguments, "--report", str(report)]) == 0
    assert json.loads(report.read_text())["sha256"] == tree_sha256(saved_model)


def test_a_warm_up_file_is_put_beside_every_version(saved_model: Path, tmp_path: Path) -> None:
    (saved_model.parent / "warmup").write_bytes(b"requests")
    load_model(
        *(parse_model_uri("pvc://c/digits"), tmp_path / "m" / "d", "tf-serving"),
        warmup="pvc://c/warmup",
        claim=saved_model.parent,
    )
    extra = tmp_path / "m" / "d" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    assert extra.read_bytes() == b"requests"


def test_triton_gets_its_own_layout(saved_model: Path, tmp_path: Path) -> None:
    claim = saved_model.parent
    load_model(parse_model_uri("pvc://c/digits"), tmp_path / "m" / "a", "triton", claim=claim)
    assert (tmp_path / "m" / "a" / "1" / "model.savedmodel" / "saved_model.pb").is_file()
    (claim / "onnx").mkdir()
    (claim / "onnx" / "resnet.onnx").write_bytes(b"o")
    load_model(parse_model_uri("pvc://c/onnx"), tmp_path / "m" / "b", "triton", claim=claim)
    assert (tmp_path / "m" / "b" / "1" / "model.onnx").read_bytes() == b"o"
    (claim / "repo" / "2").mkdir(parents=True)
    (claim / "repo" / "config.pbtxt").write_text("name: 'x'")
    loaded = load_model(parse_model_uri("pvc://c/repo"), tmp_path / "m" / "c", "triton", claim=claim)
    assert loaded.versions == ("2",)
    assert (tmp_path / "m" / "c" / "config.pbtxt").is_file()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """An S3 of this machine."""
    moto_server = pytest.importorskip("moto.server", reason="moto is not installed")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs", reason="the extra `s3` is not installed")
    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import fsspec

    fsspec.filesystem("s3").clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="models")
    yield client
    server.stop()
    fsspec.filesystem("s3").clear_instance_cache()


def test_a_model_in_an_object_store(bucket: object, saved_model: Path, tmp_path: Path) -> None:
    for path in saved_model.rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), "models", f"digits/1/{path.relative_to(saved_model)}")  # type: ignore[attr-defined]
    loaded = load_model(parse_model_uri("minio://models/digits"), tmp_path / "m" / "d", "tf-serving")
    assert loaded.versions == ("1",)
    assert (tmp_path / "m" / "d" / "1" / "saved_model.pb").read_bytes() == b"graph"
    with pytest.raises(ModelUriError, match="nothing under that name"):
        load_model(parse_model_uri("s3://models/none"), tmp_path / "m" / "d", "tf-serving")
    with pytest.raises(ModelUriError, match="its SHA-256 is"):
        load_model(
            parse_model_uri(f"s3://models/digits#sha256={'0' * 64}"), tmp_path / "m" / "d", "tf-serving"
        )
