"""A vocabulary of characters, as of nanoGPT's shakespeare_char: its meta.pkl becomes a byte-level tokenizer.

A character of one byte is a token of its own, as in every GPT-2. A longer one is made of its bytes by merges:
"é" is "Ã©", from the bytes "Ã" and "©". These two have no ids: only whole characters are tokens.

(data/shakespeare_char/prepare.py and sample.py of karpathy/nanoGPT)
"""

import re
from pathlib import Path

from encoder import Encoder, bytes_to_unicode
from extras.huggingface.pickle_files import read_plain
from files import MIXED_UP, ModelError, shown

META = "meta.pkl"


def find_meta(file, content):  # -> Path, or None
    """The meta.pkl that belongs to a checkpoint: beside it, or where nanoGPT keeps that of its data."""
    config = content.get("config")
    dataset = config.get("dataset") if isinstance(config, dict) else None
    places = [file.parent]
    if isinstance(dataset, str) and re.fullmatch(r"[\w-]+", dataset):
        places += [Path("data") / dataset, file.parent.parent / "data" / dataset]
    return next((place / META for place in places if (place / META).is_file()), None)


def read_meta(path):  # -> {character: id}
    """The characters of a nanoGPT and their ids. Raises ModelError for any other vocabulary."""
    meta = read_plain(path)
    ids = meta.get("stoi")
    if type(ids) is not dict or not ids:
        raise ModelError(path, "it has no stoi, a dict from characters to their ids")
    for character, token_id in ids.items():
        if type(character) is not str or len(character) != 1 or "\ud800" <= character <= "\udfff":
            found = f"{described(character)} in its stoi is not a character"
            raise ModelError(path, found, "only a vocabulary of single characters is supported")
        if type(token_id) is not int or not 0 <= token_id < len(ids):
            found = f"the id of {described(character)} is {described(token_id)}"
            raise ModelError(path, f"{found}, {expected(ids)}")
    in_order = {token_id: character for character, token_id in ids.items()}
    if len(in_order) < len(ids):
        raise ModelError(path, f"two characters in its stoi have the same id, {expected(ids)}")
    check_rest(path, meta, in_order)
    return ids


def described(value):  # -> str
    """A value from anywhere, as part of a message; a number may be too long for that."""
    is_writable = type(value) is str or (type(value) is int and abs(value) < 10**20)
    return shown(repr(value), 50) if is_writable else f"something of type {type(value).__name__}"


def expected(ids):  # -> str
    """What ids the characters must have."""
    return f"expected each number from 0 to {len(ids) - 1} once"


def check_rest(path, meta, in_order):
    """Raise ModelError where the rest of a meta.pkl contradicts its stoi. in_order: {id: character}."""
    itos = meta.get("itos", in_order)
    itos = dict(enumerate(itos)) if type(itos) is list else itos
    if itos != in_order:
        raise ModelError(path, "its itos is not the inverse of its stoi", MIXED_UP)
    if meta.get("vocab_size", len(in_order)) != len(in_order):
        raise ModelError(path, f"its vocab_size is not {len(in_order)}, as many as its stoi has", MIXED_UP)


def to_encoder(ids):  # {character: id} -> Encoder
    """The tokenizer whose tokens are these characters; none of them ends a text."""
    of_byte, tokens, merges = bytes_to_unicode(), {}, {}
    for character in sorted(ids, key=ids.get):
        token = "".join(of_byte[byte] for byte in character.encode())
        tokens[token] = ids[character]
        merges |= {(token[:n], token[n]): None for n in range(1, len(token))}  # in order, each once
    return Encoder(tokens, merges, stop_tokens=())
