"""Tokenizers trained here, with all that their library has: the ids of transformers, or a true refusal."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from helpers import ROOT
from tokenizer_files import assert_same_texts

from encoder import bytes_to_unicode
from extras.huggingface.other_tokenizers import OtherEncoder
from extras.huggingface.vocabulary import load_encoder
from files import ModelError

N_VOCAB = 1000
STORIES = (ROOT / "tests/stories.txt").read_text("utf-8")
FOREIGN = (
    "Привет! Это сказка. Ça va, Éléonore? 日本語のテキスト。 안녕 👩\u200d🚀🦊 naïve ½ ٣ e\u0301 \ufb01 Ⅳ\n"
)
SPECIAL = ["<|endoftext|>", "<s>", "</s>", "<unk>", "<pad>", "[MASK]", "PAD", "é"]
AWKWARD = [
    *"abcéЯ日🦊½ \t\n\r'’.,!<|>[]0123_-",
    "'s",
    "'LL",
    "  ",
    "\u00a0",
    "\u200d",
    "e\u0301",
    "ﬁ",
    "İ",
    " the",
]
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4_PATTERN = (
    r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def chance(rng, probability):
    return rng.random() < probability


def one(rng, choices):
    return choices[rng.integers(len(choices))]


# ---- what the library has ----------------------------------------------------------------------------------


def normalizer(rng, n):
    """None for most; else one of all that there are, or several."""
    from tokenizers import Regex

    kinds = [
        lambda: n.NFC(),
        lambda: n.NFD(),
        lambda: n.NFKC(),
        lambda: n.NFKD(),
        lambda: n.Lowercase(),
        lambda: n.Strip(),
        lambda: n.StripAccents(),
        lambda: n.Replace("a", "b"),
        lambda: n.Replace(Regex(r"\s+"), " "),
        lambda: n.Prepend("a"),
        lambda: n.BertNormalizer(),
        lambda: n.Nmt(),
        lambda: n.Sequence([]),
        lambda: n.Sequence([n.Sequence([]), n.NFC()]),
        lambda: n.Sequence([n.NFD(), n.StripAccents(), n.Lowercase()]),
        lambda: n.ByteLevel(),
    ]
    return one(rng, kinds)() if chance(rng, 0.25) else None


def byte_level(rng, p):
    return p.ByteLevel(
        add_prefix_space=chance(rng, 0.4), use_regex=chance(rng, 0.85), trim_offsets=chance(rng, 0.5)
    )


def pre_tokenizer(rng, p):
    """Mostly ByteLevel, alone or after others; now and then others alone."""
    from tokenizers import Regex

    kinds = [
        lambda: p.Digits(individual_digits=chance(rng, 0.5)),
        lambda: p.Punctuation(),
        lambda: p.Punctuation(behavior="merged_with_previous"),
        lambda: p.Whitespace(),
        lambda: p.WhitespaceSplit(),
        lambda: p.BertPreTokenizer(),
        lambda: p.CharDelimiterSplit("a"),
        lambda: p.UnicodeScripts(),
        lambda: p.Metaspace(),
        lambda: p.FixedLength(length=5),
        lambda: p.Split(Regex(GPT4_PATTERN), behavior="isolated"),
        lambda: p.Split(Regex(GPT2_PATTERN), behavior="removed", invert=True),
        lambda: p.Split(" ", behavior="merged_with_next"),
    ]
    if chance(rng, 0.6):
        level = byte_level(rng, p)
        return p.Sequence([level]) if chance(rng, 0.2) else level
    others = [one(rng, kinds)() for _ in range(1 + chance(rng, 0.3))]
    if chance(rng, 0.8):
        return p.Sequence([*others, byte_level(rng, p)])
    return one(rng, [None, others[0], p.Sequence([byte_level(rng, p), *others])])


def post_processor(rng, processors, ids):
    """None for most; else each that there is. ids: {special token: id}."""
    if chance(rng, 0.5) or not ids:
        return one(rng, [None, processors.ByteLevel(trim_offsets=chance(rng, 0.5))])
    (first, last), pairs = (one(rng, [*ids]), one(rng, [*ids])), [*ids.items()]
    template = processors.TemplateProcessing(single=f"{first} $A {last}", pair="$A $B", special_tokens=pairs)
    kinds = [
        template,
        processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[]),
        processors.TemplateProcessing(single="$A $A", pair="$A $B", special_tokens=[]),
        processors.BertProcessing((last, ids[last]), (first, ids[first])),
        processors.RobertaProcessing((last, ids[last]), (first, ids[first])),
        processors.Sequence([processors.ByteLevel(), template]),
        processors.Sequence([processors.ByteLevel()]),
    ]
    return one(rng, kinds)


def decoder(rng, d):
    """Mostly ByteLevel."""
    if chance(rng, 0.85):
        return d.ByteLevel()
    return one(rng, [None, d.Sequence([d.ByteLevel()]), d.BPEDecoder(), d.WordPiece(), d.Metaspace()])


def trained(rng):  # -> Tokenizer
    """A BPE, trained on little text."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    special = [one(rng, SPECIAL) for _ in range(rng.integers(4))]
    special = [*dict.fromkeys(special)]
    unknown = one(rng, special) if special and chance(rng, 0.25) else None
    model = models.BPE(
        unk_token=unknown,
        fuse_unk=chance(rng, 0.2),
        byte_fallback=chance(rng, 0.1),
        ignore_merges=chance(rng, 0.1),
        dropout=0.5 if chance(rng, 0.01) else None,
    )
    tokenizer = tokenizers.Tokenizer(model)
    if (prepared := normalizer(rng, normalizers)) is not None:
        tokenizer.normalizer = prepared
    if (cut := pre_tokenizer(rng, pre_tokenizers)) is not None:
        tokenizer.pre_tokenizer = cut
    others = {"continuing_subword_prefix": "##"} if chance(rng, 0.01) else {}
    others |= {"limit_alphabet": int(rng.integers(10, 60))} if chance(rng, 0.1) else {}
    others |= {"max_token_length": 5} if chance(rng, 0.1) else {}
    others |= {"end_of_word_suffix": "</w>"} if chance(rng, 0.01) else {}
    alphabet = one(rng, [pre_tokenizers.ByteLevel.alphabet(), [], ["ж", "a"]])
    trainer = trainers.BpeTrainer(
        vocab_size=int(rng.integers(50, 700)),
        initial_alphabet=alphabet,
        special_tokens=special,
        show_progress=False,
        **others,
    )
    start = rng.integers(len(STORIES) - 4000)
    text = STORIES[start : start + rng.integers(200, 4000)] + FOREIGN * chance(rng, 0.4)
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    tokenizer.post_processor = post_processor(rng, processors, {s: tokenizer.token_to_id(s) for s in special})
    tokenizer.decoder = decoder(rng, decoders)
    return tokenizer


