"""Compose one planned clip: draw the frames, mix the sound, write down what is known.

Chapter: start/dataset.
"""

from collections.abc import Mapping

import numpy as np

from mmlearn.datasets.hanzi import grammar
from mmlearn.datasets.hanzi.drawing import Glyph, draw_glyph
from mmlearn.datasets.hanzi.script import Plan, Recipe
from mmlearn.datasets.hanzi.voices import LEVEL, RATE, VoiceBank, add_at, babble
from mmlearn.preprocessing.audio.waveform import mix


def render_video(plan: Plan, recipe: Recipe, index: int, glyphs: Mapping[str, Glyph],
                 frames: int, size: int) -> np.ndarray:  # fmt: skip
    """Draw a clip.

    Returns:
        RGB, uint8 of shape (frames, size, size, 3).

    Chapter: start/dataset.
    """
    rng = recipe.rng(index, "picture")
    ink = np.zeros((frames, size, size), np.uint8)
    times = (np.arange(frames) + 0.5) * recipe.seconds / frames  # the middle of each frame
    for frame, time in enumerate(times):
        k = int(np.searchsorted(plan.onsets, time, side="right")) - 1
        if k < 0 or time >= plan.seconds:
            continue
        k = min(k, len(plan.written) - 1)  # the last character stays till the end
        written = min(1.0, (time - plan.onsets[k]) / plan.pen_seconds)
        x, y = plan.start + plan.drift * (time / plan.seconds)
        glyph = glyphs[plan.written[k]]
        ink[frame] = draw_glyph(glyph, size, written=written, width=plan.width, matrix=plan.matrix, centre=(x, y))
    share = np.arange(256)[:, None]  # (256, 1)
    shades = ((plan.paper * (255 - share) + plan.ink * share + 127) // 255).astype(np.uint8)  # (256, 3)
    video = np.take(shades, ink, axis=0)  # (frames, size, size, 3)
    hidden = rng.permutation(frames)[: int(recipe.occlusion * frames + rng.random())]
    for frame in hidden:
        side = rng.uniform(0.75, 0.95, 2) * size
        corner = rng.uniform(0, 1, 2) * (size - side)
        (x0, y0), (x1, y1) = np.rint(corner).astype(int), np.rint(corner + side).astype(int)
        video[frame, y0:y1, x0:x1] = int(rng.integers(90, 166))
    if recipe.video_noise:
        noise = rng.standard_normal(video.shape, dtype=np.float32)
        noise *= np.float32(recipe.video_noise)
        noise += video
        video = np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)
    return video


def render_audio(plan: Plan, recipe: Recipe, index: int, bank: VoiceBank,
                 crowd: list[np.ndarray]) -> np.ndarray | None:  # fmt: skip
    """Mix a clip's sound.

    Returns:
        int16 of shape (samples,) at 16 kHz; None if nothing in it can be heard, because nobody recorded it.

    Chapter: start/dataset.
    """
    rng = recipe.rng(index, "sound")
    speech = np.zeros(round(recipe.seconds * RATE))
    late = rng.uniform(0, 0.05, len(plan.spoken))
    heard = 0
    for char, onset, delay in zip(plan.spoken, plan.onsets, late, strict=False):
        able = bank.voices_of(char)
        wanted = (plan.voice,) if recipe.test_voice else (plan.voice, *able)
        voice = next((name for name in wanted if name in able), None)
        if voice is not None:
            add_at(speech, bank.say(char, voice, plan.pitch), round((onset + delay) * RATE))
            heard += 1
    if not heard:
        return None
    if recipe.snr_db is not None:
        white = rng.standard_normal(len(speech)) * LEVEL
        noise = white if recipe.noise == "white" else babble(rng, crowd, len(speech))
        speech = mix(speech, noise, recipe.snr_db)
    speech *= plan.gain
    peak = float(np.abs(speech).max())
    return np.rint(speech * (32767 * min(1.0, 0.99 / max(peak, 1e-9)))).astype(np.int16)


def label_clip(plan: Plan, recipe: Recipe, glyphs: Mapping[str, Glyph]) -> dict[str, int | float | str]:
    """Return everything that is known about a clip.

    Chapter: start/dataset.
    """
    s = plan.sentence
    written, spoken = grammar.NUMBERS.index(s.number), grammar.NUMBERS.index(plan.spoken_number)
    labels: dict[str, int | float | str] = {
        factor: grammar.CLASSES[factor].index(getattr(s, factor)) for factor in grammar.CLASSES
    }
    if recipe.relation in ("conflicting", "synergy", "synergy_sum"):
        labels |= {"written": written, "spoken": spoken, "agree": int(written == spoken)}
    if recipe.relation == "synergy_sum":
        labels["sum"] = (written + 1 + spoken + 1) % 10
    return labels | {
        "writing_speed": round(1 / plan.pen_seconds, 6),
        "stroke_count": sum(len(glyphs[char].outlines) for char in plan.written),
        "duration": plan.seconds,
        "sentence": plan.written,
        "voice": plan.voice,
    }
