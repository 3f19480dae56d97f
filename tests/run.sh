#!/usr/bin/env bash
# Sets up a virtual environment and runs every check and test of the project.
#   tests/run.sh               # everything
#   tests/run.sh tests/unit    # only these tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup.sh dev
ruff check .
ruff format --check .
mypy
lint-imports --no-cache
# Three at a time: half of the tests' time is waiting. A file stays on one worker, for its fixtures.
# In the order of the files, so that the short ones fill the end.
exec python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder "${@:-tests}"
