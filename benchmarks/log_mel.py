"""Log-mel of 64 one-second sounds: LogMel on the device against librosa, sound by sound, and torchaudio's transform.

Run `python -m benchmarks.log_mel`; it writes benchmarks/results/log_mel.json.
"""

from typing import Any

import librosa
import numpy as np
import torch
import torchaudio

from benchmarks.report import begin, measure, save
from mmlearn import device
from mmlearn.preprocessing.audio import LogMel

RATE, CLIPS = 16_000, 64
SETTINGS: dict[str, Any] = {"n_fft": 400, "hop_length": 160, "n_mels": 64}


def with_librosa(audio: np.ndarray) -> np.ndarray:
    mels = [librosa.feature.melspectrogram(y=one, sr=RATE, pad_mode="reflect", **SETTINGS) for one in audio]
    return np.log(np.maximum(np.stack(mels), 1e-6))  # (B, M, T)


def main() -> None:
    begin("log_mel")
    on = device()
    audio = np.random.default_rng(0).normal(0, 0.1, (CLIPS, RATE)).astype(np.float32)
    there = torch.from_numpy(audio).to(on)
    log_mel = LogMel().to(on)
    plain = torchaudio.transforms.MelSpectrogram(RATE, norm="slaney", mel_scale="slaney", **SETTINGS).to(on)
    calls = {
        "LogMel": lambda: log_mel(there),
        "torchaudio": lambda: plain(there).clamp(min=1e-6).log(),
        "librosa": lambda: with_librosa(audio),
    }
    expected = torch.from_numpy(calls["librosa"]())
    difference = {name: float((calls[name]().cpu() - expected).abs().max()) for name in ("LogMel", "torchaudio")}
    tolerance = 1e-3 if on.type == "cuda" else 1e-4
    assert max(difference.values()) <= tolerance, difference
    seconds = measure(calls, repeats=15, warm=True)
    ratio = {name: seconds["librosa"]["median"] / seconds[name]["median"] for name in calls}
    for name in calls:
        print(f"{name:11}{1000 * seconds[name]['median']:9.2f} ms  {ratio[name]:7.1f} × librosa")
    print(f"largest difference from librosa in the logarithm: {difference['LogMel']:.1e} (allowed {tolerance})")
    results = {"clips": CLIPS, "seconds_each": 1, "tolerance": tolerance, "difference": difference}
    save(
        f"log_mel{'_gpu' if on.type == 'cuda' else ''}",
        results | {"seconds": seconds, "times_librosa": ratio},
        ["librosa"],
    )


if __name__ == "__main__":
    main()
