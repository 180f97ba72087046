"""Text for a model: normalized, cut into tokens, numbered.

A tokenizer is any function from a string to a list of strings: `list`, `characters`, `pinyin_syllables`, or the `words`
of a `Segmenter`.

Chapters: start/first_model, preprocessing/text.
"""

from mmlearn.preprocessing.text.normalize import normalize
from mmlearn.preprocessing.text.segmentation import Segmenter, remove_stop_words
from mmlearn.preprocessing.text.vocabulary import Vocabulary, characters, pinyin_syllables

__all__ = ["Segmenter", "Vocabulary", "characters", "normalize", "pinyin_syllables", "remove_stop_words"]
