"""Which Ascend cards and CANN versions there are, and what their documents say of each.

Names of cards: "--soc_version" of ATC (CANN 8.0, atlasatcparam_16_0035): "Ascend" and the name that
``npu-smi info`` shows; of an A3 the chip's name, "_" and the NPU's. Opsets: "--framework" of ATC
(atlasatcparam_16_0014 of CANN 8.0 and of CommunityEdition 9.1; atlasatc_16_0048 of 7.0).
"""

import difflib
from dataclasses import dataclass
from typing import Literal

Family = Literal["910", "A2", "A3", "310", "310P", "310B"]

CARDS: dict[str, Family] = {
    "Ascend910A": "910",
    "Ascend910ProA": "910",
    "Ascend910PremiumA": "910",
    "Ascend910B": "910",
    "Ascend910ProB": "910",
    "Ascend910B1": "A2",
    "Ascend910B2": "A2",
    "Ascend910B2C": "A2",
    "Ascend910B3": "A2",
    "Ascend910B4": "A2",
    "Ascend910B4-1": "A2",
    "Ascend910_9362": "A3",
    "Ascend910_9372": "A3",
    "Ascend910_9381": "A3",
    "Ascend910_9382": "A3",
    "Ascend910_9391": "A3",
    "Ascend910_9392": "A3",
    "Ascend310": "310",
    "Ascend310P1": "310P",
    "Ascend310P3": "310P",
    "Ascend310P5": "310P",
    "Ascend310P7": "310P",
    "Ascend310B1": "310B",
    "Ascend310B2": "310B",
    "Ascend310B3": "310B",
    "Ascend310B4": "310B",
}
"""Beware: Ascend910B and ProB are of the first generation, Ascend910B1 to B4 of the second."""

LITE_FAMILIES: tuple[Family, ...] = ("310P", "A2", "A3")
"""MindSpore Lite 2.10, "Downloading MindSpore Lite": its cloud-side package is for Atlas 300I Duo,
Atlas 800I A2 and A3."""
LITE_CARDS = "Ascend310P, the A2 cards (Ascend910B1 to B4) and the A3 cards"
BF16_FAMILIES: tuple[Family, ...] = ("A2", "A3")
"""``--precision_mode_v2`` (CANN 8.0.RC2, atlasatc_16_0099): bfloat16 is of the A2 cards on."""


@dataclass(frozen=True, kw_only=True)
class Cann:
    """One version of CANN."""

    first_opset: int
    last_opset: int
    without: tuple[Family, ...] = ()
    """Cards that its documents no longer name."""


CANN: dict[str, Cann] = {
    "7.0": Cann(first_opset=9, last_opset=18),
    "8.0": Cann(first_opset=11, last_opset=15),
    "9.1": Cann(first_opset=11, last_opset=18, without=("310",)),
}


def card_faults(soc: str, cann: str) -> list[str]:
    """What is wrong with the names of the card and of the version."""
    faults = []
    if soc not in CARDS:
        near = difflib.get_close_matches(soc, CARDS, n=3, cutoff=0.5)
        meant = f"; did you mean {' or '.join(near)}?" if near else ":"
        faults.append(
            f"--soc {soc!r} is no card that is known{meant} npu-smi info shows its name, "
            "without Ascend in front"
        )
    if cann not in CANN:
        faults.append(
            f"--cann {cann!r} is not known: {', '.join(CANN)} are; for a version between two of "
            "them take the lower one, whose limits hold for both"
        )
    elif soc in CARDS and CARDS[soc] in CANN[cann].without:
        faults.append(
            f"--soc {soc}: the documents of CANN {cann} do not name it among their products: "
            f"take {' or '.join(c for c in CANN if CARDS[soc] not in CANN[c].without)}"
        )
    return faults
