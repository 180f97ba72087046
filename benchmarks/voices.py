"""Numbers heard from a voice that training never met, and what narrows the gap: chapter preprocessing/audio, 3 seeds.

Run `python -m benchmarks.voices` (about 15 minutes on one idle core); it writes benchmarks/results/voices.json.
A run that was stopped goes on where it was. `python -m benchmarks.voices PATH-OF-GRID` adds talkers of GRID.

The test is always `HanziClips(test_voice=...)`: one of two people, whom neither training nor any choice has heard.

"stated": the encoder of the first model, on voices that train and test share, and from one voice to the other: clean
sound, and in the babble of start/first_model.
"ladder": a smaller listener, and what is done to make it hear strangers, each step alone and all together.

Nothing was chosen by scores of the test voice. How far voices are changed was written down beforehand. That bands are
few, and standardized where speech is synthetic, was tried with synthetic speakers to learn from and voice 3 to judge:
it is the training voice of 3 → 5, but the test voice of 5 → 3, which may be favored by it.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import mmlearn
from benchmarks.first_model import NOISE
from benchmarks.report import UNFINISHED, begin, keep, save, spread
from mmlearn import Batch, Clip, MultimodalModel, collate, fit, predict
from mmlearn.datasets import Grid, HanziClips
from mmlearn.datasets.hanzi import grammar, script, synthesis
from mmlearn.datasets.hanzi.download import fetch_hanzi
from mmlearn.datasets.hanzi.espeak import speak_syllable, variants
from mmlearn.datasets.hanzi.voices import LEVEL, VoiceBank
from mmlearn.encoders import AudioEncoder
from mmlearn.finetuning import Classification
from mmlearn.fusion import ConcatFusion
from mmlearn.preprocessing.audio import LogMel, WarpBands, change_voice, resample, standardize_bands, trim, warp_bands

SEEDS = [0, 1, 2]
RATE, BANDS, DIM = 16_000, 24, 64
NUMBER = Classification("number", 10)
SIZES = {"train": 1000, "valid": 200, "test": 1000, "all": 2000}  # "all": clips to learn from where all steps meet
EPOCHS = 8
STATED: dict[str, Any] = {"sizes": {"train": 800, "valid": 100, "test": 500}, "epochs": 7, "lr": 3e-3}
BABBLE: dict[str, Any] = {"snr_db": NOISE["snr_db"], "noise": NOISE["noise"]}
STATED_NOISE: dict[str, dict[str, Any]] = {"clean": {}, "babble, 0 dB": BABBLE}
HEARD = {"shared": None, "3 → 5": "5", "5 → 3": "3"}  # who is kept for testing
DIRECTIONS = {"3 → 5": ("3", "5"), "5 → 3": ("5", "3")}  # trained on, tested on
ODD = ("whisper", "robo", "Robot", "Demonic", "croak", "announcer", "klatt", "fast", "Tweaky")  # hardly people
# that one voice is changed into; how far
CHANGES: dict[str, Any] = {"people": 16, "semitones": 8.0, "formants": 1.2, "tempo": 1.4}
WIDEST = 1.3  # factor of vocal tract warping
ADAPTING: dict[str, Any] = {"clips": 10, "steps": 60, "lr": 1e-3, "replayed": 54}  # not tuned
LADDER: dict[str, dict[str, bool]] = {
    "as it is": {},
    "bands standardized": {"standardize": True},
    "vocal tracts warped": {"warp": True},
    "pitch, formants and tempo changed": {"change": True},
    "synthetic voices": {"synthesize": True},
    "synthetic voices, bands standardized": {"synthesize": True, "standardize": True},
    "all together": {"standardize": True, "warp": True, "change": True, "synthesize": True},
}
Speaker = dict[str, np.ndarray]  # character → its syllable, float32 at 16 kHz, equally loud


def stored(name: str, settings: list[Any], make: Callable[[], Speaker]) -> Speaker:
    """Sounds that were computed once and lie in _build."""
    key = hashlib.sha256(json.dumps(settings, ensure_ascii=False).encode()).hexdigest()[:12]
    path = UNFINISHED / "voices" / f"{name}-{key}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(".new.npz")
        np.savez(whole, allow_pickle=False, **make())
        whole.replace(path)
    with np.load(path) as file:
        return dict(file)


def equally_loud(audio: np.ndarray) -> np.ndarray:
    return (audio * (LEVEL / max(float(np.sqrt(np.mean(audio**2))), 1e-9))).astype(np.float32)


@cache
def recorded(voice: str) -> Speaker:
    """One of the two people."""
    bank = VoiceBank(fetch_hanzi().voices)
    able = [char for char in grammar.ALPHABET if voice in bank.voices_of(char)]
    return {char: bank.say(char, voice).astype(np.float32) for char in able}


@cache
def synthetic(variant: str) -> Speaker:
    """One of eSpeak NG's speakers, at a pitch and a speed of his own."""
    rng = np.random.default_rng(list(variant.encode()))
    pitch, speed = int(rng.integers(20, 90)), int(rng.integers(110, 230))

    def make() -> Speaker:
        speaker = {}
        for char in grammar.ALPHABET:
            samples, rate = speak_syllable(char, variant, pitch, speed)
            speaker[char] = equally_loud(trim(resample(samples, rate, RATE), RATE)[0])
        return speaker

    return stored(f"espeak {variant}", [variant, pitch, speed], make)


