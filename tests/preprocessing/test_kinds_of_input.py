"""What librosa, soundfile, SciPy, torchaudio, OpenCV and Pillow return, given to every public function.

Two tables: each kind of input is either right, that is, it gives what plain float32 gives, or it is an error that has
the argument, what was found and what was expected.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmlearn.preprocessing import audio as sound_module
from mmlearn.preprocessing import image as image_module
from mmlearn.preprocessing.audio import (
    MFCC,
    LogMel,
    SpecAugment,
    check_audio,
    de_emphasis,
    level,
    loudness,
    mix,
    pad_or_cut,
    pitch_shift,
    pre_emphasis,
    resample,
    set_loudness,
    snr,
    spectral_gate,
    time_stretch,
    to_mono,
    trim,
    wiener,
)
from mmlearn.preprocessing.image import (
    adjust_color,
    bgr_to_rgb,
    center_crop,
    color_jitter,
    crop,
    denormalize,
    drop_alpha,
    five_crop,
    flip,
    letterbox,
    normalize,
    random_crop,
    random_resized_crop,
    resize,
    rotate,
    to_gray,
    to_uint8,
)
from mmlearn.preprocessing.image.augment import Augment

RATE = 16_000
SOUND = (0.3 * np.sin(np.arange(6500) / 7) + 0.05 * np.random.default_rng(0).standard_normal(6500)).astype(np.float32)
NOISE = (0.1 * np.random.default_rng(1).standard_normal(4000)).astype(np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


MONO: dict[str, Callable[[Any], Any]] = {
    "check_audio": check_audio,
    "de_emphasis": de_emphasis,
    "level": level,
    "loudness": lambda x: loudness(x, RATE),
    "mix: speech": lambda x: mix(x, NOISE, 5.0, rng()),
    "mix: noise": lambda x: mix(NOISE, x, 5.0, rng()),
    "pad_or_cut: longer": lambda x: pad_or_cut(x, 9000, "centre"),
    "pad_or_cut: shorter": lambda x: pad_or_cut(x, 99, "random", rng()),
    "pitch_shift": lambda x: pitch_shift(x, RATE, 2),
    "pre_emphasis": pre_emphasis,
    "resample": lambda x: resample(x, RATE, 11_025),
    "resample: same rate": lambda x: resample(x, RATE, RATE),
    "set_loudness": lambda x: set_loudness(x, RATE),
    "snr: clean": lambda x: snr(x, SOUND + 0.01),
    "snr: noisy": lambda x: snr(SOUND + 0.01, x),
    "spectral_gate": lambda x: spectral_gate(x, RATE),
    "spectral_gate: noise": lambda x: spectral_gate(SOUND, RATE, x),
    "time_stretch": lambda x: time_stretch(x, 1.25),
    "trim": lambda x: trim(x, RATE)[0],
    "wiener": lambda x: wiener(x, RATE),
    "wiener: noise": lambda x: wiener(SOUND, RATE, x),
}
ANY: dict[str, Callable[[Any], Any]] = {
    "LogMel": lambda x: LogMel()(x),
    "MFCC": lambda x: MFCC()(x),
    "to_mono": to_mono,
}
SOUND_FUNCTIONS = MONO | ANY


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.setflags(write=False)
    return array


RIGHT_SOUNDS: dict[str, Callable[[], Any]] = {
    "float64, as soundfile and SciPy": lambda: SOUND.astype(np.float64),
    "float16": lambda: SOUND.astype(np.float16),
    "longdouble": lambda: SOUND.astype(np.longdouble),
    "another byte order": lambda: SOUND.astype(">f4"),
    "a list": SOUND.tolist,
    "a tuple": lambda: tuple(SOUND.tolist()),
    "read-only, as np.frombuffer": lambda: np.frombuffer(SOUND.tobytes(), np.float32),
    "every second sample": lambda: np.repeat(SOUND, 2)[::2],
    "backwards": lambda: SOUND[::-1].copy()[::-1],
    "a column of (S, C)": lambda: np.stack([SOUND, SOUND], axis=1)[:, 1],
    "a tensor, as torchaudio": lambda: torch.from_numpy(SOUND.copy()),
    "a tensor of float64": lambda: torch.from_numpy(SOUND.astype(np.float64)),
    "a tensor of bfloat16": lambda: torch.from_numpy(SOUND.copy()).bfloat16(),
    "a tensor with gaps": lambda: torch.from_numpy(np.repeat(SOUND, 2))[::2],
}
BAD_SOUNDS: dict[str, tuple[Callable[[], Any], str]] = {
    "int16, as scipy.io.wavfile": (lambda: (SOUND * 32767).astype(np.int16), "int16.*expected floats"),
    "uint8": (lambda: (SOUND * 127 + 128).astype(np.uint8), "uint8.*expected floats"),
    "bool": (lambda: SOUND > 0, "bool.*expected floats"),
    "complex": (lambda: SOUND.astype(np.complex64), "complex64.*expected floats"),
    "None": (lambda: None, "expected floats"),
    "a string": (lambda: "x.wav", "expected floats"),
    "empty": (lambda: np.zeros(0, np.float32), r"\(0,\).*expected|at least one sample"),
    "one number": (lambda: np.float32(0.1), r"\(\).*expected floats"),
    "NaN": (lambda: np.where(np.arange(6500) == 7, np.nan, SOUND), "nan.*expected finite|not finite.*expected"),
    "sound and rate, as librosa.load": (lambda: (SOUND, RATE), "pair; expected the sound alone"),
    "rate and sound, as scipy.io.wavfile.read": (lambda: (RATE, SOUND), "pair; expected the sound alone"),
    "tensor and rate, as torchaudio.load": (lambda: (torch.ones(1, 9), RATE), "pair; expected the sound alone"),
    "a ragged list": (lambda: [[0.1, 0.2], [0.3]], "unequal parts; expected floats"),
}
SHAPES: dict[str, tuple[Callable[[], Any], str]] = {
    "(S, C), as soundfile": (
        lambda: np.stack([SOUND, SOUND], axis=1),
        r"to_mono\((audio|speech|noise|clean|noisy)\.T\)",
    ),
    "(C, S), as librosa": (lambda: np.stack([SOUND, SOUND]), r"to_mono\((audio|speech|noise|clean|noisy)\)"),
    "(1, S), as torchaudio": (lambda: torch.from_numpy(SOUND.copy())[None], r"to_mono\("),
    "a tensor with a gradient": (
        lambda: torch.from_numpy(SOUND.copy()).requires_grad_(),
        r"expected an array: \.detach",
    ),
    "a tensor elsewhere": (lambda: torch.ones(9, device="meta"), "meta.*expected an array"),
}
NO_CHECK = {"pad_or_cut: longer", "pad_or_cut: shorter"}  # they take all numbers


@cache
def of_plain_sound(name: str) -> np.ndarray:
    return np.asarray(SOUND_FUNCTIONS[name](SOUND))


@pytest.mark.parametrize("kind", RIGHT_SOUNDS)
@pytest.mark.filterwarnings("error")
def test_right_sounds(kind: str) -> None:
    tolerance = 0.02 if "16" in kind else 1e-4
    for name, function in SOUND_FUNCTIONS.items():
        given = RIGHT_SOUNDS[kind]()
        found, expected = np.asarray(function(given)), of_plain_sound(name)
        assert found.shape == expected.shape and found.dtype.kind == "f", name
        if "Mel" in name or "MFCC" in name or ("16" in kind and name.startswith(("snr", "spectral", "wiener", "mix"))):
            assert np.abs(found - expected).mean() < 50 * tolerance, name
        else:
            np.testing.assert_allclose(found, expected, atol=tolerance, rtol=tolerance, err_msg=name)
        if isinstance(given, np.ndarray) and found.ndim == 1 and name not in ("mix: noise", "LogMel", "MFCC"):
            own = given.dtype.itemsize if kind not in ("longdouble",) else 8
            assert name.endswith(": noise") or found.dtype.itemsize == own, f"{name} changes the type"


@pytest.mark.parametrize("kind", BAD_SOUNDS)
def test_bad_sounds(kind: str) -> None:
    make, message = BAD_SOUNDS[kind]
    for name, function in SOUND_FUNCTIONS.items():
        if name in NO_CHECK and kind in ("int16, as scipy.io.wavfile", "uint8", "empty", "NaN"):
            continue
        if kind == "None" and name in ("spectral_gate: noise", "wiener: noise"):  # by default there is none
            continue
        with pytest.raises((TypeError, ValueError)) as error:
            function(make())
        assert type(error.value) in (TypeError, ValueError), name
        if name in NO_CHECK:
            message = message.replace("expected floats", "expected (floats|numbers)")
        assert error.match(message), name
        assert any(word in str(error.value) for word in ("audio", "speech", "noise", "clean", "noisy")), name


@pytest.mark.parametrize("kind", SHAPES)
def test_shapes_and_gradients_of_sounds(kind: str) -> None:
    make, message = SHAPES[kind]
    for name, function in MONO.items():
        with pytest.raises((TypeError, ValueError)) as error:
            function(make())
        assert error.match("expected numbers" if name in NO_CHECK and "to_mono" in message else message), name


def test_log_mel_in_any_type() -> None:
    expected = LogMel()(SOUND)
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        found = LogMel().to(kind)(SOUND)
        assert found.dtype == kind and (found.float() - expected).abs().mean() < 0.02
        assert MFCC().to(kind)(torch.from_numpy(SOUND).to(kind)).dtype == kind
    tensor = torch.from_numpy(SOUND.copy()).double().requires_grad_()
    LogMel()(tensor).sum().backward()
    assert tensor.grad is not None and tensor.grad.isfinite().all() and tensor.grad.any()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(LogMel()(SOUND), expected)
    loud = np.sin(np.arange(48_000) / 3).astype(np.float32)
    assert LogMel(48_000, n_fft=4096).half()(loud).isfinite().all()


@pytest.mark.parametrize("shape", [(16_000, 2), (400, 1), (300, 2), (3, 16_000, 6), (9, 1), (500, 399)])
def test_samples_before_channels_are_an_error(shape: tuple[int, ...]) -> None:
    for features in (LogMel(), MFCC()):
        with pytest.raises(ValueError, match=r"expected \(…, S\): is this \(S, C\)"):
            features(np.zeros(shape))
    if len(shape) == 2 and shape[0] > 64:
        with pytest.raises(ValueError, match=r"expected \(C, S\): is this \(S, C\)\? Then give audio\.T"):
            to_mono(np.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 16_000), (64, 300), (8, 1), (2, 3, 160), (399, 399), (1, 1)])
def test_batches_of_short_sounds_are_none(shape: tuple[int, ...]) -> None:
    assert LogMel()(np.zeros(shape)).shape == (*shape[:-1], 64, shape[-1] // 160 + 1)


def test_rates_of_any_kind() -> None:
    for rate in (16_000.0, np.int32(16_000), np.float64(16_000)):
        np.testing.assert_array_equal(LogMel(rate)(SOUND), LogMel()(SOUND))
        np.testing.assert_array_equal(resample(SOUND, rate, 8000), resample(SOUND, RATE, 8000))
    bad: Any
    for bad in (16_000.5, 0, -1, None, "16000", np.nan, True):
        with pytest.raises(ValueError, match=r"rate is .*expected"):
            LogMel(bad)
        with pytest.raises(ValueError, match=r"rate is .*expected"):
            resample(SOUND, RATE, bad)
    for call in (loudness, set_loudness, spectral_gate, wiener):
        with pytest.raises(ValueError, match="sample_rate is None; expected"):
            call(SOUND, None)


def test_spec_augment_says_what_it_takes() -> None:
    mel = torch.zeros(2, 64, 100)
    for bad, mask in (
        (mel.numpy(), None),
        (mel.int(), None),
        (mel, torch.ones(2, 100)),
        (mel, np.ones((2, 100), bool)),
    ):
        with pytest.raises(TypeError, match=r"(mel|mask) is a .*; expected a (bool )?tensor"):
            SpecAugment()(bad, mask)


# Pictures.

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
RGBA = np.dstack([PICTURE, PICTURE[..., :1]])
EVERY: dict[str, Callable[[Any], Any]] = {
    "center_crop": lambda x: center_crop(x, 16),
    "crop": lambda x: crop(x, 1, 2, 10, 12),
    "five_crop": lambda x: five_crop(x, (8, 8))[4],
    "flip": flip,
    "flip: upside down": lambda x: flip(x, horizontal=False),
    "letterbox": lambda x: letterbox(x, (40, 40))[0],
    "random_crop": lambda x: random_crop(x, 16, rng()),
    "random_resized_crop": lambda x: random_resized_crop(x, 16, rng()),
    "resize": lambda x: resize(x, (12, 40)),
    "resize: bicubic": lambda x: resize(x, (12, 40), interpolation="bicubic"),
    "resize: lanczos": lambda x: resize(x, (12, 40), interpolation="lanczos"),
    "resize: nearest": lambda x: resize(x, (12, 40), interpolation="nearest"),
    "rotate": lambda x: rotate(x, 10),
}
OF_COLOR: dict[str, Callable[[Any], Any]] = {
    "adjust_color": lambda x: adjust_color(x, brightness=0.9, contrast=1.1, saturation=0.9, hue=0.05),
    "bgr_to_rgb": bgr_to_rgb,
    "color_jitter": lambda x: color_jitter(x, rng(), brightness=0.2, hue=0.1),
    "normalize": normalize,
    "to_gray": to_gray,
}
FUNCTIONS = EVERY | OF_COLOR | {"to_uint8": to_uint8}
UNIT = {"adjust_color", "color_jitter", "normalize", "to_uint8"}  # they need the values' range
RIGHT_PICTURES: dict[str, Callable[[np.ndarray], Any]] = {
    "read-only, as np.asarray of a PIL picture": lambda x: np.asarray(Image.fromarray(x)),
    "not contiguous": lambda x: x.repeat(2, axis=1)[:, ::2],
    "backwards, as BGR[..., ::-1] of OpenCV": lambda x: cv2.cvtColor(x, cv2.COLOR_RGB2BGR)[..., ::-1],
    "Fortran's order": np.asfortranarray,
    "float32": lambda x: x.astype(np.float32) / np.float32(255),
    "a clip": lambda x: x[None],
    "a tensor": lambda x: torch.from_numpy(x.transpose(2, 0, 1).copy()),
    "a tensor with other strides": lambda x: torch.from_numpy(x).permute(2, 0, 1),
    "a tensor of floats with a gradient": lambda x: (torch.from_numpy(x.transpose(2, 0, 1) / np.float32(255))
                                                     .requires_grad_()),
    "a tensor of float64": lambda x: torch.from_numpy(x.transpose(2, 0, 1) / 255),
    "a tensor of float16": lambda x: torch.from_numpy(x.transpose(2, 0, 1) / 255).half(),
}  # fmt: skip
BAD_PICTURES: dict[str, tuple[Callable[[], Any], str]] = {
    "a PIL picture": (lambda: Image.fromarray(PICTURE), "frames is a Image; expected.*np.asarray"),
    "a list of frames": (lambda: [PICTURE, PICTURE], "frames is a list; expected.*np.stack"),
    "None": (lambda: None, "frames is a NoneType; expected"),
    "a path": (lambda: "x.png", "frames is a str; expected"),
    "float64, as x / 255": (lambda: PICTURE / 255, r"float64.*expected.*astype\(np\.float32\)"),
    "float16": (lambda: (PICTURE / 255).astype(np.float16), r"float16.*expected.*astype"),
    "int64": (lambda: PICTURE.astype(np.int64), "int64.*expected"),
    "bool": (lambda: PICTURE > 9, "bool.*expected"),
    "(C, H, W)": (lambda: PICTURE.transpose(2, 0, 1), r"expected.*is this \(…, C, H, W\)"),
    "a tensor (H, W, C)": (lambda: torch.from_numpy(PICTURE), r"expected.*is this \(…, H, W, C\)\? Then movedim"),
    "an int64 tensor": (lambda: torch.ones(3, 9, 9, dtype=torch.int64), "int64.*expected"),
    "empty": (lambda: PICTURE[:0], "expected.*no side of 0"),
}


def numbers(found: Any, kind: str) -> np.ndarray:
    """A result as floats (H, W, C) from 0 to 255, unless it is normalised."""
    if isinstance(found, torch.Tensor):
        found = (
            found.detach().movedim(-3, -1).float().numpy()
            if found.dtype != torch.uint8
            else found.movedim(-3, -1).numpy()
        )
    found = found[0] if kind == "a clip" else found
    return found.astype(np.float64) * (255 if found.dtype != np.uint8 else 1)


@pytest.mark.parametrize("kind", RIGHT_PICTURES)
@pytest.mark.filterwarnings("error")
def test_right_pictures(kind: str) -> None:
    for name, function in FUNCTIONS.items():
        if "gradient" in kind and name in ("adjust_color", "color_jitter"):
            with pytest.raises(ValueError, match=r"frames require a gradient.*expected frames\.detach"):
                function(RIGHT_PICTURES[kind](PICTURE))
            continue
        found, expected = numbers(function(RIGHT_PICTURES[kind](PICTURE)), kind), numbers(function(PICTURE), "")
        assert found.shape == expected.shape, name
        few = 1.5 if name != "normalize" else 1.5 / 0.2
        assert np.percentile(np.abs(found.clip(-700, 700) - expected), 95) <= few, name
        assert "bicubic" in name or "lanczos" in name or np.abs(found - expected).max() <= 4 * few, name


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_bad_pictures(kind: str) -> None:
    make, message = BAD_PICTURES[kind]
    for name, function in (FUNCTIONS | {"drop_alpha": drop_alpha, "denormalize": denormalize}).items():
        with pytest.raises((TypeError, ValueError)) as error:
            function(make())
        assert error.match(message), name


def test_floats_up_to_255_are_an_error_where_the_range_matters() -> None:
    loud, tensor = PICTURE.astype(np.float32), torch.from_numpy(PICTURE).permute(2, 0, 1).float()
    for name in UNIT:
        for given in (loud, tensor):
            with pytest.raises(ValueError, match="from 0 to 1: divide by 255, or give uint8"):
                FUNCTIONS[name](given)
    with pytest.raises(ValueError, match="expected values from 0 to 1: divide by 255"):
        drop_alpha(RGBA.astype(np.float32))
    with pytest.raises(ValueError, match="expected values from 0 to 1"):
        normalize(normalize(PICTURE))  # twice
    with pytest.raises(ValueError, match="frames is uint8; expected floats, as normalize returns them"):
        denormalize(PICTURE)
    with pytest.raises(ValueError, match="expected values from 0 to 1: divide by 255"):
        Augment(8)(tensor[None, :, None])


def test_augment_says_what_it_takes() -> None:
    for bad, message in ((np.zeros((1, 3, 2, 8, 8), np.uint8), "video is a ndarray; expected a tensor"),
                         ([torch.zeros(3, 2, 8, 8)], "video is a list"), (None, "video is a NoneType")):  # fmt: skip
        with pytest.raises(TypeError, match=message):
            Augment(8)(bad)
    with pytest.raises(ValueError, match=r"video is torch\.int64"):
        Augment(8)(torch.zeros(1, 3, 2, 8, 8, dtype=torch.int64))


def test_sizes_and_places_of_any_kind() -> None:
    for size in ((12, 40), [12, 40], np.array([12, 40]), (12.0, 40.0), (np.int64(12), np.float32(40))):
        np.testing.assert_array_equal(resize(PICTURE, size), resize(PICTURE, (12, 40)))
    bad: Any
    for bad in (12.5, 0, (12,), (12, 40, 3), None, "12", ("12", "40"), (12, None), np.nan, (0, 5)):
        with pytest.raises(ValueError, match=r"size is .*; expected height and width in whole pixels"):
            resize(PICTURE, bad)
    with pytest.raises(TypeError, match="expected whole numbers of pixels"):
        crop(PICTURE, 1.5, 2, 3, 4)  # type: ignore[arg-type]


def test_every_public_function_is_in_a_table() -> None:
    """A new function is tried here, too."""
    here = {name.split(":")[0] for name in SOUND_FUNCTIONS | FUNCTIONS} | {"SpecAugment", "drop_alpha", "denormalize"}
    elsewhere = {"read_audio", "read_image", "Box", "MAX_PIXELS", "IMAGENET_MEAN", "IMAGENET_STD", "from_letterbox",
                 "resize_matrix", "Augment", "Draw", "change_voice", "warp_bands", "WarpBands",
                 "standardize_bands"}  # fmt: skip
    assert {*sound_module.__all__, *image_module.__all__} <= here | elsewhere
