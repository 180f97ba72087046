"""How published checkpoints call what this package calls otherwise, and what their config.json may leave out.

In a table, a name of ours points to the published one. `*` is a block's number. A pair is two published tensors that
are one of ours, the second below the first: keys and values. None is a tensor that does not exist, and is zero.

Chapters: pretraining/contrastive, pretraining/masked.
"""

from collections.abc import Mapping
from typing import Any

Names = Mapping[str, str | tuple[str | None, str]]


def _under(ours: str, theirs: str, names: Names) -> Names:
    """Return a table whose names stand below two prefixes."""
    table: dict[str, str | tuple[str | None, str]] = {}
    for name, found in names.items():
        if isinstance(found, str):
            table[ours + name] = theirs + found
        else:
            first, second = found
            table[ours + name] = (first and theirs + first, theirs + second)
    return table


# Blocks.
CLIP_BLOCK: Names = {
    "norm_attention": "layer_norm1",
    "attention.query": "self_attn.q_proj",
    "attention.key_value": ("self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": "self_attn.out_proj",
    "norm_mlp": "layer_norm2",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}
AST_BLOCK: Names = {
    "norm_attention": "layernorm_before",
    "attention.query": "attention.attention.query",
    "attention.key_value": ("attention.attention.key", "attention.attention.value"),
    "attention.out": "attention.output.dense",
    "norm_mlp": "layernorm_after",
    "mlp.0": "intermediate.dense",
    "mlp.2": "output.dense",
}
VIDEOMAE_BLOCK: Names = {
    **AST_BLOCK,
    "attention.query.bias": "attention.attention.q_bias",
    # Keys have no bias: it would add the same to all of a query's scores, which a softmax does not see.
    "attention.key_value.bias": (None, "attention.attention.v_bias"),
}
BERT_BLOCK: Names = {
    "norm_attention": "attention.output.LayerNorm",
    "attention.query": "attention.self.query",
    "attention.key_value": ("attention.self.key", "attention.self.value"),
    "attention.out": "attention.output.dense",
    "norm_mlp": "output.LayerNorm",
    "mlp.0": "intermediate.dense",
    "mlp.2": "output.dense",
}

# Models.
VIDEOMAE: Names = {
    "embed.project": "embeddings.patch_embeddings.projection",
    **_under("transformer.blocks.*.", "encoder.layer.*.", VIDEOMAE_BLOCK),
    "transformer.norm": "layernorm",
}
VIDEOMAE_PRETRAINING: Names = {
    **_under("encoder.", "videomae.", VIDEOMAE),
    "project": "encoder_to_decoder",
    "mask_token": "mask_token",
    **_under("decoder.blocks.*.", "decoder.decoder_layers.*.", VIDEOMAE_BLOCK),
    "decoder.norm": "decoder.norm",
    "head": "decoder.head",
}
VIDEOMAE_CLASSIFIER: Names = {**_under("encoder.", "videomae.", VIDEOMAE), "norm": "fc_norm", "head": "classifier"}
AST: Names = {
    "first": "embeddings.cls_token",
    "second": "embeddings.distillation_token",
    "places": "embeddings.position_embeddings",
    "project": "embeddings.patch_embeddings.projection",
    **_under("transformer.blocks.*.", "encoder.layer.*.", AST_BLOCK),
    "transformer.norm": "layernorm",
}
AST_CLASSIFIER: Names = {
    **_under("encoder.", "audio_spectrogram_transformer.", AST),
    "norm": "classifier.layernorm",
    "head": "classifier.dense",
}
CLIP_IMAGE: Names = {
    "first": "embeddings.class_embedding",
    "places": "embeddings.position_embedding.weight",
    "embed.project": "embeddings.patch_embedding",
    "norm": "pre_layrnorm",  # as published
    **_under("transformer.blocks.*.", "encoder.layers.*.", CLIP_BLOCK),
    "transformer.norm": "post_layernorm",
}
CLIP_TEXT: Names = {
    "embed.embed": "embeddings.token_embedding",
    "embed.places.learned": "embeddings.position_embedding.weight",
    **_under("transformer.blocks.*.", "encoder.layers.*.", CLIP_BLOCK),
    "transformer.norm": "final_layer_norm",
}
BERT_TEXT: Names = {
    "embed.embed": "embeddings.word_embeddings",
    "embed.places.learned": "embeddings.position_embeddings.weight",
    "token_types": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
    **_under("transformer.blocks.*.", "encoder.layer.*.", BERT_BLOCK),
}
CLIP: Names = {
    **_under("encoders.image.", "vision_model.", CLIP_IMAGE),
    **_under("encoders.text.", "text_model.", CLIP_TEXT),
    "project.image": "visual_projection",
    "project.text": "text_projection",
    "criterion.log_scale": "logit_scale",
}
CHINESE_CLIP: Names = {
    **{name: found for name, found in CLIP.items() if not name.startswith("encoders.text.")},
    **_under("encoders.text.", "text_model.", BERT_TEXT),
}

# Settings that a config.json may leave out.
VIT_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "patch_size": 16,
}
CLIP_VISION: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "quick_gelu",
    "attention_dropout": 0.0,
    "layer_norm_eps": 1e-5,
    "image_size": 224,
    "patch_size": 32,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "videomae": {
        **VIT_BASE,
        "image_size": 224,
        "num_frames": 16,
        "tubelet_size": 2,
        "qv_bias": True,
        "use_mean_pooling": True,
        "decoder_hidden_size": 384,
        "decoder_num_hidden_layers": 4,
        "decoder_num_attention_heads": 6,
        "decoder_intermediate_size": 1536,
        "norm_pix_loss": True,
    },
    "audio-spectrogram-transformer": {
        **VIT_BASE,
        "qkv_bias": True,
        "frequency_stride": 10,
        "time_stride": 10,
        "max_length": 1024,
        "num_mel_bins": 128,
    },
    "clip": {
        "projection_dim": 512,
        "vision_config": CLIP_VISION,
        "text_config": {
            "hidden_size": 512,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "intermediate_size": 2048,
            "hidden_act": "quick_gelu",
            "attention_dropout": 0.0,
            "layer_norm_eps": 1e-5,
            "vocab_size": 49408,
            "max_position_embeddings": 77,
            "eos_token_id": 49407,
        },
    },
    "chinese_clip": {
        "projection_dim": 512,
        "vision_config": CLIP_VISION,
        "text_config": {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "layer_norm_eps": 1e-12,
            "vocab_size": 30522,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
        },
    },
}
