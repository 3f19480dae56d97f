"""What all tests of studies have in common."""

from collections.abc import Iterator

import pytest
from optuna.storages._rdb.storage import _VersionManager
from sqlalchemy import Engine, event


@pytest.fixture(scope="session", autouse=True)
def quick_databases() -> Iterator[None]:
    """Whenever Optuna opens a study it loads the scripts of all versions of its tables, 20 ms, to
    know the newest. And no test pulls the plug, so none has to wait for the disk."""
    newest: list[str] = []
    read_newest = _VersionManager.get_head_version

    def get_head_version(self: _VersionManager) -> str:
        if not newest:
            newest.append(read_newest(self))
        return newest[0]

    def wait_for_no_disk(connection: object, record: object) -> None:
        if type(connection).__module__ == "sqlite3":
            connection.execute("PRAGMA synchronous=OFF")  # type: ignore[attr-defined]

    event.listen(Engine, "connect", wait_for_no_disk)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_VersionManager, "get_head_version", get_head_version)
        yield
    event.remove(Engine, "connect", wait_for_no_disk)
