"""Tokenizers that prepare a text differently from GPT-2's: the library that made them does that part.

Some byte-level BPEs normalize a text, put a space before it, or cut it into other pieces, before they merge
bytes as GPT-2 does. The tokenizers library reads all that from tokenizer.json. Added tokens, and the way
back from ids to text, are those of encoder.py.

(https://huggingface.co/docs/tokenizers, "The tokenization pipeline")
"""

import contextlib
import json

from encoder import Encoder, bytes_to_unicode
from files import needs, shown

# what \s matches; Python's own also has four control characters
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
WHITE_SPACE += "\u2028\u2029\u202f\u205f\u3000"
AFFIXES = ("continuing_subword_prefix", "end_of_word_suffix")  # of a BPE whose tokens are no bytes
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


def steps_of(tokenizer, part):  # -> list of dict
    """The steps of a normalizer, pre_tokenizer or post_processor: those of a Sequence, or itself."""

    def flat(step):
        for kind in ("normalizers", "pretokenizers", "processors"):
            if step and step.get("type") == "Sequence" and kind in step:
                return [inner for each in step[kind] for inner in flat(each)]
        return [step] if step else []

    return flat(tokenizer.get(part))


def is_byte_level(tokenizer):  # content of tokenizer.json -> bool
    """Whether a text becomes bytes, once, which a BPE then merges, as in GPT-2."""
    model = tokenizer["model"]
    kinds = [step["type"] for part in ("normalizer", "pre_tokenizer") for step in steps_of(tokenizer, part)]
    is_bpe = model.get("type", "BPE") == "BPE" and "merges" in model and not any(map(model.get, AFFIXES))
    return is_bpe and kinds.count("ByteLevel") == 1 and "Metaspace" not in kinds


def prepared_by(tokenizer):  # content of tokenizer.json -> settings, as for `tokenizer_json`
    """How a byte-level BPE prepares a text."""
    bpe, first = tokenizer["model"], steps_of(tokenizer, "normalizer")
    vocabulary = {"vocab": bpe["vocab"], "merges": bpe["merges"]}
    model = {field: bpe.get(field) or usual for field, usual in GPT2["model"].items()}
    settings = {"normalizer": tokenizer.get("normalizer") if first else None}
    return settings | {"pre_tokenizer": tokenizer.get("pre_tokenizer"), "model": model | vocabulary}


def is_usual(steps):  # -> bool
    """Whether a text is cut as GPT-2 cuts it, apart from the space that may come first."""
    return [(step["type"], step.get("use_regex", True)) for step in steps] == [("ByteLevel", True)]


def is_gpt2s(settings, encoder):  # -> bool
    """Whether these settings do what `Encoder` does."""
    model, steps = settings["model"], steps_of(settings, "pre_tokenizer")
    has_all = encoder.keys() >= {*bytes_to_unicode().values()}
    is_plain = has_all or not (model["unk_token"] or model["byte_fallback"])
    is_plain = is_plain and not model["ignore_merges"] and settings["normalizer"] is None
    return is_plain and is_usual(steps) and steps[0]["add_prefix_space"] is False


@contextlib.contextmanager
def errors_of_library():
    """Turn what the tokenizers library raises, even a panic of its Rust code, into a UnicodeError."""
    try:
        yield
    except (ValueError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises nothing more special
        raise UnicodeError(f"the tokenizers library says: {shown(error)}") from None


def library_tokenizer(content):  # content of tokenizer.json -> tokenizers.Tokenizer
    """The library's tokenizer. Raises UnicodeError for what the library does not accept."""
    with needs("requirements-extras.txt"):
        import tokenizers
    try:
        with errors_of_library():
            return tokenizers.Tokenizer.from_str(json.dumps(content))
    except UnicodeError as error:
        here = f"this is version {tokenizers.__version__}, and a later one may read it"
        raise UnicodeError(f"{error}; {here}") from None


def strip_beside(parts, stripping, white_space=None):  # [text, token, text, ..., text]
    """Let added tokens take the white space beside them: it is cut off the texts. stripping: see below."""
    for i in range(1, len(parts), 2):
        if parts[i] in stripping["lstrip"]:
            parts[i - 1] = parts[i - 1].rstrip(white_space)
        if parts[i] in stripping["rstrip"]:
            parts[i + 1] = parts[i + 1].lstrip(white_space)


class PreparedEncoder(Encoder):
    """An Encoder whose texts the tokenizers library prepares and merges.

    settings: see `tokenizer_json`; stripping: {"lstrip": added tokens that take the white space before them,
    "rstrip": those that take it after them}; the rest as for Encoder. Raises ValueError for settings that
    the library does not accept.
    """

    is_exact = False

    def __init__(self, settings, stripping, *arguments, **options):
        super().__init__(*arguments, **options)
        self.settings, self.stripping = settings, stripping
        self.library = library_tokenizer(tokenizer_json(settings))

    def __reduce__(self):
        made, arguments = super().__reduce__()
        return made, (self.settings, self.stripping, *arguments)

    def check_length(self, text, n_most):
        """Do nothing: preparing a text may leave out most of it, so its length proves nothing."""

    def cut_out(self, text, pattern, wanted):  # -> text, token, text, ..., text
        """As in Encoder; then some tokens take the white space beside them."""
        parts = super().cut_out(text, pattern, wanted)
        strip_beside(parts, self.stripping, WHITE_SPACE)
        return parts

    def encode_plain(self, text):  # str -> list of ids
        """The ids of a text without added tokens."""
        with errors_of_library():
            self.check_bytes(text)
            return self.library.encode(text, add_special_tokens=False).ids

    def check_bytes(self, text):
        """Raise UnicodeError for a character that the vocabulary lacks: the library would leave it out."""
        model = self.settings["model"]
        if self.byte_decoder.keys() <= self.encoder.keys() or model["unk_token"] in model["vocab"]:
            return
        normalizer, pre_tokenizer = self.library.normalizer, self.library.pre_tokenizer
        normalized = normalizer.normalize_str(text) if normalizer else text
        pieces = pre_tokenizer.pre_tokenize_str(normalized) if pre_tokenizer else [(normalized, None)]
        missing = [c for piece, _ in pieces for c in piece if c not in self.encoder]
        if model["byte_fallback"]:  # a character of which there is no token may be written as <0xC3> ...
            missing = [
                c for c in missing if any(f"<0x{byte:02X}>" not in self.encoder for byte in c.encode())
            ]
        if missing:
            # the character may be one of the text, of its normal form, or the space that is put before it
            raise UnicodeError(self.no_token_for(missing[0], f"{text}{normalized} "))
