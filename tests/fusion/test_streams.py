"""Streams made ready to meet: the clock, what stands in for what is absent, and means over steps, by hand."""

import torch

from mmlearn.fusion.streams import StreamEmbedding, mean_over, overlap
from mmlearn.nn.embeddings import sinusoidal_encoding

DIMS, RATES = {"audio": 3, "video": 5}, {"audio": 25.0, "video": 8.0}


def features(steps: dict[str, int] | None = None) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(2, (steps or {"audio": 6, "video": 4})[name], dim) for name, dim in DIMS.items()}


def test_a_step_is_its_projection_its_kind_and_its_time_in_seconds() -> None:
    torch.manual_seed(0)
    tokens, x = StreamEmbedding(DIMS, 8, RATES), features()
    steps, real = tokens(x)
    assert real == {"audio": None, "video": None}
    for name, rate in RATES.items():
        middle = (torch.arange(x[name].shape[1]) + 0.5) / rate  # seconds
        expected = tokens.project[name](x[name]) + tokens.modality_embedding[name] + sinusoidal_encoding(middle, 8)
        assert torch.allclose(steps[name], expected, atol=1e-6)


def test_rates_change_the_code_of_time_and_nothing_else() -> None:
    found = {}
    for title, rates in {
        "clock": RATES,
        "none": None,
        "twice": {name: 2 * rate for name, rate in RATES.items()},
    }.items():
        torch.manual_seed(0)
        found[title] = StreamEmbedding(DIMS, 8, rates)(features())[0]
    for name in DIMS:
        assert not torch.allclose(found["clock"][name], found["none"][name], atol=1e-3)
        assert not torch.allclose(found["clock"][name], found["twice"][name], atol=1e-3)
    one, two = found["none"], found["clock"]
    time = {name: sinusoidal_encoding((torch.arange(x.shape[1]) + 0.5), 8) for name, x in features().items()}
    clock = {
        name: sinusoidal_encoding((torch.arange(x.shape[1]) + 0.5) / RATES[name], 8) for name, x in features().items()
    }
    for name in DIMS:
        assert torch.allclose(one[name] - time[name], two[name] - clock[name], atol=1e-5)


def test_steps_of_one_moment_have_one_code() -> None:
    """The middle of video's step 0 at 8 a second is that of audio's step 1 at 24 a second."""
    torch.manual_seed(0)
    tokens = StreamEmbedding({"audio": 4, "video": 4}, 8, {"audio": 24.0, "video": 8.0})
    zero = {"audio": torch.zeros(1, 6, 4), "video": torch.zeros(1, 2, 4)}
    steps, _ = tokens(zero)
    plain = {name: steps[name] - tokens.modality_embedding[name] - tokens.project[name].bias for name in steps}
    assert torch.allclose(plain["video"][0], plain["audio"][0, [1, 4]], atol=1e-6)


def test_one_learned_step_stands_in_for_what_is_absent() -> None:
    torch.manual_seed(0)
    tokens, x = StreamEmbedding(DIMS, 8, RATES), features()
    x["audio"][1] = torch.nan
    steps, real = tokens(x, {"audio": torch.tensor([True, False]), "video": torch.tensor([True, True])})
    assert real["audio"].tolist() == [[True] * 6, [True] + [False] * 5]
    assert torch.equal(steps["audio"][1, 0], tokens.absent["audio"]) and steps["audio"].isfinite().all()


def test_overlap_is_that_of_intervals() -> None:
    found = overlap(4, 8.0, 6, 12.0)
    for n in range(4):
        for k in range(6):
            together = max(0.0, min((n + 1) / 8, (k + 1) / 12) - max(n / 8, k / 12))
            assert abs(float(found[n, k]) - together) < 1e-6


def test_a_stream_on_anothers_clock_is_the_mean_of_what_happens_together() -> None:
    torch.manual_seed(0)
    tokens = StreamEmbedding(DIMS, 8, {"audio": 16.0, "video": 8.0})
    steps, real = tokens(features({"audio": 8, "video": 4}))
    moved, there = tokens.at_steps_of("video", "audio", steps, real)
    assert torch.allclose(moved, steps["audio"].unflatten(1, (4, 2)).mean(dim=2), atol=1e-6) and there.all()


def test_the_mean_passes_over_padding() -> None:
    x, mask = torch.randn(2, 3, 4), torch.tensor([[True, True, False], [True, True, True]])
    x[0, 2] = torch.nan
    assert torch.allclose(mean_over(x, mask)[0], x[0, :2].mean(dim=0), atol=1e-6)
    assert torch.allclose(mean_over(x, mask)[1], mean_over(x, None)[1], atol=1e-6)
