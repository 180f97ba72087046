"""Speech recognition from sound and lips: networks, CTC and its decoding.

Chapter: finetuning/speech.
"""

from mmlearn.finetuning.speech.ctc import Span, ctc_align, ctc_lattice, ctc_log_likelihood, spans
from mmlearn.finetuning.speech.decoding import Lexicon, best_path, collapse, ctc_greedy, prefix_beam_search
from mmlearn.finetuning.speech.model import (
    BLANK,
    CTC,
    FrameWise,
    LipEncoder,
    SpeechRecognizer,
    TokenErrorRate,
    VoiceEncoder,
)

__all__ = [
    "BLANK",
    "CTC",
    "FrameWise",
    "Lexicon",
    "LipEncoder",
    "Span",
    "SpeechRecognizer",
    "TokenErrorRate",
    "VoiceEncoder",
    "best_path",
    "collapse",
    "ctc_align",
    "ctc_greedy",
    "ctc_lattice",
    "ctc_log_likelihood",
    "prefix_beam_search",
    "spans",
]
