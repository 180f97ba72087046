"""mmlearn.large.pretrained.tensors: weights in files: several, older, damaged, of other shapes."""

import os
import pickle

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    ASTModel,
)

from mmlearn.large.pretrained import load_pretrained, save_published
from tests.large.pretrained.conftest import (
    assert_equal_outputs,
    change,
    make,
)


def test_several_files(tmp_path):
    model = make("clip")
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_equal_outputs(model, load_pretrained(tmp_path))
    lost = sorted(tmp_path.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(FileNotFoundError, match=rf"index\.json names \['{lost.name}'\]"):
        load_pretrained(tmp_path)
    for text in ("", "{}", '{"weight_map": 1}'):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(ValueError, match=r"index\.json is no index"):
            load_pretrained(tmp_path)


def test_older_file(tmp_path):
    model = make("chinese clip")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors | {"text_model.embeddings.position_ids": torch.arange(9)[None]}, tmp_path / "pytorch_model.bin")
    assert_equal_outputs(model, load_pretrained(tmp_path))

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "broken into"),)

    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    with pytest.raises(ValueError, match=r"pytorch_model\.bin cannot be read, or holds more than tensors"):
        load_pretrained(tmp_path)
    assert not (tmp_path / "broken into").exists()


def test_half_precision_is_read_as_single(tmp_path):
    make("ast").half().save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path)
    assert {x.dtype for x in ours.parameters()} == {torch.float32}
    assert_equal_outputs(ASTModel.from_pretrained(tmp_path, dtype=torch.float32).eval(), ours)
    save_published(ours, tmp_path / "again")
    assert_equal_outputs(ASTModel.from_pretrained(tmp_path / "again").eval(), ours)  # whose config asks for no halves


def test_missing_unexpected_and_wrong_tensors_are_named(folder):
    change(folder, **{"layernorm.bias": None, "more": torch.zeros(2), "embeddings.cls_token": torch.zeros(1, 28)})
    with pytest.raises(ValueError) as caught:
        load_pretrained(folder)
    message = str(caught.value)
    assert message.startswith(f"the tensors in {folder / 'model.safetensors'} do not fit AST: ")
    assert "layernorm.bias is missing" in message
    assert "more is not expected" in message
    assert "embeddings.cls_token is (1, 28), expected (1, 1, 28)" in message


def test_many_problems_are_counted(folder):
    change(folder, **{name: None for name in load_file(folder / "model.safetensors") if "layer.0" in name})
    with pytest.raises(ValueError, match=r"; and 6 more$"):
        load_pretrained(folder)


def test_kernels_of_another_patch_do_not_fit(folder):
    weight = load_file(folder / "model.safetensors")["embeddings.patch_embeddings.projection.weight"]
    change(folder, **{"embeddings.patch_embeddings.projection.weight": weight.view(28, 1, 4, 16)})
    with pytest.raises(ValueError, match=r"projection\.weight is \(28, 1, 4, 16\), expected \(28, 1, 8, 8\)"):
        load_pretrained(folder)


def test_kernels_that_are_linear_here_keep_their_shape(tmp_path):
    make("videomae").save_pretrained(tmp_path)
    weight = load_file(tmp_path / "model.safetensors")["embeddings.patch_embeddings.projection.weight"]
    change(tmp_path, **{"embeddings.patch_embeddings.projection.weight": weight.view(32, 3, 8, 4, 4)})
    with pytest.raises(ValueError, match=r"projection\.weight is \(32, 3, 8, 4, 4\), expected \(32, 3, 2, 8, 8\)"):
        load_pretrained(tmp_path)


def test_damaged_file(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file, or is cut off"):
        load_pretrained(folder)


@pytest.mark.parametrize("version", ["2.9.1", "2.9.0+cpu", "2.8.0"])
def test_the_older_file_is_refused_where_reading_it_is_not_safe(tmp_path, monkeypatch, version):
    """CVE-2026-24747: before torch 2.10, memory could be corrupted although only tensors are read."""
    model = make("clip")
    model.save_pretrained(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert_equal_outputs(model, load_pretrained(tmp_path))
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: reading such a file .* is not safe \(CVE-2026-24747\)"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": {"b": torch.zeros(1)}}, torch.zeros(1), {"a": 1}])
def test_an_older_file_of_other_things(folder, content):
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin cannot be read, or holds more than tensors"):
        load_pretrained(folder)
