"""The classes of tokenizers: the files that each reads, what it makes of them, and what is refused."""

import copy

import pytest
from other_kinds import BERT_TOKENS, BYTES, UNIGRAM, WORDPIECE, WORDS, added_to
from tokenizer_files import N_VOCAB, assert_refused, files_of, read, write

from extras.huggingface.prepared import PreparedEncoder
from extras.huggingface.tokenizer_classes import class_of, read_vocab_txt
from extras.huggingface.vocabulary import load_encoder
from files import ModelError

VOCAB_TXT = "".join(f"{token}\n" for token in BERT_TOKENS)
BERT = {"tokenizer_class": "BertTokenizer"}
PLAIN = {"tokenizer_class": "PreTrainedTokenizerFast"}


def bert(settings=None, vocab_txt=VOCAB_TXT):  # -> {filename: content}
    return {"vocab.txt": vocab_txt, "tokenizer_config.json": BERT | (settings or {})}


def of_json(settings, config=None):  # -> {filename: content}
    content = {"version": "1.0", **copy.deepcopy(settings), "added_tokens": added_to(settings)}
    return {"tokenizer.json": content} | ({} if config is None else {"tokenizer_config.json": config})


def n_tokens(settings):
    return (
        1 + max(each["id"] for each in added_to(settings))
        if settings is UNIGRAM
        else len(settings["model"]["vocab"])
    )


def read_json(folder, settings, config=None):
    return read(folder, of_json(settings, config), n_tokens(settings))


def tokens_of(ours, text):
    return [ours.decoder[i] for i in ours.encode(text)]


# ---- which class, and which files --------------------------------------------------------------------------


def test_the_class_is_that_of_the_tokenizer_s_own_file_or_else_of_config_json():
    assert class_of({"tokenizer_class": "T5TokenizerFast"}, "BertTokenizer") == "T5Tokenizer"
    assert class_of({}, "BertTokenizerFast") == "BertTokenizer"
    assert class_of({"tokenizer_class": None}, "BertTokenizer") == "BertTokenizer"
    assert class_of({}, None) is None


def test_bert_reads_vocab_txt_and_its_own_tokens_are_special(tmp_path):
    ours = read(tmp_path, bert(), len(BERT_TOKENS) + 4)
    assert tokens_of(ours, "Foxes, unfoxed") == ["fox", "##es", ",", "un", "##fox", "##ed"]
    assert ours.special_tokens == {"[UNK]", "[PAD]", "[SEP]", "[CLS]", "[MASK]"}
    assert (ours.tokenizer_class, {*ours.files}) == ("BertTokenizer", {"vocab.txt", "tokenizer_config.json"})
    assert not ours.is_exact


def test_bert_reads_tokenizer_json_where_it_is_there(tmp_path):
    files = bert(vocab_txt="something else\n") | of_json(WORDPIECE)
    ours = read(tmp_path, files | {"tokenizer_config.json": BERT}, len(BERT_TOKENS) + 3)
    assert tokens_of(ours, "foxes") == ["fox", "##es"]


def test_the_class_in_config_json_counts_where_no_other_file_names_one(tmp_path):
    write(tmp_path, {"vocab.txt": VOCAB_TXT})
    ours = load_encoder(str(tmp_path), len(BERT_TOKENS), (), "BertTokenizer")
    assert tokens_of(ours, "the fox") == ["the", "fox"]


@pytest.mark.parametrize("name, example", [("vocab.txt", "Bert"), ("spiece.model", "T5")])
def test_a_file_without_a_class_is_refused_with_what_to_write(tmp_path, name, example):
    problem = f"it has {name}, but no file says which class its tokenizer is; write "
    assert_refused(tmp_path, {name: "a\n"}, f'{problem}{{"tokenizer_class": "{example}Tokenizer"}}')


