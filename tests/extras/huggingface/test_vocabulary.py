"""Tokenizers in Hugging Face's layout: read whole, and refused by name where GPT-2 does otherwise."""

import json
import random

import numpy as np
import pytest
from helpers import ROOT, TEXTS

from encoder import bytes_to_unicode, get_encoder
from extras.huggingface import export, loading
from extras.huggingface.vocabulary import CHANGING, NAMED, load_encoder
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


def read(folder, files, n_vocab=N_VOCAB, stop_ids=()):
    for name, content in files.items():
        if isinstance(content, dict):
            content = json.dumps(content)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_encoder(str(folder), n_vocab, stop_ids)


def assert_refused(folder, files, words, n_vocab=N_VOCAB):
    """Refused in one line that names the model and says the words."""
    with pytest.raises(ModelError) as caught:
        read(folder, files, n_vocab)
    message = str(caught.value)
    assert str(folder) in message and words in message and "\n" not in message, message


# ---- what is read ------------------------------------------------------------------------------------------


def test_every_layout_gives_the_same_encoder(tmp_path):
    pairs = [merge.split(" ") for merge in MERGES]
    for files in (files_of("vocab.json"), files_of("tokenizer.json"), with_setting("model/merges", pairs)):
        ours = read(tmp_path, files)
        assert ours.encoder == TOKENS and [" ".join(pair) for pair in ours.bpe_ranks] == MERGES
        assert [ours.decoder[i] for i in ours.encode("hello the hen")] == ["hello", "Ġthe", "Ġ", "he", "n"]


@LAYOUTS
def test_ids_may_have_any_order(tiny, tmp_path, layout):
    encoder = tiny[0]
    order = np.random.default_rng(0).permutation(len(encoder.encoder)).tolist()
    tokens = {token: order[token_id] for token, token_id in encoder.encoder.items()}
    ours = read(tmp_path, files_of(layout, tokens, [*map(" ".join, encoder.bpe_ranks)], [END]), len(tokens))
    for text in TEXTS:
        ids = ours.encode(text, allowed_special="all")
        assert ids == [order[i] for i in encoder.encode(text, allowed_special="all")]
        assert ours.decode(ids) == text


NEW = {"id": N_VOCAB, "content": "two words", "special": False, "lstrip": False}


@pytest.mark.parametrize("place", ["tokenizer.json", "added_tokens.json", "tokenizer_config.json"])
def test_an_added_token_is_plain_text_unless_allowed_and_every_row_has_one(tmp_path, place):
    files = files_of("vocab.json")
    files["tokenizer_config.json"]["added_tokens_decoder"][N_VOCAB] = NEW
    if place == "added_tokens.json":
        files["tokenizer_config.json"] = {"pad_token": PAD}
        files[place] = {"two words": N_VOCAB}
    if place == "tokenizer.json":
        listed = files_of("tokenizer.json")["tokenizer.json"]["added_tokens"]
        files = with_setting("added_tokens", [*listed, NEW])
    ours, text = read(tmp_path, files, N_VOCAB + 2), f"a two words{PAD}"
    assert ours.decode(ours.encode(text)) == text and not {N_VOCAB, TOKENS[PAD]} & {*ours.encode(text)}
    ids = [TOKENS["a"], TOKENS["Ġ"], N_VOCAB, TOKENS[PAD]]
    assert ours.encode(text, allowed_special="all") == ids and ours.decode(ids) == text
    assert ours.encode(text, allowed_special={"two words"})[:3] == ids[:3]
    assert sorted(ours.decoder) == list(range(N_VOCAB + 2))
    assert ours.decode([N_VOCAB + 1, 0]) == f"<|unused{N_VOCAB + 1}|><pad>"
    assert "two words" not in read(tmp_path, files, N_VOCAB).encoder


def test_a_text_ends_at_the_ids_that_are_given_or_at_endoftext(tmp_path):
    files, end = files_of("tokenizer.json"), TOKENS[END]
    for stop_ids, wanted in (([0], {0}), ([0, 5], {0, 5}), ([5, N_VOCAB], {5}), ([], set())):
        assert read(tmp_path, files, stop_ids=stop_ids).stop_ids == wanted
    for stop_ids in ([N_VOCAB], [-1], [50256]):
        assert read(tmp_path, files, stop_ids=stop_ids).stop_ids == {end}
    tokens = {token if token != END else "<s>": token_id for token, token_id in TOKENS.items()}
    assert read(tmp_path, files_of("tokenizer.json", tokens, added=()), stop_ids=[50256]).stop_ids == set()


