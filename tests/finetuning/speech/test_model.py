"""The recogniser's laws (padding, absent modalities, NaN), its objectives against torch's, and that it learns."""

import pytest
import torch
from torch import nn

from mmlearn import Batch, fit, predict
from mmlearn.finetuning.speech.decoding import ctc_greedy
from mmlearn.finetuning.speech.model import (
    CTC,
    FrameWise,
    LipEncoder,
    SpeechRecognizer,
    TokenErrorRate,
    VoiceEncoder,
)

STEPS, TOKENS = 6, 5


def recogniser(*names: str) -> SpeechRecognizer:
    torch.manual_seed(0)
    encoders = {"video": lambda: LipEncoder((8, 16), dim=12, width=8), "audio": lambda: VoiceEncoder(10, dim=12)}
    return SpeechRecognizer({name: encoders[name]() for name in names}, TOKENS, hidden=8).eval()


def batch(size: int = 4, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    data = {
        "video": torch.randint(0, 256, (size, 1, STEPS, 8, 16), generator=generator).float(),
        "audio": torch.randn(size, 10, 4 * STEPS, generator=generator),
    }
    tokens = torch.tensor([[1, 2, 3], [4, 4, 0], [2, 0, 0], [3, 1, 4]])[:size]
    frames = torch.randint(0, TOKENS, (size, STEPS), generator=generator)
    there = torch.ones(size, dtype=torch.bool)
    return Batch(data, dict.fromkeys(data, there), labels={"tokens": tokens, "frames": frames})


@pytest.mark.parametrize("names", [("video",), ("audio",), ("video", "audio")])
def test_output_is_a_distribution_at_each_step(names):
    output = recogniser(*names)(batch())
    assert output.shape == (4, STEPS, TOKENS)
    assert torch.allclose(output.exp().sum(dim=2), torch.ones(4, STEPS), atol=1e-5)


def test_padding_changes_nothing_and_holds_a_certain_blank():
    model, whole = recogniser("video", "audio"), batch(2)
    short = {"video": whole.data["video"][1:, :, :4], "audio": whole.data["audio"][1:, :, :16]}
    alone = [model(whole[[0]]), model(Batch(short, whole[[1]].present))]
    mask = torch.arange(4 * STEPS) < torch.tensor([4 * STEPS, 16])[:, None]
    steps = mask[:, ::4]
    data = {
        "video": torch.where(steps[:, None, :, None, None], whole.data["video"], torch.nan),
        "audio": torch.where(mask[:, None], whole.data["audio"], torch.nan),
    }
    padded = Batch(data, whole.present, {"video": steps, "audio": mask}, whole.labels)
    output = model(padded)
    assert torch.allclose(output[0], alone[0][0], atol=1e-5)
    assert torch.allclose(output[1, :4], alone[1][0], atol=1e-5)
    assert torch.equal(output[1, 4:].exp(), torch.eye(TOKENS)[[0, 0]])
    # … and so CTC and decoders need no lengths
    expected = nn.functional.ctc_loss(
        output.transpose(0, 1), whole.labels["tokens"], torch.tensor([6, 4]), torch.tensor([3, 2])
    )
    assert CTC().loss(output, padded).item() == pytest.approx(expected.item(), abs=1e-5)
    assert ctc_greedy(output) == ctc_greedy(output, steps)
    CTC().loss(output, padded).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_what_stands_in_an_absent_modality_changes_no_output_and_no_gradient():
    model, clean = recogniser("video", "audio"), batch()
    there = {"video": torch.tensor([True, False, True, True]), "audio": torch.tensor([True, True, False, True])}
    found = []
    for filling in (torch.nan, 7.0):
        data = {n: x.clone() for n, x in clean.data.items()}
        for name, present in there.items():
            data[name][~present] = filling
            data[name].requires_grad_()
        model.zero_grad()
        output = model(Batch(data, there, labels=clean.labels))
        CTC().loss(output, clean).backward()
        for name, present in there.items():
            gradient = data[name].grad
            assert gradient is not None and not gradient[~present].any() and gradient[present].any()
        found.append([output] + [p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == 1 + len(list(model.parameters()))
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(*found, strict=True))


def test_an_absent_stream_has_no_length():
    """The video is absent, and its mask says nothing is real: the audio's steps count, all of them."""
    model, both = recogniser("video", "audio"), batch(2)
    nothing = torch.zeros(2, STEPS, dtype=torch.bool)
    without = Batch(both.data, both.present | {"video": torch.zeros(2, dtype=torch.bool)}, {"video": nothing})
    assert torch.equal(model(without), model(Batch(both.data, without.present)))


def test_samples_do_not_depend_on_their_neighbours():
    model, many = recogniser("video", "audio"), batch()
    output = model(many)
    for row in range(4):
        assert torch.allclose(model(many[[row]])[0], output[row], atol=1e-5)


def test_frames_and_sound_meet_at_one_rate():
    for steps in (1, 2, 5, 8, 75):
        mask = torch.arange(4 * steps) < torch.tensor([4 * steps, steps])[:, None]
        x, left = VoiceEncoder(10, dim=12)(torch.randn(2, 10, 4 * steps), mask)
        assert x.shape == (2, steps, 12) and left is not None and left.sum(dim=1).tolist() == [steps, -(-steps // 4)]


def test_lips_see_neighbouring_frames_only():
    encoder = LipEncoder((8, 16), dim=12, width=8).eval()
    frames = batch(1).data["video"]
    other = frames.clone()
    other[0, 0, 2] = other[0, 0, 2].flip(0)  # the same grey levels, so that the clip's mean and deviation stay
    changed = (encoder(frames)[0] - encoder(other)[0]).abs().amax(dim=2)[0] > 1e-4
    assert changed.tolist() == [False, True, True, True, False, False]


def test_objectives_are_torchs_losses():
    output, many = recogniser("audio")(batch()), batch()
    counts = torch.tensor([3, 2, 1, 3])
    expected = nn.functional.ctc_loss(output.transpose(0, 1), many.labels["tokens"], torch.full((4,), STEPS), counts)
    assert CTC().loss(output, many).item() == pytest.approx(expected.item())
    expected = -output.gather(2, many.labels["frames"][..., None]).mean()
    assert FrameWise().loss(output, many).item() == pytest.approx(expected.item())
    many.labels["frames"][:, 2:] = -100
    expected = -output[:, :2].gather(2, many.labels["frames"][:, :2, None]).mean()
    assert FrameWise().loss(output, many).item() == pytest.approx(expected.item())


def test_frame_labels_teach_and_the_loss_chooses_the_epoch():
    many = batch()
    model = recogniser("audio")
    history = fit(model, many, many, FrameWise(), epochs=6, batch_size=4, lr=1e-2, progress=False)
    losses = [row["valid_loss"] for row in history]
    assert losses[-1] < losses[0] and "error_rate" not in history[0]
    assert float(FrameWise().loss(predict(model, many), many)) == pytest.approx(min(losses), rel=1e-4)


def test_error_rate_counts_edits_over_tokens():
    path = torch.tensor([[1, 1, 0, 2, 0, 0], [0, 0, 3, 3, 4, 0], [0] * 6])
    log_probs = torch.log(nn.functional.one_hot(path, TOKENS) + 1e-6)
    tokens = torch.tensor([[1, 2, 0], [3, 0, 0], [2, 4, 1]])  # right; one too many; three missing
    metric = TokenErrorRate()
    metric.update(log_probs[:2], tokens[:2])
    metric.update(log_probs[2:], tokens[2:])
    assert float(metric.compute()) == pytest.approx(4 / 6) and not metric.higher_is_better


def test_it_learns_to_spell_what_it_hears():
    """Each token is a band that sounds for two of 25 steps a second; the order is all that CTC is told."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.stack([torch.randperm(TOKENS - 1, generator=generator)[:3] + 1 for _ in range(96)])
    mel = 0.3 * torch.randn(96, 10, 48, generator=generator)
    for row, labelling in enumerate(tokens.tolist()):
        for k, token in enumerate(labelling):
            mel[row, 2 * token, 16 * k + 2 : 16 * k + 10] += 3
    data = Batch({"audio": mel}, {"audio": torch.ones(96, dtype=torch.bool)}, labels={"tokens": tokens})
    torch.manual_seed(0)
    model = SpeechRecognizer({"audio": VoiceEncoder(10, dim=24)}, TOKENS, hidden=16, dropout=0.0)
    history = fit(model, data[:80], data[80:], CTC(), epochs=12, batch_size=8, lr=1e-2, progress=False)
    assert history[-1]["error_rate"] < 0.1 < history[0]["error_rate"]
    assert ctc_greedy(predict(model, data[80:]))[0] == tokens[80].tolist()


def test_a_target_that_does_not_fit_is_named():
    output, many = torch.zeros(2, 3, TOKENS).log_softmax(dim=2), batch(2)
    many.labels["tokens"] = torch.tensor([[1, 2, 3], [4, 4, 1]])
    with pytest.raises(
        ValueError, match=r"sample 1 is inf: 3 tokens, 1 of them repeated, need 4 steps; its output has 3"
    ):
        CTC().loss(output, many)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LipEncoder((24, 30)), r"size is \(24, 30\); expected multiples of 8"),
        (
            lambda: recogniser("video", "audio")(Batch({"audio": batch().data["audio"]}, batch().present)),
            r"lacks \['video'\]",
        ),
        (lambda: recogniser("audio")(batch().without("video")[[0]].without("audio")), "sample 0 has none"),
        (lambda: CTC("words").loss(torch.zeros(4, 6, 5), batch()), "no label 'words'; it has .'frames', 'tokens'."),
        (lambda: FrameWise("times").loss(torch.zeros(4, 6, 5), batch()), "no label 'times'; it has .'frames'"),
        (lambda: FrameWise().loss(torch.zeros(4, 7, 5), batch()), r"is \(4, 6\); expected \(4, 7\)"),
    ],
)
def test_errors_say_what_was_found(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_must_be_whole_numbers():
    many = batch()
    many.labels["tokens"] = many.labels["tokens"].float()
    with pytest.raises(ValueError, match=r"torch.float32 \(4, 3\); expected whole numbers"):
        CTC().target(many)


def test_streams_of_unlike_length_are_told():
    many = batch()
    many.data["audio"] = many.data["audio"][..., :-4]
    with pytest.raises(ValueError, match=r"'audio': 5, 'video': 6"):
        recogniser("video", "audio")(many)