@pytest.mark.parametrize(
    "kind, files, words",
    [
        (None, {}, "it has no tokenizer; copy tokenizer.json, or both vocab.json and merges.txt"),
        (None, {"vocab.json": {}}, "it has vocab.json alone; copy"),
        ("BertTokenizer", {}, "it has no tokenizer; copy tokenizer.json, or vocab.txt, from"),
        ("T5Tokenizer", {"vocab.txt": "a\n"}, "it has no tokenizer; copy tokenizer.json, or spiece.model"),
        ("GPTSw3Tokenizer", {}, "it has no tokenizer; copy spiece.model from the model"),
        ("GPTSw3Tokenizer", {"tokenizer.json": {}}, "it has no tokenizer; copy spiece.model from"),
    ],
)
def test_missing_files_are_named(tmp_path, kind, files, words):
    assert_refused(tmp_path, files | {"tokenizer_config.json": {"tokenizer_class": kind}}, words)


@pytest.mark.parametrize("kind", ["XLNetTokenizer", "MyTokenizer", "", 7, ["BertTokenizer"]])
def test_a_class_that_is_not_known_is_refused_by_name(tmp_path, kind):
    named = {"tokenizer_config.json": {"tokenizer_class": kind}}
    expected = "expected one of GPT2Tokenizer, CodeGenTokenizer, RobertaTokenizer, BertTokenizer, T5Tokenizer"
    words = f"its tokenizer_class is {str(kind)!r}, {expected}, GPTSw3Tokenizer, PreTrainedTokenizerFast; "
    assert_refused(
        tmp_path, of_json(WORDS) | named, words + "from Python, extras.huggingface.loading.load_params"
    )


def test_a_plain_class_without_tokenizer_json_is_refused(tmp_path):
    for kind in ("PreTrainedTokenizerFast", "LlamaTokenizer"):
        named = {"tokenizer_config.json": {"tokenizer_class": kind}}
        assert_refused(
            tmp_path,
            {"vocab.txt": VOCAB_TXT} | named,
            f"it has no tokenizer.json, which its tokenizer_class, {kind.removesuffix('Fast')}, reads",
        )


@pytest.mark.parametrize("typed", ["BertTokenizr", "BertTokeniserFast"])
def test_a_class_that_is_misspelled_gets_a_question(tmp_path, typed):
    named = {"tokenizer_config.json": {"tokenizer_class": typed}}
    kind = typed.removesuffix("Fast")
    assert_refused(
        tmp_path, named, f"its tokenizer_class is '{kind}' (did you mean BertTokenizer?), expected"
    )


def test_a_class_that_does_not_read_the_file_that_is_there_is_named(tmp_path):
    files = {"vocab.txt": VOCAB_TXT, "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"}}
    words = (
        'it has vocab.txt, which its tokenizer_class, GPT2Tokenizer, does not read; write {"tokenizer_class"'
    )
    assert_refused(tmp_path, files, words)


# ---- class and file that contradict each other -------------------------------------------------------------


