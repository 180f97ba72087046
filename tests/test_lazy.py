"""mmlearn.lazy: a package's names are imported when they are first used, and not before."""

import subprocess
import sys

import pytest

import mmlearn
from mmlearn import datasets
from mmlearn.lazy import attach
from tests.places import ROOT


def test_names_come_from_their_modules() -> None:
    get, names = attach("mmlearn", {"Clip": "clip", "nn": ""})
    assert get("Clip") is mmlearn.Clip and get("nn") is mmlearn.nn and names() == ["Clip", "nn"]
    with pytest.raises(AttributeError, match="module 'mmlearn' has no attribute 'Klip'"):
        get("Klip")


@pytest.mark.parametrize("package", [mmlearn, datasets], ids=["mmlearn", "datasets"])
def test_all_names_exist_and_are_listed(package) -> None:
    assert set(package.__all__) <= set(dir(package))
    assert all(getattr(package, name) is not None for name in package.__all__)


def test_importing_the_package_imports_no_library() -> None:
    program = "import sys, mmlearn, mmlearn.datasets; print([m for m in ('torch', 'cv2', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
