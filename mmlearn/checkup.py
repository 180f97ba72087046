"""Is this machine ready for the course? `check()` looks, and says what is wrong and what to do about it.

Chapter: start/setup.
"""

import importlib
import platform
import shutil
import tempfile
import warnings
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import mmlearn
from mmlearn import runtime

OURS, FOREIGN = "mmlearn-course", "mmlearn"
SHOWN = {  # distribution: module
    "torch": "torch",
    "torchvision": "torchvision",
    "torchaudio": "torchaudio",
    "numpy": "numpy",
    "opencv-python": "cv2",
    "librosa": "librosa",
    "av": "av",
    "accelerate": "accelerate",
}
LEAST_DISK = 1.0  # GB: the data of HanziClips, and two or three sets of clips made from it


def check() -> bool:
    """Print what the course finds on this machine, and, for all that is wrong, a line with its remedy.

    Returns:
        True if nothing is wrong.

    Chapter: start/setup.
    """
    problems: list[str] = []
    _say("Python", platform.python_version())
    for distribution, module in SHOWN.items():
        problems += _check_library(distribution, module)
    problems += _check_requirements()
    problems += _check_namesake()
    problems += _check_device()
    problems += _check_media()
    problems += _check_data()
    problems += _check_disk()
    problems += _check_font()
    print()
    for problem in problems:
        print(f"WRONG: {problem}")
    if not problems:
        print("All is fine.")
    return not problems


def _say(what: str, found: str) -> None:
    print(f"{what:14} {found}")


def _check_library(distribution: str, module: str) -> list[str]:
    """Really import it: torchvision or torchaudio made for another torch are found only so."""
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        _say(distribution, "missing")
        return [f"{distribution} is not installed. Remedy: pip install {distribution}"]
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a broken library raises
        _say(distribution, f"{version}, broken")
        return [f"{distribution} {version} cannot be imported ({_first_line(error)}). {_reinstall(distribution)}"]
    _say(distribution, version)
    return []


def _check_requirements() -> list[str]:
    """Compare what is installed with the lower bounds of pyproject.toml."""
    try:
        requirements = [Requirement(line) for line in metadata.requires(OURS) or []]
    except metadata.PackageNotFoundError:
        return [f"the course's package {OURS} is not installed. Remedy: pip install -e . in the course's folder"]
    problems = []
    for needed in requirements:
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            if needed.name not in SHOWN:  # those have said so already
                problems.append(f"{needed.name} is not installed. Remedy: pip install '{needed}'")
            continue
        if not needed.specifier.contains(found, prereleases=True):
            problems.append(f"{needed.name} is {found}, expected {needed.specifier}. Remedy: pip install '{needed}'")
    return problems


def _check_namesake() -> list[str]:
    """Notice PyPI's unrelated package `mmlearn` (Vector Institute), which is imported under the same name."""
    try:
        foreign = metadata.distribution(FOREIGN)
    except metadata.PackageNotFoundError:
        return []
    here = Path(mmlearn.__file__).resolve()
    overwritten = any(Path(str(foreign.locate_file(file))).resolve() == here for file in foreign.files or [])
    remedy = f"pip uninstall {FOREIGN}"
    if overwritten:
        remedy += f", then pip install --force-reinstall --no-deps {OURS} (in the course's folder: pip install -e .)"
    damage = f"has overwritten files of ours in {here.parent}" if overwritten else "is imported under the same name"
    return [f"the unrelated package {FOREIGN} {foreign.version} from PyPI is installed and {damage}. Remedy: {remedy}"]