def test_each_token_is_looked_up_once_among_the_ids_that_end_a_text(tmp_path):
    class Ends(list):
        __contains__ = None  # `in` would search the list for each token

    ends = Ends(range(100_000, 300_000))
    assert read(tmp_path, files_of("tokenizer.json"), stop_ids=Ends([*ends, 0])).stop_ids == {0}


@pytest.mark.parametrize("wrong", [True, "5", [5], 1.5, 5.0, None])
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_an_end_that_is_not_an_id_is_refused_by_name(tmp_path, file, wrong):
    read(tmp_path, files_of("tokenizer.json"))
    config = {"vocab_size": N_VOCAB, "eos_token_id": [1, wrong], "tokenizer_class": None}
    (tmp_path / file).write_text(json.dumps(config))
    with pytest.raises(ModelError) as caught:
        loading.load_encoder(str(tmp_path), config)
    words = f"eos_token_id is [1, {wrong!r}], and {wrong!r} is not an id; give an id, or a list of ids"
    assert str(caught.value) == f"{tmp_path / file}: {words}"


def test_line_ends_and_the_version_of_merges_do_not_matter(tmp_path):
    text = files_of("vocab.json")["merges.txt"]
    for variant in (text.replace("\n", "\r\n"), text.rstrip("\n"), text.partition("\n")[2], text + "\n\n"):
        ours = read(tmp_path, files_of("vocab.json") | {"merges.txt": variant})
        assert [" ".join(pair) for pair in ours.bpe_ranks] == MERGES


HARMLESS = [("post_processor", value) for value in (None, ..., TEMPLATE)]
HARMLESS += {"normalizer": ..., "added_tokens": [], "model/unk_token": END}.items()
HARMLESS += {"model/type": ..., "model/dropout": 0.0, "model/ignore_merges": False}.items()
HARMLESS += {"model/continuing_subword_prefix": "", "model/end_of_word_suffix": None}.items()
HARMLESS += {"pre_tokenizer/use_regex": ..., "pre_tokenizer/trim_offsets": False}.items()


@pytest.mark.parametrize("field, value", HARMLESS)
def test_a_setting_that_changes_no_id_is_accepted(tmp_path, field, value):
    assert read(tmp_path, with_setting(field, value)).encoder == TOKENS


# ---- what is refused ---------------------------------------------------------------------------------------


OTHERS = {"model/type": "Unigram", "model/dropout": 0.1, "model/ignore_merges": True}
OTHERS |= {"model/continuing_subword_prefix": "##", "model/end_of_word_suffix": "</w>"}
OTHERS |= {"pre_tokenizer/type": "Sequence", "pre_tokenizer/add_prefix_space": True}
OTHERS |= {"pre_tokenizer/use_regex": False, "normalizer": {"type": "NFC"}, "decoder/type": "Sequence"}
AROUND = "its post_processor puts special tokens around a text"
OLD_ROBERTA = {"sep": ["</s>", 1], "cls": ["<s>", 0], "trim_offsets": True, "add_prefix_space": False}
REFUSED = [
    (name, value, f"{name.replace('/', '.')} is {value!r}, expected ") for name, value in OTHERS.items()
]
REFUSED += [
    ("pre_tokenizer", None, "pre_tokenizer.type is None, expected 'ByteLevel' as in GPT-2"),
    ("decoder", None, "decoder.type is None, expected 'ByteLevel' as in GPT-2"),
    ("post_processor/type", "RobertaProcessing", AROUND),
    ("post_processor", TEMPLATE | {"single": [TEXT, STOP]}, AROUND),
    ("post_processor", TEMPLATE | {"single": "<s> $A"}, AROUND),
    ("post_processor", TEMPLATE | {"single": ["$A"]}, AROUND),
    ("post_processor", TEMPLATE | {"single": []}, AROUND),
    ("post_processor", OLD_ROBERTA, AROUND),
    ("added_tokens/0/id", 1, "the added token '<pad>' has two ids"),
    ("added_tokens/1/content", PAD, "the added token '<pad>' has two ids"),
    ("added_tokens/0/content", "", "an added token is ''"),
    ("added_tokens/0/content", None, "an added token is None"),
    ("added_tokens/0/lstrip", True, "the added token '<pad>' has lstrip"),
    ("added_tokens/1/rstrip", True, "the added token '<|endoftext|>' has rstrip"),
    ("added_tokens/0/single_word", True, "the added token '<pad>' has single_word"),
]


