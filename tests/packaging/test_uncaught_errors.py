import subprocess
import sys

import pytest

RAISE = """
from model_load_test.components.errors import InputError
class SpecError(InputError): pass
raise {error}
"""


@pytest.mark.parametrize(
    ("in_a_pod", "error", "lines"),
    [
        ("true", 'SpecError("rate_rps", -1, "give a rate above 0")', 1),
        ("true", 'RuntimeError("a defect")', 4),
        ("", 'SpecError("rate_rps", -1, "give a rate above 0")', 4),
    ],
)
def test_bad_input_ends_a_pod_in_one_line_and_a_defect_in_a_traceback(
    in_a_pod: str, error: str, lines: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", RAISE.format(error=error)],
        env={"_KFP_RUNTIME": in_a_pod, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert (len(said) == 1) == (lines == 1)
    assert said[-1].endswith("rate_rps: -1: give a rate above 0" if "Spec" in error else "a defect")
