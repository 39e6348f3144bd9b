"""`python -m model_load_test.pipelines.command_line`, the same as `model-load-test`."""

import sys

from model_load_test.pipelines.command_line import main

sys.exit(main())
