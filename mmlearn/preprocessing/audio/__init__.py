"""Sound for a model: read any file, change samples, take noise away, and compute log-mel, MFCC and SpecAugment.

Chapters: start/first_model, preprocessing/audio.
"""

from mmlearn.preprocessing.audio.denoising import spectral_gate, wiener
from mmlearn.preprocessing.audio.features import MFCC, LogMel, SpecAugment
from mmlearn.preprocessing.audio.loudness import loudness, set_loudness
from mmlearn.preprocessing.audio.reading import read_audio
from mmlearn.preprocessing.audio.voice import WarpBands, change_voice, standardize_bands, warp_bands
from mmlearn.preprocessing.audio.waveform import (
    check_audio,
    de_emphasis,
    level,
    mix,
    pad_or_cut,
    pitch_shift,
    pre_emphasis,
    resample,
    snr,
    time_stretch,
    to_mono,
    trim,
)

__all__ = [
    "MFCC",
    "LogMel",
    "SpecAugment",
    "WarpBands",
    "change_voice",
    "check_audio",
    "de_emphasis",
    "level",
    "loudness",
    "mix",
    "pad_or_cut",
    "pitch_shift",
    "pre_emphasis",
    "read_audio",
    "resample",
    "set_loudness",
    "snr",
    "spectral_gate",
    "standardize_bands",
    "time_stretch",
    "to_mono",
    "trim",
    "warp_bands",
    "wiener",
]
