"""Objectives for supervised training."""

from mmlearn.finetuning.classification.calibration import (
    Reliability,
    bootstrap_interval,
    fit_temperature,
    reliability,
)
from mmlearn.finetuning.classification.lora import (
    LoRALinear,
    add_lora,
    layer_decay_groups,
    load_lora,
    lora_state_dict,
    merge_lora,
    unmerge_lora,
)
from mmlearn.finetuning.classification.objective import Classification, MultiLabel, balanced_weights
from mmlearn.finetuning.classification.probing import few_shot_subset, linear_probe
from mmlearn.finetuning.regression import Regression, Scaling
from mmlearn.finetuning.seq2seq.model import BLEU, EncoderDecoder, Seq2Seq
from mmlearn.finetuning.speech.model import CTC, FrameWise, LipEncoder, SpeechRecognizer, VoiceEncoder

__all__ = [
    "BLEU",
    "CTC",
    "Classification",
    "EncoderDecoder",
    "FrameWise",
    "LipEncoder",
    "LoRALinear",
    "MultiLabel",
    "Regression",
    "Reliability",
    "Scaling",
    "Seq2Seq",
    "SpeechRecognizer",
    "VoiceEncoder",
    "add_lora",
    "balanced_weights",
    "bootstrap_interval",
    "few_shot_subset",
    "fit_temperature",
    "layer_decay_groups",
    "linear_probe",
    "load_lora",
    "lora_state_dict",
    "merge_lora",
    "reliability",
    "unmerge_lora",
]