@pytest.mark.parametrize("field, value, words", REFUSED)
def test_a_setting_that_changes_ids_is_refused_by_name(tmp_path, field, value, words):
    assert_refused(tmp_path, with_setting(field, value), f"(tokenizer.json): not supported: {words}")


@LAYOUTS
@pytest.mark.parametrize("field", CHANGING)
def test_a_setting_beside_the_tokenizer_is_refused_by_name(tmp_path, layout, field):
    files = files_of(layout) | {"tokenizer_config.json": {field: True}}
    assert_refused(
        tmp_path, files, f"tokenizer_config.json sets {field}, which GPT-2 does not; leave it out if"
    )
    assert read(tmp_path, {"tokenizer_config.json": {field: False}}).encoder == TOKENS


@LAYOUTS
def test_the_class_of_a_tokenizer_must_be_one_that_does_what_gpt2_does(tmp_path, layout):
    files = files_of(layout)
    settings = files.setdefault("tokenizer_config.json", {})
    names = ["GPT2Tokenizer", "GPT2TokenizerFast"]
    if layout == "tokenizer.json":
        names.append("PreTrainedTokenizerFast")
    for name in names:
        settings["tokenizer_class"] = name
        assert read(tmp_path, files).encoder == TOKENS
    settings["tokenizer_class"] = "RobertaTokenizer"
    found = "its tokenizer_class is 'RobertaTokenizer', expected 'GPT2Tokenizer' as in GPT-2"
    assert_refused(tmp_path, files, found)


@LAYOUTS
def test_added_tokens_of_the_settings_count_in_both_layouts(tmp_path, layout):
    files = files_of(layout, added=())
    added = {"0": {"content": PAD}, str(N_VOCAB): {"content": "two words"}}
    files["tokenizer_config.json"] = {"added_tokens_decoder": added}
    ours = read(tmp_path, files, n_vocab=N_VOCAB + 1)
    assert ours.encoder == TOKENS | {"two words": N_VOCAB}
    assert ours.encode("<pad>two words", "all") == [0, N_VOCAB]
    added["0"]["rstrip"] = True
    assert_refused(tmp_path, files, "the added token '<pad>' has rstrip")


@LAYOUTS
@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize(
    "field, form",
    [
        ("pad_token", str),
        ("pad_token", lambda token: {"content": token, "lstrip": False}),
        ("additional_special_tokens", lambda token: [token, {"content": token}]),
        ("extra_special_tokens", lambda token: {"image_token": token}),
    ],
)
def test_a_token_is_special_if_a_file_says_so(tmp_path, layout, file, field, form):
    tokens = {token if token != PAD else "PAD": token_id for token, token_id in TOKENS.items()}
    files = files_of(layout, tokens, added=()) | {"tokenizer_config.json": {}}
    assert_refused(tmp_path, files, "no merge makes the token 'PAD' (1 such)")
    ours = read(tmp_path, files | {file: {field: form("PAD"), "unk_token": "UNKNOWN", "mask_token": None}})
    assert ours.encode("PAD", "all") == [0] and "UNKNOWN" not in ours.encoder
    ours = read(tmp_path, files | {file: {field: form("PAD"), "sep_token": "he"}})
    assert ours.encode("the", "all") == [TOKENS["t"], TOKENS["he"]]


@LAYOUTS
@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word"])
def test_the_flags_of_a_named_token_count_unless_it_is_declared_elsewhere(tmp_path, layout, flag):
    names = {"special_tokens_map.json": {"pad_token": {"content": PAD, flag: True}}}
    files = files_of(layout, added=()) | {"tokenizer_config.json": {}}
    assert_refused(tmp_path, files | names, f"the added token '<pad>' has {flag}")
    assert read(tmp_path, files_of(layout) | names).encode(f"a {PAD} a", "all")[2] == 0


