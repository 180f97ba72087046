"""The encoder-decoder and its objective against loops, formulas and other paths to the same numbers."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchmetrics.text import CharErrorRate, CHRFScore, EditDistance, WordErrorRate

from mmlearn import Batch, fit
from mmlearn.finetuning.seq2seq.model import BLEU, EncoderDecoder, Seq2Seq, SequenceAttention
from mmlearn.labels import IGNORED
from mmlearn.nn import RecurrentEncoder

KINDS = ["additive", "dot", "general", "mean", "last"]
V, DIM = 7, 8


def model(
    cell: str = "gru", attention: str = "additive", names: tuple[str, ...] = ("audio",), **kwargs
) -> EncoderDecoder:
    torch.manual_seed(0)
    encoders = {name: RecurrentEncoder(num_features=5, dim=6, cell=cell) for name in names}
    return EncoderDecoder(encoders, dict.fromkeys(names, 6), V, DIM, cell=cell, attention=attention, **kwargs)


def batch(size: int = 3, steps: int = 6, longest: int = 5, seed: int = 0, names: tuple[str, ...] = ("audio",)) -> Batch:
    """Sounds and sequences of unlike length; NaN and wild ids stand in the padding."""
    random = torch.Generator().manual_seed(seed)
    there = torch.ones(size, dtype=torch.bool)
    lengths = torch.randint(1, steps + 1, (size,), generator=random)
    lengths[0] = steps
    written = torch.randint(1, longest + 1, (size,), generator=random)
    written[0] = longest
    ids = torch.randint(4, V, (size, longest + 2), generator=random)
    ids[:, 0] = 2
    ids[torch.arange(size), written + 1] = 3
    real, mask = torch.arange(longest + 2) < written[:, None] + 2, torch.arange(steps) < lengths[:, None]
    data = {"target": torch.where(real, ids, 99)}
    for name in names:
        data[name] = torch.where(mask[:, None], torch.randn(size, 5, steps, generator=random), torch.nan)
    return Batch(data, dict.fromkeys(data, there), {"target": real, **dict.fromkeys(names, mask)})


def pad(given: Batch, name: str, extra: int, value: float) -> Batch:
    data, mask = dict(given.data), dict(given.mask)
    data[name] = nn.functional.pad(data[name], (0, extra), value=value)
    mask[name] = nn.functional.pad(mask[name], (0, extra), value=False)
    return replace(given, data=data, mask=mask)


@pytest.mark.parametrize("score", KINDS)
def test_attention_is_a_loop_over_steps(score: str) -> None:
    attention = SequenceAttention(4, score).double()
    query, memory = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 5, 4, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)
    found, weights = attention(query, memory, mask, attention.key(memory))
    for b in range(2):
        real = int(mask[b].sum())
        for w in range(3):
            q, scores = query[b, w], []
            for m in memory[b, :real]:
                if score == "additive":
                    scores.append(attention.value(torch.tanh(attention.query(q) + attention.key.weight @ m))[0])
                elif score in ("dot", "general"):
                    scores.append(q @ (m if score == "dot" else attention.key.weight @ m))
                else:
                    scores.append(q.new_tensor(0.0))
            expected = torch.stack(scores).softmax(0)
            if score == "last":
                expected = torch.eye(real, dtype=torch.float64)[-1]
            assert torch.allclose(weights[b, w, :real], expected)
            assert not weights[b, w, real:].any()
            assert torch.allclose(found[b, w], sum(p * m for p, m in zip(expected, memory[b], strict=False)))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("attention", KINDS)
def test_padding_changes_nothing(cell: str, attention: str) -> None:
    net, task, given = model(cell, attention), Seq2Seq(V), batch()
    padded = pad(pad(given, "audio", 6, torch.nan), "target", 7, -5)
    results = []
    for these in (given, padded):
        net.zero_grad()
        logits = net(these)
        loss = task.loss(logits, these)
        loss.backward()
        grads = [weight.grad.clone() for weight in net.parameters() if weight.grad is not None]
        results.append((logits[:, :, : logits.shape[2] if these is given else -7], loss, grads))
        assert all(grad.isfinite().all() for grad in grads)
    (a, loss_a, grads_a), (b, loss_b, grads_b) = results
    assert torch.allclose(a, b, atol=1e-6)
    assert torch.allclose(loss_a, loss_b, atol=1e-6)
    assert len(grads_a) == len(grads_b) >= 15
    assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(grads_a, grads_b, strict=True))
    alone = [net(given[[row]]) for row in range(3)]  # the samples do not meet
    assert all(torch.allclose(a[row], one[0], atol=1e-6) for row, one in enumerate(alone))
    short, _ = net.generate(given, max_length=6)
    long, _ = net.generate(padded, max_length=6)
    assert torch.equal(short, long)


def test_what_is_absent_changes_nothing_and_all_else_learns() -> None:
    names = ("audio", "video")
    net, task, given = model(names=names), Seq2Seq(V), batch(names=names)
    given.present["video"] = torch.tensor([True, False, True])
    outputs = []
    for value in (torch.nan, 3.0):
        data = dict(given.data)
        data["video"] = data["video"].clone()
        data["video"][1] = value
        data["video"].requires_grad_()
        net.zero_grad()
        output = net(replace(given, data=data))
        task.loss(output, given).backward()
        outputs.append(output)
        assert not data["video"].grad[1].any() and data["video"].grad[0].any()
        assert all(weight.grad.isfinite().all() for weight in net.parameters() if weight.grad is not None)
    assert torch.equal(*outputs)
    unused = {name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()}
    # the encoders' pools are not asked; the sound is never absent
    assert unused == {"encoders.audio.pool.score.weight", "encoders.video.pool.score.weight", "tokens.absent.audio"}


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_following_is_stepping(cell: str) -> None:
    """What training computes for a prefix is what generation computes after writing it."""
    net, given = model(cell).eval(), batch()
    ids, _ = net.generate(given, max_length=6)
    written = torch.cat([torch.full((3, 1), 2), ids], dim=1)
    again = replace(given, data=given.data | {"target": written},
                    mask=given.mask | {"target": torch.ones_like(written, dtype=torch.bool)})  # fmt: skip
    best = net(again).argmax(dim=1)  # (B, L)
    for row in range(3):
        for t in range(ids.shape[1]):
            assert best[row, t] == ids[row, t]
            if ids[row, t] == 3:
                break


def test_generate_does_not_look_at_the_target_and_a_beam_is_no_worse() -> None:
    net, given = model().eval(), batch()
    ids, log_p = net.generate(given, max_length=6)
    blind = Batch({"audio": given.data["audio"]}, {"audio": given.present["audio"]}, {"audio": given.mask["audio"]})
    assert torch.equal(net.generate(blind, max_length=6)[0], ids)
    _, wide = net.generate(blind, max_length=6, width=400, length_penalty=0.0)
    assert (wide >= log_p - 1e-5).all()
    one, score = net.generate(blind, max_length=6, width=1)
    assert torch.equal(one, ids) and torch.equal(score, log_p)


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_exact_match_under_teacher_forcing_is_that_of_greedy_search(seed: int) -> None:
    net, given, task = trained(), batch(size=8, seed=seed), Seq2Seq(V)
    guesses, _ = net.generate(given, max_length=7)
    lucky = given.data["target"].clone()
    for row in range(0, 8, 2):  # half of the samples get what the model writes as their target
        ids = guesses[row].tolist()
        ids = ids[: ids.index(3) + 1] if 3 in ids else ids
        lucky[row], given.mask["target"][row] = 99, False
        count = min(len(ids) + 1, lucky.shape[1])
        lucky[row, :count] = torch.tensor([2, *ids])[:count]
        given.mask["target"][row, :count] = True
    given = replace(given, data=given.data | {"target": lucky})
    metric = task.metrics()["exact_match"]
    metric.update(net(given), task.target(given))
    right = []
    for row in range(8):
        truth = lucky[row][given.mask["target"][row]][1:]
        right.append(torch.equal(guesses[row, : len(truth)], truth))
    assert sum(right) >= 4
    assert float(metric.compute()) == pytest.approx(sum(right) / 8)


@cache
def trained() -> EncoderDecoder:
    """Writes the sign of each step's first feature; so attention is needed, and the length varies."""
    net, parts = model("gru", "additive"), {split: signs(256, seed) for seed, split in enumerate(("train", "valid"))}
    history = fit(net, parts["train"], parts["valid"], Seq2Seq(V), epochs=16, lr=2e-2, progress=False)
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 2
    return net.eval()


