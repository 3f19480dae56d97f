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
# Thousands of processes would compile the project anew.
unset PYTHONDONTWRITEBYTECODE
# Files in memory, if there is much of it: removing those of the unit tests takes a disk 10 s. Tests
# write programs too, which containers' /dev/shm may not run.
if [[ -w /dev/shm ]] && ! grep -q ' /dev/shm .*noexec' /proc/mounts && [[ $(df --output=avail -BG /dev/shm | tr -dc 0-9) -ge 8 ]]; then
  export PYTEST_DEBUG_TEMPROOT=${PYTEST_DEBUG_TEMPROOT:-/dev/shm}
fi
# Three at a time: half of the tests' time is waiting. A file stays on one worker, for its fixtures.
# In the order of the files, so that the short ones fill the end.
exec python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder "${@:-tests}"
