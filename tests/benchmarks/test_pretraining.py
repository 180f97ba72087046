"""What a partial run of `benchmarks/pretraining.py` does to the rows that it did not make."""

from benchmarks import pretraining


def test_a_partial_run_stamps_only_its_own_rows(monkeypatch):
    saved = {}
    monkeypatch.setattr(pretraining, "load", lambda *a: None)
    monkeypatch.setattr(pretraining, "cost", lambda *a: {"seen": 1})
    monkeypatch.setattr(pretraining, "reader_and_its_accuracy", lambda: (None, 0.5))
    monkeypatch.setattr(pretraining, "stamp", lambda name: {"date": "2", "commit": "new", "code": "b"})
    monkeypatch.setattr(pretraining, "save", lambda name, results, peers: saved.update(results))
    scores = {kind: dict.fromkeys(pretraining.LABELS, 0.5) for kind in ("probe", "finetune")} | {"rates": {}}
    runs = [{"methods": {"denoising": scores}, "longer": {}, "writing": {"product": 0.5}} for _ in range(2)]
    theirs = {"date": "1", "commit": "old", "code": "a"}
    old = {
        "date": "9", "commit": "last", "code": "c",
        "methods": {"nothing": {"made": theirs}, "denoising": {"made": theirs}, "masked, Transformer": {}},
        "longer": {"made": theirs}, "writing": {"mixture": {"made": theirs}},
    }  # fmt: skip
    pretraining.report(runs, old)
    made = {name: row["made"]["commit"] for name, row in saved["methods"].items()}
    assert made == {
        "nothing": "old",
        "denoising": "new",
        "masked, Transformer": "last",
    }  # the last from before rows had it
    assert saved["longer"]["made"]["commit"] == "old"
    assert {name: row["made"]["commit"] for name, row in saved["writing"].items()} == {
        "mixture": "old",
        "product": "new",
    }
