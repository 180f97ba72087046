"""Every notebook runs where there is a second device, as on Colab or an Apple chip: no operation mixes the two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

NOTEBOOKS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "book" / "en").rglob("*.ipynb")
                   if ".ipynb_checkpoints" not in path.parts)  # fmt: skip
MIXED = """\
import torch, mmlearn
model = torch.nn.Linear(2, 2).to(mmlearn.device())
model(torch.ones(1, 2))
"""


def run(path: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.book.on_second_device", path]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580, env=os.environ)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS)
def test_notebook_runs_on_a_second_device(path: str) -> None:
    found = run(path)
    assert found.returncode == 0, "\n".join(line for line in found.stderr.splitlines() if line.startswith(path))


def test_there_are_notebooks_and_a_mixing_one_is_noticed(tmp_path: Path) -> None:
    import nbformat

    assert len(NOTEBOOKS) >= 22
    cells = [nbformat.v4.new_code_cell(source, metadata={"mmlearn": {"role": "source"}}) for source in (MIXED, "1 + 1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "mixed.ipynb")
    found = run(str(tmp_path / "mixed.ipynb"))
    assert found.returncode == 1
    assert "cell 0: RuntimeError: Expected all tensors to be on the same device" in found.stderr
    assert "cell 1" not in found.stderr
