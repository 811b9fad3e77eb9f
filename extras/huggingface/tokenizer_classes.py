"""The classes of tokenizers in transformers: the files that each reads, and what it makes of them.

A class such as PreTrainedTokenizerFast does what tokenizer.json says. The others take little more than the
tokens from the files, and prepare a text in a way of their own. Here that way, too, is written in the terms
of tokenizer.json, so that whoever uses a tokenizer need not know its class.

(tokenization_gpt2.py, _roberta.py, _bert.py, _t5.py and _gpt_sw3.py of transformers)
"""

from encoder import END_OF_TEXT, read_merges
from extras.huggingface.added_tokens import EXTRA, as_token
from extras.huggingface.hub import find_file
from extras.huggingface.prepared import AFFIXES, BYTE_LEVEL, GPT2, as_gpt2s, is_byte_level, is_usual, steps_of
from extras.huggingface.sentencepiece_files import read_spiece
from files import AGAIN, ModelError, read_json, read_small, say, shown, similar

# names of classes have no Fast at their end here: with it or without it, transformers 5 reads them alike
PLAIN = ["PreTrainedTokenizer", "TokenizersBackend"]  # these do what tokenizer.json says
IF_BYTE_LEVEL = ["LlamaTokenizer"]  # so does this one, if tokenizer.json is a byte-level BPE
GPT2_TOKENS = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
ROBERTA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>"}
BERT_TOKENS = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
T5_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
USUAL = {  # {class: the tokens that fields such as pad_token name, where no file says it}
    "GPT2Tokenizer": GPT2_TOKENS,
    "CodeGenTokenizer": GPT2_TOKENS,
    "RobertaTokenizer": ROBERTA_TOKENS | {"pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>"},
    "BertTokenizer": BERT_TOKENS | {"cls_token": "[CLS]", "mask_token": "[MASK]"},
    "T5Tokenizer": T5_TOKENS,
    "GPTSw3Tokenizer": T5_TOKENS | {"bos_token": "<s>", "eos_token": END_OF_TEXT},
}
SAME = {  # {class: others that transformers 5 takes for it}
    "BertTokenizer": ["ElectraTokenizer", "MobileBertTokenizer", "LayoutLMTokenizer", "SqueezeBertTokenizer"],
    "RobertaTokenizer": ["BartTokenizer", "LongformerTokenizer", "LEDTokenizer"],
}
FILES = {"BertTokenizer": ["vocab.txt"], "T5Tokenizer": ["spiece.model"], "GPTSw3Tokenizer": ["spiece.model"]}
OF_GPT2 = ["vocab.json", "merges.txt"]
WEIGHTS_ALONE = "from Python, extras.huggingface.loading.load_params reads its weights alone"
WORDPIECE = {  # the same in all models of BertTokenizer
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "model": {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100},
}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
UNIGRAM = {  # the same in all models of T5Tokenizer
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]},
    "decoder": METASPACE,
}
N_SENTINELS, MOST_SENTINELS = 100, 10_000  # of T5Tokenizer: where no file says how many, and at most


def class_of(config, tokenizer_class):  # -> str, or None where no file says it
    """The class of a tokenizer. config: of tokenizer_config.json; tokenizer_class: that of config.json."""
    named = config.get("tokenizer_class")
    kind = tokenizer_class if named is None else named
    if kind is None:
        return None
    kind = str(kind).removesuffix("Fast")
    return next((usual for usual, others in SAME.items() if kind in others), kind)


def files_for(model, kind):  # -> names
    """The files from which a class reads the tokens."""
    if kind != "GPTSw3Tokenizer" and find_file(model, "tokenizer.json"):
        return ["tokenizer.json"]
    return FILES.get(kind, OF_GPT2)


def read_files(model, names, kind):  # -> content as in tokenizer.json
    """The tokens in the files of these names; see `files_for`.

    Raises ModelError if they are not there, and for a class that is not supported.
    """
    has_json = names == ["tokenizer.json"]
    check_class(model, kind, has_json)
    paths = {name: path for name in names if (path := find_file(model, name))}
    if len(paths) < len(names):
        raise incomplete(model, names, paths, kind)
    first = paths[names[0]]
    if has_json:
        return read_json(first)
    if names == OF_GPT2:
        return as_gpt2s(read_json(first), read_merges(paths["merges.txt"]))
    if kind == "BertTokenizer":
        return {"model": {"type": "WordPiece", "vocab": read_vocab_txt(first)}}
    return read_spiece(first)


