"""Tokenizers in Hugging Face's layout: read whole, and refused by name where they would give other ids."""

import json
import random

import numpy as np
import pytest
from helpers import ROOT, TEXTS
from tokenizer_files import (
    BYTE_LEVEL,
    END,
    LAYOUTS,
    MERGES,
    N_VOCAB,
    PAD,
    PLAIN_CLASS,
    STOP,
    TEMPLATE,
    TEXT,
    TOKENS,
    assert_refused,
    files_of,
    read,
    with_setting,
    write,
)

from encoder import Encoder, get_encoder
from extras.huggingface import export, loading
from extras.huggingface.vocabulary import load_encoder
from files import ModelError

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
def test_an_added_token_that_is_not_special_is_always_seen_and_every_row_has_a_token(tmp_path, place):
    files = files_of("vocab.json")
    files["tokenizer_config.json"]["added_tokens_decoder"][N_VOCAB] = NEW
    if place == "added_tokens.json":
        files["tokenizer_config.json"] = {"pad_token": PAD}
        files[place] = {"two words": N_VOCAB}
    if place == "tokenizer.json":
        listed = files_of("tokenizer.json")["tokenizer.json"]["added_tokens"]
        files = with_setting("added_tokens", [*listed, NEW])
    ours, text = read(tmp_path, files, N_VOCAB + 2), f"a two words{PAD}"
    ids = [TOKENS["a"], TOKENS["Ġ"], N_VOCAB, TOKENS[PAD]]
    assert ours.encode(text, allowed_special="all") == ids and ours.decode(ids) == text
    assert ours.encode(text)[:3] == ids[:3] and TOKENS[PAD] not in ours.encode(text)
    assert ours.decode(ours.encode(text)) == text and ours.special_tokens == {PAD, END}
    with pytest.raises(ValueError, match="expected 'all' or some of"):
        ours.encode(text, allowed_special={"two words"})
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


@pytest.mark.parametrize(
    "begin_id, special, begin",
    [
        (0, (PAD, END), PAD),
        (5, (PAD, END), END),  # an ordinary token, left over from another config.json
        (None, (PAD, END), END),
        (None, (PAD,), None),
    ],
)
def test_a_text_begins_with_the_special_token_that_is_named_or_with_endoftext(
    tmp_path, begin_id, special, begin
):
    tokens = {token: token_id for token, token_id in TOKENS.items() if token != END or END in special}
    write(tmp_path, files_of("tokenizer.json", tokens, added=special))
    ours = load_encoder(str(tmp_path), N_VOCAB, [], "PreTrainedTokenizerFast", begin_id)
    assert ours.decoder.get(ours.begin_id) == begin


def test_a_text_begins_with_what_ends_it_where_nothing_else_does(tmp_path):
    tokens = {token if token != END else "</s>": token_id for token, token_id in TOKENS.items()}
    write(tmp_path, files_of("tokenizer.json", tokens, added=["</s>"]))
    ours = load_encoder(str(tmp_path), N_VOCAB, [TOKENS[END]], "PreTrainedTokenizerFast", 50256)
    assert ours.begin_id == TOKENS[END] and ours.stop_ids == {TOKENS[END]}


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


WITH_STOP = TEMPLATE | {"single": [TEXT, STOP]}
WITH_STOP |= {"special_tokens": {END: {"id": END, "ids": [TOKENS[END]], "tokens": [END]}}}
OLD_ROBERTA = {"sep": ["</s>", 1], "cls": ["<s>", 0], "trim_offsets": True, "add_prefix_space": False}
IN_SEQUENCE = {"type": "Sequence", "pretokenizers": [{"type": "Sequence", "pretokenizers": [BYTE_LEVEL]}]}
HARMLESS = [("post_processor", value) for value in (None, ..., TEMPLATE, WITH_STOP, OLD_ROBERTA)]
HARMLESS += [("post_processor", {"type": "Sequence", "processors": [BYTE_LEVEL, TEMPLATE]})]
HARMLESS += [("decoder", value) for value in (None, {"type": "Sequence", "decoders": [BYTE_LEVEL]})]
HARMLESS += {"normalizer": ..., "added_tokens": [], "model/unk_token": END}.items()
HARMLESS += [("normalizer", {"type": "Sequence", "normalizers": []}), ("pre_tokenizer", IN_SEQUENCE)]
HARMLESS += {"model/type": ..., "model/dropout": 0.0, "model/ignore_merges": False}.items()
HARMLESS += {"model/continuing_subword_prefix": "", "model/end_of_word_suffix": None}.items()
HARMLESS += {"pre_tokenizer/use_regex": ..., "pre_tokenizer/trim_offsets": False}.items()


