"""The cascade of MTCNN: from frames to boxes, scores and landmarks.

Zhang et al. 2016, "Joint face detection and alignment using multitask cascaded convolutional networks". Chapter:
finetuning/speech.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from mmlearn.preprocessing.faces.mtcnn import Networks, ONet, PNet, RNet

CELL, STRIDE, SHRINK = 12, 2, 0.709  # pixels that the first network sees, and moves by; from a scale to the next
ROOM = 2**21  # pixels of a scale that the first network sees at a time


@torch.inference_mode()
def detect(
    networks: Networks, frames: Tensor, min_size: int, thresholds: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find the faces of some frames.

    Inside, pixels are counted from 1 and a box includes its last pixel, as in the authors' MATLAB code, by which the
    weights were trained. The result has (0, 0) at the upper left corner of the picture.

    Args:
        networks: On the device of `frames`.
        frames: uint8 (B, H, W, 3).
        min_size: Of the smallest face, in pixels.
        thresholds: Least probability, of each network.

    Returns:
        float32 boxes (N, 4): left, top, right, bottom; scores (N,); landmarks (N, 5, 2); int64 frame (N,).
    """
    sums = _integral(frames)
    boxes, frame = _propose(networks.propose, sums, min_size, thresholds[0])
    boxes, frame, _ = _look_again(networks.refine, sums, boxes, frame, 24, thresholds[1])
    keep = batched_nms(boxes[:, :4], boxes[:, 4], frame, 0.7)
    boxes, frame = _square(_moved(boxes[keep], 1)), frame[keep]
    boxes, frame, points = _look_again(networks.finish, sums, boxes, frame, 48, thresholds[2])
    corner, sides = boxes[:, None, :2], boxes[:, None, 2:4] - boxes[:, None, :2] + 1
    landmarks = corner - 1 + sides * points.reshape(-1, 2, 5).transpose(1, 2)  # (N, 5, 2)
    boxes = _moved(boxes, 1)
    keep = torch.tensor(_separate(boxes.numpy(), frame.numpy()), dtype=torch.int64)
    boxes, frame, landmarks = boxes[keep], frame[keep], landmarks[keep]
    edges = boxes[:, :4] - torch.tensor([1.0, 1.0, 0.0, 0.0])
    return edges.numpy(), boxes[:, 4].numpy(), landmarks.numpy(), frame.numpy()


