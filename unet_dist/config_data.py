"""What a run is asked of its data: the images on disk, what their masks mean, how they are divided.

The section ``data`` of ``unet_dist/config.py``.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
SMALLEST_OBJECT = 4
"""Diameter in pixels below which a network sees no object."""


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # a directory may be called 2012
        use_attribute_docstrings=True,
    )


class SplitConfig(Section):
    """Which samples train, which validate (choose the epoch and the threshold), which test."""

    by: Literal["official", "ratio", "order", "fold", "list"] = "ratio"
    """official: the data set's own; ratio: shares of the patients, drawn; order: the first train,
    the next validate, the last test; fold: cross-validation; list: read from ``file``. Slices of
    one stack that are groups of their own (isbi2012) are never drawn: ratio is order there, and
    folds are blocks of neighbours."""
    file: str = ""
    """by: list: YAML file with the keys train, val and test, each a list of sample ids.
    by: order: CSV file, below data.root, whose first column lists the ids under a header; empty
    for their natural order."""
    folds: int = Field(5, ge=2)
    """Number of folds (by: fold)."""
    fold: int = Field(0, ge=0)
    """The fold that validates; the rest trains (by: fold)."""
    test_by: Literal["auto", "official", "ratio", "order", "list"] = "auto"
    """The rule that sets the test images aside, the same in all folds (by: fold). auto: official
    where the data set has test images of its own, else ratio."""
    seed: int | None = Field(None, ge=0, lt=2**32)
    """Of what is drawn (by: ratio and fold); empty: the seed of the run."""
    val: Fraction = 0.2
    """Share of the patients beside the test that validate (by: ratio, order and official)."""
    test: Fraction = 0.2
    """Share of the patients kept for the test (by: ratio, order and fold)."""
    group: str = ""
    """Regular expression on the sample id; its first group is the patient. Empty: the data
    set's own rule (CHASE_DB1: ``Image_01``), or each sample for itself."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rule == "list" and not self.file:
            key = "test_by" if self.by == "fold" else "by"
            raise ValueError(f"split.{key} is list, so split.file must name a YAML file")
        if self.by != "fold" and self.test_by != "auto":
            raise ValueError(f"split.test_by is for split.by: fold, but split.by is {self.by}")
        if self.by == "fold" and self.fold >= self.folds:
            raise ValueError(f"fold is {self.fold} but there are {self.folds}: 0..{self.folds - 1}")
        return self

    @property
    def rule(self) -> str:
        """Who decides which images are the test's, and how ``file`` is read."""
        return self.test_by if self.by == "fold" else self.by