@LAYOUTS
def test_ids_of_added_tokens_follow_those_of_the_others(tmp_path, layout):
    files = files_of(layout, added=())
    files["tokenizer_config.json"] = {"added_tokens_decoder": {str(N_VOCAB + 1): {"content": "two words"}}}
    words = f"the ids of its added tokens are [{N_VOCAB + 1}], expected {N_VOCAB} and up, without a gap"
    assert_refused(tmp_path, files, words, N_VOCAB + 2)
    tokens = {token: token_id + (token_id > 5) for token, token_id in TOKENS.items()}
    files = files_of(layout, tokens) | {"tokenizer_config.json": {"pad_token": PAD}}
    assert read(tmp_path, files, N_VOCAB + 2).encode(PAD, "all") == [0]
    files["tokenizer_config.json"] = {"sep_token": "<s>"}
    words = f"its {N_VOCAB} tokens lack some of the ids from 0 to {N_VOCAB - 1}, so which ids its added"
    assert_refused(tmp_path, files, words, N_VOCAB + 2)


def test_tokenizer_json_lists_added_tokens_in_the_order_of_their_ids(tmp_path):
    listed = [{"content": "two", "id": N_VOCAB + 1}, {"content": "words", "id": N_VOCAB}]
    words = f"the ids of its added tokens are [{N_VOCAB + 1}, {N_VOCAB}], expected {N_VOCAB} and up"
    assert_refused(tmp_path, with_setting("added_tokens", listed), words, N_VOCAB + 2)
    ours = read(tmp_path, with_setting("added_tokens", listed[::-1]), N_VOCAB + 2)
    assert ours.encode("wordstwo", "all") == [N_VOCAB, N_VOCAB + 1]


# ---- which tokens are special, and what ids they get -------------------------------------------------------

WITHOUT_END = {token: i for i, token in enumerate(token for token in TOKENS if token != END)}


@LAYOUTS
def test_endoftext_that_no_file_has_is_the_next_token_of_a_gpt2_tokenizer(tmp_path, layout):
    files = files_of(layout, WITHOUT_END, added=(PAD,))
    ours = read(tmp_path, files, N_VOCAB, stop_ids=[50256])
    assert ours.decode([N_VOCAB - 1]) == END and ours.stop_ids == {N_VOCAB - 1}
    assert ours.encode(f"a{END}", "all") == [WITHOUT_END["a"], N_VOCAB - 1]
    assert END not in read(tmp_path, files, N_VOCAB - 1, stop_ids=[50256]).encoder  # there is no row
    settings = files.setdefault("tokenizer_config.json", {})
    for names in ({"bos_token": None, "eos_token": None, "unk_token": None}, dict.fromkeys(NAMED, PAD)):
        settings |= names
        assert read(tmp_path, files, N_VOCAB).decode([N_VOCAB - 1]) == f"<|unused{N_VOCAB - 1}|>"


def test_a_plain_tokenizer_has_no_endoftext_of_its_own(tmp_path):
    files = files_of("tokenizer.json", WITHOUT_END, added=(PAD,))
    files["tokenizer_config.json"] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert END not in read(tmp_path, files, N_VOCAB).encoder
    del files["tokenizer_config.json"]["tokenizer_class"]
    assert END in read(tmp_path, files, N_VOCAB).encoder
    assert END not in load_encoder(str(tmp_path), N_VOCAB, [], "PreTrainedTokenizerFast").encoder


@LAYOUTS
def test_special_tokens_without_ids_get_the_next_ones_in_the_order_of_the_fields(tmp_path, layout):
    files = files_of(layout) | {"tokenizer_config.json": {"additional_special_tokens": ["<b>", "<a>", PAD]}}
    names = {"mask_token": "<m>", "pad_token": {"content": "[PAD]"}, "sep_token": END}
    files["special_tokens_map.json"] = names
    ours = read(tmp_path, files, N_VOCAB + 3)
    assert ours.decode(range(N_VOCAB, N_VOCAB + 3)) == "[PAD]<m><b>" and "<a>" not in ours.encoder
    assert ours.encode(f"<b>{PAD}<a>", "all")[:2] == [N_VOCAB + 2, 0]
    assert read(tmp_path, files).encoder == TOKENS


