"""Tokenizers of other kinds than GPT-2's: the same ids and the same text as transformers."""

import functools
import itertools
import json
import pickle

import numpy as np
import pytest
from languages import CLEANED, QUOTES, mixed

from encoder import Encoder
from extras.huggingface.vocabulary import load_encoder
from files import ModelError

for library in ("tokenizers", "sentencepiece"):
    pytest.importorskip(library, reason=f"{library}, which trains the tokenizers, is not installed")
from other_tokenizer_files import PLAIN, llamas  # noqa: E402
from other_tokenizer_layouts import LAYOUTS  # noqa: E402

pytestmark = pytest.mark.parity
MORE = ["<|im_start|>", "neues Wort", "ħ", "neues"]  # tokens that a user adds; one begins another


@pytest.fixture(scope="module")
def loaded(transformers, tmp_path_factory):  # -> name of a layout -> layout, folder, ours, theirs
    @functools.cache
    def load(name):
        layout = LAYOUTS[name]()
        folder = layout.write(tmp_path_factory.mktemp("tokenizer"))
        theirs = getattr(transformers, layout.by).from_pretrained(folder)
        named = layout.config.get("tokenizer_class")
        ends = layout.stop_ids, named, layout.begin_id
        correct_unknown(theirs)
        return layout, folder, load_encoder(str(folder), layout.n_vocab, *ends), theirs

    return load


def correct_unknown(theirs):
    """Give whatever is unknown the id of unk_token: transformers 5 has 2 there, which may end a text."""
    if type(theirs).__name__ != "T5Tokenizer":
        return
    content = json.loads(theirs.backend_tokenizer.to_str())
    content["model"]["unk_id"] = theirs.unk_token_id
    theirs._tokenizer = type(theirs.backend_tokenizer).from_str(json.dumps(content))


@pytest.fixture(params=LAYOUTS)
def name(request):
    return request.param


@pytest.fixture
def both(name, loaded):
    layout, _, ours, theirs = loaded(name)
    return layout, ours, theirs


def ids_of(theirs, text):
    return theirs(text, add_special_tokens=False).input_ids


def special_of(theirs, n_vocab):  # -> {content: id}
    added = theirs.added_tokens_decoder.items()
    return {token.content: i for i, token in added if token.special and i < n_vocab}


def encoded(layout, ours, text, *allowed):  # -> ids; None if the vocabulary has no token for a character
    try:
        return ours.encode(text, *allowed)
    except UnicodeError:
        if not layout.lacks:
            raise
        return None


def written(ours, ids):
    """The text of ids without special tokens: an Encoder, whose tokens are bytes, writes these too."""
    hidden = {ours.encoder[token] for token in ours.special_tokens} if isinstance(ours, Encoder) else ()
    return ours.decode([token_id for token_id in ids if token_id not in hidden])


def texts_of(layout, n_fuzz):
    return [*layout.texts, *mixed(layout.language, layout.special, n_fuzz, seed=8)]


def test_a_text_has_the_ids_that_transformers_gives(both, n_fuzz):
    layout, ours, theirs = both
    n_read = 0
    for text in texts_of(layout, n_fuzz):
        ids, wanted = encoded(layout, ours, text, "all"), ids_of(theirs, text)
        if ids is None or max(wanted, default=0) >= layout.n_vocab:  # no model can read that
            continue
        assert ids == wanted, repr(text)
        n_read += bool(ids)
    assert n_read > 40


def test_a_text_without_special_tokens_needs_no_permission(both, n_fuzz):
    layout, ours, theirs = both
    special, n_plain = special_of(theirs, len(theirs)), 0
    for text in texts_of(layout, n_fuzz):
        if not any(token in text for token in special):
            ids = encoded(layout, ours, text)
            assert ids is None or ids == ids_of(theirs, text), repr(text)
            n_plain += 1
    assert n_plain > 40


def test_a_special_token_is_read_as_transformers_reads_plain_text_unless_it_is_allowed(both, n_fuzz):
    layout, ours, theirs = both
    for text in texts_of(layout, n_fuzz):
        ids = encoded(layout, ours, text)
        wanted = theirs(text, add_special_tokens=False, split_special_tokens=True).input_ids
        assert ids is None or ids == wanted or max(wanted) >= layout.n_vocab, repr(text)


