"""What the demo shows of the local runner's log."""

from __future__ import annotations

from model_load_test.pipelines.demo.local_run import what_matters

LOG = """\
14:45:08.576 - INFO - Running pipeline: \x1b[95m'load-test-gate'\x1b[0m
14:45:08.583 - INFO - Executing task \x1b[96m'run-load-test'\x1b[0m
/x/subprocess_task_handler.py:81: RuntimeWarning: You may be attemping to run
  warnings.warn(
14:45:08.583 - INFO - Streamed logs:

    [KFP Executor 2026-11-21 14:45:08,635 INFO]: Got executor_input:
    {
        "inputs": {
            "parameterValues": {"seed": 0}
        }
    }
    14:45:12 look 1 of 3: up to pair 15
    [KFP Executor 2026-11-21 14:45:08,976 INFO]: Wrote executor output file to /x.

14:45:09.016 - INFO - Task \x1b[96m'run-load-test'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m
14:45:09.017 - INFO - Task \x1b[96m'run-load-test'\x1b[0m outputs:
    results: Dataset( name='results',
"""


def test_only_tasks_and_the_components_own_words_are_shown() -> None:
    assert list(what_matters(LOG.splitlines(keepends=True))) == [
        "-- run-load-test",
        "    14:45:12 look 1 of 3: up to pair 15",
    ]
