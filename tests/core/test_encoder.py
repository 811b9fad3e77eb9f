"""The tokenizer: text to ids and back, judged by tiktoken, a plain loop, and hypothesis."""

import json
import math
import multiprocessing
import pickle
import random
import string
import threading
import unicodedata

import numpy as np
import pytest
from helpers import TEXTS, TINY
from hypothesis import example, given, settings
from hypothesis import strategies as st

import utils
from encoder import PIECES, Encoder, bytes_to_unicode, get_encoder, vocabulary
from files import ModelError

END = "<|endoftext|>"
UNKNOWN = ("Cn", "Cs", "Co")  # not yet characters: each library knows those of its Unicode version


@pytest.fixture(scope="session")
def ours(tiny):
    return tiny[0]


def tiktoken_of(folder):
    """tiktoken's gpt2, built from the files of a folder, since its own would be downloaded."""
    load = pytest.importorskip("tiktoken.load", reason="tiktoken, the judge of tokenizers, is not installed")
    import tiktoken

    ranks = load.data_gym_to_mergeable_bpe_ranks(str(folder / "vocab.bpe"), str(folder / "encoder.json"))
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    return tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={END: len(ranks)})


@pytest.fixture(scope="session", params=["tiny", "124M"])
def judged(request):
    """Our tokenizer and tiktoken's, of the same vocabulary."""
    folder = TINY if request.param == "tiny" else request.getfixturevalue("released")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        return get_encoder(str(folder), "models"), tiktoken_of(folder)


def test_bytes_to_unicode_is_a_visible_character_for_every_byte():
    table = bytes_to_unicode()
    assert sorted(table) == list(range(256)) and len(set(table.values())) == 256
    assert all(character.isprintable() and not character.isspace() for character in table.values())
    assert (
        table[ord("a")] == "a" and table[ord(" ")] == "Ġ" and table[ord("\n")] == "Ċ" and table[0xAD] == "Ń"
    )


def test_the_order_of_bytes_is_that_of_the_first_ids(judged):
    ours, _ = judged
    assert [ours.encoder[character] for character in bytes_to_unicode().values()] == list(range(256))


# ---- tiktoken is the judge ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_literal_texts_get_the_ids_of_tiktoken(judged, text):
    ours, theirs = judged
    assert ours.encode(text) == theirs.encode(text, disallowed_special=())
    assert ours.encode(text, allowed_special="all") == theirs.encode(text, allowed_special="all")
    assert ours.decode(ours.encode(text)) == text


def test_every_id_is_the_bytes_of_tiktoken_and_its_text_gets_the_same_ids(judged):
    ours, theirs = judged
    for token_id in range(theirs.n_vocab):
        token = ours.token_bytes(token_id)
        assert token == theirs.decode_bytes([token_id])
        text = token.decode("utf-8", "replace")
        assert ours.encode(text) == theirs.encode(text, disallowed_special=()), token_id
        if token_id != ours.encoder[END] and text.encode() == token:
            assert ours.bpe(text) == [token_id]


def test_every_character_gets_the_ids_of_tiktoken(judged):
    ours, theirs = judged
    known = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in UNKNOWN]
    for start in range(0, len(known), 64):
        text = "".join(f"{c}a {c}1{c}'s" for c in known[start : start + 64])
        assert ours.encode(text) == theirs.encode(text, disallowed_special=()), hex(ord(known[start]))


def cut_as(ours, text, character, kind):
    """The ids of a text in which a character is taken for one of another kind: letter, number, or symbol."""
    pieces = PIECES.findall(text.replace(character, kind))
    return [i for piece in pieces for i in ours.bpe(piece.replace(kind, character))]