def test_what_is_unknown_has_the_id_that_sentencepiece_gives_it(loaded):
    for name, unknown in (("rinna", 0), ("rinna, 1b's order", 1), ("T5's own order", 2)):
        _, _, ours, theirs = loaded(name)
        assert ours.encode("猫が😀")[-1] == unknown == theirs.unk_token_id


def test_ids_of_a_text_become_the_text_that_transformers_writes(both, n_fuzz):
    layout, ours, theirs = both
    for text in texts_of(layout, n_fuzz):
        ids = [i for i in ids_of(theirs, text) if i < layout.n_vocab]
        assert written(ours, ids) == theirs.decode(ids, skip_special_tokens=True), repr(text)


def test_ids_at_random_become_the_text_that_transformers_writes(both, n_fuzz):
    layout, ours, theirs = both
    rng, n_ids = np.random.default_rng(0), min(len(theirs), layout.n_vocab)
    for _ in range(n_fuzz):
        ids = rng.integers(n_ids, size=rng.integers(1, 30)).tolist()
        assert written(ours, ids) == theirs.decode(ids, skip_special_tokens=True), ids
    for token_id in range(n_ids):
        assert written(ours, [token_id]) == theirs.decode([token_id], skip_special_tokens=True), token_id


def test_a_stream_has_a_piece_for_each_id_and_one_for_the_end_and_joined_they_are_the_text(both, n_fuzz):
    layout, ours, theirs = both
    rng, n_ids = np.random.default_rng(1), min(len(theirs), layout.n_vocab)
    rows = [rng.integers(n_ids, size=rng.integers(30)).tolist() for _ in range(n_fuzz)]
    rows += [[i for i in ids_of(theirs, text) if i < layout.n_vocab] for text in layout.texts]
    for ids in rows:
        pieces = [*ours.decode_stream(iter(ids))]
        assert len(pieces) == len(ids) + 1, ids
        assert "".join(pieces) == ours.decode(ids), (ids, pieces)


def test_spaces_are_cleaned_up_in_a_stream_as_in_the_whole(both, n_fuzz):
    layout, ours, theirs = both
    few, ids = ([ours.encoder[t] for t in row if t in ours.encoder] for row in (QUOTES, QUOTES + CLEANED))
    rng, rows = np.random.default_rng(2), []
    if ids:
        rows = [
            rng.choice(row, size=rng.integers(1, 16)).tolist() for row in (few, ids) for _ in range(n_fuzz)
        ]
    if theirs.clean_up_tokenization_spaces:
        rows += map(list, itertools.product(few, repeat=5))
    for row in rows:
        assert written(ours, row) == theirs.decode(row, skip_special_tokens=True), row
        assert "".join(ours.decode_stream(row)) == ours.decode(row), row


def test_a_stream_gives_its_pieces_as_the_ids_come(both):
    layout, ours, theirs = both
    ids = ids_of(theirs, layout.texts[0])
    given = []

    def endless():
        for token_id in itertools.cycle(ids):
            given.append(token_id)
            yield token_id

    stream, pieces = ours.decode_stream(endless()), []
    for n in range(1, 60):
        pieces.append(next(stream))
        assert len(given) == n  # none is read ahead
    shown = [
        i for i in given if ours.decode([i]) != "" or i not in special_of(theirs, layout.n_vocab).values()
    ]
    assert sum(map(bool, pieces)) > len(shown) / 2  # the text does not all wait for the end
    assert ours.decode(given).startswith("".join(pieces))


def test_two_streams_at_once_do_not_disturb_each_other(both):
    layout, ours, theirs = both
    a, b = (ids_of(theirs, text) * 3 for text in layout.texts[:2])
    n = min(len(a), len(b))
    pairs = [*zip(ours.decode_stream(a[:n]), ours.decode_stream(b[:n]))]
    assert "".join(piece for piece, _ in pairs) == ours.decode(a[:n])
    assert "".join(piece for _, piece in pairs) == ours.decode(b[:n])


def test_a_pickled_tokenizer_is_the_same_tokenizer(both):
    layout, ours, theirs = both
    again = pickle.loads(pickle.dumps(ours))
    assert (again.stop_ids, again.begin_id) == (ours.stop_ids, ours.begin_id)
    assert again.special_tokens == ours.special_tokens and again.decoder == ours.decoder
    for text in layout.texts:
        ids = encoded(layout, ours, text, "all")
        assert encoded(layout, again, text, "all") == ids and encoded(layout, again, text) == encoded(
            layout, ours, text
        )
        assert ids is None or again.decode(ids) == ours.decode(ids)


