"""The tokenizer of a model in Hugging Face's layout: from tokenizer.json, or vocab.json and merges.txt.

Any tokens and merges will do, if they are used as GPT-2 uses them, as in encoder.py. Other settings are
refused by name, and so is a vocabulary whose parts do not belong together: it would give other ids for the
same text.
"""

import re

from encoder import END_OF_TEXT, Encoder, bytes_to_unicode, read_merges
from extras.huggingface.hub import find_file
from files import ModelError, read_json, shown

GPT2_CLASSES = ["GPT2Tokenizer", "GPT2TokenizerFast"]
PLAIN_CLASSES = ["PreTrainedTokenizerFast", "TokenizersBackend"]  # they do what tokenizer.json says
# what tokens look like that need no merge: <|endoftext|>, <pad>, [MASK]
SPECIAL = re.compile(r"<.+>|\[.+\]")


def load_encoder(model, n_vocab, stop_ids):  # -> Encoder
    """The tokenizer of a model. Added tokens are decoded, and encoded where `allowed_special` asks for them.

    n_vocab: rows of the embedding. A row without a token gets one, such as <|unused50300|>; an added token
    without a row is left out. stop_ids: ids that end a text; if none of them belongs to a token,
    <|endoftext|> ends it. Raises ModelError for anything that is not supported.
    """
    path = find_file(model, "tokenizer.json")
    source = f"the vocabulary of {model} ({'tokenizer.json' if path else 'vocab.json, merges.txt'})"
    try:
        encoder, merges, special_tokens = read(model, path, n_vocab)
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
    return Encoder(encoder, merges, special_tokens=special_tokens, stop_tokens=stop_tokens)


def read(model, path, n_vocab):  # -> {token: id}, [(token, token), ...], special tokens
    """The whole vocabulary. path: tokenizer.json, or None.

    Raises ValueError; also LookupError, TypeError or AttributeError if the JSON has another structure.
    """
    settings = read_settings(model, "tokenizer_config.json")
    check_settings(settings, GPT2_CLASSES + PLAIN_CLASSES if path else GPT2_CLASSES)
    tokens, merges, added = read_tokenizer(path) if path else read_vocabulary(model)
    for token_id, token in settings.get("added_tokens_decoder", {}).items():
        added.append(token | {"id": int(token_id)})
    settings |= read_settings(model, "special_tokens_map.json")
    added = check_added(added + named_tokens(settings, tokens, added, n_vocab), tokens)
    check_merges(tokens, merges, added)
    encoder = assign_rows(tokens, added, n_vocab)
    return encoder, merges, added.keys() & encoder.keys()


def read_settings(model, filename):  # -> dict
    """The fields of an optional file."""
    path = find_file(model, filename)
    return read_json(path) if path else {}


def read_tokenizer(path):  # -> {token: id}, [(token, token), ...], added tokens
    """What tokenizer.json says. Raises ValueError for settings that change the ids of a text."""
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
    ):
        if found != usual:
            raise ValueError(f"{field} is {shown(repr(found))}, expected {usual!r} as in GPT-2")
    if adds_tokens(tokenizer.get("post_processor")):
        raise ValueError("its post_processor puts special tokens around a text, which GPT-2's does not")
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    return model["vocab"], merges, list(tokenizer.get("added_tokens", []))


def adds_tokens(post_processor):
    """Whether a post-processor may put special tokens around every text; False only if that is ruled out."""
    if post_processor is None or post_processor.get("type") == "ByteLevel":
        return False
    steps = post_processor.get("single") if post_processor.get("type") == "TemplateProcessing" else None
    return not isinstance(steps, list) or [[*step] for step in steps] != [["Sequence"]]


def read_vocabulary(model):  # -> {token: id}, [(token, token), ...], added tokens
    """What vocab.json, merges.txt and added_tokens.json say."""
    paths = {file: find_file(model, file) for file in ("vocab.json", "merges.txt")}
    for file, path in paths.items():
        if path is None:
            raise ValueError(f"it has neither tokenizer.json nor {file}; copy them from the original model")
    tokens, merges = read_json(paths["vocab.json"]), read_merges(paths["merges.txt"])
    added = read_settings(model, "added_tokens.json")
    return tokens, merges, [{"content": token, "id": token_id} for token, token_id in added.items()]


