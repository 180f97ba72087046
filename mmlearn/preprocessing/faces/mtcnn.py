"""MTCNN's three networks and their weights; `cascade` joins them.

The proposal network looks at every place of a pyramid of smaller pictures. The refinement network looks at its
proposals again, at 24 × 24 pixels, and the output network at what is left, at 48 × 48. Each gives a probability that
this is a face, and by how much its box has to be moved. The last one also gives eyes, nose and corners of the mouth.

The weights are those of the Python package facenet-pytorch (MIT); only its files of data are fetched and read.

    <home>/faces/{pnet,rnet,onet}.pt
    <home>/faces/LICENSE.md, LICENSE.txt    what may be done with them

Zhang et al. 2016, "Joint face detection and alignment using multitask cascaded convolutional networks". Chapter:
finetuning/speech.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlearn import files
from mmlearn.downloads import ChecksumError, fetch_from_wheel

PACKAGE = "facenet-pytorch==2.6.0"
FILES = {
    "facenet_pytorch/data/pnet.pt": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "facenet_pytorch/data/rnet.pt": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "facenet_pytorch/data/onet.pt": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
    "facenet_pytorch-2.6.0.dist-info/LICENSE.md": "9fac5781e1529f4dd1a045716e1859436038d2def9e108d101b6df20c5a11318",
}
LICENSE = f"""\
The weights of MTCNN (Zhang et al. 2016), out of the Python package {PACKAGE}, (c) 2019 Timothy Esler.
MIT License: LICENSE.md.
"""


class PNet(nn.Module):
    """Proposal network: a fully convolutional one that sees 12 × 12 pixels and moves by 2."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 10, 3), nn.PReLU(10), nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(10, 16, 3), nn.PReLU(16), nn.Conv2d(16, 32, 3), nn.PReLU(32),
        )  # fmt: skip
        self.face, self.move = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a face's probability (B, h, w) and how to move its box, in widths and heights of it (B, 4, h, w)."""
        x = self.body(x)
        return self.face(x).softmax(dim=1)[:, 1], self.move(x)


class RNet(nn.Module):
    """Refinement network, for pictures of 24 × 24."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 28, 3), nn.PReLU(28), nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(28, 48, 3), nn.PReLU(48), nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(48, 64, 2), nn.PReLU(64),
        )  # fmt: skip
        self.neck = nn.Sequential(nn.Linear(576, 128), nn.PReLU(128))
        self.face, self.move = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a face's probability (N,) and how to move its box (N, 4)."""
        x = self.neck(self.body(x).transpose(1, 3).flatten(1))  # in MATLAB's order: column, row, channel
        return self.face(x).softmax(dim=1)[:, 1], self.move(x)


class ONet(nn.Module):
    """Output network, for pictures of 48 × 48."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.PReLU(32), nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(32, 64, 3), nn.PReLU(64), nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Conv2d(64, 64, 3), nn.PReLU(64), nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(64, 128, 2), nn.PReLU(128),
        )  # fmt: skip
        self.neck = nn.Sequential(nn.Linear(1152, 256), nn.PReLU(256))
        self.face, self.move, self.points = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a face's probability (N,), how to move its box (N, 4), and its landmarks (N, 10): five x, five y."""
        x = self.neck(self.body(x).transpose(1, 3).flatten(1))
        return self.face(x).softmax(dim=1)[:, 1], self.move(x), self.points(x)


class Networks(NamedTuple):
    """The three networks, on one device."""

    propose: PNet
    refine: RNet
    finish: ONet


def fetch_faces(home: Path | str | None = None, *, progress: bool = True) -> Path:
    """Fetch the weights of MTCNN (2 MB) once, out of a wheel on PyPI; return at once where they are already there.

    Args:
        home: Folder of the course's data; `mmlearn.home()` by default.
        progress: Print to stderr what is being done.

    Returns:
        The folder with the three files.

    Raises:
        ChecksumError: If a file has a wrong sha256. It is thrown away.
        FetchError: If pip fails, for example without a network, brings something else, or gives no answer.
        OSError: If the folder cannot be written, or the disk is full; it says what to do.

    Source: PyPI's facenet-pytorch 2.6.0, MIT. Chapter: finetuning/speech.
    """
    return fetch_from_wheel("faces", PACKAGE, FILES, LICENSE, home, progress=progress)


def load_networks(device: torch.device) -> Networks:
    """Return the networks with their weights, fetched where they are not yet there.

    Raises:
        ChecksumError: If a file on disk is not the one that was fetched.
        FetchError, OSError: See `fetch_faces`.
    """
    return _load(fetch_faces(), device)


@cache
def _load(folder: Path, device: torch.device) -> Networks:
    networks = Networks(PNet(), RNet(), ONet())
    for network, (member, sha256) in zip(networks, FILES.items(), strict=False):  # the fourth is the licence
        path = folder / Path(member).name
        if files.sha256_of(path) != sha256:
            raise ChecksumError(f"{path}: not the weights that were fetched. Remove the file; it is fetched again")
        weights = torch.load(path, map_location="cpu", weights_only=True)
        names = network.state_dict()  # in the same order, under other names
        network.load_state_dict(dict(zip(names, weights.values(), strict=True)))
        network.eval().requires_grad_(False).to(device)
    return networks