def test_new_characters_differ_from_tiktoken_only_where_it_takes_them_for_another_kind(judged):
    """Each library knows the letters of its own Unicode version; to an older one the newest are symbols."""
    ours, theirs = judged
    new = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) == "Cn"]
    for start in range(0, len(new), 256):
        texts = {c: f"a{c}'s" for c in new[start : start + 256]}
        whole = "".join(texts.values())
        if ours.encode(whole) == theirs.encode(whole, disallowed_special=()):
            continue
        for c, text in texts.items():
            text = f"it{text} {c}1 {c}"
            ids = theirs.encode(text, disallowed_special=())
            if ids != ours.encode(text):
                assert ids in [cut_as(ours, text, c, kind) for kind in "Ж½€"], hex(ord(c))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(st.characters(exclude_categories=UNKNOWN)),
        st.text(alphabet="ab'sST e\n\t1é😀<|>", max_size=60),
    )
)
@example(END)
def test_any_text_gets_the_ids_of_tiktoken_and_comes_back(judged, text):
    ours, theirs = judged
    ids = ours.encode(text)
    assert ids == theirs.encode(text, disallowed_special=())
    assert ours.decode(ids) == text


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_row_of_tokens_gets_the_ids_of_tiktoken(judged, data):
    ours, theirs = judged
    ids = data.draw(st.lists(st.integers(0, len(ours.encoder) - 2), max_size=20))
    text = theirs.decode(ids)
    assert ours.decode(ids) == text
    assert ours.encode(text) == theirs.encode(text, disallowed_special=())


@pytest.mark.parametrize("character", ["^", "0", "a", "'s", " ", "\n", "é", "🦊", "ab", " a"])
@pytest.mark.parametrize("ends", ["", " {}", "{}\n", " {} x"])
def test_long_runs_get_the_ids_of_tiktoken(judged, character, ends):
    ours, theirs = judged
    text = (ends or "{}").format(character * 10_000)
    assert ours.encode(text) == theirs.encode(text, disallowed_special=())


def test_a_long_word_of_random_letters_gets_the_ids_of_tiktoken(judged):
    ours, theirs = judged
    word = "".join(random.Random(0).choices(string.ascii_letters, k=100_000))
    assert ours.encode(word) == theirs.encode(word, disallowed_special=())


@pytest.mark.parametrize(
    "text", ["\ud800", "a\udfffb", "\ud83e\udd8a", "\udd8a\ud83e", "\ud83e\ud83e\udd8a", "\ud800é"]
)
def test_lone_surrogates_are_read_as_tiktoken_reads_them(judged, text):
    ours, theirs = judged
    assert ours.encode(text) == theirs.encode(text, disallowed_special=())


# ---- what needs no judge -----------------------------------------------------------------------------------


def plain_bpe(encoder, piece):
    """Merge the leftmost pair of the lowest rank until no pair has one: short, and slow for a long piece."""
    tokens = [encoder.byte_encoder[byte] for byte in piece.encode()]
    while True:
        ranks = [encoder.bpe_ranks.get(pair, math.inf) for pair in zip(tokens, tokens[1:])]
        if min(ranks, default=math.inf) == math.inf:
            return [encoder.encoder[token] for token in tokens]
        i = ranks.index(min(ranks))
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abcdehinorst ", min_size=1, max_size=60) | st.text(min_size=1, max_size=60))
def test_bpe_is_the_plain_way_only_faster(ours, piece):
    assert ours.bpe(piece) == plain_bpe(ours, piece)
    tokens = [ours.byte_encoder[byte] for byte in piece.encode()]
    assert ours.merge(tokens) == ours.merge_long(tokens)


def test_known_ids(released):
    ours = get_encoder("124M", released.parent)
    assert ours.encode("Hello, world") == [15496, 11, 995]
    assert ours.encode("hello world") == [31373, 995]
    assert [ours.encode("0" * n) for n in range(1, 5)] == [[15], [405], [830], [2388]]
    prompt = "Alan Turing theorized that computers would one day become"
    assert ours.encode(prompt) == [36235, 39141, 18765, 1143, 326, 9061, 561, 530, 1110, 1716]