def save(rng, transformers, tokenizer, folder):
    """As people save it: through transformers, as one of two classes, or by the library alone."""
    folder.mkdir()
    way = one(rng, ["PreTrainedTokenizerFast"] * 4 + ["GPT2TokenizerFast"] * 3 + ["library"])
    if way == "library":
        tokenizer.save(str(folder / "tokenizer.json"))
    else:
        settings = {"add_prefix_space": chance(rng, 0.5)} if chance(rng, 0.4) else {}
        getattr(transformers, way)(tokenizer_object=tokenizer, **settings).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))


# ---- the claim ---------------------------------------------------------------------------------------------


def random_texts(rng, special):
    """Pieces of stories, and awkward ones."""
    pieces = [*AWKWARD, *special, *re.findall(r"\s*\S+", STORIES[:2000]), *FOREIGN.split(" ")]
    for _ in range(8):
        yield "".join(one(rng, pieces) for _ in range(rng.integers(1, 25)))
    yield from ("", " ", STORIES[:300])


def lacks_a_byte(theirs, text):  # -> bool
    """Whether the library drops something of this text, because the vocabulary has no token for it."""
    backend = theirs.backend_tokenizer
    text = backend.normalizer.normalize_str(text) if backend.normalizer else text
    known = backend.get_vocab(with_added_tokens=False)
    return any(c not in known for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text) for c in piece)


