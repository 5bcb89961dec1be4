"""Options that the kinds `image` and `volume` share."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from multimodn.base.encoder import FileOptions
from multimodn.encoders._images.networks import MIN_SIZES

Window = Annotated[tuple[float, float], Field(description="lowest and highest value")]


class PictureOptions(FileOptions):
    """Options that images and volumes share.

    Attributes:
        column: The column of file paths.
        weights: A file of the network's weights, .safetensors or .pt; default: training starts from random ones.
        frozen: Whether the network keeps the given weights: its features are computed once, and only the layers behind
            them are trained.
        normalise: Mean and standard deviation by which pixels are standardised: of the ``training`` pictures, of each
            ``picture`` itself, or of ``imagenet``. ``auto`` = ``training`` without weights; with them, ``imagenet`` for
            colours and ``picture`` for grey.
        window: Values that become black and white, in the file's units, such as Hounsfield units; for the default see
            the kind.
        embedding_size: Width of the embedding that the patient state takes.
        dropout: Share of the features (of frozen networks: of hidden units) set to 0 in training.
        augment: ``light`` = in training, pictures are rotated (up to 10 degrees), shifted (5 %), zoomed (10 %) and half
            of them mirrored left to right.
        memory_gb: Prepared pictures up to this size stay in memory; more are read from disk, batch by batch.
    """

    column: str = "file"
    network: str
    weights: str | None = None
    frozen: bool = False
    normalise: Literal["auto", "training", "picture", "imagenet"] = "auto"
    window: Window | None = None
    embedding_size: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    augment: Literal["none", "light"] = "none"
    memory_gb: float = Field(default=2.0, ge=0.0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a prepared picture, ``(C, *space)``."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.frozen and self.weights is None:
            raise ValueError("`frozen: true` needs `weights`: random ones would stay random.")
        if self.frozen and self.augment != "none":
            raise ValueError("`augment` does nothing to a frozen network, whose features are computed once.")
        if self.frozen and self.normalise == "training":
            raise ValueError("`normalise: training` does not go with `frozen: true`; use `picture` or `imagenet`.")
        if self.normalise == "imagenet" and self.shape[0] != 3:
            raise ValueError("`normalise: imagenet` needs pictures of 3 channels.")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"`window` is [{self.window[0]:g}, {self.window[1]:g}], expected [lowest, highest].")
        least = MIN_SIZES[self.network]
        if min(self.shape[1:]) < least:
            raise ValueError(f"`size` is {list(self.shape[1:])}; the network '{self.network}' needs {least} or more.")
        if self.network == "swin" and any(length % 32 for length in self.shape[1:]):
            raise ValueError(f"`size` is {list(self.shape[1:])}; the network 'swin' needs multiples of 32.")
        return self