def test_special_tokens_are_plain_text_unless_allowed(ours):
    text, end = f"one{END}two{END}", ours.encoder[END]
    assert end not in ours.encode(text) and ours.decode(ours.encode(text)) == text
    for allowed in ("all", {END}, [END]):
        assert ours.encode(text, allowed_special=allowed) == [
            *ours.encode("one"),
            end,
            *ours.encode("two"),
            end,
        ]
    for unknown in ({"<|pad|>"}, END):
        with pytest.raises(
            ValueError, match=r"allowed_special is .*expected 'all' or some of \['<\|endoftext\|>'\]"
        ):
            ours.encode(text, allowed_special=unknown)


def test_of_special_tokens_that_begin_alike_the_longest_is_taken():
    tokens = {character: i for i, character in enumerate(bytes_to_unicode().values())} | {
        "<a>": 256,
        "<a><é b>": 257,
    }
    ours = Encoder(tokens, [])
    assert ours.encode("<a><é b>x<a>", allowed_special="all") == [257, tokens["x"], 256]
    assert ours.decode([257, 256]) == "<a><é b><a>"


def with_added(*added, **options):  # -> Encoder without merges; the added tokens have the ids 256, 257 ...
    tokens = [*bytes_to_unicode().values(), *added]
    return Encoder({token: i for i, token in enumerate(tokens)}, [], **options)


def test_a_later_group_of_special_tokens_is_looked_for_in_what_the_earlier_ones_leave():
    a, b, c = map(ord, "abc")
    a, b, c = (i - ord("!") for i in (a, b, c))
    assert with_added("ab", "bc", added_groups=[{"ab", "bc"}]).encode("abc", "all") == [256, c]
    ours = with_added("ab", "bc", "abcab", added_groups=[{"bc"}, {"ab", "abcab"}])
    assert ours.encode("abc", "all") == [a, 257] == ours.encode("abc", {"bc"})
    assert ours.encode("ab", "all") == [256] and ours.encode("abc", {"ab"}) == [256, c]
    assert ours.encode("abcab", "all") == [a, 257, 256] and ours.encode("abcab", {"abcab"}) == [258]
    ours = with_added("ab", "cabc", added_groups=[{"cabc"}, {"ab"}])
    assert ours.encode("abcabc", "all") == [256, 257]  # a special token is not cut again
    assert ours.special_tokens == {"ab", "cabc"}


def test_an_added_token_that_is_not_special_is_always_seen():
    ours = with_added("<a>", "word", added_groups=[{"<a>", "word"}], special_tokens={"<a>"})
    assert ours.encode("word") == [257] and 256 not in ours.encode("<a>word")
    assert ours.encode("<a>word", "all") == [256, 257] and ours.decode([256, 257]) == "<a>word"
    assert ours.special_tokens == {"<a>"} and ours.added_tokens == {"<a>", "word"}


def test_what_a_token_covers_that_is_not_allowed_stays_text():
    ours = with_added("<a><b>", "b><", added_groups=[{"<a><b>", "b><"}], special_tokens={"<a><b>"})
    assert ours.encode("<a><b><") == with_added().encode("<a><b><")
    assert ours.encode("<a ><b><")[-1] == 257


def test_thousands_of_added_tokens_take_no_time():
    words = [f"<word {i}>" for i in range(20_000)]
    ours = with_added(*words, special_tokens=[])
    assert ours.encode("a<word 7><word 70>" * 1000)[1:3] == [263, 326]


def test_a_text_is_never_tokenized_without_a_character_that_the_vocabulary_lacks():
    tokens = {character: i for i, character in enumerate("Ġabcé")}
    ours = Encoder(tokens, [])
    assert ours.encode("a b") == [1, 0, 2] and ours.begin_id is None and ours.stop_ids == set()
    lacking = {
        "abz": "'z' (byte 0x7a)",
        "é": "'é' (byte 0xc3)",
        "a\n": r"'\n' (byte 0x0a)",
        "a🦊": "'🦊' (byte 0xf0)",
    }
    for text, character in lacking.items():
        for whole in (text, text.replace("a", "a" * 100)):
            with pytest.raises(ValueError) as caught:
                ours.encode(whole)
            assert str(caught.value) == f"the model's vocabulary has no token for {character}: leave it out"


