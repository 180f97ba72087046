"""Segmentation of 10,000 captions: Segmenter against bare jieba, with one process and with two.

Run `python -m benchmarks.segmentation` (2 minutes on 2 idle cores); it writes benchmarks/results/segmentation.json.
The captions are those of HanziClips, all different. Natural texts are longer, so a second corpus joins ten captions to
a paragraph each; and a third has every caption ten times, so that starting a process weighs less. Every way gives the
same words, which is checked first. Two processes are timed with everything:
forking the second one, sending it texts, and getting words back; "without start-up" has one that waits.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import jieba
import numpy as np

from benchmarks.report import begin, measure, save
from mmlearn.datasets.hanzi import grammar
from mmlearn.preprocessing.text import Segmenter, segmentation

CAPTIONS, PER_PARAGRAPH = 10_000, 10
REPEATS = {"captions": 15, "paragraphs": 15, "ten times the captions": 5}


def draw(count: int) -> tuple[list[str], int]:
    """Draw captions until there are so many different ones; also return how many draws that took."""
    rng, found, draws = np.random.default_rng(0), dict.fromkeys([""]), 0
    while len(found) <= count:
        sentence = grammar.draw_sentence(rng, int(rng.integers(2, 6)), str(rng.choice(grammar.NUMBERS)))
        found[grammar.caption(rng, sentence)] = None
        draws += 1
    return list(found)[1:], draws


def compare(texts: list[str], segmenter: Segmenter, bare: jieba.Tokenizer, repeats: int) -> dict:
    """Time all ways on some texts, in turn; ratios are of medians."""
    with ProcessPoolExecutor(
        1, get_context("fork"), initializer=segmentation._begin, initargs=(segmenter, texts)
    ) as pool:

        def waiting() -> list[list[str]]:
            job = pool.submit(segmentation._cut_share, 1, 2)
            found: list[list[str]] = [[]] * len(texts)
            found[0::2] = segmenter.words_of_all(texts[0::2])
            found[1::2] = [segmentation._split(words) for words in job.result()]
            return found

        calls: dict[str, Callable[[], list[list[str]]]] = {
            "bare jieba": lambda: [bare.lcut(text) for text in texts],
            "Segmenter": lambda: segmenter.words_of_all(texts),
            "Segmenter, 2 processes": lambda: segmenter.words_of_all(texts, processes=2),
            "… without start-up": waiting,
        }
        expected = calls["bare jieba"]()
        for name, call in calls.items():
            assert call() == expected, name
        seconds = measure(calls, repeats)
    ratios = {name: seconds["bare jieba"]["median"] / row["median"] for name, row in seconds.items()}
    ratios_of_fastest = {name: seconds["bare jieba"]["fastest"] / row["fastest"] for name, row in seconds.items()}
    two_to_one = seconds["Segmenter"]["median"] / seconds["Segmenter, 2 processes"]["median"]
    for name, ratio in ratios.items():
        print(
            f"{name:24} {seconds[name]['median']:.3f} s  {ratio:.2f} x (of the fastest {ratios_of_fastest[name]:.2f} x)"
        )
    print(f"2 processes to 1: {two_to_one:.2f} x")
    return {
        "texts": len(texts), "characters": sum(map(len, texts)), "seconds": seconds, "ratios": ratios,
        "ratios_of_fastest": ratios_of_fastest, "two_processes_to_one": two_to_one,
    }  # fmt: skip


def main() -> None:
    begin("segmentation")
    captions, draws = draw(CAPTIONS)
    paragraphs = ["，".join(captions[i : i + PER_PARAGRAPH]) + "。" for i in range(0, CAPTIONS, PER_PARAGRAPH)]
    print(f"{CAPTIONS} different captions in {draws} draws")
    segmenter, bare = Segmenter(), jieba.Tokenizer()
    bare.FREQ, bare.total = bare.gen_pfdict(bare.get_dict_file())  # no message, and nothing in the temporary folder
    bare.initialized = True
    corpora = {"captions": captions, "paragraphs": paragraphs, "ten times the captions": captions * 10}
    results = {name: compare(texts, segmenter, bare, REPEATS[name]) for name, texts in corpora.items()}
    save("segmentation", {"draws": draws, "repeats": REPEATS, "corpora": results}, peers=["jieba"])


if __name__ == "__main__":
    main()