@pytest.mark.parametrize("field, value", HARMLESS)
@pytest.mark.parametrize("name", ["GPT2Tokenizer", "PreTrainedTokenizerFast"])
def test_a_setting_that_changes_no_id_is_accepted(tmp_path, field, value, name):
    files = with_setting(field, value) | {"tokenizer_config.json": {"tokenizer_class": name}}
    ours = read(tmp_path, files)
    assert ours.encoder == TOKENS and type(ours) is Encoder


BESIDE = ["add_bos_token", "add_eos_token", "split_special_tokens"]
BESIDE += ["clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"]


@LAYOUTS
@pytest.mark.parametrize("field", BESIDE)
def test_a_setting_beside_the_tokenizer_that_changes_no_id_is_accepted(tmp_path, layout, field):
    ours = read(tmp_path, files_of(layout) | {"tokenizer_config.json": {field: True}})
    assert ours.encode("hello") == [TOKENS["hello"]]


@pytest.mark.parametrize(
    "files, tokens",
    [
        (with_setting("post_processor", WITH_STOP), f"{END} after a text"),
        (with_setting("post_processor", OLD_ROBERTA), "<s> before a text and </s> after a text"),
        (
            files_of("vocab.json") | {"tokenizer_config.json": {"add_bos_token": True}},
            f"{END} before a text",
        ),
        (
            files_of("vocab.json") | {"tokenizer_config.json": {"add_eos_token": True, "eos_token": PAD}},
            f"{PAD} after a text",
        ),
        (files_of("tokenizer.json"), None),
    ],
)
def test_special_tokens_that_transformers_puts_around_a_text_are_named(tmp_path, capsys, files, tokens):
    read(tmp_path, files)
    said = f"{tmp_path}: transformers puts {tokens}; here, write it where it is needed, with --special\n"
    assert capsys.readouterr().err == (said if tokens else "")


# ---- what is refused ---------------------------------------------------------------------------------------


REFUSED = [
    ("model/type", "Unigram", "the tokenizers library says: "),
    ("model/dropout", 0.1, "model.dropout is 0.1: the same text would have other ids each time"),
    ("post_processor", TEMPLATE | {"single": [TEXT, TEXT]}, "its post_processor does not have the text once"),
    ("post_processor", TEMPLATE | {"single": []}, "its post_processor does not have the text once"),
    ("added_tokens/0/id", 1, "the added token '<pad>' has two ids"),
    ("added_tokens/1/content", PAD, "the added token '<pad>' has two ids"),
    ("added_tokens/0/content", "", "an added token is ''"),
    ("added_tokens/0/content", None, "an added token is None"),
    ("added_tokens/0/single_word", True, "the added token '<pad>' has single_word"),
]


@pytest.mark.parametrize("field, value, words", REFUSED)
def test_a_setting_that_changes_ids_is_refused_by_name(tmp_path, field, value, words):
    files = with_setting(field, value) | {"tokenizer_config.json": PLAIN_CLASS}
    assert_refused(tmp_path, files, f"(tokenizer.json): not supported: {words}")


@pytest.mark.parametrize(
    "field, value, found",
    [
        ("pre_tokenizer", None, "nothing"),
        ("pre_tokenizer/type", "Whitespace", "Whitespace"),
        ("normalizer", {"type": "ByteLevel"}, "ByteLevel, ByteLevel"),
    ],
)
def test_a_gpt2_tokenizer_whose_file_contradicts_its_tokens_is_refused(tmp_path, field, value, found):
    words = f"its tokens are spelled in bytes, but it prepares a text by {found}: expected ByteLevel, once"
    assert_refused(tmp_path, with_setting(field, value), words)


def test_a_normalizer_and_an_added_token_that_is_normalized_are_refused_together(tmp_path):
    files = with_setting("normalizer", {"type": "NFC"}) | {"tokenizer_config.json": PLAIN_CLASS}
    files["tokenizer.json"]["added_tokens"][0]["normalized"] = True
    assert_refused(
        tmp_path, files, "the added token '<pad>' is looked for in normalized text, and the tokenizer"
    )


