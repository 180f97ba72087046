"""The training loop. It knows no objective by name."""

from mmlearn.training.loop import Objective, fit, predict
from mmlearn.training.weights import load_weights, save_weights

__all__ = ["Objective", "fit", "load_weights", "predict", "save_weights"]
