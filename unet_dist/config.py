"""What a run is asked to do: defaults < YAML file < ``a.b=c`` on the command line.

The configuration holds intent only, no rank and no device, so the same file serves one
simulated rank and a thousand cards. Every key has a default, a unit and a sentence here, or in
``config_data.py`` for the section ``data``, and nowhere else.
"""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from unet_dist.config_data import DataConfig, Fraction, NonNegative, Section

Tta = Literal["none", "flip", "d4"]


class AugmentConfig(Section):
    """Random changes to image and mask together; 0 switches each one off."""

    crop: int = Field(256, ge=0)
    """Side of the square training crop, in pixels after resize; 0 takes the largest image's
    size for all."""
    crops_per_image: int = Field(1, ge=1)
    """How many crops of each image make an epoch."""
    flip: bool = True
    """Mirror left-right and up-down, each with probability 1/2."""
    rotate: float = Field(180.0, ge=0, le=180)
    """Largest rotation in degrees, either way."""
    scale: float = Field(0.15, ge=0, lt=1)
    """Zoom between 1 - scale and 1 + scale."""
    elastic: NonNegative = 4.0
    """Elastic deformation: standard deviation of the displacement, in pixels."""
    elastic_smooth: float = Field(24.0, gt=0)
    """Length over which the displacement varies, in pixels."""
    brightness: Fraction = 0.1
    """Largest shift of the intensity, as a share of the full range."""
    contrast: float = Field(0.2, ge=0, lt=1)
    """Intensity is scaled about its mean by 1 - contrast to 1 + contrast."""
    gamma: float = Field(0.2, ge=0, lt=1)
    """Exponent between 1 / (1 + gamma) and 1 + gamma."""
    invert: Fraction = 0.0
    """Probability that light and dark are exchanged, for data sets that hold both kinds."""
    noise: Fraction = 0.02
    """Standard deviation of Gaussian noise, as a share of the full range."""


class ModelConfig(Section):
    """The U-Net (Ronneberger et al., MICCAI 2015, arXiv:1505.04597)."""

    width: int = Field(16, ge=1)
    """Channels of the first level; each level below has twice as many."""
    depth: int = Field(3, ge=1, le=8)
    """Number of halvings of the resolution."""
    stride: Literal[1, 2, 4] = 1
    """Pixels that one step of the first level covers: a strided convolution before it and a
    transposed one after it. 2 costs about a quarter, and still predicts every pixel."""
    passes: Literal[1, 2] = 1
    """2: a second U-Net sees the image and the first one's probabilities, and both are trained
    (W-Net of Galdran et al., arXiv:2009.01907), at twice the cost."""
    norm: Literal["batch", "sync_batch", "group", "instance", "none"] = "group"
    """Normalisation after each convolution. sync_batch: statistics over all ranks; none: a bias."""
    fake_quant: bool = False
    """Convolutions see weights and inputs rounded to 8 bits, as ``unet-dist quantize --method qat``
    trains; ``train.start_from`` then holds the ranges of the inputs."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the deepest level's channels that are dropped in training."""
    upsample: Literal["transpose", "resize"] = "transpose"
    """Transposed convolution, or nearest neighbour and a convolution."""
    attention: Literal["none", "gate"] = "none"
    """gate: what an encoder hands on is weighted, pixel by pixel, by what it and the decoder see
    there (Attention U-Net of Oktay et al., arXiv:1804.03999)."""


