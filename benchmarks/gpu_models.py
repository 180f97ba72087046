"""The models that `benchmarks.gpu` times, the course's and its peers': in equal shapes, with inputs and losses."""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import mmlearn
from mmlearn.encoders import ImageTransformer, TextTransformer
from mmlearn.pretraining.contrastive import ContrastiveLoss


class Contender(NamedTuple):
    """One model to time: how to build it, its input for a batch, and its loss."""

    name: str
    build: Callable[[], nn.Module]
    make: Callable[[int], tuple[Tensor, ...]]
    loss: Callable[[nn.Module, tuple[Tensor, ...]], Tensor]


class Sizes(NamedTuple):
    """What is run: as on the tables, or tiny."""

    square: int
    image: int
    vision: dict[str, Any]
    words: dict[str, int]
    vocabulary: int
    batch: int
    video_batches: list[int]
    loss_batches: list[int]
    longest: int
    blocks: list[int]
    sounds: int


FULL = Sizes(
    8192, 224, {"dim": 768, "depth": 12, "num_heads": 12}, {"dim": 512, "depth": 12, "num_heads": 8}, 49_408, 256,
    [64, 256], [8192, 32_768], 262_144, [512, 1024, 2048, 4096], 64,
)  # fmt: skip
SMOKE = Sizes(
    64, 32, {"dim": 32, "depth": 2, "num_heads": 2}, {"dim": 16, "depth": 1, "num_heads": 2}, 100, 4,
    [2], [64], 256, [16, 32], 2,
)  # fmt: skip


class DualEncoder(nn.Module):
    """Two towers in the shapes of CLIP ViT-B/16, and the loss between them."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        side = (sizes.image, sizes.image)
        self.image = ImageTransformer(side, (16, 16), sizes.vision)
        self.text = TextTransformer(sizes.vocabulary, 77, sizes.words, causal=True)
        self.project = nn.ModuleList(nn.Linear(tower.dim, 512, bias=False) for tower in (self.image, self.text))
        self.criterion = ContrastiveLoss()

    def forward(self, images: Tensor, ids: Tensor) -> Tensor:
        """Return the loss."""
        features = {"image": self.project[0](self.image(images)), "text": self.project[1](self.text(ids))}
        return self.criterion(features)


def inputs_of(sizes: Sizes, batch: int) -> tuple[Tensor, Tensor]:
    """Random pictures (B, 3, H, W) and ids (B, 77); special ids are left out."""
    device, words = mmlearn.device(), sizes.vocabulary
    images = torch.randn(batch, 3, sizes.image, sizes.image, device=device)
    return images, torch.randint(3, words - 400 if words > 800 else words, (batch, 77), device=device)


def compiler() -> str:
    """The compiler that is timed; on a CPU only whether it would take the model, forwards and backwards."""
    return "inductor" if mmlearn.device().type == "cuda" else "aot_eager"


def compare_precisions(model: nn.Module, inputs: tuple[Any, ...]) -> dict[str, float]:
    """Loss and gradients of the compiled model in bfloat16 must be those of the plain one in float32."""
    exact = model(*inputs)
    exact.backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    with torch.autocast(mmlearn.device().type, dtype=torch.bfloat16):
        rough = torch.compile(model, fullgraph=True, backend=compiler())(*inputs)
    rough.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
    squares = sum(float((found[name] - wanted[name]).square().sum()) for name in wanted)
    off = {
        "loss": abs(float(rough.detach() - exact.detach()) / float(exact.detach())),
        "gradients": (squares / sum(float(gradient.square().sum()) for gradient in wanted.values())) ** 0.5,
    }
    assert off["loss"] < 0.01 and off["gradients"] < 0.1, off
    return off


def dual_encoders(sizes: Sizes) -> list[Contender]:
    words = sizes.vocabulary

    def make(batch: int) -> tuple[Tensor, ...]:
        return inputs_of(sizes, batch)

    contenders = [Contender("mmlearn", lambda: DualEncoder(sizes), make, lambda m, x: m(*x))]
    if there("transformers"):
        from transformers import CLIPConfig, CLIPModel

        config = CLIPConfig(
            vision_config=shape(sizes.vision) | {"patch_size": 16, "image_size": sizes.image},
            text_config=shape(sizes.words) | {"max_position_embeddings": 77, "vocab_size": words},
        )
        loss = lambda m, x: m(pixel_values=x[0], input_ids=x[1], return_loss=True).loss  # noqa: E731
        contenders.append(Contender("transformers", lambda: CLIPModel(config), make, loss))
    if there("open_clip") and sizes is FULL:  # it has no tiny size
        import open_clip

        criterion = open_clip.ClipLoss()
        loss = lambda m, x: criterion(*m(*x)[:3])  # noqa: E731
        contenders.append(Contender("open_clip", lambda: open_clip.create_model("ViT-B-16"), make, loss))
    return contenders


def shape(size: dict[str, int]) -> dict[str, Any]:
    """A size in transformers' words."""
    return {
        "hidden_size": size["dim"],
        "intermediate_size": 4 * size["dim"],
        "num_hidden_layers": size["depth"],
        "num_attention_heads": size["num_heads"],
    }


def there(module: str) -> bool:
    """Whether a peer can be imported; says so if not."""
    found = importlib.util.find_spec(module) is not None
    if not found:
        print(f"{module} is not installed here: left out", flush=True)
    return found


def videomae(sizes: Sizes) -> Contender:
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    config = VideoMAEConfig()
    if sizes is SMOKE:
        small: dict[str, Any] = {
            "image_size": 32,
            "num_frames": 4,
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
        }
        config = VideoMAEConfig(
            **shape(sizes.vision), **small, decoder_num_attention_heads=2, decoder_intermediate_size=32
        )
    side = int(config.image_size)  # type: ignore[arg-type]
    tokens = (side // 16) ** 2 * config.num_frames // 2
    device = mmlearn.device()

    def make(batch: int) -> tuple[Tensor, ...]:
        video = torch.randn(batch, config.num_frames, 3, side, side, device=device)
        mask = torch.zeros(batch, tokens, dtype=torch.bool, device=device)
        mask[:, torch.randperm(tokens, device=device)[: round(0.9 * tokens)]] = True
        return video, mask

    loss = lambda m, x: m(pixel_values=x[0], bool_masked_pos=x[1]).loss  # noqa: E731
    return Contender("transformers", lambda: VideoMAEForPreTraining(config), make, loss)