def test_an_encoder_can_be_pickled_and_the_pickle_is_small(ours):
    usual, pickled = ours.encode("one two<|endoftext|>", "all"), pickle.dumps(ours)
    copy = pickle.loads(pickled)
    assert (
        copy.encode("one two<|endoftext|>", "all") == usual and copy.decode(usual) == "one two<|endoftext|>"
    )
    assert (copy.stop_ids, copy.begin_id, copy.errors) == (ours.stop_ids, ours.begin_id, ours.errors)
    for word in range(3000):  # the cache of words is left out
        ours.encode(f" word{word}")
    assert len(pickle.dumps(ours)) == len(pickled) < 40 * len(ours.encoder)
    given = with_added(
        "<a>",
        "b",
        stop_tokens=["b"],
        begin_token="<a>",
        added_groups=[{"<a>"}, {"b"}],
        special_tokens=["<a>"],
    )
    copy = pickle.loads(pickle.dumps(given))
    assert (copy.stop_ids, copy.begin_id, copy.added_groups) == ({257}, 256, [{"<a>"}, {"b"}])
    assert copy.special_tokens == {"<a>"}


def test_processes_can_share_the_work_of_encoding(ours):
    texts = ["The little fox", "Once upon a time", "É 🦊"]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(ours.encode, texts) == [ours.encode(text) for text in texts]


def test_a_token_that_no_group_has_is_plain_text():
    ours = with_added("<pad>", "<a>", added_groups=[{"<a>"}])
    assert ours.encode("<pad><a>", "all") == [*ours.encode("<pad>"), 257] and ours.decode([256]) == "<pad>"
    with pytest.raises(ValueError, match=r"expected 'all' or some of \['<a>'\]"):
        ours.encode("a", {"<pad>"})
    assert with_added("<pad>", added_groups=[]).special_tokens == set()


def test_a_special_token_that_spells_bytes_is_decoded_as_their_text():
    """As in tokenizers, but for "naïve" and its like: there, ï is the byte 0xEF, which is not UTF-8, and the
    token becomes "na\ufffdve". A person expects the word.
    """
    ours = with_added("Ġq", "Ã©a", "naïve", "Ġ q")
    assert ours.decode([256, 257]) == " qéa" == "".join(ours.decode_stream([256, 257]))
    assert ours.decode([258, 259]) == "naïveĠ q"
    assert ours.encode("Ġq q", "all")[0] == 256  # the text that is looked for is the token's name


def test_a_text_that_cannot_fit_is_refused_before_it_is_cut(ours, monkeypatch):
    for name in ("cut", "encode_plain"):
        monkeypatch.setattr(ours, name, lambda *arguments: pytest.fail("tokenized"))
    sees = f"the model sees 256 tokens of at most {max(map(len, ours.encoder))} characters"
    with pytest.raises(ValueError, match=f"^the text has 10,000,000 characters, but {sees}: shorten it$"):
        ours.encode("a b c d e " * 1_000_000, n_most=256)


def test_a_text_is_refused_by_its_length_only_if_it_cannot_fit_whatever_its_tokens_are(ours):
    longest = max(ours.encoder, key=len)
    text = "".join(chr(ours.byte_decoder[character]) for character in longest)
    for encoder in (ours, with_added("two long words")):
        text = text if encoder is ours else "two long words"
        assert len(encoder.encode(text * 3, "all", n_most=3)) == 3
        with pytest.raises(ValueError, match="shorten it"):
            encoder.encode(text * 3 + "a", n_most=3)
    assert len(ours.encode("zq" * 5, n_most=5)) > 5  # it may fit; whoever calls counts the ids
    assert ours.encode("", n_most=0) == [] and len(ours.encode("a" * 10_000)) > 0


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_pieces_of_a_stream_joined_are_the_text(ours, data):
    ids = data.draw(st.lists(st.integers(0, len(ours.encoder) - 1)))
    assert "".join(ours.decode_stream(iter(ids))) == ours.decode(ids)
    text = data.draw(st.text())
    assert "".join(ours.decode_stream(iter(ours.encode(text)))) == text


