"""Small tokenizers of four kinds, written by hand, in the terms of tokenizer.json."""

from extras.huggingface.other_tokenizers import OtherEncoder, Tokenizers

SPECIAL = ["<s>", "</s>"]


def ids_of(*tokens):  # -> {token: id}
    return {token: token_id for token_id, token in enumerate(tokens)}


def token(content, special=True, **flags):  # -> an added token, without an id
    usual = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return usual | {"content": content, "special": special} | flags


BERT_TOKENS = ["[UNK]", *SPECIAL, "a", "s", "the", "fox", "##es", "##ed", "un", "##fox", "狐", "[PAD]"]
BERT_TOKENS += [*",.!'?", *"<>/"]
WORDPIECE = {
    "normalizer": {
        **{"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True},
        **{"strip_accents": None, "lowercase": True},
    },
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    "model": {
        **{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"},
        **{"max_input_chars_per_word": 100, "vocab": ids_of(*BERT_TOKENS)},
    },
}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
PIECES = [["<unk>", 0.0], ["▁the", -1.0], ["▁fox", -1.5], ["the", -2.0], ["▁", -3.0]]
PIECES += [[letter, -5.0] for letter in "thefox'nrvs."]
UNIGRAM = {
    "normalizer": None,
    "pre_tokenizer": METASPACE,
    "decoder": METASPACE,
    "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": False, "vocab": PIECES},
}
WORD_TOKENS = ["[UNK]", *SPECIAL, "the", "fox", "it", "'s", "n't", "n", "'", ".", "'ve"]
WORDS = {
    "normalizer": None,
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "decoder": None,
    "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": ids_of(*WORD_TOKENS)},
}
BYTE_TOKENS = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *"▁thefox"]
MERGES = ["▁ t", "h e", "▁t he", "▁ f", "o x", "▁f ox"]
BYTES = {  # as Llama's tokenizer.json has it
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    },
    "pre_tokenizer": None,
    "decoder": {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    },
    "model": {
        **{"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True},
        **{"vocab": ids_of(*BYTE_TOKENS, *(m.replace(" ", "") for m in MERGES)), "merges": MERGES},
    },
}


def tokens_of(settings):  # -> {token: id}
    vocabulary = settings["model"]["vocab"]
    return dict(vocabulary) if isinstance(vocabulary, dict) else ids_of(*(piece for piece, _ in vocabulary))


def added_to(settings, added=()):  # -> added tokens with ids
    tokens, listed = tokens_of(settings), [*map(token, SPECIAL), *added]
    return [each | {"id": tokens.setdefault(each["content"], len(tokens))} for each in listed]


def encoder_of(settings, added=(), **options):  # -> OtherEncoder
    listed = added_to(settings, added)
    tokens = tokens_of(settings) | {each["content"]: each["id"] for each in listed}
    special = [each["content"] for each in listed if each["special"]]
    return OtherEncoder(Tokenizers(settings, listed), tokens, special, **options)
