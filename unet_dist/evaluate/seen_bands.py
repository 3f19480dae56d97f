"""An image file as the network sees it, from top to bottom, before any resize."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from unet_dist.config_data import DataConfig
from unet_dist.data.bands import Bands, watched
from unet_dist.data.image_rows import ImageRows
from unet_dist.data.images import to_unit_range
from unet_dist.data.light_bands import even_light_bands
from unet_dist.evaluate.first_look import Middle, middle_of
from unet_dist.evaluate.views import RowsOf


def seen_bands(
    image: ImageRows,
    view: RowsOf,
    data: DataConfig,
    on_image: Callable[[NDArray[np.float32]], None] = lambda _: None,
) -> Bands:
    """
    Args:
        on_image: told each band before its light is evened.
    """
    unit = (to_unit_range(band, data.channels) for band in image.pixels())
    seen: Bands = watched(unit, on_image)
    if not data.even_light:
        return seen
    size = (image.height, image.width)
    return even_light_bands(_with_view(seen, view), size, data.even_light, data.even_curve)


def middle_seen(image: ImageRows, view: RowsOf, data: DataConfig) -> Middle:
    """What ``first_look`` looks at."""
    rows, columns = middle_of((image.height, image.width))
    kept, row = [], 0
    for band in seen_bands(image, view, data):
        kept.append(band[max(0, rows.start - row) : max(0, rows.stop - row), columns])
        row += len(band)
        if row >= rows.stop:
            break
    image_hwc = np.concatenate(kept)
    inside_hw = view(rows.start, rows.start + len(image_hwc))[:, columns]
    return Middle(image_hwc=image_hwc, inside_hw=inside_hw)


def _with_view(bands: Bands, view: RowsOf) -> Iterator[NDArray[np.float32]]:
    """One channel more: 1 inside the field of view."""
    row = 0
    for band in bands:
        inside_hw = view(row, row + len(band)).astype(np.float32)
        row += len(band)
        yield np.concatenate([band, inside_hw[:, :, None]], axis=2)
