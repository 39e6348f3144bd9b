from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import trustme

from model_load_test.components.load.connection import (
    ConnectionOptions,
    ConnectionOptionsError,
    HeaderFile,
    ghz_connection_flags,
    parse_connection_options,
    refuse_unfit,
    vegeta_connection_flags,
    write_ghz_metadata,
    write_vegeta_targets,
)
from model_load_test.components.load.spec import LoadSpec, parse_load_spec
from model_load_test.components.payload.manifest import HttpBody
from model_load_test.components.protocols.endpoint import parse_endpoint

TOKEN = "canary-7f3e9d"


@pytest.fixture
def pem(tmp_path: Path) -> dict[str, str]:
    """A CA and a client certificate that it signed."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    client = ca.issue_cert("load-test.example")
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "tls.crt"))
    client.private_key_pem.write_to_path(str(tmp_path / "tls.key"))
    return {
        "ca_file": str(tmp_path / "ca.crt"),
        "certificate_file": str(tmp_path / "tls.crt"),
        "key_file": str(tmp_path / "tls.key"),
    }


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    (tmp_path / "token").write_text(TOKEN + "\n")
    return str(tmp_path / "token")


def test_a_token_is_a_bearer_and_other_headers_are_themselves(tmp_path: Path, token_file: str) -> None:
    (tmp_path / "key").write_text("abc def")
    options = parse_connection_options(
        {"token_file": token_file, "header_files": {"X-Api-Key": str(tmp_path / "key")}}
    )
    assert options.header_values() == {"authorization": f"Bearer {TOKEN}", "x-api-key": "abc def"}
    assert TOKEN in options.secrets()
    assert f"Bearer {TOKEN}" in options.secrets()
    assert TOKEN not in repr(options)
    assert TOKEN not in repr(options.access())


def test_ghz_gets_certificates_by_flag_and_headers_by_a_file_of_their_own(
    tmp_path: Path, pem: dict[str, str], token_file: str
) -> None:
    options = parse_connection_options({**pem, "token_file": token_file, "server_name": "models.example"})
    path = write_ghz_metadata(tmp_path / "metadata.json", options)
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"authorization": f"Bearer {TOKEN}"}
    flags = ghz_connection_flags(
        options, parse_load_spec({"connections": 3}), parse_endpoint("grpcs://10.0.0.7:8500"), path
    )
    assert set(flags) == {
        "--connections=3",
        f"--metadata-file={path}",
        f"--cacert={pem['ca_file']}",
        f"--cert={pem['certificate_file']}",
        f"--key={pem['key_file']}",
        "--cname=models.example",
    }
    plain = ghz_connection_flags(ConnectionOptions(), LoadSpec(), parse_endpoint("grpc://a:1"), None)
    assert set(plain) == {"--connections=1", "--insecure"}


def test_the_braces_of_a_token_are_no_template_to_ghz(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a{{.RequestNumber}}b")
    options = ConnectionOptions(header_files=(HeaderFile("x-key", str(tmp_path / "token")),))
    path = write_ghz_metadata(tmp_path / "metadata.json", options)
    assert path is not None
    assert path.read_text() == '{"x-key": "a{{`{{`}}.RequestNumber}}b"}'


def test_nothing_to_send_along_is_no_file(tmp_path: Path) -> None:
    assert write_ghz_metadata(tmp_path / "metadata.json", ConnectionOptions()) is None
    assert not (tmp_path / "metadata.json").exists()


def test_vegeta_gets_its_headers_in_targets_that_only_the_owner_reads(
    tmp_path: Path, pem: dict[str, str], token_file: str
) -> None:
    options = parse_connection_options(
        {**pem, "token_file": token_file, "server_name": "models.example", "host": "digits.team-a.example"}
    )
    endpoint = parse_endpoint("https://10.0.0.7:8501")
    path = tmp_path / "targets.jsonl"
    path.write_text("left over, readable by all")
    bodies = [b"{}", b'{"b":"\xc3\xa9"}']
    write_vegeta_targets(path, endpoint, "/v1/models/m:predict", [*map(HttpBody, bodies)], options)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    targets = [json.loads(line) for line in path.read_text().splitlines()]
    assert [base64.b64decode(target["body"]) for target in targets] == [b"{}", b'{"b":"\xc3\xa9"}']
    for target in targets:
        assert target["method"] == "POST"
        assert target["url"] == "https://models.example:8501/v1/models/m:predict"
        assert target["header"] == {
            "Content-Type": ["application/json"],
            "Authorization": [f"Bearer {TOKEN}"],
            "Host": ["digits.team-a.example"],
        }
    flags = vegeta_connection_flags(options, parse_load_spec({"protocol": "http"}), endpoint)
    assert set(flags) == {
        "-http2=false",
        "-keepalive=true",
        f"-root-certs={pem['ca_file']}",
        f"-cert={pem['certificate_file']}",
        f"-key={pem['key_file']}",
        "-connect-to=models.example:8501:10.0.0.7:8501",
    }
    assert not [flag for flag in flags if TOKEN in flag]


@pytest.mark.parametrize(
    ("values", "endpoint", "flags"),
    [
        ({"http_version": "2"}, "https://a:1", {"-http2=true", "-keepalive=true"}),
        ({"http_version": "2"}, "http://a:1", {"-http2=false", "-h2c", "-keepalive=true"}),
        ({"keep_alive": False}, "http://a:1", {"-http2=false", "-keepalive=false"}),
        ({"max_connections": 9}, "http://a:1", {"-http2=false", "-keepalive=true", "-max-connections=9"}),
    ],
)
def test_http_can_be_old_new_short_lived_and_narrow(
    values: dict[str, Any], endpoint: str, flags: set[str]
) -> None:
    spec = parse_load_spec({"protocol": "http", **values})
    options = ConnectionOptions(ca_file="system" if "https" in endpoint else "")
    assert set(vegeta_connection_flags(options, spec, parse_endpoint(endpoint))) == flags


@pytest.mark.parametrize(
    ("options", "endpoint", "remedy"),
    [
        ({}, "grpcs://a:1", "name the CA"),
        ({}, "https://a:1", "or 'system'"),
        ({"ca_file": "system"}, "grpc://a:1", "write grpcs://a:1"),
        ({"server_name": "b"}, "http://a:1", "write https://a:1"),
        ({"ca_file": "system", "server_name": "b"}, "https://[::1]:1", "use a host name"),
        ({"host": "b"}, "grpc://a:1", "only HTTP has a Host"),
    ],
)
def test_options_and_scheme_must_agree(options: dict[str, str], endpoint: str, remedy: str) -> None:
    with pytest.raises(ConnectionOptionsError, match=remedy):
        refuse_unfit(parse_connection_options(options), parse_endpoint(endpoint), "candidate_endpoint")


@pytest.mark.parametrize(
    ("values", "field", "remedy"),
    [
        ({"cafile": "x"}, "cafile", "did you mean 'ca_file'"),
        ({"ca_file": "/nowhere/ca.crt"}, "ca_file", "is the secret mounted"),
        ({"token_file": "/nowhere/token"}, "authorization", "is the secret mounted"),
        ({"token_file": 7}, "token_file", "give a text"),
        ({"ca_file": "EMPTY"}, "ca_file", "PEM file"),
        ({"token_file": "EMPTY"}, "authorization", "one line"),
        ({"token_file": "LINES"}, "authorization", "one line"),
        ({"token_file": "BINARY"}, "authorization", "one line"),
        ({"certificate_file": "LINES"}, "key_file", "needs both"),
        ({"key_file": "LINES"}, "certificate_file", "needs both"),
        ({"certificate_file": "LINES", "key_file": "LINES"}, "certificate_file", "without a passphrase"),
        ({"server_name": "a b"}, "server_name", "the name alone"),
        ({"host": "a/b"}, "host", "the name alone"),
        ({"header_files": "x"}, "header_files", "a mapping"),
        ({"header_files": {"Host": "LINES"}}, "header_files.Host", "name of a header"),
        ({"header_files": {"a b": "LINES"}}, "header_files.a b", "name of a header"),
        ({"header_files": {"trace-bin": "LINES"}}, "header_files.trace-bin", "for itself"),
        ({"header_files": {"X": ""}}, "header_files.X", "holds the value"),
        ({"header_files": {"X": "TEXT", "x": "TEXT"}}, "header_files.x", "twice"),
        (
            {"token_file": "TEXT", "header_files": {"Authorization": "TEXT"}},
            "header_files.Authorization",
            "twice",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_without_showing_it(
    values: dict[str, Any], field: str, remedy: str, tmp_path: Path
) -> None:
    contents = {"EMPTY": b"\n", "LINES": b"canary\nline", "BINARY": b"canary\xff", "TEXT": b"canary"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: placed(inner) for name, inner in value.items()}
        return str(tmp_path / value) if value in contents else value

    with pytest.raises(ConnectionOptionsError) as caught:
        parse_connection_options(placed(values))
    assert caught.value.field == field
    assert remedy in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_key_with_a_passphrase_is_refused_and_asks_nobody(tmp_path: Path, pem: dict[str, str]) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key(Path(pem["key_file"]).read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass"))
    Path(pem["key_file"]).write_bytes(locked)
    with pytest.raises(ConnectionOptionsError, match="without a passphrase"):
        parse_connection_options(pem)
