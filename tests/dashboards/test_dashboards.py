"""The dashboard is one that Grafana takes, and asks for what the exporters really show."""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from model_load_test.components.load.exporter import LoadExporter, load_exporter
from model_load_test.components.load.schedule import segments_of_block
from model_load_test.components.load.spec import parse_load_spec
from model_load_test.components.resources.catalogue import SCRAPED
from model_load_test.components.results.table import SCHEMA


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    path = Path(__file__).resolve().parents[2] / "dashboards" / "load-test.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]


def exported() -> set[str]:
    """The names of the samples that a run really shows."""
    spec = parse_load_spec({"rate_rps": 200.0})
    exporter = LoadExporter(spec)
    (segment,) = segments_of_block(spec, 0)
    exporter.begin(segment)
    exporter.add(rows("candidate", 200), segment)
    return {sample.name for family in exporter.collect() for sample in family.samples}


def rows(arm: str, count: int) -> pa.Table:
    """Requests of block 0 that took a millisecond."""
    values = {name: [0] * count for name in SCHEMA.names}
    texts = {"arm": [arm] * count, "status": ["OK"] * count, "error": [""] * count}
    all_ok = {"ok": [True] * count, "latency_ns": [10**6] * count}
    columns = {name: pa.array({**values, **texts, **all_ok}[name]) for name in SCHEMA.names}
    return pa.table(columns).cast(SCHEMA)


def test_every_panel_is_complete(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"], f"{panel['title']} does not say what it means"
        assert panel["targets"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        assert panel["datasource"]["uid"] == "${datasource}", "no one else's Prometheus"


def test_panels_do_not_overlap_and_fill_their_rows(dashboard: dict[str, Any]) -> None:
    grid = np.zeros((100, 24), dtype=int)
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        grid[place["y"] : place["y"] + place["h"], place["x"] : place["x"] + place["w"]] += 1
    assert grid.max() == 1
    used = grid[: np.flatnonzero(grid.any(axis=1)).max() + 1]
    assert (used == 1).all()


def test_it_asks_for_what_a_run_shows(dashboard: dict[str, Any]) -> None:
    asked = set(re.findall(r"\bmodel_load_test_[a-z_]+", " ".join(expressions(dashboard))))
    assert asked <= exported(), asked - exported()
    shown = {name for name in exported() if not name.endswith(("_created", "_sum", "_count"))}
    assert shown - asked == {"model_load_test_run_info"}, "shown, and drawn nowhere"


def test_it_asks_for_what_the_servers_exporters_show(dashboard: dict[str, Any]) -> None:
    text = " ".join(expressions(dashboard))
    names = set(re.findall(r"\b(?:container|DCGM|nv)_[A-Za-z_]+", text)) | set(
        re.findall(r'"(:tensorflow[^"]+)"', text)
    )
    assert names
    assert names <= set(SCRAPED), names - set(SCRAPED)


def test_every_variable_it_uses_is_defined(dashboard: dict[str, Any]) -> None:
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z][a-z_]*)\b", json.dumps(dashboard)))
    assert used <= defined | {"__rate_interval"}


def test_grafanas_own_schema_has_every_field(dashboard: dict[str, Any]) -> None:
    """Read by the types that Grafana generates from its schema, and written again: nothing is lost."""
    models = pytest.importorskip(
        "grafana_foundation_sdk.models.dashboard", reason="grafana-foundation-sdk is not installed"
    )
    from grafana_foundation_sdk.cog.encoder import JSONEncoder  # type: ignore[import-not-found]
    from grafana_foundation_sdk.cog.plugins import (  # type: ignore[import-not-found]
        register_default_plugins,
    )

    register_default_plugins()
    read = models.Dashboard.from_json(dashboard)
    written = json.loads(json.dumps(read, cls=JSONEncoder))
    assert set(lost(dashboard, written)) == OUTSIDE_THE_SCHEMA


OUTSIDE_THE_SCHEMA = {"builtIn", "step", "titleFormat", "definition"}
"""What Grafana itself writes into annotations and variables without its schema saying so."""