def signs(size: int, seed: int) -> Batch:
    given = batch(size=size, steps=4, longest=4, seed=seed)
    length = given.mask["audio"].sum(dim=1)
    ids = 4 + (given.data["audio"][:, 0] > 0).long()
    given.data["audio"][:, 0] *= 3
    target = torch.full((size, 6), 99)
    target[:, 0], target[:, 1:5] = 2, ids
    target[torch.arange(size), length + 1] = 3
    real = torch.arange(6) < length[:, None] + 2
    return replace(given, data=given.data | {"target": torch.where(real, target, 99)},
                   mask=given.mask | {"target": real})  # fmt: skip


def test_it_learns_and_says_where_it_looked() -> None:
    net, test = trained(), signs(64, 7)
    metric = Seq2Seq(V).metrics()["exact_match"]
    metric.update(net(test), Seq2Seq(V).target(test))
    assert float(metric.compute()) > 0.5  # by chance: .17
    weights = net.weights(test)["audio"]  # (B, L - 1, N)
    assert weights.shape == (64, 5, 4)
    assert torch.allclose(weights.sum(dim=2), torch.ones(64, 5))
    assert not (weights * ~test.mask["audio"][:, None]).any()
    memory, mask = net._join(*net._read(test))
    state, keys = net._first(memory, mask), net.attention.key(memory)
    for t in range(5):  # the same, step by step
        _, state, looked = net._step(
            test.data["target"][:, t : t + 1] * test.mask["target"][:, t : t + 1], state, memory, mask, keys
        )
        assert torch.allclose(looked[:, 0], weights[:, t], atol=1e-6)