class LossConfig(Section):
    """Weighted sum of terms, each a mean over images."""

    cross_entropy: NonNegative = 1.0
    """Weight of the (binary) cross entropy."""
    dice: NonNegative = 1.0
    """Weight of the soft Dice loss over the foreground classes."""
    skeleton_recall: NonNegative = 0.0
    """Weight of the share of the structures' skeletons that is missed, which keeps thin vessels
    and membranes from breaking (Kirchhoff et al., arXiv:2404.03010)."""
    class_weights: tuple[NonNegative, ...] = ()
    """Weight of each class in the cross entropy, background first; empty for all ones."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.cross_entropy + self.dice == 0:
            raise ValueError(
                "cross_entropy and dice are both 0, so nothing keeps the background empty"
            )
        return self


class TrainConfig(Section):
    """Optimisation. Counts of images are over all ranks, so that no number depends on them."""

    epochs: int = Field(60, ge=1)
    """Passes over the training images."""
    batch: int = Field(8, ge=1)
    """Images per optimiser step, over all ranks and accumulation steps."""
    accumulation: int = Field(1, ge=1)
    """Forward and backward passes per optimiser step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101) or SGD with momentum."""
    lr: float = Field(2e-3, gt=0)
    """Peak learning rate."""
    weight_decay: NonNegative = 1e-4
    """Decoupled weight decay (adamw), or the L2 penalty (sgd)."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of sgd."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Course of the learning rate after warm-up."""
    warmup: Fraction = 0.05
    """Share of all steps over which the learning rate rises linearly from 0."""
    min_lr: Fraction = 0.01
    """Last learning rate of the cosine, as a share of lr."""
    clip_norm: NonNegative = 1.0
    """Largest global norm of the gradients; 0 for no limit."""
    start_from: str = ""
    """Run folder whose best weights the training starts from, or a safetensors file; empty for
    random ones."""
    ema: float = Field(0.98, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which is what is evaluated;
    0 evaluates the weights themselves."""
    amp: Literal["off", "fp16", "bf16"] = "off"
    """Precision of convolutions; norms, loss and weights stay in float32."""
    loss_scale: float = Field(65536.0, ge=1)
    """First loss scale (fp16); halved on overflow."""
    loss_scale_window: int = Field(1000, ge=1)
    """Steps without overflow after which the loss scale doubles (fp16)."""
    prefetch: int = Field(2, ge=1)
    """Batches prepared in the background while a step runs."""

    @field_validator("amp", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return "off" if value is False else value  # YAML 1.1 reads a bare off as false


class EvaluateConfig(Section):
    """Scoring of whole images, by overlapping tiles blended together."""

    every_epochs: int = Field(5, ge=1)
    """Epochs between validations; the last epoch is always validated."""
    tile: int = Field(256, ge=16)
    """Side of a tile, in pixels after resize."""
    overlap: float = Field(0.25, ge=0, le=0.75)
    """Share of a tile that its neighbour covers too."""
    batch: int = Field(4, ge=1)
    """Tiles per forward pass."""
    tta: Tta = "none"
    """Test-time augmentation: the mean over 4 mirrored, or 8 mirrored and turned, views of each
    tile, at 4 or 8 times the cost. Validation sees the same views, so the threshold fits them."""
    threshold: float = Field(0.0, ge=0, lt=1)
    """Probability from which a pixel is foreground, with a border class only that of objects; 0
    chooses it on the validation images. With other classes the most probable one wins."""
    structure: Literal["auto", "region", "tubular", "partition", "objects"] = "auto"
    """What else is measured at the end. region: distances of outlines; tubular: centre lines too;
    partition: the cells between membranes too; objects: single objects, of numbered masks. auto:
    tubular for drive, chasedb1 and stare, partition for isbi2012, objects for numbered masks."""
    min_object: int = Field(16, ge=0)
    """Predicted objects of fewer pixels are dropped (structure: objects)."""
    cell_smoothing: float = Field(2.0, ge=0, le=50)
    """Standard deviation of the Gaussian over membranes before cells are divided, in pixels of the
    image (structure: partition)."""


class CheckpointConfig(Section):
    """What is kept of the training state."""

    every_epochs: int = Field(1, ge=1)
    """Epochs between checkpoints; the last step is always kept."""
    keep: int = Field(2, ge=1)
    """Number of latest checkpoints kept, beside the best one."""


class LogConfig(Section):
    """How often the run speaks."""

    every_steps: int = Field(1, ge=1)
    """Steps between records and progress lines."""
    images: int = Field(4, ge=0)
    """Images shown: in TensorBoard of the validation, in reports the worst and the best."""


class Config(Section):
    """The whole configuration of a run."""

    seed: int = Field(0, ge=0, lt=2**32)
    """Of the weights, the order of the samples and their augmentation."""
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        weights, classes = len(self.loss.class_weights), self.data.classes
        if weights not in (0, classes):
            raise ValueError(
                f"loss.class_weights has {weights} values, but data.classes is {classes}"
            )
        objects = self.data.has_border_class and self.evaluate.structure in ("auto", "objects")
        if self.evaluate.threshold and classes > 2 and not objects:
            raise ValueError(
                f"evaluate.threshold is {self.evaluate.threshold:g}, but of {classes} classes the "
                "most probable one wins: leave it at 0 (only the objects of "
                "data.mask=instances_border have one)"
            )
        if self.data.object_size and not self.augment.crop:
            raise ValueError("data.object_size makes images of many sizes: set augment.crop")
        if self.model.fake_quant and self.train.amp != "off":
            raise ValueError(
                f"model.fake_quant needs train.amp: off, not {self.train.amp}: half precision "
                "would round a second time"
            )
        if self.model.fake_quant and not self.train.start_from:
            raise ValueError(
                "model.fake_quant needs the ranges of all inputs, which train.start_from must "
                "hold: see unet-dist quantize --method qat"
            )
        if self.train.batch % self.train.accumulation:
            raise ValueError(
                f"train.batch is {self.train.batch}, which train.accumulation "
                f"{self.train.accumulation} does not divide"
            )
        return self


def with_tta(config: Config, tta: Tta) -> Config:
    """The configuration with another test-time augmentation."""
    evaluate = config.evaluate.model_copy(update={"tta": tta})
    return config.model_copy(update={"evaluate": evaluate})
