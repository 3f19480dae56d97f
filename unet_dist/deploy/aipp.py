"""AIPP: the cards' own preprocessing, by which images go in as uint8 and are normalised there.

Documents of CANN (8.0; the same in 9.1): "Static AIPP" (atctool_0020), "Normalization
Configuration" (atlasatc_16_0022), "YUV400_U8 to GRAY" (atlasatc_16_0027), "Configuration File
Template" (atlasatc_16_0025). AIPP computes ``(pixel - mean_chn - min_chn) * var_reci_chn``. Here
``pixel`` is 0..255, the network wants ``(pixel / 255 - mean) / std``.
"""

import math
import re
from dataclasses import dataclass

from unet_dist.deploy.model_file import Metadata
from unet_dist.errors import UserError, counted

GREY, RGB = "YUV400_U8", "RGB888_U8"
CHANNELS = {GREY: 1, RGB: 3}
"""Channels that the network gets from each format, without colour conversion."""
_LARGEST = 255


@dataclass(frozen=True, kw_only=True)
class AippChannel:
    mean: int
    """Whole grey levels, ``mean_chn``."""
    minimum: float
    """What is left of the mean, ``min_chn``."""
    factor: float
    """``var_reci_chn``."""


@dataclass(frozen=True, kw_only=True)
class Aipp:
    """One static ``aipp_op``."""

    input_format: str
    height: int
    """Of the images that come in; 0 with --dynamic_image_size."""
    width: int
    channels: tuple[AippChannel, ...]
    mode: str = "static"
    crops: bool = False
    pads: bool = False
    own_text: str = ""
    """Where somebody else wrote it: what he wrote."""

    def to_text(self) -> str:
        if self.own_text:
            return self.own_text
        lines = [
            "aipp_op {",
            "    aipp_mode: static",
            "    related_input_rank: 0",
            f"    input_format: {self.input_format}",
            f"    src_image_size_w: {self.width}",
            f"    src_image_size_h: {self.height}",
            "    crop: false",
            "    csc_switch: false",
            "    rbuv_swap_switch: false",
        ]
        for number, channel in enumerate(self.channels):
            lines += [
                f"    mean_chn_{number}: {channel.mean}",
                f"    min_chn_{number}: {channel.minimum:.6g}",
                f"    var_reci_chn_{number}: {channel.factor:.9g}",
            ]
        return "\n".join([*lines, "}", ""])


def aipp_for(metadata: Metadata, *, height: int, width: int) -> Aipp:
    """From the grey levels of images to what the network wants; sizes 0 with
    --dynamic_image_size.

    The whole grey levels of the mean go into ``mean_chn``, the rest into ``min_chn``: that one is
    a float16, in which a mean of 137.3 would become 137.25, while 0.3 is kept to 0.0002.
    """
    assert metadata.in_channels in CHANNELS.values(), metadata.in_channels
    grey_format = GREY if metadata.in_channels == 1 else RGB
    channels = []
    for mean, std in zip(metadata.mean, metadata.std, strict=True):
        level = 0.0 if metadata.normalises else _LARGEST * mean
        spread = _LARGEST * (1.0 if metadata.normalises else std)
        whole = min(_LARGEST, math.floor(level))
        channels.append(AippChannel(mean=whole, minimum=level - whole, factor=1 / spread))
    return Aipp(input_format=grey_format, height=height, width=width, channels=tuple(channels))


def parse_aipp(text: str, *, where: str) -> Aipp:
    """Of a configuration that somebody else wrote, what a conversion must agree with.

    Raises:
        UserError: it holds no aipp_op, or several.
    """
    plain = re.sub(r"#.*", "", text)
    blocks = re.findall(r"aipp_op\s*\{([^}]*)\}", plain)
    if len(blocks) != 1:
        raise UserError(where, f"holds {len(blocks)} aipp_op {{...}}, but the model has one input")
    values = dict(re.findall(r"(\w+)\s*:\s*\"?([^\s\"]+)\"?", blocks[0]))
    try:
        channels = tuple(
            AippChannel(
                mean=int(values.get(f"mean_chn_{n}", "0")),
                minimum=float(values.get(f"min_chn_{n}", "0")),
                factor=float(values.get(f"var_reci_chn_{n}", "1")),
            )
            for n in range(CHANNELS.get(values.get("input_format", ""), 0))
        )
        return Aipp(
            input_format=values.get("input_format", ""),
            height=int(values.get("src_image_size_h", "0")),
            width=int(values.get("src_image_size_w", "0")),
            channels=channels,
            mode=values.get("aipp_mode", ""),
            crops=values.get("crop") == "true",
            pads=values.get("padding") == "true",
            own_text=text,
        )
    except ValueError as error:
        raise UserError(where, f"a number of it cannot be read: {error}") from error


def aipp_faults(aipp: Aipp, *, in_channels: int, height: int, width: int) -> list[str]:
    """Where a configuration contradicts the model and its input; sizes -1 with
    --dynamic_image_size (then "src_image_size_w and src_image_size_h must be set to 0", and
    cropping and padding be off: atctool_0020)."""
    faults = []
    if aipp.mode != "static":
        faults.append(f"aipp_mode is {aipp.mode!r}: the runner sets no dynamic AIPP, write static")
    if aipp.input_format not in CHANNELS:
        faults.append(
            f"input_format is {aipp.input_format!r}: write {GREY} for one channel, {RGB} for three"
        )
    elif CHANNELS[aipp.input_format] != in_channels:
        right = {number: name for name, number in CHANNELS.items()}[in_channels]
        faults.append(
            f"input_format {aipp.input_format} has "
            f"{counted(CHANNELS[aipp.input_format], 'channel')}, the "
            f"model {in_channels}: write {right}"
        )
    if height == -1:
        if (aipp.height, aipp.width) != (0, 0):
            faults.append(
                f"src_image_size is {aipp.width} x {aipp.height} with --dynamic-size: write 0 and 0"
            )
        if aipp.crops or aipp.pads:
            faults.append("crop and padding must be false with --dynamic-size")
    elif (
        not aipp.crops
        and not aipp.pads
        and (aipp.height, aipp.width)
        not in (
            (height, width),
            (0, 0),
        )
    ):
        faults.append(
            f"src_image_size is {aipp.width} x {aipp.height} (width x height), but the shape "
            f"{width} x {height}, and nothing crops or pads"
        )
    return faults