def check_settings(settings, classes):
    """Raise ValueError for settings of tokenizer_config.json that change the ids of a text."""
    for field in ("add_prefix_space", "add_bos_token", "add_eos_token", "split_special_tokens"):
        if settings.get(field):
            advice = "set it to false if the model was trained without it"
            raise ValueError(f"tokenizer_config.json sets {field}, which GPT-2 does not; {advice}")
    if settings.get("tokenizer_class") not in (None, *classes):
        found = shown(repr(settings["tokenizer_class"]))
        raise ValueError(f"its tokenizer_class is {found}, expected 'GPT2Tokenizer' as in GPT-2")


def named_tokens(settings, tokens, added, n_vocab):  # -> added tokens
    """The tokens that are special because a field such as pad_token names them."""
    ids, named = tokens | {token["content"]: token["id"] for token in added}, []
    for field, value in settings.items():
        if field in ("additional_special_tokens", "extra_special_tokens"):
            values = value.values() if isinstance(value, dict) else value or []
        else:
            values = [value] if field.endswith("_token") else []
        for token in values:
            token = token if isinstance(token, dict) else {"content": token}
            if token["content"] in ids:
                named.append(token | {"id": ids[token["content"]]})
            elif isinstance(token["content"], str) and len(ids) < n_vocab:
                found = f"{field} is {shown(repr(token['content']))}, which has no id"
                raise ValueError(f"{found}: it could be any row without a token")
    return named


def check_added(added, tokens):  # -> {added token: id}
    """Raise ValueError for an added token that matches more than its own text, or has two ids."""
    ids = {}
    for token in added:
        content = token["content"]
        if not isinstance(content, str) or not content:
            raise ValueError(f"an added token is {shown(repr(content))}, expected a text")
        for flag in ("lstrip", "rstrip", "single_word"):
            if token.get(flag):
                raise ValueError(
                    f"the added token {shown(repr(content))} has {flag}, which no token of GPT-2 has"
                )
        for known in (ids, tokens):
            if known.get(content, token["id"]) != token["id"]:
                raise ValueError(f"the added token {shown(repr(content))} has two ids")
        ids[content] = token["id"]
    new = sorted(token_id for token, token_id in ids.items() if token not in tokens)
    if new != [*range(len(tokens), len(tokens) + len(new))]:
        raise ValueError(
            f"the ids of its added tokens are {shown(new)}, expected {len(tokens)} and up, without a gap"
        )
    return ids


def check_merges(tokens, merges, added):
    """Raise ValueError unless every token is a byte, is made by a merge, is added, or looks special."""
    symbols = set(bytes_to_unicode().values())
    for number, merge in enumerate(merges, 1):
        if len(merge) != 2 or not tokens.keys() >= {*merge, "".join(merge)}:
            raise ValueError(
                f"merge {number} is {shown(repr(' '.join(merge)))}, not two tokens that make a third"
            )
    if len(set(merges)) < len(merges):
        raise ValueError("a merge is given twice")
    if not tokens.keys() >= symbols:
        raise ValueError(f"{len(symbols - tokens.keys())} of the 256 bytes have no token")
    made = symbols | set(map("".join, merges))
    stray = [token for token in tokens.keys() - made - added.keys() if not SPECIAL.fullmatch(token)]
    if stray:
        raise ValueError(
            f"no merge makes the token {shown(repr(min(stray)))} ({len(stray)} such): merges are missing"
        )


def assign_rows(tokens, added, n_vocab):  # -> {token: id}
    """All tokens, one for each row of the embedding. Raises ValueError for an id without a row."""
    encoder = tokens | {token: i for token, i in added.items() if token in tokens or i < n_vocab}
    ids = set(encoder.values())
    if len(ids) < len(encoder) or {*map(type, ids)} != {int} or not ids <= set(range(n_vocab)):
        raise ValueError(f"its {len(encoder):,} tokens do not all have different ids below {n_vocab:,}")
    return {f"<|unused{i}|>": i for i in sorted(set(range(n_vocab)) - ids)} | encoder