def test_a_stream_gives_whole_characters_as_soon_as_they_are_whole(ours):
    ids = ours.encode("a🦊é")
    assert len(ids) > 3
    pieces = list(ours.decode_stream(ids))
    assert [piece for piece in pieces if piece] == ["a", "🦊", "é"]
    assert pieces.index("é") == len(ids) - 1


def test_errors_says_what_becomes_of_bytes_that_are_no_text(ours):
    broken = ours.encode("é")[:1]
    assert ours.decode(broken) == "\ufffd" == "".join(ours.decode_stream(broken))
    strict = Encoder(ours.encoder, ours.bpe_ranks, errors="strict")
    with pytest.raises(UnicodeDecodeError):
        strict.decode(broken)
    with pytest.raises(UnicodeDecodeError):
        list(strict.decode_stream(broken))


@pytest.mark.parametrize("wrong", [-1, 4000, 1.0, "a", None])
def test_what_is_no_id_is_refused(ours, wrong):
    with pytest.raises(ValueError, match="is not an id: ids run from 0 to 3999"):
        ours.decode([wrong])
    with pytest.raises(ValueError, match="is not an id"):
        list(ours.decode_stream([wrong]))


def test_ids_may_be_numpys(ours):
    ids = ours.encode("The fox")
    assert ours.decode(np.array(ids, dtype=np.uint16)) == "The fox"
    assert all(type(i) is int for i in ids)


@pytest.mark.parametrize("wrong", [b"bytes", None, 42, ["text"]])
def test_what_is_no_text_is_refused(ours, wrong):
    with pytest.raises(TypeError, match=f"is of type {type(wrong).__name__}, not str"):
        ours.encode(wrong)


class Counting(dict):
    """A dict that counts how often it is asked."""

    n_asked = 0

    def get(self, *arguments):
        self.n_asked += 1
        return super().get(*arguments)


def test_a_word_ten_times_as_long_costs_about_ten_times_as_much(ours):
    def cost(word):
        counting = Encoder(ours.encoder, list(ours.bpe_ranks))
        counting.bpe_ranks = Counting(counting.bpe_ranks)
        counting.encode(word)
        return counting.bpe_ranks.n_asked

    for word in ("".join(random.Random(0).choices(string.ascii_lowercase, k=20_000)), "a" * 20_000):
        assert cost(word) < 11 * cost(word[:2_000]) and cost(word) < 12 * len(word)


def test_the_word_cache_is_bounded_in_words_and_in_length(ours):
    ours.cached_bpe.cache_clear()
    text = " ".join(map(str, range(40_000))) + " " + "z" * 65
    ours.encode(text)
    info = ours.cached_bpe.cache_info()
    assert info.currsize == info.maxsize == 2**15
    assert ours.decode(ours.encode(text)) == text
    before = ours.cached_bpe.cache_info()
    ours.encode("z" * 65)
    assert ours.cached_bpe.cache_info() == before


