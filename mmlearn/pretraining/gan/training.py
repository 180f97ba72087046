"""Generative adversarial networks: a generator draws, a discriminator judges, and each learns from the other.

The course's source writes the game as `min_G max_D L(D(x)) - L(D(G(z)))`, which mixes losses and signs. With L = log it
has no upper bound in D; with L a cross-entropy it pays D for calling real samples false. Only L(t) = t makes a game,
Wasserstein's, if the slope of D is bounded. Real and generated samples need a term each, with a target of its own.

Networks are in `networks`, metrics of the samples in `metrics`. Chapter: pretraining/gan.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from mmlearn.nn.functional import to_float32
from mmlearn.runtime import precision, quiet

GanObjective = Literal["minimax", "non-saturating", "wasserstein", "hinge"]


def discriminator_loss(real: Tensor, fake: Tensor, objective: GanObjective = "hinge") -> Tensor:
    """Return what the discriminator lowers, given its scores t: high means "real".

    - "minimax" and "non-saturating": cross-entropy, `-log σ(t_real) - log(1 - σ(t_fake))` (Goodfellow et al. 2014).
      Where the densities are p and q, the best score is log(p / q), and the loss is then log 4 - 2 JSD(p, q).
    - "wasserstein": `t_fake - t_real` (Arjovsky et al. 2017); only for a discriminator whose slope is held near 1, by
      `gradient_penalty` or spectral normalisation.
    - "hinge": `max(0, 1 - t_real) + max(0, 1 + t_fake)` (Lim & Ye 2017): scores beyond ±1 earn nothing more.

    Args:
        real: Scores of real samples, (B,) or any other shape. Half precision is widened to float32.
        fake: Scores of generated samples. Generate them without gradient, or detach them: this loss is not theirs.
        objective: Which game.

    Returns:
        The loss, a scalar: each part is a mean.

    Raises:
        ValueError: If the objective is unknown.

    Chapter: pretraining/gan.
    """
    _check_objective(objective)
    real, fake = to_float32(real), to_float32(fake)
    if objective == "wasserstein":
        return fake.mean() - real.mean()
    if objective == "hinge":
        return relu(1 - real).mean() + relu(1 + fake).mean()
    return softplus(-real).mean() + softplus(fake).mean()  # -log σ(t) = softplus(-t), which never overflows


def generator_loss(fake: Tensor, objective: GanObjective = "hinge") -> Tensor:
    """Return what the generator lowers, given the discriminator's scores t of what it made.

    - "minimax": `log(1 - σ(t))`, the other half of the two-player game. Its slope, -σ(t), vanishes where the
      discriminator is sure, and that is where the generator is bad.
    - "non-saturating": `-log σ(t)`: the same direction, with slope -1 where the discriminator is sure.
    - "wasserstein" and "hinge": `-t`.

    Args:
        fake: Scores of generated samples, as in `discriminator_loss`.
        objective: Which game.

    Raises:
        ValueError: If the objective is unknown.

    Papers: Goodfellow et al. 2014, Arjovsky et al. 2017, Lim & Ye 2017. Chapter: pretraining/gan.
    """
    _check_objective(objective)
    fake = to_float32(fake)
    if objective == "minimax":
        return -softplus(fake).mean()
    if objective == "non-saturating":
        return softplus(-fake).mean()
    return -fake.mean()


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Return how far the discriminator's slope is from 1 between real and generated samples (Gulrajani et al. 2017).

    `mean (‖∇ D(x)‖ - 1)²` at points `x = u · real + (1 - u) · fake`, with one u a sample, uniform in [0, 1]. The norm
    is a sample's, so D must judge each by itself: not with batch normalisation.

    Args:
        discriminator: Maps samples (B, …) to scores, one a sample. Bind a condition beforehand.
        real: (B, …).
        fake: (B, …).
        generator: Where u comes from; by default PyTorch's global random numbers.

    Returns:
        The penalty, a scalar, whose gradient reaches the discriminator's weights.

    Raises:
        ValueError: If the shapes of real and fake differ.

    Chapter: pretraining/gan.
    """
    if real.shape != fake.shape:
        raise ValueError(f"real is {tuple(real.shape)} and fake {tuple(fake.shape)}; expected the same shape")
    share = torch.rand(len(real), *[1] * (real.ndim - 1), generator=generator, device=real.device, dtype=real.dtype)
    between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_()  # (B, …)
    (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
    return (to_float32(slope).flatten(1).norm(dim=1) - 1).square().mean()  # (B, …) → (B, K) → (B,)


def train_gan(
    generator: nn.Module,
    discriminator: nn.Module,
    real: Tensor,
    condition: Tensor | None = None,
    present: Tensor | None = None,
    *,
    noise_dim: int = 64,
    objective: GanObjective = "hinge",
    penalty: float = 0.0,
    steps: int = 1000,
    discriminator_steps: int = 1,
    batch_size: int = 64,
    generator_lr: float = 1e-3,
    discriminator_lr: float = 1e-3,
    betas: tuple[float, float] = (0.0, 0.9),
    decay: float = 0.99,
    every: int = 100,
    watch: Callable[[int, nn.Module], dict[str, float]] | None = None,
    bf16: bool | None = None,
    seed: int = 0,
    progress: bool = True,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train both networks in place, where their weights are, and return the generator's moving average.

    Generator and discriminator are called as `generator(z)` and `discriminator(x)`; with a condition, also with its
    rows for this batch, and with the rows of `present` where that is given.

    Args:
        generator: Maps noise (B, noise_dim) to samples like `real`.
        discriminator: Maps samples to scores, one a sample; high means "real".
        real: What to imitate, (N, …), on the networks' device.
        condition: What goes with each real sample, (N, …), e.g. its class or the encoding of its sound.
        present: bool (N,), True where the condition is there.
        noise_dim: Width of the noise.
        objective: Which game; see `discriminator_loss`.
        penalty: Weight of `gradient_penalty`; 10 is usual with "wasserstein".
        steps: How often the generator learns.
        discriminator_steps: How often the discriminator learns between two of these.
        batch_size: Samples a step.
        generator_lr: Adam's learning rate.
        discriminator_lr: Adam's learning rate.
        betas: Adam's. A first one of 0 keeps no momentum, which would overshoot in a game that turns in circles.
        decay: Of the exponential moving average of the generator's weights.
        every: Steps from one row of the history to the next.
        watch: Called for each row with the step and the averaged generator; what it returns goes into the row. It
            cannot disturb the training, whose random numbers are its own.
        bf16: Whether to compute in bfloat16 where that is safe; by default where the device is made for it.
        seed: Of the noise and the order of samples. Weights are the caller's: seed those before building them.
        progress: Whether to show a progress bar.

    Returns:
        The averaged generator, and the history: step, discriminator_loss and generator_loss (means since the row
        before), and what `watch` adds.

    Raises:
        ValueError: If there is nothing to imitate, a number is out of range, or a loss is no longer finite.

    Chapter: pretraining/gan.
    """
    _check_objective(objective)
    if min(len(real), steps, discriminator_steps, batch_size, every) < 1:
        raise ValueError(f"found {len(real)} real samples, steps={steps}, discriminator_steps={discriminator_steps}, "
                         f"batch_size={batch_size}, every={every}; expected at least 1 of each")  # fmt: skip
    on = real.device
    rng = torch.Generator(on).manual_seed(seed)
    autocast = torch.autocast(on.type, torch.bfloat16, enabled=precision(on) == "bf16" if bf16 is None else bf16)
    average = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(decay)).eval()
    weights = [[p for p in network.parameters() if p.requires_grad] for network in (generator, discriminator)]
    generator_optimizer = torch.optim.Adam(weights[0], lr=generator_lr, betas=betas)
    discriminator_optimizer = torch.optim.Adam(weights[1], lr=discriminator_lr, betas=betas)

    def draw() -> tuple[Tensor, Tensor, list[Tensor]]:
        rows = torch.randint(len(real), (batch_size,), generator=rng, device=on)
        noise = torch.randn(batch_size, noise_dim, generator=rng, device=on)
        return real[rows], noise, [part[rows] for part in (condition, present) if part is not None]

    history: list[dict[str, float]] = []
    sums = torch.zeros(2, device=on)  # of the losses since the last row
    bar = tqdm(range(1, steps + 1), unit="step", disable=not progress or quiet())
    for step in bar:
        for _ in range(discriminator_steps):
            x, z, asked = draw()
            with autocast:
                with torch.no_grad():  # here the generator does not learn
                    fake = generator(z, *asked).to(x.dtype)
                loss = discriminator_loss(discriminator(x, *asked), discriminator(fake, *asked), objective)
            sums[0] += loss.detach() / discriminator_steps
            if penalty:  # slopes of slopes: in full precision
                loss = loss + penalty * gradient_penalty(_bind(discriminator, asked), x, fake, rng)
            _learn(discriminator_optimizer, loss, weights[1])
        _, z, asked = draw()
        with autocast:
            loss = generator_loss(discriminator(generator(z, *asked), *asked), objective)
        sums[1] += loss.detach()
        _learn(generator_optimizer, loss, weights[0])
        average.update_parameters(generator)
        if step % every == 0 or step == steps:
            means = (sums / ((step - 1) % every + 1)).tolist()
            sums.zero_()
            if not all(map(math.isfinite, means)):
                raise ValueError(f"the losses are {means} up to step {step}; lower learning rates than {generator_lr} "
                                 f"and {discriminator_lr} may help")  # fmt: skip
            row = {"step": step, "discriminator_loss": means[0], "generator_loss": means[1]}
            history.append(row | (watch(step, average.module) if watch else {}))
            bar.set_postfix({name: f"{value:.3f}" for name, value in history[-1].items() if name != "step"})
    return average.module, history


def _learn(optimizer: torch.optim.Optimizer, loss: Tensor, weights: Sequence[Tensor]) -> None:
    """One step for one player; gradients of the other's weights are not computed."""
    optimizer.zero_grad()
    loss.backward(inputs=weights)
    optimizer.step()


def _bind(discriminator: nn.Module, asked: list[Tensor]) -> Callable[[Tensor], Tensor]:
    """Return the discriminator as a function of the sample alone."""
    return lambda x: discriminator(x, *asked)


def _check_objective(objective: str) -> None:
    if objective not in get_args(GanObjective):
        raise ValueError(f"objective is {objective!r}; expected one of {get_args(GanObjective)}")