def test_llama_s_class_is_accepted_only_over_bytes(tmp_path):
    named = {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizerFast"}}
    words = "its tokenizer_class is LlamaTokenizer, but tokenizer.json is not a byte-level BPE"
    assert_refused(tmp_path, of_json(BYTES) | named, words, n_tokens(BYTES))
    over_bytes = files_of("tokenizer.json")
    assert read(tmp_path, over_bytes | named).encode("hello") == read(tmp_path, over_bytes).encode("hello")


@pytest.mark.parametrize(
    "config, said",
    [
        (None, "no file names its tokenizer_class"),
        ({"tokenizer_class": "GPT2Tokenizer"}, "its tokenizer_class is GPT2Tokenizer"),
    ],
)
def test_gpt2_s_class_beside_a_tokenizer_json_of_another_kind_gives_way(tmp_path, capsys, config, said):
    plain = read_json(tmp_path, UNIGRAM, PLAIN)
    assert capsys.readouterr().err == ""
    (tmp_path / "tokenizer_config.json").unlink()
    ours = read_json(tmp_path, UNIGRAM, config)
    assert ours.encode("the fox") == plain.encode("the fox")
    counts = "tokenizer.json is not of GPT-2's kind: tokenizer.json counts"
    assert capsys.readouterr().err == f"{said}, and {counts}\n"


def test_tokens_spelled_in_bytes_that_are_prepared_as_something_else_are_refused(tmp_path):
    files = files_of("tokenizer.json")
    for step, words in ((None, "nothing"), ({"type": "Whitespace"}, "Whitespace")):
        files["tokenizer.json"]["pre_tokenizer"] = step
        words = (
            f"its tokens are spelled in bytes, but it prepares a text by {words}: expected ByteLevel, once"
        )
        assert_refused(tmp_path, files, words)


@pytest.mark.parametrize("config", [PLAIN, BERT, None])
def test_dropout_is_refused(tmp_path, config):
    files = of_json(BYTES, config)
    files["tokenizer.json"]["model"]["dropout"] = 0.1
    words = "model.dropout is 0.1: the same text would have other ids each time"
    assert_refused(tmp_path, files, words, n_tokens(BYTES))
    files["tokenizer.json"]["model"]["dropout"] = 0.0
    files["tokenizer_config.json"] = PLAIN
    assert read(tmp_path, files, n_tokens(BYTES)).encode("the fox")


def test_other_kinds_with_the_plain_class_do_what_tokenizer_json_says(tmp_path):
    for settings, text, tokens in [
        (WORDPIECE, "Foxes", ["fox", "##es"]),
        (UNIGRAM, "the fox", ["▁the", "▁fox"]),
        (WORDS, "the fox", ["the", "fox"]),
        (BYTES, "the fox", ["▁the", "▁fox"]),
    ]:
        ours = read_json(tmp_path, settings, PLAIN)
        assert tokens_of(ours, text) == tokens and ours.tokenizer_class == "PreTrainedTokenizerFast"
        assert ours.special_tokens == {"<s>", "</s>"}


def test_roberta_s_class_is_gpt2_s_with_other_special_tokens(tmp_path):
    files = files_of("vocab.json", added=()) | {
        "tokenizer_config.json": {"tokenizer_class": "RobertaTokenizer"}
    }
    usual = read(tmp_path, files_of("vocab.json"))
    ours = read(tmp_path, files, N_VOCAB + 4)
    assert ours.encode("hello the hen") == usual.encode("hello the hen")
    assert ours.special_tokens == {"<s>", "</s>", "<unk>", "<pad>", "<mask>"}
    files["tokenizer_config.json"]["add_prefix_space"] = True
    ours = read(tmp_path, files, N_VOCAB + 4)
    assert isinstance(ours, PreparedEncoder) and ours.encode("the hen") == usual.encode(" the hen")


# ---- what is missing or of the wrong type ------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [WORDPIECE, UNIGRAM, WORDS, BYTES], ids=["wordpiece", "unigram", "words", "bytes"]
)
@pytest.mark.parametrize("config", [PLAIN, BERT, {"tokenizer_class": "T5Tokenizer"}, {}], ids=str)
def test_any_part_that_is_missing_or_odd_is_refused_in_one_line_or_read(tmp_path, settings, config):
    """Nothing else comes of it than a ModelError or an encoder: no other exception."""
    n_refused = 0
    whole = of_json(settings, config)
    for part in (
        "normalizer",
        "pre_tokenizer",
        "decoder",
        "model",
        "model/vocab",
        "model/type",
        "added_tokens",
    ):
        for value in (..., None, 7, "odd", [], {}, [7], {"type": "Nonsense"}, {"a": "b"}):
            files = copy.deepcopy(whole)
            *above, last = part.split("/")
            parent = files["tokenizer.json"][above[0]] if above else files["tokenizer.json"]
            parent[last] = value
            if value is ...:
                del parent[last]
            try:
                read(tmp_path, files, n_tokens(settings)).encode("the fox")
            except UnicodeError as error:
                assert "\n" not in str(error)
            except ModelError as error:
                assert str(tmp_path) in str(error) and "\n" not in str(error)
                n_refused += 1
    assert n_refused > 20


# ---- Bert's options ----------------------------------------------------------------------------------------

CAPITALS = VOCAB_TXT + "The\nFox\né\ne\nfox狐\n"


@pytest.mark.parametrize(
    "settings, text, tokens",
    [
        ({}, "The Fox", ["the", "fox"]),
        ({"do_lower_case": True}, "The É", ["the", "e"]),
        ({"do_lower_case": False}, "The Fox é", ["The", "Fox", "é"]),
        ({"strip_accents": False}, "É", ["é"]),
        ({"strip_accents": True, "do_lower_case": False}, "The é", ["The", "e"]),
        ({}, "fox狐", ["fox", "狐"]),
        ({"tokenize_chinese_chars": False}, "fox狐", ["fox狐"]),
    ],
)
def test_bert_s_options_are_followed(tmp_path, settings, text, tokens):
    n_vocab = CAPITALS.count("\n") + 4
    assert tokens_of(read(tmp_path, bert(settings, CAPITALS), n_vocab), text) == tokens