def test_many_threads_get_what_one_gets(ours):
    texts = ["".join(random.Random(i).choices("abc de'sé🦊\n", k=2_000)) for i in range(8)]
    wanted, got = [ours.encode(text) for text in texts], [None] * len(texts)
    shared = Encoder(ours.encoder, list(ours.bpe_ranks))

    def work(i):
        got[i] = shared.encode(texts[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == wanted


# ---- files -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for name in ("hparams.json", "encoder.json", "vocab.bpe"):
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    return tmp_path


def test_windows_line_ends_and_a_missing_last_one_do_no_harm(folder, ours):
    text = (folder / "vocab.bpe").read_bytes()
    variants = [text.replace(b"\n", b"\r\n"), text.rstrip(b"\n"), text.partition(b"\n")[2]]
    variants += [text.replace(b"\n", b" \n"), text.replace(b"\nt h\n", b"\n t\th \n"), text + b" \n\n"]
    for variant in variants:
        (folder / "vocab.bpe").write_bytes(variant)
        assert get_encoder(str(folder), "models").bpe_ranks == ours.bpe_ranks


def test_merges_cut_short_are_refused_wherever_they_are_cut(folder):
    whole = (folder / "vocab.bpe").read_bytes()
    for n_bytes in range(len(whole) - 2, 0, -97):
        (folder / "vocab.bpe").write_bytes(whole[:n_bytes])
        with pytest.raises(ModelError, match=r"vocab\.bpe"):
            get_encoder(str(folder), "models")


def change(folder, function):
    encoder = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps(function(encoder)))


def merges(folder, function):
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    (folder / "vocab.bpe").write_text("\n".join([lines[0], *function(lines[1:])]), encoding="utf-8")


DIFFERENT = r"encoder\.json: its ids are not those made by the 3,743 merges in vocab\.bpe"
NO_OBJECT = r"encoder\.json: expected a JSON object, not "


def swap(mapping, a, b):
    return mapping | {a: mapping[b], b: mapping[a]}


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f: change(f, lambda e: {k: v for k, v in e.items() if k != "the"}), DIFFERENT),
        (lambda f: change(f, lambda e: {k: v for k, v in e.items() if k != END}), DIFFERENT),
        (lambda f: change(f, lambda e: e | {"qqq": 4000}), DIFFERENT),
        (lambda f: change(f, lambda e: e | {"a": e["b"]}), DIFFERENT),
        (lambda f: change(f, lambda e: e | {"a": "64"}), DIFFERENT),
        (lambda f: change(f, lambda e: e | {"a": 64.5}), DIFFERENT),
        (lambda f: change(f, lambda e: 42), NO_OBJECT),
        (lambda f: change(f, lambda e: swap(e, "Ġthe", "Ġhe")), DIFFERENT),
        (lambda f: change(f, lambda e: swap(e, END, ".")), DIFFERENT),
        (lambda f: change(f, lambda e: list(e)), NO_OBJECT),
        (lambda f: merges(f, sorted), "not a new pair of earlier tokens"),
        (lambda f: merges(f, lambda lines: lines[::-1]), "not a new pair of earlier tokens"),
        (lambda f: merges(f, lambda lines: [*lines, lines[0]]), "merge 3744 is 'Ġ t', not a new pair"),
        (lambda f: merges(f, lambda lines: [*lines, "日 本"]), "merge 3744 is '日 本', not a new pair"),
        (lambda f: merges(f, lambda lines: ["a b c", *lines]), "merge 1 is 'a b c', not a new pair"),
        (lambda f: merges(f, lambda lines: lines[:900]), "not those made by the 900 merges in"),
        (
            lambda f: (f / "encoder.json").write_bytes((TINY / "encoder.json").read_bytes()[:-9]),
            r"encoder\.json",
        ),
        (lambda f: (f / "encoder.json").write_text("<html>Not found</html>"), r"encoder\.json"),
        (lambda f: (f / "encoder.json").write_text("[" * 100_000), r"encoder\.json"),
        (
            lambda f: (f / "vocab.bpe").write_text("<html>\n<body>Not found</body></html>"),
            "merge 1 is '<html>'",
        ),
        (lambda f: (f / "vocab.bpe").write_bytes(b"\xff\xfe"), r"vocab\.bpe: 'utf-8' codec"),
        (lambda f: (f / "vocab.bpe").unlink(), r"vocab\.bpe: missing"),
    ],
)
def test_a_vocabulary_that_is_not_whole_is_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ModelError, match=message) as caught:
        utils.open_model(str(folder), "models")
    assert "\n" not in str(caught.value)


def test_a_token_that_merges_make_may_be_special_and_is_decoded_as_ever():
    merges = [("h", "e"), ("Ġ", "he")]
    ids = vocabulary(merges)
    special = {"he", "Ġhe", "<|endoftext|>"}
    encoder = Encoder(ids, merges, stop_tokens=["he", "none"], added_groups=[special])
    he, space_he = ids["he"], ids["Ġhe"]
    assert encoder.stop_ids == {he} and encoder.special_tokens == special
    assert encoder.encode("a hehe") == [ids["a"], space_he, he]
    assert encoder.encode("a he", ["he"]) == [ids["a"], ids["Ġ"], he]
    assert encoder.decode([space_he, he]) == " hehe"