def assert_same(ours, theirs, rng, counts):
    """The same ids for a text, with special tokens in it and without, and the same text for ids."""
    from tokenizers import decoders

    special = [str(token) for token in theirs.added_tokens_decoder.values()]
    if isinstance(ours, OtherEncoder):
        assert_same_texts(ours, theirs, random_texts(rng, special), N_VOCAB, rng)
        return
    for text in random_texts(rng, special):
        for allowed in ((), "all"):
            wanted = theirs.encode(text, add_special_tokens=False, split_special_tokens=not allowed)
            try:
                assert ours.encode(text, allowed) == wanted, (text, allowed)
                counts["texts"] += 1
            except ValueError as error:
                assert "has no token for" in str(error) and lacks_a_byte(theirs, text), (text, str(error))
                counts["texts with a character that the vocabulary lacks"] += 1
    theirs.backend_tokenizer.decoder = decoders.ByteLevel()  # where none is set, theirs would not be text
    ids = rng.choice([*theirs.get_vocab().values()], size=40).tolist()
    assert ours.decode(ids) == theirs.decode(ids)


def is_true(reason, content):  # str, tokenizer.json -> bool
    """Whether a tokenizer is what a refusal says of it."""
    model, steps = content["model"], types(content["normalizer"]) + types(content["pre_tokenizer"])
    spelled = {*"".join("".join(merge) for merge in model["merges"])}
    return {
        "prepares a text by": steps.count("ByteLevel") != 1 or "Metaspace" in steps,
        "model.dropout": model["dropout"],
        "model.continuing_subword_prefix": model["continuing_subword_prefix"],
        "model.end_of_word_suffix": model["end_of_word_suffix"],
        "have the text once": json.dumps(content["post_processor"]).count('{"Sequence": {"id": "A"') > 2,
        "has a normalizer": content["normalizer"],
        "spelled in bytes": not spelled <= {*bytes_to_unicode().values()},
    }[reason]


REASONS = (
    "prepares a text by",
    "model.dropout",
    "model.continuing_subword_prefix",
    "model.end_of_word_suffix",
)
REASONS += ("have the text once", "has a normalizer", "spelled in bytes")


def types(part):  # -> list of str
    """The kinds of steps in a part of tokenizer.json, in order."""
    if isinstance(part, list):
        return [kind for item in part for kind in types(item)]
    if not isinstance(part, dict) or "type" not in part:
        return []
    inner = [kind for value in part.values() if isinstance(value, list) for kind in types(value)]
    return inner if part["type"] == "Sequence" else [part["type"]]


def reason_of(error, folder):  # -> str
    """Why a tokenizer is refused; asserts that it is so."""
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    reason = next((reason for reason in REASONS if reason in str(error)), None)
    assert reason and is_true(reason, content), error
    return reason


@pytest.mark.parity
def test_a_tokenizer_trained_here_is_that_of_transformers_or_refused_truly(
    transformers, tmp_path, n_fuzz, capfd
):
    refused, counts = Counter(), Counter()
    for seed in range(n_fuzz):
        rng, folder = np.random.default_rng(seed), tmp_path / str(seed)
        save(rng, transformers, trained(rng), folder)
        try:
            ours = load_encoder(str(folder), n_vocab=N_VOCAB, stop_ids=[])
        except ModelError as error:
            refused[reason_of(error, folder)] += 1
            continue
        # of another kind, tokenizer.json counts, even if the class that is named is GPT-2's
        by = (
            transformers.PreTrainedTokenizerFast
            if isinstance(ours, OtherEncoder)
            else transformers.AutoTokenizer
        )
        theirs = by.from_pretrained(folder)
        try:
            assert_same(ours, theirs, rng, counts)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, in {folder}: {error}") from None
        counts[f"read by {type(ours).__name__}"] += 1
        counts["without a token for some byte"] += not ours.encoder.keys() >= {*bytes_to_unicode().values()}
    n_refused = sum(refused.values())
    capfd.readouterr()  # what was said of special tokens around a text
    with capfd.disabled():
        print(f"\n{n_fuzz} trained tokenizers, {n_refused} refused:")
        print(*(f"  {n:5} {reason}" for reason, n in refused.most_common()), sep="\n")
        print("and", *(f"  {n:5} {what}" for what, n in sorted(counts.items())), sep="\n")
    assert n_refused < 0.25 * n_fuzz
    for what in ("read by Encoder", "read by PreparedEncoder", "without a token for some byte"):
        assert counts[what] > 0.2 * n_fuzz, what