@LAYOUTS
def test_added_tokens_decoder_replaces_what_other_files_say(tmp_path, layout):
    files = files_of(layout) | {"added_tokens.json": {"old": N_VOCAB}, "tokenizer_config.json": {}}
    files["special_tokens_map.json"] = {"pad_token": "he"}
    ours = read(tmp_path, files, N_VOCAB + 1)
    assert ours.encode("oldhe", "all") == [N_VOCAB, TOKENS["he"]] and "he" in ours.special_tokens
    decoder = {"0": {"content": PAD}, "1": {"content": END}, str(N_VOCAB): {"content": "new"}}
    files["tokenizer_config.json"] = {"added_tokens_decoder": decoder}
    ours = read(tmp_path, files, N_VOCAB + 1)
    assert ours.special_tokens == {PAD, END, "new"} and ours.decode([N_VOCAB]) == "new"


def test_added_tokens_that_newer_versions_forget_are_refused(tmp_path):
    files = files_of("tokenizer.json") | {"tokenizer_config.json": {"added_tokens_decoder": {}}}
    words = "the added token '<pad>', which tokenizer_config.json's added_tokens_decoder lacks"
    assert_refused(tmp_path, files, words)
    files["tokenizer_config.json"] |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    assert read(tmp_path, files).special_tokens == {PAD, END}


@LAYOUTS
def test_lists_of_special_tokens_that_differ_are_refused(tmp_path, layout):
    files = files_of(layout) | {"tokenizer_config.json": {"additional_special_tokens": ["he"]}}
    files["special_tokens_map.json"] = {"additional_special_tokens": ["in"]}
    assert_refused(tmp_path, files, "two lists of its special tokens differ: ['he'] and ['in']")
    files["special_tokens_map.json"] = {"additional_special_tokens": ["he"], "extra_special_tokens": {}}
    assert "he" in read(tmp_path, files).special_tokens


def test_a_token_that_only_a_nested_field_names_is_refused(tmp_path):
    files = files_of("tokenizer.json")
    files["tokenizer_config.json"] = {"model_specific_special_tokens": {"x_token": "he"}}
    assert_refused(tmp_path, files, "x_token is 'he', which is special only to some versions")
    files["added_tokens.json"] = {"he": TOKENS["he"]}
    assert "he" in read(tmp_path, files).special_tokens


@pytest.mark.parametrize("place", ["audio_token", "padding.pad_token"])
def test_a_token_that_is_special_only_to_some_versions_is_refused(tmp_path, place):
    files = with_setting("padding", {"pad_token": "he"} if place == "padding.pad_token" else None)
    files["tokenizer_config.json"] = {"audio_token": "he"} if place == "audio_token" else {}
    assert_refused(tmp_path, files, f"{place} is 'he', which is special only to some versions")
    files["added_tokens.json"] = {"he": TOKENS["he"]}
    assert "he" in read(tmp_path, files).special_tokens
    files = with_setting("padding", {"pad_token": "[PAD]"}) | {"added_tokens.json": {}}
    files["tokenizer_config.json"] = {"audio_token": "<audio>"}
    assert read(tmp_path, files).encoder == TOKENS  # there is no row for either
    assert_refused(tmp_path, files, "audio_token is '<audio>', which is special only", N_VOCAB + 1)


def test_a_special_token_of_the_vocabulary_that_no_file_adds_is_plain_text(tmp_path):
    files = files_of("tokenizer.json", added=())
    files["tokenizer_config.json"] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    ours, text = read(tmp_path, files, N_VOCAB + 1), f"a{END}{PAD}<|unused{N_VOCAB}|>"
    assert ours.special_tokens == set() and ours.encode(text, "all") == ours.encode(text)
    assert ours.decode(ours.encode(text)) == text
    assert ours.decode([0, 1, N_VOCAB]) == f"{PAD}{END}<|unused{N_VOCAB}|>"
    del files["tokenizer_config.json"]["tokenizer_class"]
    assert read(tmp_path, files).special_tokens == {END}  # the end of text of GPT-2's own class


