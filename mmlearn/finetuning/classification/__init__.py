"""Classification: the objective, few labels, LoRA, and whether the probabilities can be trusted.

Chapter: finetuning/classification.
"""

from mmlearn.finetuning.classification.calibration import Reliability, bootstrap_interval, fit_temperature, reliability
from mmlearn.finetuning.classification.lora import (
    LoRALinear,
    add_lora,
    layer_decay_groups,
    load_lora,
    lora_state_dict,
    merge_lora,
    unmerge_lora,
)
from mmlearn.finetuning.classification.objective import Classification, MultiLabel, balanced_weights, ignoring
from mmlearn.finetuning.classification.probing import few_shot_subset, linear_probe

__all__ = [
    "Classification",
    "LoRALinear",
    "MultiLabel",
    "Reliability",
    "add_lora",
    "balanced_weights",
    "bootstrap_interval",
    "few_shot_subset",
    "fit_temperature",
    "ignoring",
    "layer_decay_groups",
    "linear_probe",
    "load_lora",
    "lora_state_dict",
    "merge_lora",
    "reliability",
    "unmerge_lora",
]