def test_bert_s_unknown_token_may_have_another_name(tmp_path):
    renamed = VOCAB_TXT.replace("[UNK]", "<unk>")
    ours = read(tmp_path, bert({"unk_token": "<unk>"}, renamed), len(BERT_TOKENS) + 3)
    assert tokens_of(ours, "the zebra") == ["the", "<unk>"] and "<unk>" in ours.special_tokens


def test_a_word_of_more_than_a_hundred_characters_is_unknown_to_bert_and_texts_begin_with_cls(tmp_path):
    ours = read(tmp_path, bert({}, VOCAB_TXT + "##a\n"), len(BERT_TOKENS) + 4)
    assert tokens_of(ours, "a" * 100) == ["a", *["##a"] * 99] and tokens_of(ours, "a" * 101) == ["[UNK]"]
    assert ours.begin_id == ours.encoder["[CLS]"]


# ---- T5's tokens, in tokenizer.json ------------------------------------------------------------------------


def test_what_is_unknown_has_the_id_in_the_file_where_unk_token_is_no_piece(tmp_path):
    config = {"tokenizer_class": "T5Tokenizer", "unk_token": "<odd>", "extra_ids": 0}
    ours = read(tmp_path, of_json(UNIGRAM, config), n_tokens(UNIGRAM) + 9)
    assert tokens_of(ours, "the zoo") == ["▁the", "▁", "<unk>", "o", "o"]


def test_sentinels_that_a_file_lists_are_all_that_there_are(tmp_path):
    config = {"tokenizer_class": "T5Tokenizer", "additional_special_tokens": ["<extra_id_7>"]}
    ours = read(tmp_path, of_json(UNIGRAM, config), n_tokens(UNIGRAM) + 9)
    assert [token for token in ours.special_tokens if "extra_id" in token] == ["<extra_id_7>"]


def test_texts_of_a_bpe_are_not_cleaned_up(tmp_path):
    clean = PLAIN | {"clean_up_tokenization_spaces": True}
    assert not read_json(tmp_path, BYTES, clean).cleans_up and read_json(tmp_path, UNIGRAM, clean).cleans_up


# ---- vocab.txt ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, tokens",
    [
        ("a\nb\n", {"a": 0, "b": 1}),
        ("a\nb", {"a": 0, "b": 1}),
        ("a\r\nb\r\n", {"a": 0, "b": 1}),
        ("a \nb\t\n", {"a": 0, "b": 1}),
        ("a\n\nb\n", {"a": 0, "": 1, "b": 2}),
        ("a\u2028b\nc\x85\x0cd\n", {"a\u2028b": 0, "c\x85\x0cd": 1}),
        ("a\nb\na\n", {"a": 2, "b": 1}),
    ],
)
def test_a_line_is_a_token_however_it_ends(tmp_path, content, tokens):
    (tmp_path / "vocab.txt").write_bytes(content.encode())
    assert read_vocab_txt(tmp_path / "vocab.txt") == tokens


def test_a_vocab_txt_that_is_not_utf8_is_refused_in_one_line(tmp_path):
    files = bert() | {"vocab.txt": "[UNK]\ncafé\n".encode("latin-1")}
    assert_refused(tmp_path, files, "can't decode byte 0xe9")


def test_a_vocab_txt_of_which_rows_are_missing_gets_names_for_them_and_too_many_tokens_are_refused(tmp_path):
    ours = read(tmp_path, bert({}, VOCAB_TXT + "[CLS]\n[SEP]\n[MASK]\n"), len(BERT_TOKENS) + 5)
    last = len(BERT_TOKENS) + 4
    assert ours.decoder[last] == f"<|unused{last}|>" and ours.decode([last]) == ""
    n_tokens, n_rows = len(BERT_TOKENS), len(BERT_TOKENS) - 1
    words = (
        f"it has {n_tokens} tokens, but its model has {n_rows} rows for them: one of the two is of another"
    )
    assert_refused(tmp_path, bert(), words, n_rows)