@pytest.mark.parametrize(
    "flags, found",
    [
        ({"normalized": True}, ["h", "en"]),
        ({"normalized": False}, ["he", "n"]),
        ({"normalized": True, "special": True}, ["h", "en"]),
        ({"special": False}, ["h", "en"]),
        ({}, ["h", "en"]),
        ({"special": True}, ["he", "n"]),
    ],
)
def test_added_tokens_that_are_normalized_are_looked_for_last(tmp_path, flags, found):
    listed = [{"content": "he", "id": TOKENS["he"]} | flags]
    listed.append({"content": "en", "id": N_VOCAB, "normalized": False})
    ours = read(tmp_path, with_setting("added_tokens", listed), N_VOCAB + 1)
    assert [ours.decoder[i] for i in ours.encode("hen", "all")] == found
    assert ours.encode("hen", ["he"]) == [TOKENS["he"], TOKENS["n"]]
    assert ours.encode("hen", ["en"]) == [TOKENS["h"], N_VOCAB]


def test_of_two_files_that_declare_a_token_the_last_says_whether_it_is_normalized(tmp_path):
    he = {"content": "he", "id": TOKENS["he"], "normalized": True}
    files = with_setting("added_tokens", [he, {"content": "en", "id": N_VOCAB, "normalized": False}])
    decoder = {TOKENS["he"]: {"content": "he", "normalized": False}, N_VOCAB: {"content": "en"}}
    files["tokenizer_config.json"] = {"added_tokens_decoder": decoder}
    for tokenizer_class in ("GPT2Tokenizer", "PreTrainedTokenizerFast"):
        files["tokenizer_config.json"]["tokenizer_class"] = tokenizer_class
        assert read(tmp_path, files, N_VOCAB + 2).encode("hen", "all")[0] == TOKENS["he"]
    files["tokenizer_config.json"] = {}
    files["added_tokens.json"] = {"he": TOKENS["he"], "an": N_VOCAB + 1, "ne": N_VOCAB + 2}
    files["special_tokens_map.json"] = {"pad_token": "ne"}
    ours = read(tmp_path, files, N_VOCAB + 4)
    assert ours.special_groups == [{"en", "ne", END}, {"he", "an"}]
    for more, first in ((["an", {"content": "he"}], {"an"}), ({"image_token": "an"}, set())):
        files["tokenizer_config.json"] = {"extra_special_tokens": more}  # a dict in it does not count
        ours = read(tmp_path, files, N_VOCAB + 4)
        assert ours.special_groups == [{"en", "ne", END} | first, {"he", "an"} - first]


@LAYOUTS
def test_an_added_token_that_merges_make_too_is_special(tmp_path, layout):
    ours = read(tmp_path, files_of(layout, added=(PAD, "he")))
    he, plain = TOKENS["he"], ours.encode("the he")
    assert plain == [TOKENS[token] for token in ("t", "he", "Ġ", "he")]
    assert "he" in ours.special_tokens and ours.encode("the", "all") == [TOKENS["t"], he]
    assert ours.decode([TOKENS["t"], he]) == "the"


def test_a_token_may_have_the_name_that_a_row_without_one_would_get(tmp_path):
    name = f"<|unused{N_VOCAB}|>"
    tokens = TOKENS | {name: N_VOCAB + 1}
    ours = read(tmp_path, files_of("vocab.json", tokens), n_vocab=N_VOCAB + 2)
    assert ours.encoder[name] == N_VOCAB + 1 and ours.encoder[f"<{name}>"] == N_VOCAB
    assert ours.decode([N_VOCAB, N_VOCAB + 1]) == f"<{name}>{name}"


IDS = f"its {N_VOCAB} tokens do not all have different ids below {N_VOCAB}"