def lost(before: object, after: object, name: str = "") -> Iterator[str]:
    """Names of fields that are gone or changed."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], key)
            else:
                yield key
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from lost(one, other, name)
    elif before != after:
        yield name


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One that scrapes an exporter of a run of one block."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not on PATH (Debian's package prometheus has it)")
    folder = tmp_path_factory.mktemp("prometheus")
    spec = parse_load_spec({"rate_rps": 200.0})
    ports = [free_port(), free_port()]
    job = {"job_name": "load", "scrape_interval": "500ms", "scrape_timeout": "400ms"}
    targets = [{"targets": [f"127.0.0.1:{ports[0]}"]}]
    (folder / "prometheus.yml").write_text(
        json.dumps({"scrape_configs": [{**job, "static_configs": targets}]})
    )
    with load_exporter(ports[0], spec) as observer, (folder / "log").open("wb") as log:
        (segment,) = segments_of_block(spec, 0)
        observer.begin(segment)
        observer.add(pa.concat_tables([rows(arm, 200) for arm in ("candidate", "baseline")]), segment)
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{ports[1]}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            url = f"http://127.0.0.1:{ports[1]}"
            for _ in range(150):
                try:
                    if len(query(url, "up")) == 1:
                        break
                except OSError:
                    pass
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
            time.sleep(1.5)  # a rate needs two scrapes
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def query(url: str, expression: str) -> list[Any]:
    asked = f"{url}/api/v1/query?query={urllib.parse.quote(expression)}"
    with urllib.request.urlopen(asked, timeout=5) as answer:
        found: list[Any] = json.loads(answer.read())["data"]["result"]
    return found


def test_a_real_prometheus_answers_every_expression(prometheus: str, dashboard: dict[str, Any]) -> None:
    for expression in expressions(dashboard):
        chosen = re.sub(r"\$(job|instance|namespace|pod)\b", ".*", expression).replace(
            "$__rate_interval", "5s"
        )
        try:
            found = query(prometheus, chosen)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{chosen}: {error.read().decode()}") from None
        if "model_load_test" in chosen:
            assert found, f"nothing to draw: {chosen}"


def test_the_scrape_config_in_the_docs_is_one(tmp_path: Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not on PATH (Debian's package prometheus has it)")
    text = (Path(__file__).resolve().parents[2] / "docs" / "resources.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    config = yaml.safe_load(found)
    for job in config["scrape_configs"]:
        # Debian builds Prometheus without the discovery of Kubernetes
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [program, "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def grafana(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("grafana") or shutil.which("grafana-server")
    if program is None:
        pytest.skip("grafana is not on PATH (the release's archive has it in bin/)")
    home = Path(program).resolve().parents[1]
    folder = tmp_path_factory.mktemp("grafana")
    port = free_port()
    command = [program, *(["server"] if Path(program).name == "grafana" else []), f"--homepath={home}"]
    settings = {
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_PATHS_DATA": str(folder),
        "GF_PATHS_LOGS": str(folder),
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    }
    log = (folder / "log").open("wb")
    process = subprocess.Popen(command, env=settings, stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                ask(f"http://127.0.0.1:{port}/api/health")
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()


def ask(url: str, body: object = None) -> Any:
    headers = {
        "Authorization": "Basic " + base64.b64encode(b"admin:admin").decode(),
        "Content-Type": "application/json",
    }
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, data=data, headers=headers), timeout=10
    ) as answer:
        return json.loads(answer.read())


def test_a_real_grafana_takes_it(grafana: str, dashboard: dict[str, Any]) -> None:
    source = {"name": "p", "uid": "p", "type": "prometheus", "access": "proxy", "url": "http://127.0.0.1:9"}
    ask(f"{grafana}/api/datasources", source)
    saved = ask(f"{grafana}/api/dashboards/db", {"dashboard": {**dashboard, "id": None}, "overwrite": True})
    assert saved["status"] == "success"
    read = ask(f"{grafana}/api/dashboards/uid/{dashboard['uid']}")["dashboard"]
    assert [panel["title"] for panel in read["panels"]] == [panel["title"] for panel in dashboard["panels"]]
    assert read["schemaVersion"] >= dashboard["schemaVersion"]