def strangers() -> tuple[dict[str, Speaker], dict[str, Speaker]]:
    """The synthetic speakers to learn from, and each fourth one to choose the epoch by."""
    people = [name for name in variants() if not any(odd in name for odd in ODD)]
    return {n: synthetic(n) for n in people if n not in people[::4]}, {n: synthetic(n) for n in people[::4]}


def changed(name: str, speaker: Speaker, k: int) -> Speaker:
    """The k-th of the people that one speaker is changed into."""
    rng = np.random.default_rng([k, *name.encode()])
    by = {
        "semitones": rng.uniform(-CHANGES["semitones"], CHANGES["semitones"]),
        "formants": CHANGES["formants"] ** rng.uniform(-1, 1),
        "tempo": CHANGES["tempo"] ** rng.uniform(-1, 1),
    }

    def make() -> Speaker:
        return {char: equally_loud(change_voice(sound, RATE, **by)) for char, sound in speaker.items()}

    return stored(f"{name} changed {k}", [name, by], make)


class Bank:
    """Any speakers in the place of `VoiceBank`."""

    def __init__(self, speakers: dict[str, Speaker]) -> None:
        self.speakers = speakers

    def voices_of(self, char: str) -> tuple[str, ...]:
        """As `VoiceBank.voices_of`."""
        return tuple(name for name, said in self.speakers.items() if char in said)

    def say(self, char: str, voice: str, pitch: int = 20) -> np.ndarray:
        """As `VoiceBank.say`, at the speaker's own pitch."""
        return self.speakers[voice][char]


@cache
def coarse() -> LogMel:
    """Few bands, which do not resolve a voice's harmonics, and steps of 20 ms."""
    return LogMel(num_mels=BANDS, n_fft=512, hop_length=320)


def as_batch(mels: list[torch.Tensor], numbers: list[int]) -> Batch:
    there = torch.ones(len(mels), dtype=torch.bool)
    return Batch({"audio": torch.stack(mels)}, {"audio": there}, labels={"number": torch.tensor(numbers)})


def compose(speakers: dict[str, Speaker], size: int, split: str) -> Batch:
    """Clips as `HanziClips` makes them, each spoken by one of these speakers."""
    recipe = script.Recipe(split=split, test_voice="nobody steps in")
    mels, numbers = [], []
    for index in range(size):
        plan = script.plan_clip(recipe, index, tuple(speakers))
        sound = synthesis.render_audio(plan, recipe, index, Bank(speakers), [])  # type: ignore[arg-type]
        if sound is not None:
            mels.append(coarse()((sound / 32767).astype(np.float32)))
            numbers.append(grammar.NUMBERS.index(plan.spoken_number))
    return as_batch(mels, numbers)


@cache
def load(
    split: str, size: int, test_voice: str | None, bands: int = BANDS, seed: int = 0, noise: str = "clean"
) -> Batch:
    """HanziClips' sound. The test split is spoken by `test_voice`, the others by the other one; None: all by both."""
    clips = HanziClips(size, split=split, seed=seed, image_size=8, frames=1, test_voice=test_voice,
                       **STATED_NOISE[noise])  # fmt: skip
    log_mel = coarse() if bands == BANDS else LogMel()
    heard = [clip for clip in clips if clip.audio is not None]
    return as_batch([log_mel(clip.audio) for clip in heard], [clip.labels["number"] for clip in heard])


