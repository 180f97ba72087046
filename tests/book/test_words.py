"""Words that must not come back: names that the field does not use, and phrases that are riddles (CONTRIBUTING.md)."""

import re
from pathlib import Path

import pytest

from tests.places import ROOT

NAMES = [
    "few_labels",
    "layerwise_rates",
    "reader_accuracy",
    "modes_covered",
    "OrderedPool",
    "time_encoding",
    "grid_encoding",
    "fill_absent",
    "of_words",
    "Ledger",
    "stamp_of",
    "takes_steps",
    "judgements",
    "normalise",
    "standardise",
    "COLOURS",
    "COLOUR_OF",
    "COLOUR_WORDS",
    "Guess",
    "generation_metrics",
    "gan_networks",
    "masked_joint",
    "masked_patches",
    "masked_language",
    "contrastive_model",
    "ctc_decoding",
    "audio_file",
    "image_file",
    "face_cascade",
    "face_linking",
    "grid_corpus",
]
PHRASES = (
    "has no say", "is no medium", "what is hidden of each", r"[Ww]ho asks\b", r"[Ww]ho is asked", "the askers",
    "[Nn]obody needs", "by custom", r"\banew\b", "no cost is left", "the teacher leaves", "several arithmetics",
    "(is|are|be) told from", "told again", "one works, the others wait",
)  # fmt: skip
READ = (
    "mmlearn/**/*.py",
    "tests/**/*.py",
    "benchmarks/*.py",
    "tools/*.py",
    "book/en/**/*.md",
    "README.md",
    "CONTRIBUTING.md",
)


def files() -> list[Path]:
    found = [path for pattern in READ for path in ROOT.glob(pattern) if path != Path(__file__)]
    assert len(found) > 300
    return found


def code_of(path: Path, text: str) -> str:
    """Python as it is; of a chapter its cells and what stands in backticks."""
    if path.suffix == ".py":
        return text
    cells = re.findall(r"^```\{code-cell\}.*?^```", text, re.M | re.S)
    return "\n".join([*cells, *re.findall(r"`[^`\n]+`", text)])


def names_in(path: Path, text: str) -> list[str]:
    return [name for name in NAMES if re.search(rf"\b{name}\b", code_of(path, text))]


def phrases_in(text: str) -> list[str]:
    return [found[0] for phrase in PHRASES if (found := re.search(phrase, text))]


def test_old_names_stay_away() -> None:
    wrong = {str(path.relative_to(ROOT)): names_in(path, path.read_text(encoding="utf-8")) for path in files()}
    assert not {path: names for path, names in wrong.items() if names}


def test_riddles_stay_away() -> None:
    wrong = {str(path.relative_to(ROOT)): phrases_in(path.read_text(encoding="utf-8")) for path in files()}
    assert not {path: phrases for path, phrases in wrong.items() if phrases}


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.py", "from mmlearn.nn import OrderedPool\n", ["OrderedPool"]),
        ("a.md", "Standardise in prose.\n\n```{code-cell} ipython3\nstandardise(x)\n```\n", ["standardise"]),
        ("a.md", "Call `few_labels` here; few labels are allowed.\n", ["few_labels"]),
    ],
)
def test_a_name_is_noticed(name: str, text: str, found: list[str]) -> None:
    assert names_in(Path(name), text) == found


def test_a_riddle_is_noticed() -> None:
    assert phrases_in("The one who is absent has no say.\nIt is told from the others.") == [
        "has no say",
        "is told from",
    ]
