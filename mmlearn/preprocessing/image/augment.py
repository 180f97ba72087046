"""Augment a batch of clips on its device: one draw a clip, many clips in one call.

Crop, mirror and resize are one matrix for the rows and one for the columns of each clip, as `resize_matrix` says, and
colours are arithmetic on whole batches. For the same draw, the result is that of `rotate`, `crop`, `resize`, `flip` and
`adjust_color` of `mmlearn.preprocessing.image`, in this order, on each clip.

Chapter: preprocessing/image.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlearn.batch import Batch
from mmlearn.preprocessing.image.color import GRAY, check_jitter
from mmlearn.preprocessing.image.cropping import random_boxes
from mmlearn.preprocessing.image.geometry import resize_matrix
from mmlearn.preprocessing.image.layout import from_unit, full, pair, to_unit


class Draw(NamedTuple):
    """What was drawn for each of B clips."""

    box: Tensor  # int64 (B, 4): top, left, height, width
    flip: Tensor  # bool (B,): mirrored left and right?
    degrees: Tensor  # (B,): counter-clockwise
    brightness: Tensor  # (B,): factors
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # (B,): turns


class Augment(nn.Module):
    """Change each clip of a batch at random: rotate, crop, resize, mirror, colour.

    Mirroring is off unless asked for: a mirrored character, sign or "left" is another one, or none.

    Args:
        size: Height and width of the result.
        scale: Smallest and largest share of the frame's area that is cut out.
        ratio: Smallest and largest width / height of what is cut out.
        flip: Probability of mirroring left and right.
        degrees: Largest angle of rotation, either way; what turns in from outside is black.
        brightness: Largest distance of the factor from 1; likewise contrast and saturation. See `color_jitter`.
        contrast: See brightness.
        saturation: See brightness.
        hue: Largest turn of the circle of colours, in turns.
        generator: What to draw from; by default torch's own, which `mmlearn.seed_everything` and `fit` seed.

    Raises:
        ValueError: If an argument is out of range.

    Chapter: preprocessing/image.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        scale: tuple[float, float] = (0.5, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.0,
        degrees: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_jitter(brightness, contrast, saturation, hue)
        if not (0 <= flip <= 1 and 0 <= degrees < math.inf):
            raise ValueError(f"flip is {flip}, degrees {degrees}; expected a probability, and a finite angle ≥ 0")
        random_boxes(torch.zeros(1, 1, 4).numpy(), (1, 1), scale, ratio)  # raises where these are impossible
        self.size, self.scale, self.ratio = pair(size), scale, ratio
        self.flip, self.degrees, self.jitter = flip, degrees, (brightness, contrast, saturation, hue)
        self.generator = generator

    def draw(self, count: int, height: int, width: int) -> Draw:
        """Draw for `count` clips whose frames are `height` × `width`; the result is on the CPU."""
        where = self.generator.device if self.generator is not None else "cpu"
        u = torch.rand(count, 46, generator=self.generator, device=where, dtype=torch.float64).cpu()
        boxes = random_boxes(u[:, 6:].reshape(count, 10, 4).numpy(), (height, width), self.scale, self.ratio)
        strength = torch.tensor((self.degrees, *self.jitter))
        degrees, b, c, s, hue = (strength * (2 * u[:, 1:6].float() - 1)).unbind(dim=1)
        return Draw(torch.from_numpy(boxes), u[:, 0] < self.flip, degrees, 1 + b, 1 + c, 1 + s, hue)

    @torch.no_grad()
    def forward(self, video: Tensor, draw: Draw | None = None) -> Tensor:
        """Return changed clips (B, C, T, h, w) of the same type, on the same device.

        Args:
            video: (B, C, T, H, W), uint8, or floating from 0 to 1; RGB, or grey with C = 1.
            draw: What to do; by default it is drawn again.

        Raises:
            TypeError: If the video is no tensor.
            ValueError: If the video has another shape or type, or (on the CPU) floats that are clearly not from 0 to 1.
        """
        if not isinstance(video, Tensor):
            raise TypeError(
                f"video is a {type(video).__name__}; expected a tensor (B, C, T, H, W), as `collate` makes it"
            )
        if video.ndim != 5 or video.shape[1] not in (1, 3) or 0 in video.shape or not (
            video.dtype == torch.uint8 or video.is_floating_point()
        ):  # fmt: skip
            raise ValueError(f"video is {video.dtype} {tuple(video.shape)}; expected uint8 or floating "
                             "(B, C, T, H, W) with C 1 or 3, and no side of 0")  # fmt: skip
        if video.is_floating_point() and video.device.type == "cpu":
            to_unit(video.nan_to_num(0.0))  # raises; NaN may stand in the place of a clip that is absent
        count, _, _, height, width = video.shape
        draw = self.draw(count, height, width) if draw is None else draw
        draw = Draw(*(values.to(video.device, non_blocking=True) for values in draw))
        step = max(1, (2**21 if video.device.type == "cpu" else 2**28) // video[0].numel())  # clips that a cache holds
        parts = [slice(k, k + step) for k in range(0, count, step)]
        with torch.autocast(video.device.type, enabled=False):  # positions and colours need all of float32
            return torch.cat([self._change(video[part], Draw(*(values[part] for values in draw))) for part in parts])

    def _change(self, video: Tensor, draw: Draw) -> Tensor:
        x = _rotate(video, draw.degrees) if self.degrees else video
        x = _crop(x, self.size, draw.box, draw.flip, full(video))  # (B, C, T, h, w), from 0 to 1
        return from_unit(_adjust(x, draw, self.jitter), video).contiguous()

    def batch(self, batch: Batch, name: str = "video") -> Batch:
        """Change one modality of a batch: `fit(…, augment=Augment(48).batch)`.

        Raises:
            ValueError: If the batch has no such modality, or as `forward`.
        """
        if name not in batch.data:
            raise ValueError(f"the batch has no {name!r}; it has {sorted(batch.data)}")
        return replace(batch, data={**batch.data, name: self(batch.data[name])})


def _crop(video: Tensor, size: tuple[int, int], box: Tensor, flip: Tensor, full: float) -> Tensor:
    """Cut a box out of each clip, resize it and mirror it: two products of matrices; float32 from 0 to 1."""
    count, channels, steps, height, width = video.shape
    top, left, h, w = box[:, :, None, None].unbind(dim=1)  # (B, 1, 1) each
    rows = resize_matrix(height, size[0], "auto", top, h)  # (B, h, H)
    columns = resize_matrix(width, size[1], "auto", left, w)  # (B, w, W)
    columns = torch.where(flip[:, None, None], columns.flip(1), columns).mT  # (B, W, w)
    x = video.permute(0, 3, 1, 2, 4).to(torch.float32, memory_format=torch.contiguous_format)  # (B, H, C, T, W)
    x = (rows / full).float() @ x.reshape(count, height, -1)  # (B, h, C·T·W)
    x = x.reshape(count, -1, width) @ columns.float()  # (B, h·C·T, w)
    return x.reshape(count, size[0], channels, steps, size[1]).permute(0, 2, 3, 1, 4)


def _rotate(video: Tensor, degrees: Tensor) -> Tensor:
    """Turn each clip about its centre, as `mmlearn.preprocessing.image.rotate`; float32 in the range of `video`."""
    height, width = video.shape[-2:]
    angle = degrees * (math.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Where a new pixel comes from, in units in which the frame reaches from -1 to 1 both ways.
    turn = torch.stack([cos, -sin * (height / width), zero, sin * (width / height), cos, zero], dim=1)
    grid = nn.functional.affine_grid(turn.reshape(-1, 2, 3), [len(video), 1, height, width], align_corners=False)
    frames = video.flatten(1, 2).float()  # (B, C·T, H, W)
    turned = nn.functional.grid_sample(frames, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned.reshape(video.shape)


def _adjust(x: Tensor, draw: Draw, jitter: tuple[float, float, float, float]) -> Tensor:
    """`adjust_color` for (B, C, T, h, w) in place; parts of no strength are left out."""
    brightness, contrast, saturation, hue = (part[:, None, None, None, None] for part in draw[3:])
    if jitter[0]:
        x.mul_(brightness).clamp_(0, 1)
    if jitter[1]:
        mean = _grey(x).mean(dim=(3, 4), keepdim=True)  # (B, 1, T, 1, 1): of each frame
        x.mul_(contrast).add_((1 - contrast) * mean).clamp_(0, 1)
    if jitter[2] and x.shape[1] == 3:
        grey = _grey(x).mul_(1 - saturation)
        x.mul_(saturation).add_(grey).clamp_(0, 1)
    return _turn_hue(x, hue) if jitter[3] and x.shape[1] == 3 else x


def _grey(x: Tensor) -> Tensor:
    """Return (B, 1, T, h, w)."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, dim=1)
    return (GRAY[0] * red).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])


def _turn_hue(x: Tensor, hue: Tensor) -> Tensor:
    """Turn the circle of colours: RGB → hue, saturation, value → RGB (Smith 1978), where only hue changes."""
    red, green, blue = x.split(1, dim=1)
    value = x.amax(dim=1, keepdim=True)
    chroma = value - x.amin(dim=1, keepdim=True)
    safe = chroma + (chroma == 0)  # grey has no hue; any will do
    sixths = torch.where(value == red, (green - blue) / safe,
                         torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe))  # fmt: skip
    sixths = sixths + 6 * hue
    k = torch.cat([(sixths + n) % 6 for n in (5, 3, 1)], dim=1)  # red, green, blue
    return value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1)
