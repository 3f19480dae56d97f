"""Centre lines of thin structures, for the skeleton recall loss (Kirchhoff et al., ECCV 2024,
arXiv:2404.03010)."""

import cv2
import numpy as np
from numpy.typing import NDArray

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def skeletons(classes_hw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class numbers on the skeleton of each foreground class and the 4 neighbours of its pixels
    that are of the class (the paper's tube), 0 elsewhere."""
    from skimage.morphology import skeletonize  # whose import no other training need wait for

    tubes_hw = np.zeros_like(classes_hw)
    for number in np.unique(classes_hw[classes_hw > 0]):
        inside_hw = classes_hw == number
        line_hw = skeletonize(inside_hw).view(np.uint8)
        tube_hw = cv2.dilate(line_hw, _CROSS).view(np.bool_)
        tubes_hw[tube_hw & inside_hw] = number
    return tubes_hw