def test_weights_come_by_modality() -> None:
    names = ("video", "audio")
    net, given = model(names=names).eval(), batch(names=names)
    given = replace(given, data=given.data | {"video": given.data["video"][..., :4]},
                    mask=given.mask | {"video": given.mask["video"][..., :4]})  # fmt: skip
    weights = net.weights(given)
    assert {name: tuple(w.shape) for name, w in weights.items()} == {"audio": (3, 6, 6), "video": (3, 6, 4)}
    assert torch.allclose(weights["audio"].sum(2) + weights["video"].sum(2), torch.ones(3, 6))


def test_teacher_forcing() -> None:
    net, given = model(), batch(longest=6)
    told = net(given)
    net.teacher_forcing = 0.0
    untold = net(given)
    assert torch.allclose(told[..., 0], untold[..., 0])  # the first input is the start token in any case
    state, tokens, (memory, mask) = None, given.data["target"][:, :1], net._join(*net._read(given))
    state, keys = net._first(memory, mask), net.attention.key(memory)
    for t in range(untold.shape[2]):  # without a teacher: on its own guesses
        logits, state, _ = net._step(tokens, state, memory, mask, keys)
        assert torch.allclose(logits[:, 0], untold[..., t], atol=1e-6)
        tokens = logits.argmax(dim=-1)
    assert torch.equal(net.eval()(given), told)  # in evaluation the teacher is back
    net.train().teacher_forcing = 0.5
    some = torch.stack([net(given)[..., 1] for _ in range(40)])  # (40, B, V)
    like_told = (some - told[..., 1]).abs().amax(dim=2) < 1e-6
    like_untold = (some - untold[..., 1]).abs().amax(dim=2) < 1e-6
    assert (like_told | like_untold).all()
    differ = (told[..., 1] - untold[..., 1]).abs().amax(dim=1) > 1e-5  # (B,)
    assert differ.any()
    share = like_told[:, differ].float().mean()
    assert 0.3 < float(share) < 0.7


@given(st.integers(1, 3), st.integers(2, 5), st.floats(0, 0.5))
@settings(max_examples=20)
def test_loss_is_the_mean_over_real_tokens(size: int, length: int, label_smoothing: float) -> None:
    given = batch(size=size, longest=length)
    logits = torch.randn(size, V, length + 1, dtype=torch.float64)
    losses = []
    for row in range(size):
        for t in range(1, length + 2):
            if given.mask["target"][row, t]:
                log_p = logits[row, :, t - 1].log_softmax(0)
                truth = int(given.data["target"][row, t])
                losses.append(-(1 - label_smoothing) * log_p[truth] - label_smoothing * log_p.mean())
    loss = Seq2Seq(V, label_smoothing=label_smoothing).loss(logits, given)
    assert torch.allclose(loss, torch.stack(losses).mean())


def test_token_accuracy_counts_real_tokens() -> None:
    given, task = batch(), Seq2Seq(V)
    logits = torch.randn(3, V, given.data["target"].shape[1] - 1)
    metrics = task.metrics()
    assert next(iter(metrics)) == "token_accuracy"  # chooses the best epoch
    metrics["token_accuracy"].update(logits, task.target(given))
    real = given.mask["target"][:, 1:]
    right = (logits.argmax(dim=1) == given.data["target"][:, 1:])[real]
    assert float(metrics["token_accuracy"].compute()) == pytest.approx(right.float().mean().item())