@LAYOUTS
@pytest.mark.parametrize(
    "tokens, merges, words",
    [
        ({"A": ...}, MERGES, "1 of the 256 bytes have no token"),
        ({"hello": ...}, MERGES, "merge 7 is 'hell o', not two tokens that make a third"),
        ({}, ["hel lo", *MERGES], "merge 1 is 'hel lo', not two tokens that make a third"),
        ({}, [*MERGES, "i n g"], "merge 10 is 'i n g', not two tokens"),
        ({}, [*MERGES, "h e"], "a merge is given twice"),
        ({}, MERGES[:-1], "no merge makes the token 'ing' (1 such): merges are missing"),
        ({"he": TOKENS["A"]}, MERGES, IDS),
        ({"hello": N_VOCAB}, MERGES, IDS),
        ({"hello": -1}, MERGES, IDS),
        ({"hello": str(TOKENS["hello"])}, MERGES, IDS),
        ({"hello": float(TOKENS["hello"])}, MERGES, IDS),
        ({END: True}, MERGES, IDS),
    ],
)
def test_tokens_and_merges_that_do_not_belong_together_are_refused(tmp_path, layout, tokens, merges, words):
    tokens = {token: token_id for token, token_id in (TOKENS | tokens).items() if token_id is not ...}
    assert_refused(tmp_path, files_of(layout, tokens, merges, added=()), words)


def test_merges_are_refused_wherever_they_are_cut_and_so_is_what_is_no_text_of_merges(tmp_path):
    files = files_of("vocab.json")
    whole = files["merges.txt"].encode()
    faults = {}
    for n_bytes in range(len(whole) - 1):
        cut = whole[:n_bytes]
        in_a_character = "\ufffd" in cut.decode(errors="replace")
        faults[cut] = "unexpected end of data; get a fresh copy" if in_a_character else "not supported: "
    faults[b"<!DOCTYPE html>\n<html>404</html>\n"] = "merge 1 is '<!DOCTYPE html>', not two tokens"
    faults[b"\xef\xbb\xbf" + whole] = "merge 1 is '\\ufeff#version: 0.2', not two tokens"
    faults[whole.decode().encode("utf-16")] = "can't decode byte 0xff"
    for merges, words in faults.items():
        assert_refused(tmp_path, files | {"merges.txt": merges}, words)
    del files["merges.txt"]
    (tmp_path / "merges.txt").unlink()
    assert_refused(
        tmp_path, files, "it has neither tokenizer.json nor merges.txt; copy them from the original"
    )
    (tmp_path / "vocab.json").unlink()
    assert_refused(tmp_path, {}, "it has neither tokenizer.json nor vocab.json; copy them from the original")


FILES = ["tokenizer.json", "vocab.json", "added_tokens.json", "tokenizer_config.json"]
CONTENTS = [
    ("[]", "expected a JSON object, not []"),
    ("<html>", "Expecting value"),
    ('{"a": {"b": 1, "b": 2}}', "b is given twice"),
    (b'{"\xff": 1}', "can't decode byte 0xff"),
]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content, words", CONTENTS)
def test_a_file_that_is_no_json_object_is_refused_by_name(tmp_path, file, content, words):
    files = files_of(file if file == "tokenizer.json" else "vocab.json")
    if file == "added_tokens.json":
        files["tokenizer_config.json"] = {}
    assert_refused(tmp_path, files | {file: content}, words)
    assert_refused(tmp_path, {}, f"{tmp_path / file}: ")


SHAPES = [("model", ...), ("model", []), ("model/vocab", list(TOKENS)), ("model/merges", None)]
SHAPES += [("model/merges", [["h", ["e"]]]), ("pre_tokenizer", "ByteLevel"), ("post_processor", "ByteLevel")]
SHAPES += [("added_tokens", {PAD: 0}), ("added_tokens/0/id", ["0"]), ("added_tokens/0/content", ...)]


@pytest.mark.parametrize("field, value", SHAPES)
def test_json_of_another_shape_is_refused(tmp_path, field, value):
    assert_refused(tmp_path, with_setting(field, value), "the vocabulary of ")


# ---- transformers is the judge -----------------------------------------------------------------------------


def random_texts(n):
    pieces = ["'s", "'LL", "'ve", " the", "hello", "ing", PAD, END, "[MASK]", "<mask>", " ", "  ", "\n", "\t"]
    pieces += [*"ab'sST é1²٣日本語한я🦊👩\u200d\ufe0f\x00\x1c\x7f\u0085\u00a0\u2028\u3000.,!?<|>[]-_"]
    rng = random.Random(0)
    return ["".join(rng.choices(pieces, k=rng.randrange(1, 40))) for _ in range(n)]