def test_every_row_of_the_embedding_has_a_token_and_they_are_those_of_transformers(both):
    layout, ours, theirs = both
    assert sorted(ours.decoder) == [*range(layout.n_vocab)]
    assert ours.encoder == {token: i for i, token in ours.decoder.items()}
    tokens = {token: i for token, i in theirs.get_vocab().items() if i < layout.n_vocab}
    assert tokens.items() <= ours.encoder.items()


@pytest.mark.parametrize("more", [[], MORE], ids=["as it is", "more tokens"])
def test_what_transformers_saves_is_read_as_transformers_reads_it(loaded, transformers, tmp_path, name, more):
    layout, folder, _, _ = loaded(name)
    theirs = getattr(transformers, layout.by).from_pretrained(folder)
    if more and {*theirs.get_vocab().values()} != {*range(len(theirs))}:
        more = []  # some ids have no token: the library gives new tokens ids that others have
    theirs.add_special_tokens({"additional_special_tokens": more[:1]} if more else {})
    theirs.add_tokens(more[1:])
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    correct_unknown(theirs)
    n_vocab, named = max(layout.n_vocab, len(theirs)), layout.config.get("tokenizer_class")
    ours = load_encoder(str(tmp_path), n_vocab, layout.stop_ids, named, layout.begin_id)
    assert ours.special_tokens == special_of(theirs, n_vocab).keys()
    texts = [*layout.texts, *(f"{text}{token} {token} {text}" for text, token in zip(layout.texts, more * 4))]
    for text in texts:
        ids, wanted = encoded(layout, ours, text, "all"), ids_of(theirs, text)
        assert ids is None or ids == wanted, repr(text)
        assert written(ours, wanted) == theirs.decode(wanted, skip_special_tokens=True), repr(text)
        assert "".join(ours.decode_stream(wanted)) == ours.decode(wanted), repr(text)


def test_every_row_can_be_written(both):
    layout, ours, _ = both
    for token_id in range(layout.n_vocab):
        assert isinstance(ours.decode([token_id]), str)
    for wrong in (-1, layout.n_vocab, "1"):
        with pytest.raises(ValueError):
            ours.decode([wrong])


def test_special_tokens_are_those_of_transformers(both):
    layout, ours, theirs = both
    special = special_of(theirs, layout.n_vocab)
    assert ours.special_tokens == special.keys()
    for token, token_id in special.items():
        assert ours.encode(token, "all") == ours.encode(token, {token}) == ids_of(theirs, token)
        assert token_id in ours.encode(f"a{token}b", "all") or layout.lacks
        assert written(ours, [token_id]) == ""


def test_the_tokens_that_end_and_begin_a_text_are_those_of_the_config(both):
    layout, ours, _ = both
    assert ours.stop_ids == {i for i in layout.stop_ids if i < layout.n_vocab}
    if layout.begin_id is not None and 0 <= layout.begin_id < layout.n_vocab:
        assert ours.begin_id == layout.begin_id


def test_a_class_that_does_not_do_what_tokenizer_json_says_is_refused_or_read_as_it_does(
    transformers, tmp_path
):
    """LlamaTokenizer cuts a text in its own way: "<s>the" gets no space before "the"."""
    layout = llamas(PLAIN | {"tokenizer_class": "LlamaTokenizerFast"})
    layout.write(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    try:
        ours = load_encoder(str(tmp_path), layout.n_vocab, layout.stop_ids, None, layout.begin_id)
    except ModelError as error:
        assert "LlamaTokenizer" in str(error)
        return
    assert [ours.encode(text, "all") for text in layout.texts] == [
        ids_of(theirs, text) for text in layout.texts
    ]


def test_the_layouts_are_read_by_the_classes_that_they_name(loaded, name):
    layout, _, _, theirs = loaded(name)
    named = layout.files.get("tokenizer_config.json", {}).get("tokenizer_class")
    named = named or layout.config.get("tokenizer_class") or layout.by
    named = named.replace("PreTrainedTokenizerFast", "TokenizersBackend").removesuffix("Fast")
    assert type(theirs).__name__ == named
