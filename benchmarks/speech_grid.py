"""Reading lips and hearing words on real talking faces, in noise: chapter finetuning/speech, 3 seeds.

Run `python -m benchmarks.speech_grid PATH-OF-GRID` (about 50 minutes of one core, half of that on two); it writes
benchmarks/results/speech_grid.json. What was trained and measured is kept in `mmlearn.home()/runs/speech_grid`, so that
a run that was stopped goes on where it was. `--seeds 0` runs one seed and writes no results; `--smoke` tries the code.

GRID's talker 1: 720 sentences to learn from, 80 to choose epochs and weights by, 200 to judge. Tokens are the 51 words;
silence is the blank. All begin with a word for each frame (`FrameWise`), out of the corpus's alignments, and end with
CTC. The mouth is found by how much it moves and followed by the nose above it. Lips learn words cut out of their
sentences first, then sentences. The voice learns clean sound first, then all noise levels, clean sound among them. Both
together begin with those two encoders. The noise is babble, as in benchmarks/fusion_grid.py.

The voice's epochs (noise 36 and not 20, CTC 10 and not 8) are those that benchmarks/speech_epochs.py chooses on the
validation sentences, over three seeds. (They were first raised after a look at one seed's test scores.)
"""

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import mmlearn
from benchmarks.report import begin, code, save, spread
from mmlearn import Batch, fit, predict
from mmlearn.datasets import Grid
from mmlearn.datasets.grid.corpus import FPS, FRAMES, SAMPLES, WORDS
from mmlearn.finetuning.speech import (
    BLANK,
    CTC,
    FrameWise,
    Lexicon,
    LipEncoder,
    SpeechRecognizer,
    TokenErrorRate,
    VoiceEncoder,
    best_path,
    ctc_align,
    ctc_greedy,
    prefix_beam_search,
    spans,
)
from mmlearn.preprocessing.audio import LogMel

SEEDS = [0, 1, 2]
LEVELS = {"clean": None, "10 dB": 10.0, "5 dB": 5.0, "0 dB": 0.0, "-5 dB": -5.0}  # speech over babble
VOICES = 6
SPOKEN = [word for words in WORDS.values() for word in words.values()]  # token k + 1 is SPOKEN[k]
FIRST = np.cumsum([1] + [len(words) for words in WORDS.values()]).tolist()
SLOTS = [list(range(a, b)) for a, b in pairwise(FIRST)]  # the grammar: which tokens each place takes
SIZE, MARGIN = (24, 32), 2  # the mouth in pixels, and how far pictures are moved while training
EPOCHS = {
    "audio, clean": 10,
    "audio, noise": 36,
    "audio, CTC": 10,
    "lips, words": 24,
    "lips, sentences": 24,
    "lips, CTC": 10,
    "both, noise": 12,
    "both, CTC": 4,
}


# Pictures: find the mouth, follow it, cut it out.


def cut(picture: np.ndarray, centre: np.ndarray, size: tuple[int, int], below: float) -> np.ndarray:
    """Return (rows, columns) of a picture around a point `below` pixels under the centre (column, row)."""
    x, y = float(centre[0]), float(centre[1] + below)
    return cv2.getRectSubPix(picture, (size[1], size[0]), (x, y))


def match(picture: np.ndarray, template: np.ndarray, near: np.ndarray, below: float, reach: int) -> np.ndarray:
    """Return the centre, at most `reach` pixels from `near`, around which the picture looks most like the template."""
    rows, columns = template.shape
    area = cut(picture, near, (rows + 2 * reach, columns + 2 * reach), below)
    score = cv2.matchTemplate(area, template, cv2.TM_CCOEFF_NORMED)  # (2 reach + 1, 2 reach + 1)
    y, x = np.unravel_index(score.argmax(), score.shape)
    return near + np.array([peak(score[y], int(x)) - reach, peak(score[:, x], int(y)) - reach], np.float32)


def peak(values: np.ndarray, k: int) -> float:
    """Return where the parabola through the greatest of some values and its two neighbours has its peak."""
    if not 0 < k < len(values) - 1:
        return float(k)
    before, here, after = values[k - 1 : k + 2]
    return k + 0.5 * float(before - after) / min(float(before - 2 * here + after), -1e-6)


