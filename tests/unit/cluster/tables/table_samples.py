"""Rank tables for the tests of this folder: the shipped ones, and small ones made on the spot."""

import copy
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parents[4] / "rank_tables"
Tree = dict[str, Any]


@cache
def _text(name: str) -> str:
    return (SHIPPED / f"{name}.json").read_text()


def shipped(name: str) -> Tree:
    tree: Tree = json.loads(_text(name))
    return copy.deepcopy(tree)


def one_server(cards: Sequence[int], **keys: Any) -> Tree:
    """Version 1.0, addresses as the cards of a 910A have them: i and i+4 in one subnet."""
    devices = [
        {
            "device_id": str(card),
            "device_ip": f"192.168.{100 + card % 4}.{10 + card // 4}",
            "rank_id": str(rank),
        }
        for rank, card in enumerate(cards)
    ]
    return {
        "version": "1.0",
        "server_count": "1",
        "server_list": [{"server_id": "10.0.0.1", "device": devices}],
        "status": "completed",
        **keys,
    }


def write(path: Path, tree: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))
    return path