def check_class(model, kind, has_json):
    """Raise ModelError for a class that is not known, or that needs a tokenizer.json where there is none."""
    is_plain = kind in PLAIN + IF_BYTE_LEVEL
    if kind in (None, *USUAL) or has_json and is_plain:
        return
    if is_plain:
        problem = f"it has no tokenizer.json, which its tokenizer_class, {kind}, reads"
        raise ModelError(model, problem, "copy it from the model that was trained")
    known = [*USUAL, "PreTrainedTokenizerFast"] if has_json else [*USUAL]
    question = "".join(f" (did you mean {name}?)" for name in similar(kind, known, least=0.9)[:1])
    problem = f"its tokenizer_class is {shown(repr(kind))}{question}, expected one of {', '.join(known)}"
    raise ModelError(model, problem, WEIGHTS_ALONE)


def incomplete(model, names, paths, kind):  # -> ModelError
    """What is wrong where files of a tokenizer are missing. names: those that its class, `kind`, reads."""
    others = [name for name in ("vocab.txt", "spiece.model") if find_file(model, name)]
    if others and names == OF_GPT2 and not paths:
        problem = f"it has {others[0]}, but no file says which class its tokenizer is"
        if kind:
            problem = f"it has {others[0]}, which its tokenizer_class, {kind}, does not read"
        example = "BertTokenizer" if others[0] == "vocab.txt" else "T5Tokenizer"
        advice = f'write {{"tokenizer_class": "{example}"}}, or whichever it is, into tokenizer_config.json'
        return ModelError(model, problem, advice)
    found = [*paths] or [name for name in ["tokenizer.model"] if find_file(model, name)]
    there = f"{', '.join(found)} alone" if found else "no tokenizer"
    wanted = f"both {' and '.join(names)}" if len(names) > 1 else names[0]
    wanted = wanted if kind == "GPTSw3Tokenizer" else f"tokenizer.json, or {wanted},"
    return ModelError(model, f"it has {there}", f"copy {wanted} from the model that was trained")


def read_vocab_txt(path):  # -> {token: id}
    """The tokens in a file, one a line. Raises ModelError if it is empty, or not UTF-8."""
    try:
        lines = read_small(path).split("\n")
    except UnicodeDecodeError as error:
        raise ModelError(path, error, AGAIN) from None
    lines = lines if lines[-1] else lines[:-1]
    if not lines:
        raise ModelError(path, "it is empty", AGAIN)
    return {line.rstrip(): token_id for token_id, line in enumerate(lines)}


# ---- what a class makes of the tokens ----------------------------------------------------------------------


def as_class_does(tokenizer, config, kind, n_vocab):  # -> content of tokenizer.json, usual tokens or None
    """A tokenizer that prepares a text as its class in transformers 5 does.

    config: the fields of tokenizer_config.json; n_vocab: rows of the embedding; usual: see `added_tokens`.
    Raises ValueError where the class and tokenizer.json contradict each other.
    """
    if kind in PLAIN + IF_BYTE_LEVEL:
        if kind in IF_BYTE_LEVEL and not is_byte_level(tokenizer):
            raise ValueError(f"its tokenizer_class is {kind}, but tokenizer.json is not a byte-level BPE")
        return tokenizer, None
    if kind == "BertTokenizer":
        return as_bert_does(tokenizer, config), USUAL[kind]
    if kind == "T5Tokenizer":
        return as_t5_does(tokenizer, config, n_vocab), USUAL[kind]
    if kind == "GPTSw3Tokenizer":
        return tokenizer, USUAL[kind]
    return as_gpt2_does(tokenizer, config, kind)


def as_gpt2_does(tokenizer, config, kind):  # -> content of tokenizer.json, usual tokens or None
    """A class of byte-level tokenizers takes its settings from add_prefix_space, not from tokenizer.json.

    Some models name GPT-2's class, or none, beside a tokenizer.json of another kind, as transformers 4 let
    them: there tokenizer.json counts.
    """
    if not is_byte_level(tokenizer):
        check_spelling(tokenizer)
        named = f"its tokenizer_class is {kind}" if kind else "no file names its tokenizer_class"
        say(f"{named}, and tokenizer.json is not of GPT-2's kind: tokenizer.json counts")
        return tokenizer, None
    kind, model = kind or "GPT2Tokenizer", tokenizer["model"]
    is_cut_as_usual = is_usual(steps_of(tokenizer, "pre_tokenizer"))
    if steps_of(tokenizer, "normalizer") or model.get("ignore_merges") or not is_cut_as_usual:
        found = "tokenizer.json does not prepare a text as its tokenizer_class"
        say(f"{found}, {kind}, does: the class counts, as in transformers 5")
    space = {"add_prefix_space": bool(config.get("add_prefix_space"))}
    model = GPT2["model"] | {"vocab": model["vocab"], "merges": model["merges"]}
    settings = {"normalizer": None, "pre_tokenizer": BYTE_LEVEL | space, "model": model}
    return tokenizer | settings, USUAL[kind]