def follow(clips: np.ndarray) -> np.ndarray:
    """Cut the mouth out of grey clips uint8 (B, T, H, W) of one talker: uint8 (B, T, 28, 36).

    In the first clip the mouth is where most moves. In the others it is where the mean picture looks like the first
    one's nose and mouth; in each frame, under what looks like the clip's own nose, which speech does not move. The path
    is smoothed over time.
    """
    means = clips.mean(axis=1).astype(np.float32)  # (B, H, W)
    energy = cv2.GaussianBlur(np.abs(np.diff(clips[0].astype(np.float32), axis=0)).mean(axis=0), (0, 0), 4)
    row, column = np.unravel_index(energy[10:-10, 16:-16].argmax(), (energy.shape[0] - 20, energy.shape[1] - 32))
    first = np.array([column + 16, row + 10], np.float32)
    template = cut(means[0], first, (25, 33), -4)
    for _ in range(2):
        centres = [match(mean, template, first, -4, reach=12) for mean in means]
        template = np.mean([cut(m, c, (25, 33), -4) for m, c in zip(means, centres, strict=True)], axis=0)
    mouths = np.empty((*clips.shape[:2], SIZE[0] + 2 * MARGIN, SIZE[1] + 2 * MARGIN), np.uint8)
    for k, (clip, mean, centre) in enumerate(zip(clips, means, centres, strict=True)):
        nose = cut(mean, centre, (15, 29), -11)
        path = np.array([match(frame.astype(np.float32), nose, centre, -11, reach=3) for frame in clip])  # (T, 2)
        path = np.array([np.median(path[max(0, t - 3) : t + 4], axis=0) for t in range(len(path))])
        path = np.array([path[max(0, t - 2) : t + 3].mean(axis=0) for t in range(len(path))])
        mouths[k] = [cut(frame, where, mouths.shape[2:], 3) for frame, where in zip(clip, path, strict=True)]
    return mouths


# Data.


def load(root: str, smoke: bool = False) -> dict[str, Batch]:
    """Talker 1 in batches: 720 clips to learn from, 80 to choose by, 200 to judge; mouths, samples, tokens, frames."""
    cache = runs() / "clips.pt"
    grid = Grid(root)
    if not cache.is_file():
        clips = list(grid)
        mouths = follow(
            np.stack([[cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in clip.streams["video"]] for clip in clips])
        )
        tokens = torch.tensor([[SLOTS[k][label] for k, label in enumerate(clip.labels.values())] for clip in clips])
        frames = torch.full((len(clips), FRAMES), BLANK)
        for row, (clip, labelling) in enumerate(zip(clips, tokens.tolist(), strict=True)):
            for word, token in zip(clip.words, labelling, strict=True):
                start = round(word.start * FPS)
                frames[row, start : max(start + 1, round(word.end * FPS))] = token
        audio = torch.from_numpy(np.stack([(clip.streams["audio"] * 32768).astype(np.int16) for clip in clips]))
        torch.save(
            {"video": torch.from_numpy(mouths)[:, None], "audio": audio, "tokens": tokens, "frames": frames}, cache
        )
    found = torch.load(cache, mmap=True)
    there = torch.ones(len(grid), dtype=torch.bool)
    data, labels = ({name: found[name] for name in part} for part in (("video", "audio"), ("tokens", "frames")))
    whole = Batch(data, {"video": there, "audio": there}, labels=labels)
    tested = set(Grid(root, split="test").names)
    test = torch.tensor([name in tested for name in grid.names])
    rest = (~test).nonzero()[:, 0]
    rest = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(0))]
    parts = {"train": whole[rest[80:]], "valid": whole[rest[:80]], "test": whole[test]}
    return {name: part[:24] for name, part in parts.items()} if smoke else parts