class DataConfig(Section):
    """The images on disk and what their masks mean."""

    format: Literal["folder", "isbi2012", "drive", "chasedb1", "stare", "labelmap"] = "folder"
    """Layout below ``root``; labelmap is a folder whose masks number the objects (DSB2018)."""
    root: str = ""
    """Directory of the data set."""
    images: str = "images"
    """Folder of the images below root (folder, labelmap)."""
    masks: str = "masks"
    """Folder of the masks below root (folder, labelmap)."""
    fov_masks: str = ""
    """Folder of field-of-view masks below root, empty for none (folder, labelmap)."""
    mask_suffix: str = ""
    """A mask's stem is its image's stem and this, for example ``_mask`` (folder, labelmap)."""
    observer: Literal["first", "second"] = "first"
    """Whose masks are the truth (drive, chasedb1, stare)."""
    fov: Literal["file", "estimate", "none"] = "none"
    """Field of view: read from masks, estimated from the image's dark rim, or everything."""
    channels: Literal["rgb", "grey", "green"] = "rgb"
    """Input channels: three, the luminance, or the green one. Grey images fit all three."""
    even_light: NonNegative = 0.0
    """Evens out brightness and contrast within a Gaussian window of this standard deviation, in
    pixels of the image's own size; 0 leaves the image as it is."""
    even_curve: Literal["cut", "asinh"] = "cut"
    """What even_light does beyond 3 standard deviations from the local mean: it cuts off, or it
    compresses, for objects much brighter than what is round them (asinh)."""
    mask: Literal["auto", "binary", "inverted", "labels", "instances", "instances_border"] = "auto"
    """Meaning of mask values. auto recognises 0/1, 0/255, booleans, palettes and class numbers
    and says which; inverted: 0 is the foreground; instances: every object number is foreground;
    instances_border: class 1 inside, class 2 where objects end or touch."""
    border: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Width of class 2 of instances_border, as a share of an object's depth (of its pixels the
    largest distance to its edge): what is inside shrinks to the cores, which don't touch. 0 for one
    pixel."""
    classes: int = Field(2, ge=2, le=64)
    """Number of classes with the background; 2 is one sigmoid output."""
    class_names: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = ()
    """Name of each class in tables, pictures and Labelme files, background first; empty for
    numbers."""
    ignore: int = Field(-1, ge=-1, le=65535)
    """Mask value that is left out of loss and metrics; -1 for none (mask: labels)."""
    resize: float = Field(1.0, gt=0, le=4)
    """Factor on height and width before the network; predictions return to the true size."""
    object_size: NonNegative = 0.0
    """Diameter in pixels that the median object of each image gets by a resize: in training by its
    mask, else by what a first look at the image finds. 0: all images are resized alike."""
    cache_mb: int = Field(2048, ge=0)
    """Memory for decoded images, per rank, in MiB; the rest is read again each time."""
    split: SplitConfig = SplitConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mask == "instances_border" and self.classes != 3:
            raise ValueError("mask: instances_border has 3 classes, so set data.classes to 3")
        if self.classes > 2 and self.mask in ("binary", "inverted", "instances"):
            raise ValueError(f"mask: {self.mask} has 2 classes, but data.classes is {self.classes}")
        if self.ignore >= 0 and self.mask != "labels":
            raise ValueError("ignore needs mask: labels, since other masks have no such value")
        if self.border and not self.has_border_class:
            raise ValueError("border needs mask: instances_border, since other masks have none")
        if self.object_size and not self.has_objects:
            raise ValueError("object_size needs masks of numbered objects (mask: instances...)")
        if 0 < self.object_size < SMALLEST_OBJECT:
            raise ValueError(
                f"object_size is a diameter in pixels, {SMALLEST_OBJECT} at least; 0 for none"
            )
        if self.object_size and self.resize != 1:
            raise ValueError("object_size takes the place of resize: leave that at 1")
        names = self.class_names
        if names and (len(names) != self.classes or len(set(names)) != len(names)):
            raise ValueError(
                f"class_names has {len(names)} names, {len(set(names))} of them different, but "
                f"data.classes is {self.classes}: one name for each, background first"
            )
        if self.fov == "file" and self.format in ("folder", "labelmap") and not self.fov_masks:
            raise ValueError("fov: file needs data.fov_masks, the folder of the masks")
        return self

    @property
    def is_retina(self) -> bool:
        """Whether the format is one of fundus images, drawn by two observers."""
        return self.format in ("drive", "chasedb1", "stare")

    @property
    def has_border_class(self) -> bool:
        """Whether the classes are inside and border of numbered objects."""
        labelmap = self.format == "labelmap" and self.mask == "auto"
        return self.classes == 3 and (labelmap or self.mask == "instances_border")

    @property
    def has_objects(self) -> bool:
        """Whether masks number single objects."""
        labelmap = self.format == "labelmap" and self.mask == "auto" and self.classes == 2
        return self.has_border_class or labelmap or self.mask == "instances"

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes are called, background first."""
        foreground = tuple(f"class {number}" for number in range(1, self.classes))
        if self.classes == 2:
            foreground = ("foreground",)
        elif self.has_border_class:
            foreground = ("inside", "border")
        return self.class_names or ("background", *foreground)

    @property
    def in_channels(self) -> int:
        return 3 if self.channels == "rgb" else 1