def test_a_vocabulary_that_is_not_spelled_in_bytes_is_refused(tmp_path):
    tokens = {token: i for i, token in enumerate(["the", "▁", "h", "e", "he", "▁he", "▁h"])}
    for merges in (["h e", "▁ he"], ["▁ h", "▁h e"]):
        assert_refused(
            tmp_path, files_of("vocab.json", tokens, merges, added=()), "its tokens are not spelled in"
        )
    cyrillic = {token: i for i, token in enumerate("привет")}
    assert_refused(
        tmp_path, files_of("vocab.json", cyrillic, [], added=()), "its tokens are not spelled in bytes"
    )


@LAYOUTS
@pytest.mark.parametrize("field", ["vocab", "merges", "init_inputs", "fast_tokenizer_files"])
def test_a_setting_that_may_bring_other_tokens_is_refused_by_name(tmp_path, layout, field):
    files = files_of(layout) | {"tokenizer_config.json": {field: True}}
    assert_refused(
        tmp_path, files, f"tokenizer_config.json sets {field}: its tokens may differ from those in the"
    )
    assert read(tmp_path, {"tokenizer_config.json": {field: False}}).encoder == TOKENS


@LAYOUTS
def test_the_class_of_a_tokenizer_must_be_one_that_is_known(tmp_path, layout):
    files = files_of(layout)
    settings = files.setdefault("tokenizer_config.json", {})
    names = ["GPT2Tokenizer", "GPT2TokenizerFast"]
    if layout == "tokenizer.json":
        names.append("PreTrainedTokenizerFast")
    for name in names:
        settings["tokenizer_class"] = name
        assert read(tmp_path, files).encoder == TOKENS
    settings["tokenizer_class"] = "XLNetTokenizer"
    found = "its tokenizer_class is 'XLNetTokenizer', expected one of GPT2Tokenizer, CodeGenTokenizer, "
    assert_refused(tmp_path, files, found)


@LAYOUTS
def test_added_tokens_of_the_settings_count_in_both_layouts(tmp_path, layout):
    files = files_of(layout, added=())
    added = {"0": {"content": PAD, "special": True}, str(N_VOCAB): {"content": "two words"}}
    files["tokenizer_config.json"] = {"added_tokens_decoder": added}
    ours = read(tmp_path, files, n_vocab=N_VOCAB + 1)
    assert ours.encoder == TOKENS | {"two words": N_VOCAB}
    assert ours.encode("<pad>two words", "all") == [0, N_VOCAB]
    added["0"]["single_word"] = True
    assert_refused(tmp_path, files, "the added token '<pad>' has single_word")


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
    pad = TOKENS["ing"] + 1
    tokens = TOKENS | {"PAD": pad}
    files = files_of(layout, tokens, added=()) | {"tokenizer_config.json": {}}
    assert_refused(tmp_path, files, "no merge makes the token 'PAD' (1 such)", pad + 1)
    ours = read(
        tmp_path, files | {file: {field: form("PAD"), "unk_token": "UNKNOWN", "mask_token": None}}, pad + 1
    )
    assert ours.encode("PAD", "all") == [pad] and "UNKNOWN" not in ours.encoder
    ours = read(tmp_path, files | {file: {field: form("PAD"), "sep_token": "he"}}, pad + 1)
    assert ours.encode("the", "all") == [TOKENS["t"], TOKENS["he"]]


@LAYOUTS
@pytest.mark.parametrize(
    "flag, wanted", [("lstrip", "a<pad> a"), ("rstrip", "a <pad>a"), ("single_word", None)]
)
def test_the_flags_of_a_named_token_count_unless_it_is_declared_elsewhere(tmp_path, layout, flag, wanted):
    names = {"special_tokens_map.json": {"pad_token": {"content": PAD, flag: True}}}
    files = files_of(layout, added=()) | {"tokenizer_config.json": {}}
    if wanted:
        ours = read(tmp_path, files | names)
        assert ours.decode(ours.encode(f"a {PAD} a", "all")) == wanted
        assert ours.decode(ours.encode(f"a {PAD} a")) == f"a {PAD} a"
    else:
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
    for text in texts:
        ids = ours.encode(text, allowed_special="all")
        assert ids == theirs.encode(text) and ours.decode(ids) == theirs.decode(ids, **options) == text
        assert ours.encode(text) == theirs.encode(text, split_special_tokens=True)
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
        assert ours.encode(text, special) == theirs.encode(text, add_special_tokens=False).ids