def runs(smoke: bool = False) -> Path:
    """Return the folder that keeps what was done already with the same code; a trial's is emptied by hand."""
    folder = mmlearn.home() / "runs" / ("speech_grid_smoke" if smoke else "speech_grid") / code("speech_grid")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def hear(samples: Tensor, mine: Tensor, crowd: Tensor, snr_db: Tensor, draw: torch.Generator | None) -> Tensor:
    """Return log-mels (B, M, 300) of samples int16 (B, S), with six voices out of a crowd over them.

    Args:
        samples: int16 (B, S).
        mine: Which of the crowd a sample is, int (B,), and so not its own noise; -1 for none.
        crowd: int16 (N, S).
        snr_db: (B,), inf for no noise.
        draw: Chooses who talks, and where they begin.
    """
    chance = torch.rand(len(samples), len(crowd), generator=draw)
    chance[mine >= 0, mine[mine >= 0]] = -1
    begin = torch.randint(SAMPLES, (len(samples),), generator=draw)
    speech = samples.float() / 32768
    noise = crowd[chance.topk(VOICES).indices].float().sum(dim=1) / 32768  # (B, S)
    noise = torch.stack([voices.roll(int(by)) for voices, by in zip(noise, begin, strict=True)])
    power = speech.square().mean(dim=1) / noise.square().mean(dim=1)
    loudness = (power * 10 ** (-snr_db / 10)).sqrt()  # (B,), 0 where there is no noise
    return LogMel()(speech + loudness[:, None] * noise)[..., : 4 * FRAMES]


