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
exec python -m pytest "${@:-tests}"