def _propose(network: PNet, sums: Tensor, min_size: int, threshold: float) -> tuple[Tensor, Tensor]:
    """Return what may be faces: square boxes with a score (N, 9), and their frames (N,)."""
    height, width = sums.shape[1] - 1, sums.shape[2] - 1
    whole = torch.arange(len(sums), device=sums.device)
    scale, boxes, frames = CELL / min_size, [torch.zeros(0, 9)], [torch.zeros(0, dtype=torch.int64)]
    while min(height, width) * scale >= CELL:
        size = int(height * scale + 1), int(width * scale + 1)
        found = []
        for part in whole.split(max(1, ROOM // (size[0] * size[1]))):
            box = torch.tensor([0, 0, width, height], device=sums.device).expand(len(part), 4)
            score, move = network(_patches(sums, part, box, size))
            at = (score >= threshold).nonzero()  # (n, 3): frame, row, column
            n, row, column = at.unbind(1)
            values = torch.cat([score[n, row, column, None], move[n, :, row, column]], dim=1).cpu()  # (n, 5)
            place = STRIDE * at[:, [2, 1]].cpu().float()  # (n, 2): x, y
            corners = [((place + 1) / scale).floor(), ((place + CELL) / scale).floor()]
            found.append((torch.cat([*corners, values], dim=1), part[n].cpu()))
        level, of = torch.cat([b for b, _ in found]), torch.cat([f for _, f in found])
        keep = batched_nms(level[:, :4], level[:, 4], of, 0.5)
        boxes.append(level[keep])
        frames.append(of[keep])
        scale *= SHRINK
    every, frame = torch.cat(boxes), torch.cat(frames)
    keep = batched_nms(every[:, :4], every[:, 4], frame, 0.7)
    return _square(_moved(every[keep], 0)), frame[keep]


def _look_again(
    network: RNet | ONet, sums: Tensor, boxes: Tensor, frame: Tensor, size: int, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boxes that still look like faces, with new scores and moves; their frames; and their landmarks."""
    kept = [(torch.zeros(0, 9), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 10))]
    for part in torch.arange(len(boxes)).split(512):
        first, last = boxes[part, :2].floor().long() - 1, boxes[part, 2:4].floor().long()
        edges = torch.cat([first, torch.maximum(last, first + 1)], dim=1).to(sums.device)
        score, *rest = (out.cpu() for out in network(_patches(sums, frame[part].to(sums.device), edges, (size, size))))
        good = score > threshold
        found = torch.cat([boxes[part, :4], score[:, None], rest[0]], dim=1)[good]
        kept.append((found, frame[part][good], rest[1][good] if len(rest) > 1 else torch.zeros(len(found), 10)))
    every, of, points = (torch.cat(column) for column in zip(*kept, strict=True))
    return every, of, points


def _integral(frames: Tensor) -> Tensor:
    """Return the sums of all that is above and left of each corner, int32 (B, H + 1, W + 1, 3).

    Where they overflow they wrap around, and so do differences: the sum of a rectangle is exact below 2³¹.
    """
    sums = frames.cumsum(dim=1, dtype=torch.int32).cumsum(dim=2, dtype=torch.int32)
    return nn.functional.pad(sums, (0, 0, 1, 0, 1, 0))


def _patches(sums: Tensor, frame: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut boxes (N, 4), int64, out of frames and shrink them: float32 (N, 3, *size), about -1 to 1; outside is black.

    Each new pixel is the mean of the old ones that it touches, as in `torch.nn.functional.interpolate(mode="area")`.
    """
    spans = []
    for axis in (1, 0):  # rows, columns
        start, length = boxes[:, axis, None], (boxes[:, axis + 2] - boxes[:, axis])[:, None]
        new = size[1 - axis]
        k = torch.arange(new, device=boxes.device)
        spans.append((start + k * length // new, start - (-(k + 1) * length // new)))  # (N, new): from, to
    (top, bottom), (left, right) = spans
    area = (bottom - top)[:, :, None] * (right - left)[:, None, :]  # (N, h, w)
    height, width = sums.shape[1] - 1, sums.shape[2] - 1
    of = frame[:, None, None]
    (a, b), (c, d) = ([e.clamp(0, height)[:, :, None] for e in (top, bottom)],
                      [e.clamp(0, width)[:, None, :] for e in (left, right)])  # fmt: skip
    total = sums[of, b, d] - sums[of, a, d] - sums[of, b, c] + sums[of, a, c]  # (N, h, w, 3)
    mean = total.float() / area[..., None].float()
    return ((mean - 127.5) / 128).permute(0, 3, 1, 2)


def _moved(boxes: Tensor, extra: int) -> Tensor:
    """Return boxes (N, 9) after the moves that they carry; `extra` is what a side has beyond last minus first."""
    sides = (boxes[:, 2:4] - boxes[:, :2] + extra).repeat(1, 2)  # (N, 4)
    return torch.cat([boxes[:, :4] + boxes[:, 5:] * sides, boxes[:, 4:]], dim=1)


def _square(boxes: Tensor) -> Tensor:
    """Return the squares around the middles of boxes, whose sides are the longer ones."""
    sides = boxes[:, 2:4] - boxes[:, :2]
    longer = sides.amax(dim=1, keepdim=True)
    corner = boxes[:, :2] + sides / 2 - longer / 2
    return torch.cat([corner, corner + longer, boxes[:, 4:]], dim=1)


def _separate(boxes: np.ndarray, frame: np.ndarray, most: float = 0.7) -> list[int]:
    """Return the indices of boxes, best first, that share at most a part of the smaller one with a better one."""
    kept: list[int] = []
    area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    for k in np.argsort(-boxes[:, 4], kind="stable"):
        others = [o for o in kept if frame[o] == frame[k]]
        low, high = np.maximum(boxes[others, :2], boxes[k, :2]), np.minimum(boxes[others, 2:4], boxes[k, 2:4])
        shared = np.maximum(high - low + 1, 0).prod(axis=1)
        if (shared <= most * np.minimum(area[others], area[k])).all():
            kept.append(int(k))
    return kept
