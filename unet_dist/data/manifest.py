"""What a run knows of its data set, fixed before the first rank starts.

The command that starts the ranks opens the data set, finds all faults, learns the coding of the
masks and the normalisation, and writes them down; each rank reads them back and opens only the
images of its own shard. A resumed run sees the very same samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unet_dist.config_data import DataConfig
from unet_dist.data.dataset import Dataset, ImageCache, Normalisation
from unet_dist.data.masks import MaskCoding
from unet_dist.data.sample import ImageRef, Sample
from unet_dist.data.splits import PARTS, Splits
from unet_dist.errors import UserError
from unet_dist.runs import read_json, write_json

SCHEMA = 1


def write_manifest(
    path: Path, dataset: Dataset, normalisation: Normalisation, *, warnings: Sequence[str] = ()
) -> None:
    """
    Args:
        warnings: of the check, for whoever reads the run later.
    """
    root = Path(dataset.config.root).resolve()
    coding = asdict(dataset.coding)
    coding["shares"] = {str(value): share for value, share in dataset.coding.shares.items()}
    write_json(
        path,
        {
            "schema": SCHEMA,
            "masks": dataset.coding.describe(),
            "warnings": list(warnings),
            "normalisation": normalisation._asdict(),
            "coding": coding,
            "splits": {
                part: [_sample_json(sample, root) for sample in samples]
                for part, samples in dataset.splits.parts().items()
            },
        },
    )


def read_manifest(path: Path, config: DataConfig) -> tuple[Dataset, Normalisation]:
    """Raises UserError if the file does not hold what ``write_manifest`` writes."""
    tree = read_json(path)
    root = Path(config.root)
    try:
        coding = dict(tree["coding"])
        coding["values"] = tuple(coding["values"])
        coding["shares"] = {int(value): share for value, share in coding["shares"].items()}
        dataset = Dataset(
            config=config,
            coding=MaskCoding(**coding),
            splits=Splits(
                **{
                    part: tuple(_sample_from(sample, root) for sample in tree["splits"][part])
                    for part in PARTS
                }
            ),
            cache=ImageCache(config.cache_mb << 20),
        )
        mean, std = (tuple(map(float, tree["normalisation"][key])) for key in ("mean", "std"))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(str(path), f"not the data set of a run: {error!r}") from error
    return dataset, Normalisation(mean, std)


def _reference_json(ref: ImageRef, root: Path) -> dict[str, Any]:
    """Paths below the data set's root are kept without it, so that it can move."""
    path = ref.path.resolve()
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return {"path": str(shown), "page": ref.page}


def _sample_json(sample: Sample, root: Path) -> dict[str, Any]:
    references = {"image": sample.image, "mask": sample.mask, "fov": sample.fov}
    return {
        "id": sample.id,
        "group": sample.group,
        "subset": sample.subset,
        **{
            name: None if ref is None else _reference_json(ref, root)
            for name, ref in references.items()
        },
    }


def _sample_from(tree: Mapping[str, Any], root: Path) -> Sample:
    def reference(name: str) -> ImageRef | None:
        ref = tree[name]
        return None if ref is None else ImageRef(path=root / ref["path"], page=int(ref["page"]))

    image = reference("image")
    if image is None:
        raise ValueError(f"sample {tree['id']} has no image")
    sample = Sample(id=tree["id"], group=tree["group"], image=image, mask=reference("mask"))
    return replace(sample, fov=reference("fov"), subset=tree["subset"])
