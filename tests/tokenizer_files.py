"""A small tokenizer in Hugging Face's layout, for several test files."""

import json

import pytest

from encoder import bytes_to_unicode
from extras.huggingface.vocabulary import load_encoder
from files import ModelError

PAD, END = "<pad>", "<|endoftext|>"
MERGES = ["h e", "Ġ t", "Ġt he", "i n", "l l", "he ll", "hell o", "Ġ a", "in g"]
TOKENS = [PAD, END, "[MASK]", *list(bytes_to_unicode().values())[::-1]]
TOKENS += [merge.replace(" ", "") for merge in MERGES]
TOKENS = {token: token_id for token_id, token in enumerate(TOKENS)}
N_VOCAB = len(TOKENS)
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
TEXT, STOP = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": END, "type_id": 0}}
TEMPLATE = {"type": "TemplateProcessing", "single": [TEXT], "pair": [], "special_tokens": {}}
LAYOUTS = pytest.mark.parametrize("layout", ["tokenizer.json", "vocab.json"])


def files_of(layout, tokens=TOKENS, merges=MERGES, added=(PAD, END)):  # -> {filename: content}
    """A tokenizer as transformers saves it, or as it did before there was tokenizer.json."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": tokens[token], "content": token} | flags for token in added]
    if layout == "vocab.json":
        settings = {"added_tokens_decoder": {token["id"]: token for token in added}}
        merges = "\n".join(["#version: 0.2", *merges, ""])
        return {"vocab.json": dict(tokens), "merges.txt": merges, "tokenizer_config.json": settings}
    model = {"type": "BPE", "dropout": None, "vocab": dict(tokens), "merges": merges}
    tokenizer = {"version": "1.0", "added_tokens": added, "normalizer": None, "model": model}
    settings = {name: dict(BYTE_LEVEL) for name in ("pre_tokenizer", "post_processor", "decoder")}
    return {"tokenizer.json": tokenizer | settings}


def with_setting(field, value):  # -> {filename: content}
    """A tokenizer.json of which one field, such as "model/dropout", has another value; ... removes it."""
    files = files_of("tokenizer.json")
    *path, last = field.split("/")
    parent = files["tokenizer.json"]
    for name in path:
        parent = parent[int(name) if isinstance(parent, list) else name]
    parent[last] = value
    if value is ...:
        del parent[last]
    return files


def write(folder, files):  # -> folder
    for name, content in files.items():
        if isinstance(content, dict):
            content = json.dumps(content)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read(folder, files, n_vocab=N_VOCAB, stop_ids=()):
    write(folder, files)
    return load_encoder(str(folder), n_vocab, stop_ids)


def assert_refused(folder, files, words, n_vocab=N_VOCAB):
    """Refused in one line that names the model and says the words."""
    with pytest.raises(ModelError) as caught:
        read(folder, files, n_vocab)
    message = str(caught.value)
    assert str(folder) in message and words in message and "\n" not in message, message


def assert_same_texts(ours, theirs, texts, n_vocab, rng):
    """An OtherEncoder gives transformers' ids and text; a text with an id without a row is left out."""
    for text in texts:
        wanted = theirs.encode(text, add_special_tokens=False, split_special_tokens=False)
        plain = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        if max(wanted + plain, default=0) < n_vocab:
            assert (ours.encode(text, "all"), ours.encode(text)) == (wanted, plain), text
    rows = sorted(i for i in theirs.get_vocab().values() if i < n_vocab)
    for _ in range(5):
        ids = rng.choice(rows, size=25).tolist()
        wanted = theirs.decode(ids, skip_special_tokens=True)
        assert ours.decode(ids) == wanted == "".join(ours.decode_stream(ids))


PLAIN_CLASS = {"tokenizer_class": "PreTrainedTokenizerFast"}  # does what tokenizer.json says