@pytest.fixture(scope="module", params=["bundled", "released", "trained"])
def vocabulary(request, tiny, transformers):  # -> tokens, merges, added tokens
    """The bundled vocabulary, OpenAI's, or one of the library's own training, with special tokens first."""
    if request.param != "trained":
        released = request.param == "released" and request.getfixturevalue("released")
        encoder = get_encoder(str(released), "models") if released else tiny[0]
        return encoder.encoder, [*map(" ".join, encoder.bpe_ranks)], [END]
    from tokenizers import ByteLevelBPETokenizer

    theirs, added = ByteLevelBPETokenizer(), [PAD, END, "[MASK]", "<mask>"]
    theirs.train([str(ROOT / "tests" / "stories.txt")], vocab_size=600, special_tokens=added)
    model = json.loads(theirs.to_str())["model"]
    return model["vocab"], [*map(" ".join, model["merges"])], added


@pytest.fixture(params=["tokenizer.json", "vocab.json"])
def folder(request, vocabulary, tmp_path):
    read(tmp_path, files_of(request.param, *vocabulary), len(vocabulary[0]))
    return tmp_path


def assert_same(folder, theirs, texts):
    """Ids and texts as transformers gives them, whether special tokens are to be seen or not."""
    ours = load_encoder(str(folder), len(theirs), [theirs.eos_token_id])
    assert ours.encoder == theirs.get_vocab() and ours.stop_ids == {theirs.eos_token_id}
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    never_split = {str(token) for token in theirs.added_tokens_decoder.values() if not token.special}
    for text in texts:
        ids = ours.encode(text, allowed_special="all")
        assert ids == theirs.encode(text) and ours.decode(ids) == theirs.decode(ids, **options) == text
        assert ours.encode(text, never_split) == theirs.encode(text, split_special_tokens=True)
    rng = random.Random(1)
    for _ in range(100):
        ids = rng.choices(range(len(theirs)), k=20)
        assert ours.decode(ids) == theirs.decode(ids, **options)


@pytest.mark.parity
def test_any_text_gets_the_ids_of_transformers(transformers, folder):
    assert_same(folder, transformers.GPT2TokenizerFast.from_pretrained(folder), TEXTS + random_texts(300))


@pytest.mark.parity
def test_what_transformers_saves_is_read(transformers, vocabulary, tmp_path):
    tokens, merges, added = vocabulary
    pairs = [tuple(merge.split(" ")) for merge in merges]
    theirs = transformers.GPT2TokenizerFast(vocab=tokens, merges=pairs, pad_token="[PAD]")
    theirs.add_tokens(["two words", "plainGPT", *map("".join, pairs[:20:3])])  # some that merges make, too
    theirs.add_special_tokens({"additional_special_tokens": [*added, "<|user|>", "<|user|>2"]})
    theirs.save_pretrained(tmp_path)
    texts = ["plainGPT<|user|>2 two words<|user|>[PAD]", *TEXTS, *random_texts(50)]
    assert_same(tmp_path, theirs, texts)
    assert_same(tmp_path, transformers.GPT2TokenizerFast.from_pretrained(tmp_path), texts)


@pytest.mark.parity
def test_transformers_reads_what_export_writes(transformers, folder, vocabulary, tmp_path_factory):
    ours = load_encoder(str(folder), len(vocabulary[0]), [vocabulary[0][END]])
    written = tmp_path_factory.mktemp("written")
    export.write_tokenizer(written, ours, 128)
    export.write_json(written / "config.json", {"model_type": "gpt2"})
    assert_same(written, transformers.AutoTokenizer.from_pretrained(written), TEXTS + random_texts(50))


@pytest.mark.parity
@pytest.mark.parametrize("field, value", HARMLESS)
def test_a_setting_that_is_accepted_changes_no_id(transformers, tmp_path, field, value):
    from tokenizers import Tokenizer

    ours = read(tmp_path, with_setting(field, value))
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    special = () if field == "added_tokens" else {PAD, END}
    for text in TEXTS + random_texts(50):
        assert ours.encode(text, special) == theirs.encode(text).ids
