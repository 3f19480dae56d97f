"""Which kind of annotations a path holds."""

from pathlib import Path

from unet_dist.data.convert.coco import MOST_JSON_BYTES, CocoSource, open_coco
from unet_dist.data.convert.labelme import LabelmeSource, Pen, open_labelme
from unet_dist.runs import read_json


def open_annotations(path: Path, pen: Pen, images: Path | None) -> CocoSource | LabelmeSource:
    """A folder is a Labelme project; a JSON file is Labelme's if it has shapes, else COCO's.

    Args:
        images: where the images are, if not where the annotations say.

    Raises:
        UserError: if it is neither, with every fault of COCO's tables.
    """
    if path.is_dir():
        return open_labelme(path, pen, images)
    tree = read_json(path, max_bytes=MOST_JSON_BYTES)
    return open_labelme(path, pen, images) if "shapes" in tree else open_coco(path, tree, images)