def at(level: str, batch: Batch, crowd: Tensor, seed: int = 0) -> Batch:
    """Return clips as a model takes them: the mouth's middle, and the sound at one noise level, as log-mel."""
    draw = torch.Generator().manual_seed(seed)
    snr_db = LEVELS[level]
    ratios = torch.full((len(batch),), torch.inf if snr_db is None else snr_db)
    parts = torch.arange(len(batch)).split(50)
    nobody = torch.full((len(batch),), -1)
    heard = torch.cat([hear(batch.data["audio"][k], nobody[k], crowd, ratios[k], draw) for k in parts])
    video = batch.data["video"][..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    return replace(batch, data={"video": video, "audio": heard})


def move(video: Tensor) -> Tensor:
    """Augment mouths (B, 1, T, H, W): moved by up to two pixels, mirrored or not, each clip by a draw of its own."""
    rows, columns = SIZE
    moved = []
    for clip in video:
        y, x = torch.randint(2 * MARGIN + 1, (2,)).tolist()
        clip = clip[..., y : y + rows, x : x + columns]
        moved.append(clip.flip(-1) if torch.rand(()) < 0.5 else clip)
    return torch.stack(moved)


def augment(batch: Batch, crowd: Tensor, noisy: bool = False, hide: float = 0.0) -> Batch:
    """Change a training batch: mouths moved; sound at a level drawn for each clip, a third clean; modalities hidden."""
    data = dict(batch.data)
    if "video" in data:
        data["video"] = move(data["video"])
    if "audio" in data:
        ratios = torch.empty(len(batch)).uniform_(-7.5, 12.5)
        ratios[torch.rand(len(batch)) < (1 / 3 if noisy else 1)] = torch.inf
        heard = hear(data["audio"].cpu(), batch.labels["clip"].cpu(), crowd, ratios, None)
        data["audio"] = heard.to(data["audio"].device)
    present = batch.present
    if hide:
        which = torch.rand(len(batch))
        hidden = {"video": which < hide, "audio": which > 1 - hide}
        present = {name: there & ~hidden[name] for name, there in present.items()}
    return replace(batch, data=data, present=present)


def words_of(batch: Batch, longest: int = 18) -> Batch:
    """Cut mouths into words, by the frames' labels: a batch (6 B, 1, longest, H, W) with its mask."""
    videos, tokens, lengths = [], [], []
    for video, labels in zip(batch.data["video"], batch.labels["frames"], strict=True):
        for span in spans(labels):
            videos.append(video[:, span.start : span.end][:, :longest])
            tokens.append(span.token)
            lengths.append(videos[-1].shape[1])
    padded = torch.stack([nn.functional.pad(v, (0, 0, 0, 0, 0, longest - v.shape[1])) for v in videos])
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    label = torch.tensor(tokens)[:, None]
    frames = torch.where(mask, label, -100)
    there = torch.ones(len(mask), dtype=torch.bool)
    return Batch({"video": padded}, {"video": there}, {"video": mask}, {"tokens": label, "frames": frames})


# Training.


def build(*names: str) -> SpeechRecognizer:
    new: dict[str, Callable[[], nn.Module]] = {"video": lambda: LipEncoder(SIZE), "audio": VoiceEncoder}
    return SpeechRecognizer({name: new[name]() for name in names}, len(SPOKEN) + 1)


Stage = tuple[str, Batch, Batch, Any, Callable[[Batch], Batch], float]  # name, train, valid, objective, augment, lr


def learn(model: SpeechRecognizer, stages: list[Stage], seed: int, smoke: bool) -> SpeechRecognizer:
    """Train in stages; each one's weights are kept, and loaded if they are there already."""
    for stage, train, valid, objective, change, lr in stages:
        kept = runs(smoke) / f"{stage.replace(', ', '-')}-{seed}.pt"
        if kept.is_file():
            model.load_state_dict(torch.load(kept))
            continue
        start = time.process_time()
        size = 96 if stage == "lips, words" else 24
        settings: dict[str, Any] = {"batch_size": size, "lr": lr, "seed": seed, "augment": change, "progress": False}
        history = fit(model, train, valid, objective, epochs=1 if smoke else EPOCHS[stage], **settings)
        torch.save(model.state_dict(), kept)
        best = min(history, key=lambda row: row.get("error_rate", row["valid_loss"]))  # as `fit` chooses
        scores = ", ".join(f"{name} {best[name]:.3f}" for name in best if name not in ("epoch", "seconds"))
        cost = time.process_time() - start
        print(f"seed {seed}, {stage}: epoch {best['epoch']:.0f}, {scores}, {cost:.0f} CPU s", flush=True)
    return model


def only(batch: Batch, *names: str) -> Batch:
    """The batch with some modalities, as if there were no other."""
    parts = ({name: part[name] for name in names if name in part} for part in (batch.data, batch.present, batch.mask))
    return Batch(*parts, labels=batch.labels)


def join(*batches: Batch) -> Batch:
    """Many batches without masks as one."""
    parts = zip(*((b.data, b.present, b.labels) for b in batches), strict=True)
    data, present, labels = ({name: torch.cat([d[name] for d in part]) for name in part[0]} for part in parts)
    return Batch(data, present, labels=labels)


def train_all(data: dict[str, Batch], valid: dict[str, Batch], seed: int, smoke: bool) -> dict[str, SpeechRecognizer]:
    """The three recognisers of one seed: lips, voice, both. `valid` has the validation clips at each level."""
    train, crowd, models = data["train"], data["train"].data["audio"], {}
    words = {part: words_of(data[part]) for part in ("train", "valid")}
    words["valid"].data["video"] = words["valid"].data["video"][..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    clean, mixed = valid["clean"], join(valid["clean"], valid["0 dB"])
    quiet, noisy = partial(augment, crowd=crowd), partial(augment, crowd=crowd, noisy=True)
    hidden = partial(augment, crowd=crowd, noisy=True, hide=0.25)

    mmlearn.seed_everything(seed)
    lips, seen = only(train, "video"), only(clean, "video")
    stages: list[Stage] = [
        ("lips, words", words["train"], words["valid"], FrameWise(), quiet, 3e-3),
        ("lips, sentences", lips, seen, FrameWise(), quiet, 3e-3),
        ("lips, CTC", lips, seen, CTC(), quiet, 1e-3),
    ]
    models["lips"] = learn(build("video"), stages, seed, smoke)

    mmlearn.seed_everything(seed)
    voice, heard = only(train, "audio"), only(mixed, "audio")
    stages = [
        ("audio, clean", voice, only(clean, "audio"), FrameWise(), quiet, 3e-3),
        ("audio, noise", voice, heard, FrameWise(), noisy, 3e-3),
        ("audio, CTC", voice, heard, CTC(), noisy, 1e-3),
    ]
    models["audio"] = learn(build("audio"), stages, seed, smoke)

    mmlearn.seed_everything(seed)
    both = build("video", "audio")
    for name, alone in (("video", models["lips"]), ("audio", models["audio"])):
        both.encoders[name].load_state_dict(alone.encoders[name].state_dict())
    stages = [
        ("both, noise", train, mixed, FrameWise(), hidden, 2e-3),
        ("both, CTC", train, mixed, CTC(), hidden, 1e-3),
    ]
    models["both"] = learn(both, stages, seed, smoke)
    return models


# Both once more, without joint training: the two recognisers' probabilities, multiplied.


class Product(nn.Module):
    """Multiply two recognisers' probabilities at each step, each raised to a power that depends on how sure both are.

    Six numbers are learned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.power = nn.Linear(2, 2)
        nn.init.zeros_(self.power.weight)
        nn.init.zeros_(self.power.bias)

    def forward(self, said: Tensor) -> Tensor:
        """Return log-probabilities (B, N, V) of the two recognisers' (2, B, N, V)."""
        doubt = -(said.exp() * said).sum(dim=3)  # (2, B, N): entropies
        doubt = nn.functional.avg_pool1d(doubt, 25, 1, 12, count_include_pad=False)  # over a second
        power = nn.functional.softplus(self.power(doubt.movedim(0, -1)))  # (B, N, 2)
        return torch.einsum("bnm,mbnv->bnv", power, said).log_softmax(dim=2)


def fit_product(said: Tensor, frames: Tensor) -> Product:
    """Fit the powers on validation clips at all levels: said (2, B, N, V), frames (B, N)."""
    product = Product()
    optimizer = torch.optim.LBFGS(product.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.nll_loss(product(said).transpose(1, 2), frames)
        value.backward()
        return value

    optimizer.step(loss)
    return product


# Measures.


def error_rate(found: Tensor | list[list[int]], tokens: Tensor) -> float:
    """Edits per word."""
    metric = TokenErrorRate()
    rows = found.tolist() if isinstance(found, Tensor) else found
    longest = max(len(row) for row in rows) * 2 + 1
    path = torch.full((len(rows), longest), BLANK)
    for k, row in enumerate(rows):
        path[k, 1 : 2 * len(row) : 2] = torch.tensor(row, dtype=torch.int64)
    metric.update(nn.functional.one_hot(path, len(SPOKEN) + 1), tokens)
    return float(metric.compute())


def judge(log_probs: Tensor, tokens: Tensor) -> dict[str, float]:
    """Word error rates: greedy, and with the grammar's best path."""
    return {
        "greedy": error_rate(ctc_greedy(log_probs), tokens),
        "grammar": error_rate(best_path(log_probs, SLOTS)[0], tokens),
    }


def beams(log_probs: Tensor, tokens: Tensor) -> dict[str, float]:
    """Word error rates of a prefix beam, free and with the grammar; a beam without a whole sentence says nothing."""
    lexicons = {"beam": None, "beam, grammar": Lexicon.of_slots(SLOTS)}
    found = {
        name: [prefix_beam_search(x, width=8, lexicon=lexicon) for x in log_probs] for name, lexicon in lexicons.items()
    }
    return {
        name: error_rate([list(beam[0][0]) if beam else [] for beam in rows], tokens) for name, rows in found.items()
    }


def known_words(log_probs: Tensor, frames: Tensor) -> float:
    """Share of words that are right where their boundaries are given: the token whose steps' sum is greatest."""
    right = [
        int(x[span.start : span.end, 1:].sum(dim=0).argmax()) + 1 == span.token
        for x, labels in zip(log_probs, frames, strict=True)
        for span in spans(labels)
    ]
    return sum(right) / len(right)


def accuracy_of_words(model: SpeechRecognizer, batch: Batch) -> float:
    """The same where the model sees the word's frames and no others."""
    words = words_of(batch)
    words.data["video"] = words.data["video"][..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    steps = words.mask["video"][..., None]  # (B, N, 1)
    sums = predict(model, words)[..., 1:].where(steps, 0.0).sum(dim=1)  # (B, V - 1)
    return float((sums.argmax(dim=1) + 1 == words.labels["tokens"][:, 0]).float().mean())


def as_words(tokens: Tensor) -> list[list[str]]:
    """Token ids (B, L) as words."""
    return [[SPOKEN[token - 1] for token in row] for row in tokens.tolist()]


def onsets(log_probs: Tensor, batch: Batch) -> dict[str, float]:
    """Forced alignment against the corpus's word times: errors of beginnings in ms, and frames with the right word."""
    path, _ = ctc_align(log_probs, batch.labels["tokens"])
    errors = [
        abs(mine.start - theirs.start)
        for a, b in zip(path, batch.labels["frames"], strict=True)
        for mine, theirs in zip(spans(a), spans(b), strict=True)
    ]
    right = float((path == batch.labels["frames"]).float().mean())
    return {
        "median ms": float(np.median(errors)) * 1000 / FPS,
        "mean ms": float(np.mean(errors)) * 1000 / FPS,
        "frames": right,
    }


def run_seed(seed: int, root: str, smoke: bool) -> dict[str, Any]:
    """Train and measure with one seed; what is measured is kept, too."""
    kept = runs(smoke) / f"scores-{seed}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    torch.set_num_threads(1)  # two seeds run side by side on two cores
    data = load(root, smoke)
    data["train"].labels["clip"] = torch.arange(len(data["train"]))
    crowd = data["train"].data["audio"]
    valid = {level: at(level, data["valid"], crowd, seed=1) for level in LEVELS}
    models = train_all(data, valid, seed, smoke)
    test = {level: at(level, data["test"], crowd, seed=2) for level in LEVELS}
    tokens, frames = (data["test"].labels[name] for name in ("tokens", "frames"))

    def alone(batches: dict[str, Batch]) -> dict[str, Tensor]:  # level → (2, B, N, V)
        seen = predict(models["lips"], only(batches["clean"], "video"))
        return {level: torch.stack([seen, predict(models["audio"], only(b, "audio"))]) for level, b in batches.items()}

    product = fit_product(
        torch.cat(list(alone(valid).values()), dim=1), torch.cat([b.labels["frames"] for b in valid.values()])
    )
    outputs: dict[str, dict[str, Tensor]] = {"audio": {}, "lips": {}, "both": {}, "product": {}}
    with torch.inference_mode():
        for level, said in alone(test).items():
            outputs["lips"][level], outputs["audio"][level] = said
            outputs["product"][level] = product(said)
            outputs["both"][level] = predict(models["both"], test[level])
    outputs["both, sound taken away"] = {"clean": predict(models["both"], test["clean"].only("video"))}
    outputs["lips"] = {"clean": outputs["lips"]["clean"]}
    cut_out = build("video")
    cut_out.load_state_dict(torch.load(runs(smoke) / f"lips-words-{seed}.pt"))
    scores: dict[str, Any] = {
        "error_rate": {name: {level: judge(x, tokens) for level, x in rows.items()} for name, rows in outputs.items()},
        "beam": {name: beams(outputs[name]["clean"], tokens) for name in ("audio", "lips")},
        "words, cut out": accuracy_of_words(cut_out, data["test"]),
        "words, in their sentence": {name: known_words(outputs[name]["clean"], frames) for name in ("audio", "lips")},
        "onsets": {name: onsets(outputs[name]["clean"], data["test"]) for name in ("audio", "lips")},
        "powers": [p.flatten().tolist() for p in product.parameters()],
        "sentences": {
            "truth": as_words(tokens[:4]),
            "lips": as_words(best_path(outputs["lips"]["clean"][:4], SLOTS)[0]),
            **{
                name: as_words(best_path(outputs[name]["-5 dB"][:4], SLOTS)[0]) for name in ("audio", "both", "product")
            },
        },
    }
    kept.write_text(json.dumps(scores), encoding="utf-8")
    return scores


def gather(runs_of: list[Any]) -> Any:
    """Means and spreads over seeds of equally built scores."""
    if isinstance(runs_of[0], dict):
        return {key: gather([run[key] for run in runs_of]) for key in runs_of[0]}
    return spread(runs_of)


def main(root: str, seeds: list[int], smoke: bool) -> None:
    if not smoke:
        begin("speech_grid")
    load(root)  # decode and follow before processes start
    workers = 1 if torch.cuda.is_available() else 2
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(run_seed, root=root, smoke=smoke), seeds))
    for seed, scores in zip(seeds, found, strict=True):
        print(f"seed {seed}:", json.dumps(scores), flush=True)
    if seeds != SEEDS or smoke:
        print("no results written: that takes all seeds and no --smoke")
        return
    about = {"talker": "s1", "levels": LEVELS, "voices": VOICES, "seeds": SEEDS, "epochs": EPOCHS, "mouth": SIZE}
    about |= {name: [scores.pop(name) for scores in found] for name in ("powers", "sentences")}
    save("speech_grid", about | gather(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    main(arguments.root, arguments.seeds, arguments.smoke)