class Listener(nn.Module):
    """An `AudioEncoder` and a head, with each band standardized before or not."""

    def __init__(self, bands: int, dim: int, standardize: bool = False) -> None:
        super().__init__()
        self.standardize = standardize
        encoders = {"audio": AudioEncoder(bands, dim=dim, width=dim // 2)}
        self.model = MultimodalModel(
            encoders, ConcatFusion({"audio": dim}, dim=dim), nn.Sequential(nn.GELU(), nn.Linear(dim, 10))
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits (B, 10)."""
        mel = batch.data["audio"]
        return self.model(replace(batch, data={"audio": standardize_bands(mel) if self.standardize else mel}))


def accuracy(model: nn.Module, batch: Batch) -> float:
    return float((predict(model, batch).argmax(dim=1) == batch.labels["number"]).float().mean())


def stated(test_voice: str | None, noise: str, seed: int) -> dict[str, float]:
    """The first model's encoder, as it comes, on sound alone."""
    data = {split: load(split, size, test_voice, 64, noise=noise) for split, size in STATED["sizes"].items()}
    mmlearn.seed_everything(seed)
    model = Listener(64, 128)
    settings = {"epochs": STATED["epochs"], "lr": STATED["lr"], "seed": seed, "progress": False}
    fit(model, data["train"], data["valid"], NUMBER, **settings)
    return {"accuracy": accuracy(model, data["test"])}


def train(data: Batch, valid: Batch, seed: int, standardize: bool, warp: bool) -> Listener:
    mmlearn.seed_everything(seed)
    listener, move = Listener(BANDS, DIM, standardize), WarpBands(WIDEST)

    def augment(batch: Batch) -> Batch:
        return replace(batch, data={"audio": move(batch.data["audio"])})

    fit(listener, data, valid, NUMBER, epochs=EPOCHS, batch_size=64, lr=5e-3, augment=augment if warp else None,
        seed=seed, progress=False)  # fmt: skip
    return listener


@cache
def training_set(voice: str, change: bool, synthesize: bool) -> Batch:
    """Clips by one person, by the people that they are changed into, and by synthetic speakers."""
    speakers = {voice: recorded(voice)}
    if change:
        speakers |= {f"{voice}~{k}": changed(voice, recorded(voice), k) for k in range(CHANGES["people"])}
    if synthesize:
        known, _ = strangers()
        speakers |= known
        if change:
            speakers |= {f"{n}~": changed(n, known[n], 0) for n in list(known)[::3]}
        for k in range(0 if change else 8):  # else one voice among sixty would hardly be heard
            speakers[f"{voice}={k}"] = recorded(voice)
    return compose(speakers, SIZES["all" if change and synthesize else "train"], "train")


def climb(direction: str, step: str, seed: int) -> dict[str, float]:
    """One step of the ladder: trained on one voice, tested on the other."""
    voice, other = DIRECTIONS[direction]
    options = dict.fromkeys(("standardize", "warp", "change", "synthesize"), False) | LADDER[step]
    data = training_set(voice, options["change"], options["synthesize"])
    own = compose({voice: recorded(voice)}, SIZES["valid"], "valid")
    valid = compose(strangers()[1], SIZES["valid"], "valid") if options["synthesize"] else own
    model = train(data, valid, seed, options["standardize"], options["warp"])
    test = load("test", SIZES["test"], other)
    scores = {"accuracy": accuracy(model, test), "training voice": accuracy(model, own)}
    return scores | adapt(model, data, other, test, seed) if step == "all together" else scores


def adapt(model: Listener, data: Batch, other: str, test: Batch, seed: int) -> dict[str, float]:
    """Ten clips of the new voice: without labels, with labels of all numbers, and of five numbers only."""
    pool = load("test", 300, other, seed=seed + 1)
    generator = torch.Generator().manual_seed(seed)
    of_number = [(pool.labels["number"] == n).nonzero()[:, 0].tolist() for n in range(10)]
    ten = pool[torch.tensor([rows[0] for rows in of_number])]
    factors = (WIDEST ** torch.linspace(-1, 1, 9)).tolist()

    def sure(factor: float) -> float:
        logits = predict(model, replace(ten, data={"audio": warp_bands(ten.data["audio"], factor)}))
        return float((logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1).mean())  # minus the entropy

    best = max(factors, key=sure)
    moved = replace(test, data={"audio": warp_bands(test.data["audio"], best)})
    found = {"ten clips, no labels: factor": best, "ten clips, no labels": accuracy(model, moved)}
    found["ten clips, all numbers"] = accuracy(tuned(model, data, ten, generator), test)
    halves = []
    for half in (range(5), range(5, 10)):
        told = pool[torch.tensor([row for n in half for row in of_number[n][:2]])]
        unheard = torch.tensor([n not in half for n in test.labels["number"].tolist()])
        before = accuracy(model, test[unheard])
        halves.append([before, accuracy(tuned(model, data, told, generator), test[unheard])])
    found["other five numbers, before"], found["other five numbers, after"] = np.mean(halves, axis=0).tolist()
    return found


def tuned(model: Listener, data: Batch, clips: Batch, generator: torch.Generator) -> Listener:
    """Train on with ten clips in each batch, beside clips of before, so that these are not forgotten."""
    listener = Listener(BANDS, DIM, model.standardize)
    listener.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(listener.parameters(), lr=ADAPTING["lr"])
    move = WarpBands(1.05)
    listener.train()
    for _ in range(ADAPTING["steps"]):
        rows = torch.randint(len(data), (ADAPTING["replayed"],), generator=generator)
        audio = torch.cat([move(clips.data["audio"], generator), data.data["audio"][rows]])
        numbers = torch.cat([clips.labels["number"], data.labels["number"][rows]])
        there = torch.ones(len(audio), dtype=torch.bool)
        batch = Batch({"audio": audio}, {"audio": there}, labels={"number": numbers})
        losses = nn.functional.cross_entropy(listener(batch), numbers, reduction="none")
        loss = losses[: len(clips)].mean() + losses[len(clips) :].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return listener


def grid_talkers(root: str) -> dict[str, Any]:
    """The digit by ear, from talker 1 of GRID to each other talker whose folder is there."""
    from benchmarks.grid import EPOCHS as GRID_EPOCHS
    from benchmarks.grid import build
    from benchmarks.grid import load as load_talker
    from mmlearn.datasets.grid.corpus import find_clips

    def heard(clips: Iterable[Clip]) -> Batch:
        return collate([clip.without("video", "text") for clip in clips], {"audio": LogMel()})

    others = []
    for number in range(2, 35):
        try:
            others += [f"s{number}"] if find_clips(Path(root), f"s{number}") else []
        except FileNotFoundError:
            continue
    found: dict[str, Any] = {"talkers": others}
    if not others:
        return found
    parts = {split: heard(clips) for split, clips in load_talker(root).items()}
    task, models = Classification("digit", 10), []
    for seed in SEEDS:
        mmlearn.seed_everything(seed)
        models.append(build(["audio"], 10))
        fit(models[-1], parts["train"], parts["valid"], task, epochs=GRID_EPOCHS["audio"], batch_size=16, seed=seed,
            progress=False)  # fmt: skip
    for name in ["s1", *others]:
        test = parts["test"] if name == "s1" else heard(Grid(root, speakers=[name]))
        scores = [(predict(m, test).argmax(dim=1) == test.labels["digit"]).float().mean().item() for m in models]
        found[name] = spread(scores)
    return found


def collected(rows: list[dict[str, float]]) -> dict[str, Any]:
    return {name: spread([row[name] for row in rows]) for name in rows[0]}


def main() -> None:
    begin("voices")
    about = {"seeds": SEEDS, "sizes": SIZES, "epochs": EPOCHS, "bands": BANDS, "dim": DIM, "changes": CHANGES,
             "widest": WIDEST, "adapting": ADAPTING, "settings of stated": STATED}  # fmt: skip
    folder = UNFINISHED / "voices"
    ladder: dict[str, dict[str, list]] = {d: {step: [] for step in LADDER} for d in DIRECTIONS}
    first: dict[str, dict[str, list]] = {noise: {title: [] for title in HEARD} for noise in STATED_NOISE}
    for done, seed in enumerate(SEEDS, 1):
        for direction, steps in ladder.items():
            for step, options in LADDER.items():
                file, settings = folder / f"{direction}, {step}, {seed}.json", about | {"options": options}
                steps[step].append(keep(file, settings, partial(climb, direction, step, seed)))
        for noise, rows in first.items():
            for title, voice in HEARD.items():
                file = folder / f"stated, {noise}, {title}, {seed}.json"
                rows[title].append(keep(file, about, partial(stated, voice, noise, seed)))
        if done == 1:
            continue  # one seed has no spread
        known, others = strangers()
        results = about | {
            "seeds": SEEDS[:done],
            "stated": {noise: {t: collected(r)["accuracy"] for t, r in rows.items()} for noise, rows in first.items()},
            "ladder": {d: {step: collected(rows) for step, rows in steps.items()} for d, steps in ladder.items()},
            "synthetic": {"learned from": list(known), "for choosing": list(others)},
            "grid": grid_talkers(sys.argv[1]) if len(sys.argv) > 1 else {"talkers": []},
        }
        save("voices", results, ["librosa", "espeakng-loader"])
    shutil.rmtree(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
