"""Single objects, or cells, of a predicted image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_dist.errors import UserError
from unet_dist.evaluate.structure import DIVISION, Structure
from unet_dist.runs import RunDir, read_json


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """How the final evaluation found them."""

    structure: Structure
    threshold: float
    """See ``Decision.structure_threshold``."""
    min_object: int
    cell_smoothing: float
    division: int
    """See ``structure.DIVISION``."""

    @property
    def name(self) -> str:
        return "cells" if self.structure == "partition" else "objects"

    def __call__(
        self, prob_hwk: NDArray[np.float32], fov_hw: NDArray[np.bool_]
    ) -> NDArray[np.int32]:
        """Numbers from 1 on; 0 is no object, as outside the field of view."""
        # Here, since importing scikit-image takes time.
        from unet_dist.evaluate.objects import find_objects, renumbered
        from unet_dist.evaluate.partition import predicted_cells

        if self.structure == "partition":
            membrane_p_hw = prob_hwk[:, :, -1]
            found_hw = predicted_cells(
                membrane_p_hw, fov_hw, self.threshold, smoothing=self.cell_smoothing
            )
        else:
            found_hw = find_objects(prob_hwk, self.threshold, min_size=self.min_object)
        return renumbered(found_hw).astype(np.int32)

    def probability(self, prob_hwk: NDArray[np.float32]) -> NDArray[np.float32]:
        """That a pixel is one of an object, or of a cell."""
        if self.structure == "partition":
            return 1 - prob_hwk[:, :, -1]
        from unet_dist.evaluate.objects import foreground_probability

        return foreground_probability(prob_hwk)

    @classmethod
    def of_evaluation(cls, structure: Mapping[str, Any]) -> "Numbering | None":
        """From ``structure`` of a result; None where it has no objects."""
        if structure["kind"] not in ("objects", "partition"):
            return None
        return cls(
            structure=structure["kind"],
            threshold=structure["threshold"],
            min_object=structure["min_object"],
            cell_smoothing=structure["cell_smoothing"],
            division=structure["division"],
        )

    def check(self, where: str, cure: str) -> None:
        """Raises UserError if the threshold was chosen for another way of telling them apart."""
        if self.division != DIVISION:
            raise UserError(
                where,
                f"chose its threshold for way {self.division} of telling {self.name} apart, but "
                f"this program does so by way {DIVISION}: {cure}",
            )


def numbering_of(folder: RunDir) -> Numbering | None:
    """How the last evaluation found objects or cells, by thresholds that were chosen on validation
    images whichever split it measured; None without an evaluation."""
    paths = list(folder.evaluations().values())
    if not paths:
        return None
    newest = max(paths, key=lambda path: path.stat().st_mtime)
    cure = f"unet-dist eval {folder.path}"
    try:
        numbering = Numbering.of_evaluation(read_json(newest)["structure"])
    except (KeyError, TypeError) as error:
        raise UserError(str(newest), f"lacks {error}: {cure}") from error
    if numbering is not None:
        numbering.check(str(newest), cure)
    return numbering
