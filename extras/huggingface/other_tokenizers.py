"""Tokenizers that prepare a text in another way than GPT-2's: the library that made them does that part.

Some byte-level BPEs normalize a text, put a space before it, or cut it into other pieces, before they merge
bytes as GPT-2 does. The tokenizers library reads all that from tokenizer.json. Added tokens, and the way
back from ids to text, are those of encoder.py.

(https://huggingface.co/docs/tokenizers, "The tokenization pipeline")
"""

import json

import regex

from encoder import Encoder
from files import needs, shown

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
GPT2 = {  # how GPT-2's tokenizer prepares a text, and then merges it, in the terms of tokenizer.json
    "normalizer": None,
    "pre_tokenizer": BYTE_LEVEL,
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    },
}


def as_gpt2s(tokens, merges):  # -> settings
    """The settings of a tokenizer that prepares a text as GPT-2's does."""
    vocabulary = {"vocab": tokens, "merges": [" ".join(merge) for merge in merges]}
    return GPT2 | {"model": GPT2["model"] | vocabulary}


def tokenizer_json(settings, added_tokens=()):  # -> dict
    """The content of tokenizer.json. settings: as in GPT2, and the model's vocab and merges."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [*added_tokens],
        "normalizer": settings["normalizer"],
        "pre_tokenizer": settings["pre_tokenizer"],
        "post_processor": None,
        "decoder": BYTE_LEVEL,
        "model": settings["model"],
    }


class PreparedEncoder(Encoder):
    """An Encoder whose texts the tokenizers library prepares and merges.

    settings: see `tokenizer_json`; stripping: {"lstrip": added tokens that take the white space before them,
    "rstrip": those that take it after them}; the rest as for Encoder. Raises ValueError for settings that
    the library does not accept.
    """

    def __init__(self, settings, stripping, *encoder_arguments):
        super().__init__(*encoder_arguments)
        self.settings, self.stripping = settings, stripping
        with needs("requirements-extras.txt"):
            import tokenizers
        try:
            self.library = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_json(settings)))
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"the tokenizers library says: {shown(error)}") from None

    def __reduce__(self):
        made, arguments = super().__reduce__()
        return made, (self.settings, self.stripping, *arguments)

    def check_length(self, text, n_most):
        """No text is too long before it is prepared: that may leave out most of it."""

    def cut_out(self, text, pattern, wanted):  # -> text, token, text, ..., text
        """As in Encoder; then some tokens take the white space beside them."""
        parts = super().cut_out(text, pattern, wanted)
        for i in range(1, len(parts), 2):
            if parts[i] in self.stripping["lstrip"]:
                parts[i - 1] = regex.sub(r"\s+\Z", "", parts[i - 1])
            if parts[i] in self.stripping["rstrip"]:
                parts[i + 1] = regex.sub(r"\A\s+", "", parts[i + 1])
        return parts

    def encode_plain(self, text):  # str -> list of ids
        """The ids of a text without added tokens."""
        self.check_bytes(text)
        return self.library.encode(text, add_special_tokens=False).ids

    def check_bytes(self, text):
        """Raise UnicodeError for a character that the vocabulary lacks: the library would leave it out."""
        if self.byte_decoder.keys() <= self.encoder.keys() or self.settings["model"]["unk_token"]:
            return
        normalizer, pre_tokenizer = self.library.normalizer, self.library.pre_tokenizer
        normalized = normalizer.normalize_str(text) if normalizer else text
        pieces = pre_tokenizer.pre_tokenize_str(normalized) if pre_tokenizer else [(normalized, None)]
        missing = [c for piece, _ in pieces for c in piece if c not in self.encoder]
        if missing:
            raise UnicodeError(self.no_token_for(missing[0], f"{text}{normalized} "))