def check_spelling(tokenizer):
    """Raise ValueError for tokens spelled in bytes where no text is: all would be unknown."""
    if "Ġ" in tokenizer["model"]["vocab"]:
        affix = next((affix for affix in AFFIXES if tokenizer["model"].get(affix)), None)
        if affix:
            found = f"model.{affix} is {shown(repr(tokenizer['model'][affix]))}"
            raise ValueError(f"{found}, expected '' as in GPT-2")
        steps = steps_of(tokenizer, "normalizer") + steps_of(tokenizer, "pre_tokenizer")
        kinds = ", ".join(str(step["type"]) for step in steps) or "nothing"
        found = f"its tokens are spelled in bytes, but it prepares a text by {kinds}"
        raise ValueError(f"{shown(found)}: expected ByteLevel, once, as in GPT-2")


def as_bert_does(tokenizer, config):  # -> content of tokenizer.json
    """Words at spaces, punctuation and Chinese characters, in lower case by default; then WordPiece."""
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
        "strip_accents": config.get("strip_accents"),
        "lowercase": config.get("do_lower_case", True),
    }
    unknown, cls, sep = (named_token(config, "BertTokenizer", name) for name in ("unk", "cls", "sep"))
    vocabulary = tokenizer["model"]["vocab"]
    if unknown not in vocabulary:
        raise ValueError(
            f"its unk_token, {shown(repr(unknown))}, is not among its {len(vocabulary):,} tokens"
        )
    around = {"type": "BertProcessing", "cls": [cls, 0], "sep": [sep, 0]}
    model = WORDPIECE["model"] | {"unk_token": unknown, "vocab": vocabulary}
    settings = {"normalizer": normalizer, "post_processor": around, "model": model}
    return tokenizer | WORDPIECE | settings


def named_token(config, kind, name):  # class, "unk" -> str
    """The token that a field such as unk_token names, by default the usual one of the class."""
    field = f"{name}_token"
    return as_token(config.get(field) or USUAL[kind][field])["content"]


def as_t5_does(tokenizer, config, n_vocab):  # -> content of tokenizer.json
    """The file's table of characters; words at white space, each with ▁ before it; then Unigram.

    After the pieces of a spiece.model come tokens <extra_id_99> to <extra_id_0>, as far as there are rows.
    What is unknown gets the id of unk_token. Transformers 5 gives it the id 2, as in T5, which in other
    models may end a text.
    """
    if config.get("do_lower_case"):
        say("tokenizer_config.json sets do_lower_case, which T5Tokenizer does not do: write in lower case")
    if tokenizer.get("unusual"):
        settings = ", ".join(tokenizer["unusual"])
        say(f"T5Tokenizer ignores {settings} in spiece.model: ids may not be those of the model's training")
    pieces = list(tokenizer["model"]["vocab"])
    if "control" in tokenizer:  # only a spiece.model has it
        n_free = max(n_vocab - len(pieces), 0)
        pieces += [[token, 0.0] for token in reversed(sentinels(config))][:n_free]
    steps, unknown = steps_of(tokenizer, "normalizer"), named_token(config, "T5Tokenizer", "unk")
    table = next((step for step in steps if step["type"] == "Precompiled"), None)
    ids = (i for i, (piece, _) in enumerate(pieces) if piece == unknown)
    unk_id = next(ids, tokenizer["model"]["unk_id"])
    model = {"type": "Unigram", "unk_id": unk_id, "byte_fallback": False, "vocab": pieces}
    end = named_token(config, "T5Tokenizer", "eos")
    around = {"type": "TemplateProcessing", "single": [{"Sequence": {}}, {"SpecialToken": {"id": end}}]}
    return tokenizer | UNIGRAM | {"normalizer": table, "post_processor": around, "model": model}


def sentinels(config):  # -> list of tokens
    """The tokens that T5Tokenizer has besides those of the files. Raises ValueError for a wrong number."""
    n_sentinels = config.get("extra_ids", N_SENTINELS)
    if type(n_sentinels) is not int or not 0 <= n_sentinels <= MOST_SENTINELS:
        raise ValueError(f"extra_ids is {shown(n_sentinels)}, expected a number from 0 to {MOST_SENTINELS:,}")
    return [f"<extra_id_{i}>" for i in range(n_sentinels)]


def extra_tokens(config, tokenizer, kind):  # -> list of tokens, or None: those that the fields in EXTRA list
    """The special tokens that T5Tokenizer has besides those that fields such as pad_token name.

    These are the ones in the list of tokenizer_config.json, even if it is empty. Without a list, they are the
    control pieces of a spiece.model, and <extra_id_0> ...
    """
    if kind != "T5Tokenizer":
        return None
    lists = [config[field] or [] for field in EXTRA if field in config and config[field] != {}]
    if lists:
        return [*(lists[0].values() if isinstance(lists[0], dict) else lists[0])]
    return [*tokenizer.get("control", []), *sentinels(config)]