def _check_device() -> list[str]:
    """Train one step on the device: its driver, its kernels and its half precision are used, not only listed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            device = runtime.device()
            name = importlib.import_module("torch").cuda.get_device_name() if device.type == "cuda" else ""
            arithmetic = {"no": "float32", "fp16": "float16 with loss scaling", "bf16": "bfloat16"}
            _say("device", f"{device.type} ({name or platform.machine()}), {arithmetic[runtime.precision(device)]}")
            _train_one_step()
        except Exception as error:  # a driver that does not fit raises many things
            return [f"no device works ({_first_line(error)}). {_reinstall('torch')}"]
    return [str(warning.message) for warning in caught if "cannot multiply" in str(warning.message)]


def _train_one_step() -> None:
    """Run `fit` for one step of a small convolutional network.

    Raises:
        ArithmeticError: If the step leaves the weights as they were, or makes them something that is no number.
    """
    import torch

    from mmlearn import Batch, fit
    from mmlearn.finetuning.classification.objective import Classification

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)
            self.head = torch.nn.Linear(144, 2)

        def forward(self, batch: Batch) -> torch.Tensor:
            return self.head(self.conv(batch.data["image"]).flatten(1))

    images = torch.linspace(-1, 1, 4 * 3 * 64).view(4, 3, 8, 8)
    there, labels = torch.ones(4, dtype=torch.bool), torch.tensor([0, 1, 0, 1])
    batch, model = Batch({"image": images}, {"image": there}, {}, {"label": labels}), Small()
    before = model.conv.weight.detach().clone()
    fit(model, batch, batch, Classification("label", 2), epochs=1, batch_size=4, progress=False)
    after = model.conv.weight.detach().cpu()
    if not bool(after.isfinite().all()) or torch.equal(before, after):
        raise ArithmeticError("one step of training did not change the weights to other finite numbers")


def _check_media() -> list[str]:
    """Write a small film with sound, and read it back: PyAV and FFmpeg's codecs are used, not only imported."""
    import numpy as np

    from mmlearn.media.mp4 import read_mp4, write_mp4

    video = np.full((5, 64, 64, 3), 90, np.uint8)
    sound = 0.5 * np.sin(np.arange(8000) / 5).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.mp4"
        try:
            write_mp4(path, video=video, fps=10, audio=sound, sample_rate=16_000)
            found = read_mp4(path)
        except Exception as error:  # a version of PyAV that this package was never tried with raises anything
            return [f"video files cannot be written and read ({_first_line(error)}). {_reinstall('av')}"]
    frames = found.video if found.video is not None else np.zeros((0, 1))
    samples = found.audio if found.audio is not None else np.zeros(0)
    _say("video files", f"{len(frames)} frames and {len(samples):,} samples written and read")
    if frames.shape != video.shape or np.abs(frames.astype(int) - 90).max() > 3 or len(samples) != len(sound):
        return [f"a film of 5 grey frames and 8,000 samples came back as {frames.shape} and {len(samples)} samples. "
                f"{_reinstall('av')}"]  # fmt: skip
    return []


def _check_data() -> list[str]:
    from mmlearn.datasets.hanzi.download import find_hanzi  # here, so that a broken library is reported above first

    found = find_hanzi()
    if found is None:
        _say("data", f"none in {runtime.home()}")
        return ["the data of HanziClips are missing. Remedy: mmlearn data hanzi"]
    _say("strokes", f"{len(list(found.strokes.iterdir())):,} characters in {found.strokes}")
    if found.voices:
        _say("voices", f"{len(list(found.voices.glob('*/*.ogg'))):,} recordings in {found.voices}")
        return []
    _say("voices", "no recordings: speech is synthetic (eSpeak NG)")
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        return ["the recordings are missing, and this machine could fetch them. Remedy: mmlearn data hanzi"]
    return []


def _check_disk() -> list[str]:
    folder = runtime.home().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    _say("free disk", f"{free:.1f} GB in {folder}")
    if free >= LEAST_DISK:
        return []
    return [f"{free:.1f} GB are free in {folder}, expected {LEAST_DISK}. Remedy: set MMLEARN_HOME to a larger disk"]


def _check_font() -> list[str]:
    try:
        from mmlearn import plotting

        _say("Chinese font", str(plotting.chinese_font()))
    except (ImportError, FileNotFoundError) as error:
        _say("Chinese font", "missing")
        return [f"Chinese characters will not show in figures ({_first_line(error)}). {_reinstall('mplfonts')}"]
    return []


def _reinstall(distribution: str) -> str:
    return f"Remedy: pip install --force-reinstall {distribution}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
