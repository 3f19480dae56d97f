"""The tables in rank_tables/ are made by the product, and without any problem."""

from pathlib import Path

import pytest
from table_samples import SHIPPED

from unet_dist.cluster.tables.model import CHIPS_OF
from unet_dist.cluster.tables.read import check_file
from unet_dist.cluster.tables.write import WRITERS, text_of_table

FILES = sorted(SHIPPED.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_table_is_clean_on_every_chip_of_its_dialect(path: Path) -> None:
    dialect = check_file(path).dialect
    assert dialect is not None
    for chip in CHIPS_OF[dialect]:
        assert check_file(path, chip).problems == ()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_table_has_the_size_of_its_name(path: Path) -> None:
    servers, cards = map(int, path.stem.rpartition("_")[2].split("x"))
    table = check_file(path).table
    assert table is not None
    assert [len(server.devices) for server in table.servers] == [cards] * servers


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_shipped_table_is_what_the_product_writes(path: Path) -> None:
    table = check_file(path).table
    assert table is not None
    assert text_of_table(table) == path.read_text()


def test_every_dialect_that_can_be_written_is_shipped() -> None:
    assert {check_file(path).dialect for path in FILES} == set(WRITERS)
