"""The tokenizer of a model in Hugging Face's layout: from tokenizer.json, or vocab.json and merges.txt.

Any tokens and merges will do, if they are used as GPT-2 uses them, as in encoder.py. Other settings are
refused by name, and so is a vocabulary whose parts do not belong together: it would give other ids for the
same text.

(tokenization_utils_base.py, tokenization_utils_tokenizers.py and tokenization_gpt2.py of transformers)
"""

import itertools
import re

from encoder import END_OF_TEXT, Encoder, bytes_to_unicode, read_merges
from extras.huggingface.hub import find_file
from files import ModelError, read_json, shown

GPT2_CLASSES = ["GPT2Tokenizer", "GPT2TokenizerFast"]
PLAIN_CLASSES = ["PreTrainedTokenizerFast", "TokenizersBackend"]  # they do what tokenizer.json says
NAMED = [f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")]
EXTRA = ["extra_special_tokens", "additional_special_tokens"]
CHANGING = ["add_prefix_space", "add_bos_token", "add_eos_token", "split_special_tokens"]
CHANGING += ["clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"]
CHANGING += ["vocab", "merges", "init_inputs", "fast_tokenizer_files"]  # other tokens
# what tokens look like that need no merge: <|endoftext|>, <pad>, [MASK]
SPECIAL = re.compile(r"<.+>|\[.+\]")


def load_encoder(model, n_vocab, stop_ids, tokenizer_class=None):  # -> Encoder
    """The tokenizer of a model. Added tokens are decoded, and encoded where `allowed_special` asks for them.

    n_vocab: rows of the embedding. A row without a token gets one, such as <|unused50300|>; an added token
    without a row is left out. stop_ids: ids that end a text; if none of them belongs to a token,
    <|endoftext|> ends it. tokenizer_class: that of config.json, for a tokenizer_config.json without one.
    Raises ModelError for anything that is not supported.
    """
    path, stop_ids = find_file(model, "tokenizer.json"), set(stop_ids)
    source = f"the vocabulary of {model} ({'tokenizer.json' if path else 'vocab.json, merges.txt'})"
    try:
        encoder, merges, special_groups = read(model, path, n_vocab, tokenizer_class)
    except ModelError:  # its message is complete
        raise
    except ValueError as error:
        raise ModelError(source, f"not supported: {error}") from None
    except (LookupError, TypeError, AttributeError) as error:
        found = f"something in it is missing or of the wrong type ({type(error).__name__}: {shown(error)})"
        raise ModelError(source, f"not supported: {found}") from None
    stop_tokens = [token for token, token_id in encoder.items() if token_id in stop_ids]
    if stop_ids and not stop_tokens:
        stop_tokens = [END_OF_TEXT]
    return Encoder(encoder, merges, stop_tokens=stop_tokens, special_groups=special_groups)


def read(model, path, n_vocab, tokenizer_class):  # -> {token: id}, [(token, token), ...], special groups
    """The whole vocabulary. path: tokenizer.json, or None.

    Raises ValueError; also LookupError, TypeError or AttributeError if the JSON has another structure.
    """
    settings = read_settings(model, "tokenizer_config.json")
    if settings.get("tokenizer_class") is not None:
        tokenizer_class = settings["tokenizer_class"]
    check_settings(settings, tokenizer_class, GPT2_CLASSES + PLAIN_CLASSES if path else GPT2_CLASSES)
    tokens, merges, listed, more = read_tokenizer(path) if path else read_vocabulary(model)
    is_gpt2 = tokenizer_class not in PLAIN_CLASSES
    added = added_tokens(model, settings | more, listed, tokens, n_vocab, is_gpt2)
    check_merges(tokens, merges, added)
    encoder = assign_rows(tokens, {content: token["id"] for content, token in added.items()}, n_vocab)
    normalized = {content for content, token in added.items() if is_normalized(token)} & encoder.keys()
    return encoder, merges, [(added.keys() & encoder.keys()) - normalized, normalized]


def read_settings(model, filename):  # -> dict
    """The fields of an optional file."""
    path = find_file(model, filename)
    return read_json(path) if path else {}


def read_tokenizer(path):  # -> {token: id}, [(token, token), ...], added tokens, more settings
    """What tokenizer.json says. Raises ValueError for settings that change ids or texts."""
    tokenizer = read_json(path)
    model, before = tokenizer["model"], tokenizer.get("pre_tokenizer") or {}
    for field, found, usual in (
        ("model.type", model.get("type", "BPE"), "BPE"),
        ("model.dropout", model.get("dropout") or None, None),
        ("model.continuing_subword_prefix", model.get("continuing_subword_prefix") or "", ""),
        ("model.end_of_word_suffix", model.get("end_of_word_suffix") or "", ""),
        ("model.ignore_merges", model.get("ignore_merges", False), False),
        ("normalizer", tokenizer.get("normalizer"), None),
        ("pre_tokenizer.type", before.get("type"), "ByteLevel"),
        ("pre_tokenizer.add_prefix_space", before.get("add_prefix_space"), False),
        ("pre_tokenizer.use_regex", before.get("use_regex", True), True),
        ("decoder.type", (tokenizer.get("decoder") or {}).get("type"), "ByteLevel"),
    ):
        if found != usual:
            raise ValueError(f"{field} is {shown(repr(found))}, expected {usual!r} as in GPT-2")
    if adds_tokens(tokenizer.get("post_processor")):
        raise ValueError("its post_processor puts special tokens around a text, which GPT-2's does not")
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    padding = (tokenizer.get("padding") or {}).get("pad_token")
    return model["vocab"], merges, list(tokenizer.get("added_tokens", [])), {"padding.pad_token": padding}


def adds_tokens(post_processor):
    """Whether a post-processor may put special tokens around every text; False only if that is ruled out."""
    if post_processor is None or post_processor.get("type") == "ByteLevel":
        return False
    steps = post_processor.get("single") if post_processor.get("type") == "TemplateProcessing" else None
    return not isinstance(steps, list) or [[*step] for step in steps] != [["Sequence"]]


def read_vocabulary(model):  # -> {token: id}, [(token, token), ...], no added tokens, no settings
    """What vocab.json and merges.txt say."""
    paths = {file: find_file(model, file) for file in ("vocab.json", "merges.txt")}
    for file, path in paths.items():
        if path is None:
            raise ValueError(f"it has neither tokenizer.json nor {file}; copy them from the original model")
    return read_json(paths["vocab.json"]), read_merges(paths["merges.txt"]), [], {}


def check_settings(settings, tokenizer_class, classes):
    """Raise ValueError for settings of tokenizer_config.json that change the ids of a text."""
    for field in CHANGING:
        if settings.get(field):
            advice = "leave it out if the model was trained without it"
            raise ValueError(f"tokenizer_config.json sets {field}, which GPT-2 does not; {advice}")
    if tokenizer_class not in (None, *classes):
        found = shown(repr(tokenizer_class))
        raise ValueError(f"its tokenizer_class is {found}, expected 'GPT2Tokenizer' as in GPT-2")


# ---- added tokens: which they are, what ids they get -------------------------------------------------------


def added_tokens(model, settings, listed, tokens, n_vocab, is_gpt2):  # -> {content: token}
    """The added tokens as transformers finds them, each a dict with its id and flags.

    listed: those of tokenizer.json. A token that a field such as pad_token names and that no file declares
    gets the next id, in the order of the fields.
    """
    replaces = "added_tokens_decoder" in settings  # all that other files say
    others = {} if replaces else read_settings(model, "special_tokens_map.json")
    declared = listed + (read_decoder(settings) if replaces else read_added(model, listed, settings, others))
    if replaces and is_gpt2:
        check_replaced(listed, declared[len(listed) :])
    known = {token["content"]: token["id"] for token in declared}
    named, extra = named_tokens(settings | others, is_gpt2), extra_tokens(settings, others)
    ids = tokens | known
    new = [token for token in [*named, *map(as_token, extra)] if token["content"] not in known]
    new = {repr(token): token for token in new}.values()  # each once
    declared += [token | {"id": ids.setdefault(token["content"], len(ids))} for token in new]
    check_added(declared, tokens)
    nested = settings.get("model_specific_special_tokens") or {}
    fields = [*settings.items(), *others.items(), *nested.items()]
    check_doubtful(fields, known, ids, n_vocab - len(tokens | known))
    added = {token["content"]: token for token in declared}  # what is said last counts
    return added | {token["content"]: added[token["content"]] | {"special": True} for token in named}


def check_replaced(listed, decoder):
    """Raise ValueError for a token of tokenizer.json that added_tokens_decoder lacks."""
    lost = {token["content"] for token in listed} - {token["content"] for token in decoder}
    if lost:
        found = f"tokenizer.json has the added token {shown(repr(min(lost)))}, which tokenizer_config.json's"
        raise ValueError(f"{found} added_tokens_decoder lacks: versions of transformers differ there")


def read_decoder(settings):  # -> added tokens
    """What added_tokens_decoder says, in the order of the ids."""
    tokens = settings["added_tokens_decoder"].items()
    return sorted((token | {"id": int(i)} for i, token in tokens), key=lambda token: token["id"])


def read_added(model, listed, settings, others):  # -> added tokens
    """What added_tokens.json says, in the order of the ids, with the flags that tokenizer.json gives them.

    A token that only added_tokens.json has is normalized, unless some field names it.
    """
    flags = {token["content"]: token for token in listed}
    names = names_in(settings, others)
    pairs = sorted(read_settings(model, "added_tokens.json").items(), key=lambda pair: pair[1])
    return [
        flags.get(content, {"normalized": content not in names}) | {"content": content, "id": token_id}
        for content, token_id in pairs
    ]


def names_in(settings, others):  # -> set of str
    """The tokens that fields name; not every field counts, as in transformers."""
    fields = settings | others
    values = [fields[field] for field in NAMED if field in others or isinstance(fields.get(field), str)]
    lists = [value for value in map(settings.get, EXTRA) if isinstance(value, list)]
    values += [value for value in itertools.chain(*lists) if isinstance(value, str)]
    values += others[EXTRA[0]] if isinstance(others.get(EXTRA[0]), list) else []
    return {as_token(value)["content"] for value in values if value}


def named_tokens(fields, is_gpt2):  # -> tokens without ids
    """The tokens that are special because a field names them, in the order in which they get ids."""
    fields = dict.fromkeys(NAMED[:3] if is_gpt2 else [], END_OF_TEXT) | fields
    return [as_token(fields[field]) for field in NAMED if fields.get(field)]


def as_token(value):  # "<pad>" or {"content": "<pad>", ...} -> dict
    """A token that a field names, as a dict; one with "__type" says itself whether it is special."""
    value = value if isinstance(value, dict) else {"content": value}
    return {"special": "__type" not in value} | value


def extra_tokens(*files):  # settings of files -> list of tokens
    """The list of further special tokens. Raises ValueError if two fields have different ones."""
    given = []
    for settings in files:
        lists = [settings[field] or [] for field in EXTRA if field in settings]
        lists = [[*(value.values() if isinstance(value, dict) else value)] for value in lists]
        given += [value for value in lists if value] or lists[:1]
    for value in given:
        if value != given[0]:
            raise ValueError(f"two lists of its special tokens differ: {shown(given[0])} and {shown(value)}")
    return given[0] if given else []


def is_normalized(token):
    """Whether a token is looked for only in what those that are not normalized leave of a text."""
    return token.get("normalized", not token.get("special", False))


def check_added(added, tokens):
    """Raise ValueError for an added token that matches more than its own text, or has two ids."""
    ids = {}
    for token in added:
        content = token["content"]
        if not isinstance(content, str) or not content:
            raise ValueError(f"an added token is {shown(repr(content))}, expected a text")
        for flag in ("lstrip", "rstrip", "single_word"):
            if token.get(flag):
                found = f"the added token {shown(repr(content))} has {flag}"
                raise ValueError(f"{found}, which no token of GPT-2 has")
        for known in (ids, tokens):
            if known.get(content, token["id"]) != token["id"]:
                raise ValueError(f"the added token {shown(repr(content))} has two ids")
        ids[content] = token["id"]
    new = [token_id for token, token_id in ids.items() if token not in tokens]
    if new != [*range(len(tokens), len(tokens) + len(new))]:
        found = f"the ids of its added tokens are {shown(new)}"
        raise ValueError(f"{found}, expected {len(tokens)} and up, without a gap")
    if new and {*tokens.values()} != {*range(len(tokens))}:
        found = f"its {len(tokens):,} tokens lack some of the ids from 0 to {len(tokens) - 1:,}"
        raise ValueError(f"{found}, so which ids its added tokens have is uncertain")


def check_doubtful(fields, known, ids, n_rows):
    """Raise ValueError for a token that is special only to some versions of transformers.

    fields: pairs of a field and its value; known: tokens that a file declares with their ids, so that it does
    not matter whether a field names them; n_rows: how many tokens without an id could get one.
    """
    for field, value in fields:
        if field.endswith("_token") and field not in NAMED and isinstance(value, (str, dict)):
            content = as_token(value)["content"]
            if content not in known and (content in ids or n_rows > 0):
                found = f"{field} is {shown(repr(content))}"
                raise ValueError(f"{found}, which is special only to some versions of transformers")


def check_merges(tokens, merges, added):
    """Raise ValueError unless every token is a byte, is made by a merge, is added, or looks special."""
    symbols = set(bytes_to_unicode().values())
    for number, merge in enumerate(merges, 1):
        if len(merge) != 2 or not tokens.keys() >= {*merge, "".join(merge)}:
            found = f"merge {number} is {shown(repr(' '.join(merge)))}"
            raise ValueError(f"{found}, not two tokens that make a third")
    if len(set(merges)) < len(merges):
        raise ValueError("a merge is given twice")
    if not tokens.keys() >= symbols:
        raise ValueError(f"{len(symbols - tokens.keys())} of the 256 bytes have no token")
    made = symbols | set(map("".join, merges))
    stray = [token for token in tokens.keys() - made - added.keys() if not SPECIAL.fullmatch(token)]
    if stray:
        found = f"no merge makes the token {shown(repr(min(stray)))} ({len(stray)} such)"
        raise ValueError(f"{found}: merges are missing")


def assign_rows(tokens, added, n_vocab):  # -> {token: id}
    """All tokens, one for each row of the embedding. Raises ValueError for an id without a row."""
    encoder = tokens | {token: i for token, i in added.items() if token in tokens or i < n_vocab}
    ids = set(encoder.values())
    if len(ids) < len(encoder) or {*map(type, ids)} != {int} or not ids <= set(range(n_vocab)):
        raise ValueError(f"its {len(encoder):,} tokens do not all have different ids below {n_vocab:,}")
    for row in sorted(set(range(n_vocab)) - ids):
        name = f"<|unused{row}|>"
        while name in encoder:
            name = f"<{name}>"
        encoder[name] = row
    return encoder
