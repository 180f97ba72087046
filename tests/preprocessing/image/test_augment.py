"""Augment: for the same draw, what the functions for one clip do; and one draw a clip."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mmlearn
from mmlearn import Batch
from mmlearn.preprocessing import image
from mmlearn.preprocessing.image.augment import Augment, Draw

VIDEO = torch.from_numpy(np.random.default_rng(0).random((6, 3, 2, 61, 83), np.float32))  # (B, C, T, H, W)
EVERYTHING: dict[str, Any] = {
    "flip": 0.5,
    "degrees": 25,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.3,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_by_one(video: Tensor, draw: Draw, size: Any, backend: str) -> Tensor:
    """The same, clip by clip, by OpenCV or by torchvision; floats in, floats out."""
    done = []
    for k, clip in enumerate(video):
        frames: Any = clip.transpose(0, 1)  # (T, C, H, W)
        if backend == "opencv":
            frames = np.ascontiguousarray(frames.movedim(1, 3).numpy())
        frames = image.rotate(frames, float(draw.degrees[k]))
        frames = image.resize(image.crop(frames, *draw.box[k].tolist()), size)
        frames = image.flip(frames) if draw.flip[k] else frames
        frames = image.adjust_color(
            frames,
            brightness=float(draw.brightness[k]),
            contrast=float(draw.contrast[k]),
            saturation=float(draw.saturation[k]),
            hue=float(draw.hue[k]),
        )
        done.append(torch.as_tensor(frames).movedim(3, 1) if backend == "opencv" else frames)
    return torch.stack(done).transpose(1, 2)


@pytest.mark.parametrize("backend", ["opencv", "torchvision"])
@pytest.mark.parametrize("size", [(40, 48), (90, 100), (30, 100)])
@pytest.mark.parametrize("name", ["everything", "nothing", *EVERYTHING])
def test_equals_the_functions_for_one_clip(name: str, size: tuple[int, int], backend: str) -> None:
    options = EVERYTHING if name == "everything" else {key: EVERYTHING[key] for key in EVERYTHING if key == name}
    augment = Augment(size, scale=(0.3, 1.0), generator=seeded(), **options)
    draw = augment.draw(6, 61, 83)
    assert torch.allclose(augment(VIDEO, draw), one_by_one(VIDEO, draw, size, backend), atol=1e-3)


def test_bytes_grey_and_halves() -> None:
    bytes_ = (VIDEO * 255).round().to(torch.uint8)
    augment = Augment(40, **EVERYTHING)
    draw = augment.draw(6, 61, 83)
    expected = augment(bytes_.float() / 255, draw)
    assert augment(bytes_, draw).dtype == torch.uint8 and augment(bytes_, draw).is_contiguous()
    assert (augment(bytes_, draw).float() / 255 - expected).abs().max() <= 0.5 / 255 + 1e-6
    assert augment(VIDEO.half(), draw).dtype == torch.half
    grey = augment(VIDEO[:, :1], draw)
    assert grey.shape == (6, 1, 2, 40, 40)
    assert torch.allclose(grey, one_by_one(VIDEO[:, :1], draw, 40, "torchvision"), atol=1e-3)


def test_one_draw_a_clip_and_another_for_each() -> None:
    still = VIDEO[:1, :, :1].expand(6, 3, 4, 61, 83)  # the same frame, everywhere
    out = Augment(40, generator=seeded(), **EVERYTHING)(still)
    assert all(torch.equal(out[:, :, 0], out[:, :, t]) for t in range(4))
    assert len({clip.numpy().tobytes() for clip in out}) == 6


def test_seeds_reproduce() -> None:
    a, b = (Augment(40, generator=seeded(1), **EVERYTHING) for _ in range(2))
    first = a(VIDEO)
    assert torch.equal(first, b(VIDEO)) and not torch.equal(first, a(VIDEO))
    augment = Augment(40, **EVERYTHING)  # torch's own random numbers
    mmlearn.seed_everything(3)
    first = augment(VIDEO)
    mmlearn.seed_everything(3)
    assert torch.equal(first, augment(VIDEO))


def test_draws_are_what_was_asked_for() -> None:
    draw = Augment(40, scale=(0.2, 0.5), generator=seeded(), **EVERYTHING).draw(4000, 100, 100)
    assert abs(draw.flip.float().mean() - 0.5) < 0.03
    for values, middle, strength in [(draw.degrees, 0, 25), (draw.brightness, 1, 0.4), (draw.hue, 0, 0.3)]:
        assert abs(values.mean() - middle) < 0.05 * strength
        assert 0.98 * strength < (values - middle).abs().max() <= strength * 1.0001
    area = (draw.box[:, 2] * draw.box[:, 3]).float() / 1e4
    assert area.min() > 0.19 and area.max() < 0.51
    plain = Augment(40).draw(50, 61, 83)
    assert not plain.flip.any() and not plain.degrees.any() and (plain.contrast == 1).all()


def test_large_batches_go_in_parts() -> None:
    video = VIDEO[:, :, :1, :40, :40].repeat(1, 1, 400, 1, 1)  # 1.9 million values a clip: two clips at a time
    augment = Augment(16, **EVERYTHING)
    draw = augment.draw(6, 40, 40)
    alone = torch.cat([augment(video[k : k + 1, :, :1], Draw(*(part[k : k + 1] for part in draw))) for k in range(6)])
    assert torch.allclose(augment(video, draw)[:, :, -1:], alone, atol=1e-5)


def test_not_a_number_stays_in_its_clip() -> None:
    broken = VIDEO.clone()
    broken[2] = torch.nan
    augment = Augment(40, **EVERYTHING)
    draw = augment.draw(6, 61, 83)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(augment(broken, draw)[others], augment(VIDEO, draw)[others])


def test_batch() -> None:
    batch = Batch(
        {"video": VIDEO, "text": torch.ones(6, 4)}, {n: torch.ones(6, dtype=torch.bool) for n in ("video", "text")}
    )
    new = Augment(48).batch(batch)
    assert new.data["video"].shape == (6, 3, 2, 48, 48) and batch.data["video"] is VIDEO
    assert new.data["text"] is batch.data["text"] and new.present is batch.present


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu() -> None:
    augment = Augment((40, 100), scale=(0.3, 1.0), **EVERYTHING)
    draw = augment.draw(6, 61, 83)
    with torch.autocast("cuda", torch.bfloat16):
        on_gpu = augment(VIDEO.cuda(), draw)
    assert on_gpu.device.type == "cuda"
    assert torch.allclose(on_gpu.cpu(), augment(VIDEO, draw), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": 1.5}, "flip is 1.5"),
        ({"degrees": -1}, "degrees -1"),
        ({"hue": 0.7}, "hue 0.7"),
        ({"scale": (0.5, 2)}, "scale is"),
        ({"size": 0}, "size is 0"),
    ],
)
def test_unusable_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**{"size": 8, **options})


@pytest.mark.parametrize(
    "video",
    [
        torch.zeros(2, 3, 8, 8),
        torch.zeros(2, 4, 3, 8, 8),
        torch.zeros(2, 3, 0, 8, 8),
        torch.zeros(2, 3, 4, 8, 8).long(),
    ],
)
def test_unusable_video(video: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 or floating \(B, C, T, H, W\)"):
        Augment(8)(video)
