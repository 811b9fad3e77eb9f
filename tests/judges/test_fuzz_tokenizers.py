"""Tokenizers made at random, in every layout: each gets the ids and texts of transformers, or is refused."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from tokenizer_files import assert_same_texts

from encoder import Encoder, bytes_to_unicode
from extras.huggingface.added_tokens import NAMED
from extras.huggingface.other_tokenizers import OtherEncoder
from extras.huggingface.vocabulary import load_encoder
from files import ModelError

BYTES = list(bytes_to_unicode().values())
MERGES = ["h e", "Ġ t", "Ġt he", "t he", "a b", "b c", "a bc", "ab c", "' s", "Ġ Ġ", "0 0", "Ã ©", "< a"]
IN_VOCABULARY = ["<|endoftext|>", "<pad>", "[MASK]", "<s>", "<é>"]
CONTENTS = ["ab", "bc", "b", "abc", "cab", "he", "the", " the", "Ġthe", "Ġq", "naïve", "é", "Ã©", "日本"]
CONTENTS += ["本語", "two words", "words", "<a>", "<a><b>", "b><a", "'s", "\n", "  ", " ", "00", "0", "🦊"]
CONTENTS += ["e\u0301"]
CONTENTS += IN_VOCABULARY + ["<|endoftext|><pad>", "<", "|>", "<|im_start|>", "<|unused260|>", "ſ", "\u00a0"]
AWKWARD = [*"abcé1² \t\n'’日한🦊👩\u200d\ufe0f\x00\x1c\x7f\u0085\u00a0\u2028\u3000.,<|>[]ǅ\u0301"]
AWKWARD += ["'S", "'LL", "'ve", " the", "the", "abc", "  ", "\r\n", "\ufeff", "\ufffd", "½", "١٢"]
CLASSES = [None, "GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"]
CLASSES += ["CodeGenTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizer"]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
ONLY_A = [{"Sequence": {"id": "A", "type_id": 0}}]
TEMPLATE = {"type": "TemplateProcessing", "single": ONLY_A, "pair": [], "special_tokens": {}}
TEMPLATE["pair"] = [*ONLY_A, {"Sequence": {"id": "B", "type_id": 1}}]
TWICE = TEMPLATE | {"single": ONLY_A * 2}
A_SPECIAL = {"SpecialToken": {"id": "<s>", "type_id": 0}}
WITH_START = TEMPLATE | {"single": [A_SPECIAL, *ONLY_A]}
WITH_START["special_tokens"] = {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}
PADDING = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}
PADDING |= {"pad_type_id": 0, "pad_token": "<pad>"}
TRUNCATION = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
ODD = {  # settings of tokenizer.json, most of them harmless or refused
    "model/dropout": [0.5, 0.0],
    "model/ignore_merges": [True],
    "model/unk_token": ["<|endoftext|>"],
    "model/fuse_unk": [True],
    "model/byte_fallback": [True],
    "model/end_of_word_suffix": ["</w>"],
    "normalizer": [{"type": "NFC"}, {"type": "Lowercase"}],
    "pre_tokenizer": [None, {"type": "Sequence", "pretokenizers": [BYTE_LEVEL]}],
    "pre_tokenizer/add_prefix_space": [True],
    "pre_tokenizer/trim_offsets": [False],
    "pre_tokenizer/use_regex": [False],
    "decoder": [None, {"type": "Sequence", "decoders": [BYTE_LEVEL]}],
    "decoder/add_prefix_space": [True],
    "post_processor": [BYTE_LEVEL | {"trim_offsets": False}, TEMPLATE, TWICE, WITH_START],
    "padding": [PADDING, PADDING | {"pad_token": "[PAD]"}],
    "truncation": [TRUNCATION],
}
ODD = [(field, value) for field, values in ODD.items() for value in values]
SETTINGS = ["add_prefix_space", "add_bos_token", "add_eos_token", "split_special_tokens"]
SETTINGS += ["clean_up_tokenization_spaces"]


# ---- a folder made at random -------------------------------------------------------------------------------


def chance(rng, probability):
    return rng.random() < probability


def some(rng, values, n_most):
    return [values[i] for i in rng.permutation(len(values))[: rng.integers(n_most + 1)]]


def random_vocabulary(rng):  # -> {token: id}, merges
    """The bytes, what some merges make, and some tokens that no merge makes, before or after the others."""
    tokens, merges = list(BYTES), []
    for merge in some(rng, MERGES, 14) + some(rng, MERGES, 14):
        a, b = merge.split(" ")
        if a in tokens and b in tokens and merge not in merges:
            merges.append(merge)
            tokens.append(a + b)
    front, back = some(rng, IN_VOCABULARY[1:], 2), some(rng, IN_VOCABULARY[:1], 1)
    tokens = [*dict.fromkeys([*front, *tokens, *back])]
    if chance(rng, 0.2):
        tokens = [tokens[i] for i in rng.permutation(len(tokens))]
    gap = chance(rng, 0.02)
    return {token: i + gap * (i > 200) for i, token in enumerate(tokens)}, merges


def random_flags(rng):
    flags = {"lstrip": chance(rng, 0.05), "rstrip": chance(rng, 0.05), "single_word": chance(rng, 0.003)}
    return flags | {"normalized": chance(rng, 0.5), "special": chance(rng, 0.5)}


def random_value(rng, ids, typed):
    """What names a special token: its text, or a dict with flags."""
    content = rng.choice([*ids, *CONTENTS[:20], *CONTENTS[-10:]]) if chance(rng, 0.3) else rng.choice([*ids])
    content = str(content)
    if chance(rng, 0.7):
        return content
    flags = random_flags(rng)
    for flag in ["normalized", "special"] if typed else ["normalized"]:
        if chance(rng, 0.1):
            del flags[flag]
    if not typed:
        del flags["special"]
    return {"content": content} | flags | ({"__type": "AddedToken"} if typed else {})


def random_names(rng, ids, typed):  # -> fields of tokenizer_config.json or special_tokens_map.json
    known = [token for token in ids if len(token) > 1 and not token.startswith("Ġ")] or ["ab"]
    fields = {field: random_value(rng, known, typed) for field in some(rng, NAMED, 3)}
    if chance(rng, 0.1):
        fields[str(rng.choice(NAMED))] = None
    if chance(rng, 0.25):
        values = [random_value(rng, known, True) for _ in range(rng.integers(3))]
        field = rng.choice(["additional_special_tokens", "extra_special_tokens"])
        fields[str(field)] = values
    elif chance(rng, 0.06):
        fields["extra_special_tokens"] = {"image_token": str(rng.choice(known))}
    if chance(rng, 0.04):
        fields["audio_token"] = str(rng.choice([*known, "<audio>"]))
    return fields


def with_ids(rng, contents, tokens, ids):  # -> tokens, with those that have none given the next ids
    listed = []
    for content in contents:
        ids.setdefault(content, len(tokens) + len(ids.keys() - tokens.keys()))
        listed.append({"id": ids[content], "content": content} | random_flags(rng))
    return sorted(listed, key=lambda token: token["id"])


def random_folder(rng):  # -> {filename: content}, n_vocab
    tokens, merges = random_vocabulary(rng)
    ids, files, settings = dict(tokens), {"config.json": {"model_type": "gpt2"}}, {}
    contents = [*CONTENTS, *some(rng, list(tokens), 3)]
    listed = []
    if chance(rng, 0.6):
        listed = with_ids(rng, some(rng, contents, 6), tokens, ids)
        if chance(rng, 0.02):
            listed.reverse()
        files["tokenizer.json"] = random_tokenizer(rng, tokens, merges, listed)
    else:
        files |= {"vocab.json": tokens, "merges.txt": "\n".join(["#version: 0.2", *merges, ""])}
    if chance(rng, 0.35):
        decoder = random_decoder(rng, listed, contents, tokens, ids)
        settings["added_tokens_decoder"] = decoder
    if chance(rng, 0.3):
        more = with_ids(rng, some(rng, contents, 4), tokens, ids)
        files["added_tokens.json"] = {token["content"]: token["id"] for token in more}
    if chance(rng, 0.4):
        settings |= random_names(rng, ids, typed=True)
    if chance(rng, 0.3):
        files["special_tokens_map.json"] = random_names(rng, ids, typed=False)
    name = rng.choice(CLASSES if listed or chance(rng, 0.1) else CLASSES[:3])
    if name is not None:
        (settings if chance(rng, 0.8) else files["config.json"])["tokenizer_class"] = name
    for field in SETTINGS:
        if chance(rng, 0.02):
            settings[field] = chance(rng, 0.5)
    if settings or chance(rng, 0.5):
        files["tokenizer_config.json"] = settings
    new = len(ids) - len(tokens)
    return files, len(tokens) + int(rng.choice([new, new, new + 1, new + 3, max(new - 1, 0)]))


def random_tokenizer(rng, tokens, merges, listed):  # -> tokenizer.json
    model = {"type": "BPE", "dropout": None, "vocab": tokens, "merges": merges}
    if chance(rng, 0.5):
        model["merges"] = [merge.split(" ") for merge in merges]
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": listed}
    tokenizer |= {"normalizer": None, "post_processor": None, "model": model}
    tokenizer |= {"pre_tokenizer": dict(BYTE_LEVEL), "decoder": dict(BYTE_LEVEL)}
    if chance(rng, 0.35):
        field, value = ODD[rng.integers(len(ODD))]
        *path, last = field.split("/")
        (tokenizer[path[0]] if path else tokenizer)[last] = value
    return tokenizer


def random_decoder(rng, listed, contents, tokens, ids):  # -> added_tokens_decoder
    """Mostly what tokenizer.json lists, and some more tokens; now and then with other flags, or fewer."""
    decoder = [dict(token) for token in listed if not chance(rng, 0.03)]
    known = {token["content"] for token in listed}
    more = with_ids(rng, [content for content in some(rng, contents, 3) if content not in known], tokens, ids)
    for token in decoder:
        if chance(rng, 0.1):
            token |= random_flags(rng)
    for token in decoder + more:
        if chance(rng, 0.1):
            del token["normalized"]
    return {str(token.pop("id")): token for token in decoder + more}


def random_texts(rng, added):
    pieces = [*added, *added, *AWKWARD, *CONTENTS]
    return ["".join(some(rng, pieces, 24)) for _ in range(8)]


# ---- the claim ---------------------------------------------------------------------------------------------


def odd_tokens(ours):
    """Tokens of the characters that stand for bytes, whose bytes are not UTF-8, made by no merge: "naïve".

    The library reads them as those bytes, na\ufffdve. A person expects the word, and so it is here.
    """
    spelled = {t: bytes(ours.byte_decoder.get(c, 0) for c in t) for t in ours.literal_tokens}
    return {token for token, text in spelled.items() if text != text.decode("utf-8", "replace").encode()}


def assert_same(ours, theirs, n_vocab, rng, counts):
    """The same tokens, the same ids for a text, and the same text for ids.

    Two questions are asked about a text: what are its ids if all added tokens are seen in it, as by default,
    and what are they if the special ones are plain text, as split_special_tokens=True has it. A text
    is passed over if it has a token without a row in the embedding: no model can read that.
    """
    added = {str(token): i for i, token in theirs.added_tokens_decoder.items() if i < n_vocab}
    if isinstance(ours, OtherEncoder):
        assert_same_texts(ours, theirs, random_texts(rng, [*added]), n_vocab, rng)
        counts["tokenizers of other kinds"] += 1
        return
    assert ours.added_tokens == added.keys()
    tokens = {token: i for token, i in theirs.get_vocab().items() if i < n_vocab}
    unused = ours.encoder.keys() - tokens.keys()
    assert ours.encoder == tokens | {token: ours.encoder[token] for token in unused}
    assert len(ours.encoder) == n_vocab and all(re.fullmatch(r"<+\|unused\d+\|>+", token) for token in unused)
    one_group = Encoder(ours.encoder, list(ours.bpe_ranks), added_groups=[ours.added_tokens])
    for text in random_texts(rng, [*added]):
        wanted = theirs.encode(text, add_special_tokens=False, split_special_tokens=False)
        plain = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        if max(wanted + plain, default=0) < n_vocab:
            ids = ours.encode(text, "all")
            assert ids == wanted, text
            assert ours.encode(text) == plain, text
            counts["texts cut by added tokens"] += bool({*ids} & {*added.values()})
            counts["texts in which the order of the groups matters"] += ids != one_group.encode(text, "all")
    decoders = pytest.importorskip("tokenizers.decoders")
    if theirs.backend_tokenizer.decoder is None:  # theirs would write the bytes' characters, between spaces
        theirs.backend_tokenizer.decoder = decoders.ByteLevel()
    odd = odd_tokens(ours)
    special = {ours.encoder[token] for token in ours.special_tokens}
    usual = [i for token, i in tokens.items() if token not in odd]
    for _ in range(5):
        ids = rng.choice([*usual, *usual[256:] * 9], size=25).tolist()
        assert ours.decode(ids) == theirs.decode(ids) == "".join(ours.decode_stream(ids))
        shown = [token_id for token_id in ids if token_id not in special]
        assert ours.decode(shown) == theirs.decode(ids, skip_special_tokens=True)
    for token in odd & tokens.keys():
        assert ours.decode([tokens[token]]) == token != theirs.decode([tokens[token]])
        counts["added tokens that are kept as they are"] += 1


def kind(error):
    """A reason without the names and numbers of one case."""
    reason = str(error).partition("not supported: ")[2]
    return re.sub(r"'.*?'|\".*?\"|\[.*?\]|\{.*?\}|\d+", "...", reason)[:90]


def write(folder, files):
    folder.mkdir()
    for name, content in files.items():
        content = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(content, encoding="utf-8")


def kinds(files, theirs):
    """What was in a folder: for the counts."""
    settings, others = (files.get(name, {}) for name in ("tokenizer_config.json", "special_tokens_map.json"))
    found = {*files, type(theirs).__name__} | ({"added_tokens_decoder"} & settings.keys())
    names = any(settings.get(name) or others.get(name) for name in NAMED)
    return found | {"special tokens by name"} if names else found


@pytest.mark.parity
def test_a_tokenizer_made_at_random_is_that_of_transformers_or_refused(transformers, tmp_path, n_fuzz):
    refused, counts = Counter(), Counter()
    for seed in range(n_fuzz):
        rng = np.random.default_rng(seed)
        files, n_vocab = random_folder(rng)
        write(tmp_path / str(seed), files)
        tokenizer_class = files["config.json"].get("tokenizer_class")
        try:
            ours = load_encoder(str(tmp_path / str(seed)), n_vocab, [], tokenizer_class)
        except ModelError as error:
            refused[kind(error)] += 1
            continue
        try:
            theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / str(seed))
        except Exception as error:
            counts[f"read here, but not by transformers ({type(error).__name__})"] += 1
            continue
        try:
            assert_same(ours, theirs, n_vocab, rng, counts)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, in {tmp_path / str(seed)}: {error}") from None
        counts.update(f"same, with {what}" for what in kinds(files, theirs))
    n_same = counts["same, with config.json"]
    print(f"\n{n_fuzz} tokenizers, {n_same} the same, {sum(refused.values())} refused:")
    print(*(f"  {n:5} {reason}" for reason, n in refused.most_common()), sep="\n")
    print("and", *(f"  {n:5} {what}" for what, n in sorted(counts.items())), sep="\n")
    assert n_same > 0.5 * n_fuzz and n_same + sum(refused.values()) > 0.97 * n_fuzz
    for what in ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json",
                 "added_tokens_decoder", "special tokens by name", "TokenizersBackend"):  # fmt: skip
        assert counts[f"same, with {what}"] > 0.1 * n_fuzz, what
    assert counts["texts cut by added tokens"] > n_fuzz
    assert counts["texts in which the order of the groups matters"] > 0.05 * n_fuzz
