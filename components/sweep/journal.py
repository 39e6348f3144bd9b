"""What a sweep has measured so far, one file each: a sweep that broke goes on where it was."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa

from model_load_test.components.results.table import (
    SCHEMA,
    Results,
    RunMetadata,
    read_results,
    write_results,
)
from model_load_test.components.sweep.measurement import Measurement
from model_load_test.components.sweep.parameters import SweepError, configuration_id
from model_load_test.components.sweep.spec import SweepSpec

_PLAN: Final = "sweep.json"
_MAY_CHANGE: Final = (
    "goal",
    "prices",
    "objectives",
    "alpha",
    "rates_rps",
    "parameters",
    "search",
    "trials",
)
"""Fields that say what else to try, or how to judge what was measured, and not how it was measured."""


class Journal:
    """A folder on this machine, or in an object store that fsspec knows: gs://, s3://."""

    def __init__(self, place: str) -> None:
        """Opens the journal at `place`; the folder is made where it is missing.

        Raises:
            SweepError: Nothing can be kept there.
        """
        import fsspec

        self.place = place
        try:
            self._files, self._root = fsspec.core.url_to_fs(place)
            self._files.makedirs(self._root, exist_ok=True)
        except (OSError, ValueError, ImportError) as error:
            raise SweepError("journal", place, f"give a folder or a URI of one ({error})") from None

    def begin(self, spec: SweepSpec) -> None:
        """Writes down what is measured, or checks that it is what was measured before.

        Raises:
            SweepError: The journal is of another sweep.
        """
        wanted = msgspec.to_builtins(spec)
        earlier = self._read(_PLAN)
        if earlier is not None:
            for field, value in wanted.items():
                if field not in _MAY_CHANGE and earlier.get(field, value) != value:
                    raise SweepError(
                        f"sweep.{field}",
                        value,
                        f"{self.place} holds measurements with {earlier.get(field)!r}; give another journal, "
                        "or the sweep as it was",
                    )
        self._write(_PLAN, msgspec.json.format(msgspec.json.encode(spec), indent=2))

    def measurements(self) -> list[Measurement]:
        """All that is kept, in the order it was measured; a file that was cut short counts as not there."""
        found = []
        for path in self._files.ls(self._root, detail=False, refresh=True):
            name = str(path).rsplit("/", 1)[-1]
            if not name.endswith(".json") or name == _PLAN:
                continue
            values = self._read(name)
            if values is None:
                continue
            try:
                found.append(msgspec.convert(values, Measurement))
            except msgspec.ValidationError:
                continue
        return sorted(found, key=lambda one: one.measured_at_ns)

    def kept(self, parameters: Mapping[str, Any], rate_rps: float) -> Measurement | None:
        """The measurement of a configuration at a rate, if there is one that need not be repeated."""
        values = self._read(f"{_name(parameters, rate_rps)}.json")
        if values is None:
            return None
        try:
            measurement = msgspec.convert(values, Measurement)
        except msgspec.ValidationError:
            return None
        # Without the reference there is no sweep: it is tried again whatever came of it.
        final = ("measured", "broken") if parameters else ("measured",)
        return measurement if measurement.outcome in final else None

    def rows(self, measurement: Measurement) -> Results | None:
        """The rows of a measurement; None where none were sent."""
        name = f"{_name(measurement.parameters, measurement.rate_rps)}.parquet"
        if not self._files.exists(f"{self._root}/{name}"):
            return None
        with tempfile.TemporaryDirectory(prefix="sweep-rows-") as folder:
            path = Path(folder) / name
            self._files.get_file(f"{self._root}/{name}", str(path))
            return read_results(path)

    def keep(
        self, measurement: Measurement, table: pa.Table | None = None, metadata: RunMetadata | None = None
    ) -> None:
        """Keeps a measurement, and its rows beside it."""
        name = _name(measurement.parameters, measurement.rate_rps)
        if table is not None and table.num_rows:
            with tempfile.TemporaryDirectory(prefix="sweep-rows-") as folder:
                path = Path(folder) / "rows.parquet"
                write_results(path, table.cast(SCHEMA), metadata or RunMetadata())
                self._write(f"{name}.parquet", path.read_bytes())
        # The rows first: where the line stands, they do.
        self._write(f"{name}.json", msgspec.json.format(msgspec.json.encode(measurement), indent=2))

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            with self._files.open(f"{self._root}/{name}", "rb") as file:
                values = msgspec.json.decode(file.read())
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return values if isinstance(values, dict) else None

    def _write(self, name: str, content: bytes) -> None:
        with self._files.open(f"{self._root}/{name}", "wb") as file:
            file.write(content)


def _name(parameters: Mapping[str, Any], rate_rps: float) -> str:
    return f"{configuration_id(parameters)}-{rate_rps:g}"
