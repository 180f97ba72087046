"""mmlearn.fusion.registry: every fusion has a name, and is built by it."""

import inspect
from functools import partial

import pytest
import torch
from torch import nn

from mmlearn import fusion
from mmlearn.encoders import AudioEncoder, TextEncoder, VideoEncoder
from mmlearn.fusion import FUSIONS, build_fusion, uses_sequence

WIDTHS = {"video": 6, "audio": 4}


def made_by(name: str) -> type[nn.Module]:
    entry = FUSIONS[name]
    return entry.func if isinstance(entry, partial) else entry  # type: ignore[return-value]


def test_every_exported_fusion_has_a_name() -> None:
    exported = {getattr(fusion, name) for name in fusion.__all__ if inspect.isclass(getattr(fusion, name))}
    assert {made_by(name) for name in FUSIONS} == exported


@pytest.mark.parametrize("name", FUSIONS)
def test_by_name_as_by_class(name: str) -> None:
    options = FUSIONS[name].keywords if isinstance(FUSIONS[name], partial) else {}  # type: ignore[attr-defined]
    torch.manual_seed(0)
    built = build_fusion(name, WIDTHS, dim=8)
    torch.manual_seed(0)
    expected = made_by(name)(WIDTHS, dim=8, **options)
    assert type(built) is made_by(name) and built.out_dim == 8
    assert all(torch.equal(a, b) for a, b in zip(built.parameters(), expected.parameters(), strict=True))
    shape = (3, 5) if uses_sequence(name) else (3,)
    assert built({modality: torch.randn(*shape, width) for modality, width in WIDTHS.items()}).shape == (3, 8)


def test_widths_are_the_encoders_own() -> None:
    encoders = {"video": VideoEncoder((16, 16), dim=6), "audio": AudioEncoder(dim=4), "text": TextEncoder(9, dim=5)}
    assert build_fusion("concatenation", encoders, dim=8).mix.in_features == 6 + 4 + 5


def test_errors_name_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"there is no fusion 'concat'; expected one of \['concatenation', 'sum'"):
        build_fusion("concat", WIDTHS)
    with pytest.raises(ValueError, match=r"the encoder of 'audio', Identity, has no `dim`; give its width"):
        build_fusion("sum", {"video": 3, "audio": nn.Identity()})