def test_targets() -> None:
    given = batch()
    target = Seq2Seq(V).target(given)
    assert torch.equal(target != IGNORED, given.mask["target"][:, 1:])
    assert torch.equal(target[0], given.data["target"][0, 1:])
    given.present["target"] = torch.tensor([True, False, True])
    assert (Seq2Seq(V).target(given)[1] == IGNORED).all()  # a sample without a sequence is not learned from
    assert torch.equal(Seq2Seq(V).target(given)[[0, 2]], target[[0, 2]])
    with pytest.raises(ValueError, match=r"no 'words'; it has \['audio', 'target'\]"):
        Seq2Seq(V, target="words").target(batch())


def test_errors_name_what_was_found() -> None:
    with pytest.raises(ValueError, match="score is 'cosine'"):
        model(attention="cosine")
    with pytest.raises(ValueError, match=r"teacher_forcing is 1\.5"):
        model(teacher_forcing=1.5)
    with pytest.raises(ValueError, match="no 'video'"):
        model(names=("video",))(batch())


@cache
def levenshtein(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """The definition, by recursion."""
    if not a or not b:
        return len(a) + len(b)
    return min(levenshtein(a[1:], b) + 1, levenshtein(a, b[1:]) + 1, levenshtein(a[1:], b[1:]) + (a[0] != b[0]))


@given(st.lists(st.tuples(st.text("ab ", max_size=6), st.text("ab ", min_size=1, max_size=6)), min_size=1, max_size=3))
@settings(max_examples=40)
def test_the_chapters_metrics_mean_what_it_says(pairs: list[tuple[str, str]]) -> None:
    guesses, truths = [a for a, _ in pairs], [b for _, b in pairs]
    edits = [levenshtein(tuple(a), tuple(b)) for a, b in pairs]
    assert EditDistance(reduction="none")(guesses, truths).reshape(-1).tolist() == edits
    assert float(CharErrorRate()(guesses, truths)) == pytest.approx(sum(edits) / sum(map(len, truths)))
    if all(b.split() for b in truths):
        words = [(a.split(), b.split()) for a, b in pairs]
        wrong = sum(levenshtein(tuple(a), tuple(b)) for a, b in words)
        assert float(WordErrorRate()(guesses, truths)) == pytest.approx(wrong / sum(len(b) for _, b in words))


def ngrams(text: str, n: int) -> list[str]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


@given(st.text("ab", min_size=4, max_size=7), st.lists(st.text("ab", min_size=4, max_size=7), min_size=1, max_size=3))
@settings(max_examples=30)
def test_bleu_and_chrf_by_hand(guess: str, references: list[str]) -> None:
    bleu, f = 1.0, []
    for n in range(1, 5):  # characters as words
        found = ngrams(guess, n)
        hits = sum(min(found.count(g), max(ngrams(r, n).count(g) for r in references)) for g in set(found))
        bleu *= (hits / len(found)) ** 0.25
    closest = min((abs(len(r) - len(guess)), len(r)) for r in references)[1]
    bleu *= min(1.0, float(torch.tensor(1 - closest / len(guess)).exp()))
    spaced = [" ".join(r) for r in references]
    assert float(BLEU()([" ".join(guess)], [spaced])) == pytest.approx(bleu, abs=1e-5)
    assert float(BLEU()([" ".join(guess)], [spaced[::-1]])) == pytest.approx(bleu, abs=1e-5)  # in any order
    for n in range(1, 5):  # chrF of order 4 with one reference: F-score with recall counted twice
        ours, theirs = ngrams(guess, n), ngrams(references[0], n)
        hits = sum(min(ours.count(g), theirs.count(g)) for g in set(ours))
        p, r = hits / len(ours), hits / len(theirs)
        f.append(5 * p * r / (4 * p + r) if hits else 0.0)
    ours = float(CHRFScore(n_char_order=4, n_word_order=0)([guess], [references[:1]]))
    assert ours == pytest.approx(sum(f) / 4, abs=1e-5)


def test_bf16_stays_finite() -> None:
    given = batch()
    given = replace(given, data=given.data | {"audio": given.data["audio"] * 1e4})
    for attention in KINDS:
        net = model("lstm", attention)
        with torch.autocast("cpu", torch.bfloat16):
            loss = Seq2Seq(V).loss(net(given), given)
        loss.backward()
        assert loss.isfinite()
        assert all(weight.grad.isfinite().all() for weight in net.parameters() if weight.grad is not None)


def test_the_state_dict_holds_everything() -> None:
    net, other, given = model(), model(), batch()
    with torch.no_grad():
        for weight in other.parameters():
            weight.normal_()
    assert not torch.allclose(net(given), other(given))
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(given), other(given))
    assert isinstance(net(given), Tensor)
