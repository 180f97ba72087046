"""Sequence to sequence: encoder, decoder with attention, and decoding.

Chapter: finetuning/seq2seq.
"""

from mmlearn.finetuning.seq2seq.decoding import beam_search, greedy_search, length_norm
from mmlearn.finetuning.seq2seq.model import BLEU, EncoderDecoder, Seq2Seq, SequenceAttention, target_of

__all__ = [
    "BLEU",
    "EncoderDecoder",
    "Seq2Seq",
    "SequenceAttention",
    "beam_search",
    "greedy_search",
    "length_norm",
    "target_of",
]
