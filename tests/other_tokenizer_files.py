"""Tokenizers of other kinds than GPT-2's, in the files of real models, trained here on a few sentences."""

import io
import json
from dataclasses import dataclass

import tokenizers
from languages import sentences, texts
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from encoder import bytes_to_unicode

# ---- training ----------------------------------------------------------------------------------------------


def trained(tokenizer, trainer, language, n=150):  # -> tokenizer
    tokenizer.train_from_iterator(sentences(language, 0, n), trainer)
    return tokenizer


def sentencepiece_model(language, **options):  # -> bytes
    import sentencepiece

    sentencepiece.set_min_log_level(2)
    stream = io.BytesIO()
    options = {"vocab_size": 400, "hard_vocab_limit": False, "num_threads": 1, "minloglevel": 2} | options
    lines = iter(sentences(language, 0, 150))
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_writer=stream, **options)
    return stream.getvalue()


def of_sentencepiece(model):  # bytes -> list of str
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(i) for i in range(len(processor))]


# ---- layouts -----------------------------------------------------------------------------------------------


@dataclass
class Layout:
    """The files of a tokenizer, and what is asked about it.

    files: {filename: content}; config: what config.json says besides the sizes; special: tokens that texts
    have in them; by: the class of transformers that reads it.
    """

    language: str
    files: dict
    n_vocab: int
    special: list
    config: dict
    by: str = "AutoTokenizer"
    stop_ids: tuple = ()
    begin_id: int = None
    lacks: bool = False  # whether a character may have no token, not even one for what is unknown

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": self.n_vocab}
        sizes |= {"n_ctx": 64, "n_positions": 64, "n_embd": 8, "n_head": 2, "n_layer": 1}
        for name, content in (self.files | {"config.json": sizes | self.config}).items():
            content = json.dumps(content, ensure_ascii=False) if isinstance(content, dict) else content
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    @property
    def texts(self):
        return texts(self.language, self.special)


BERTS = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
BERTS |= {"mask_token": "[MASK]"}


def wordpiece(lower=True, chinese=True, language="chinese"):  # -> tokenizer
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(handle_chinese_chars=chinese, lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    special = ["[PAD]", "[unused1]", "[unused2]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<S>", "<T>"]
    return trained(tokenizer, trainers.WordPieceTrainer(vocab_size=500, special_tokens=special), language)


def vocab_txt(tokenizer):  # -> str
    tokens = tokenizer.get_vocab()
    return "".join(f"{token}\n" for token in sorted(tokens, key=tokens.get))


def bert(settings, lower=True, chinese=True, tokenizer_json=False, config=None, language="chinese", spare=0):
    tokenizer = wordpiece(lower, chinese, language)
    files = {"vocab.txt": vocab_txt(tokenizer), "special_tokens_map.json": BERTS}
    if settings is not None:
        files["tokenizer_config.json"] = settings
    if tokenizer_json:
        marked = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
        ends = {"single": "[CLS]:0 $A:0 [SEP]:0", "pair": "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"}
        tokenizer.post_processor = processors.TemplateProcessing(**ends, special_tokens=marked)
        files["tokenizer.json"] = bert_json(tokenizer)
    config = {"tokenizer_class": "BertTokenizer"} if config is None else config
    n_vocab = tokenizer.get_vocab_size() + spare
    return Layout(language, files, n_vocab, list(BERTS.values()), config, stop_ids=(50256,), begin_id=50256)


def with_vocab_txt(change):  # text -> text
    layout = bert(UER, language="english")
    changed = change(layout.files["vocab.txt"])
    layout.files["vocab.txt"], layout.n_vocab = changed, changed.count("\n")
    return layout


def bert_json(tokenizer):  # -> str
    """As BertTokenizerFast saves it: only the five tokens are added."""
    content = json.loads(tokenizer.to_str())
    listed = content["added_tokens"]
    content["added_tokens"] = [token for token in listed if token["content"] in BERTS.values()]
    return json.dumps(content, ensure_ascii=False)


UER = {"model_max_length": 1024, "tokenizer_class": "BertTokenizer"}
CKIP = {"do_lower_case": False, **BERTS, "tokenize_chinese_chars": True, "strip_accents": None}
CKIP |= {"model_max_length": 1024, "init_inputs": [], "tokenizer_class": "BertTokenizerFast"}
T5S = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "[PAD]"}
T5S |= {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
RINNA = T5S | {"extra_ids": 0, "additional_special_tokens": [], "sp_model_kwargs": {}, "do_lower_case": False}
RINNA |= {"tokenizer_class": "T5Tokenizer"}
RINNA_IDS = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 3, "pad_piece": "[PAD]"}
T5_IDS = {"unk_id": 2, "bos_id": -1, "eos_id": 1, "pad_id": 0, "pad_piece": "<pad>"}


def rinna(settings=RINNA, ids=RINNA_IDS, symbols="[CLS],[SEP],[MASK]", special_map=T5S, spare=0, **options):
    model = sentencepiece_model("japanese", model_type="unigram", control_symbols=symbols, **ids, **options)
    n_vocab = len(of_sentencepiece(model)) + (settings or {}).get("extra_ids", 100) + spare
    files = {"spiece.model": model}
    if settings is not None:
        files |= {"tokenizer_config.json": settings, "special_tokens_map.json": special_map}
    special = [token for token in special_map.values() if isinstance(token, str)]
    ends = {"stop_ids": (ids["eos_id"],), "begin_id": ids["bos_id"]}
    return Layout("japanese", files, n_vocab, special, {"tokenizer_class": "T5Tokenizer"}, **ends)


ONE_B = RINNA | {"unk_token": "[UNK]"}
ONE_B_IDS = {"unk_id": 1, "unk_piece": "[UNK]", "bos_id": 2, "eos_id": 3, "pad_id": 4, "pad_piece": "[PAD]"}


def t5s_own(extra_ids=0):
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    settings = names | {"extra_ids": extra_ids, "tokenizer_class": "T5Tokenizer"}
    more = [f"<extra_id_{i}>" for i in range(extra_ids)]
    settings |= {"additional_special_tokens": more}
    return rinna(settings, T5_IDS, "", special_map=names | {"additional_special_tokens": more})


SW3S = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>", "pad_token": "<pad>"}
SW3 = SW3S | {"do_lower_case": False, "keep_accents": False, "remove_space": False, "sp_model_kwargs": {}}
SW3 |= {"tokenizer_class": "GPTSw3Tokenizer"}
SW3_IDS = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "eos_piece": "<|endoftext|>"}


def sw3(settings=SW3, spare=0, **options):
    usual = {"model_type": "bpe", "byte_fallback": True, "remove_extra_whitespaces": False, "vocab_size": 700}
    usual |= {"normalization_rule_name": "identity", "add_dummy_prefix": True, "split_digits": True}
    usual |= {"user_defined_symbols": ["<|javascript|>", "<|python|>", "  ", "    ", "\n"]}
    model = sentencepiece_model("swedish", **(SW3_IDS | usual | options))
    n_vocab = len(of_sentencepiece(model)) + spare
    files = {"spiece.model": model}
    if settings is not None:
        files |= {"tokenizer_config.json": settings, "special_tokens_map.json": SW3S}
    special = [*SW3S.values(), "<|python|>"]
    named = {"tokenizer_class": "GPTSw3Tokenizer"}
    return Layout("swedish", files, n_vocab, special, named, stop_ids=(3,), begin_id=2)


KOGPT2 = ["<s>", "</s>", "<usr>", "<pad>", "<sys>", "<unk>", "<mask>", "<d>", "</d>"]
KOGPT2 += ["<unused0>", "<unused1>"]


def kogpt2(settings=None, normalizer=None, by="PreTrainedTokenizerFast", scheme="always", fuse=False):
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=KOGPT2)
    files = {"tokenizer.json": trained(tokenizer, trainer, "korean").to_str()}
    if settings is not None:
        files["tokenizer_config.json"] = settings
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 3}
    n_vocab = tokenizer.get_vocab_size() + 5
    return Layout("korean", files, n_vocab, KOGPT2, ends, by, stop_ids=(1,), begin_id=0)


def kogpt2_as_of_old(settings):
    """tokenizer.json as of 2021: Metaspace says add_prefix_space, and merges are texts."""
    layout = kogpt2(settings)
    content = json.loads(layout.files["tokenizer.json"])
    old = {"type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": True}
    content |= {"pre_tokenizer": old, "decoder": {name: old[name] for name in old if name != "str_rep"}}
    content["model"]["merges"] = [" ".join(merge) for merge in content["model"]["merges"]]
    layout.files["tokenizer.json"] = json.dumps(content, ensure_ascii=False)
    return layout


OLMS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>"}
OLMS |= {"pad_token": "<pad>", "cls_token": "<s>"}
MASK = {"content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}
OLM = OLMS | {"add_prefix_space": False, "errors": "replace", "model_max_length": 512, "trim_offsets": True}
OLM |= {"mask_token": {"__type": "AddedToken", **MASK, "normalized": True}, "special_tokens_map_file": None}
OLM |= {"tokenizer_class": "RobertaTokenizerFast"}


def olm(tokenizer_json=True, settings=OLM, config=None, alphabet=True, normalizer=None):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder, tokenizer.normalizer = decoders.ByteLevel(), normalizer
    special = ["<s>", "<pad>", "</s>", "<unk>", tokenizers.AddedToken("<mask>", lstrip=True, special=True)]
    letters = sorted(bytes_to_unicode().values()) if alphabet else []
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=letters)
    trained(tokenizer, trainer, "english")
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    content = json.loads(tokenizer.to_str())
    merges = [" ".join(merge) for merge in content["model"]["merges"]]
    files = {"vocab.json": content["model"]["vocab"], "merges.txt": "\n".join(["#version: 0.2", *merges, ""])}
    files |= {"special_tokens_map.json": OLMS | {"mask_token": MASK}}
    if settings is not None:
        files["tokenizer_config.json"] = settings
    if tokenizer_json:
        files["tokenizer.json"] = json.dumps(content, ensure_ascii=False)
    special = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
    n_vocab, ends = tokenizer.get_vocab_size(), {"stop_ids": (2,), "begin_id": 0}
    return Layout("english", files, n_vocab, special, config or {}, lacks=not alphabet, **ends)


PLAIN_CLASS = {"tokenizer_class": "PreTrainedTokenizerFast"}
PLAIN = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"} | PLAIN_CLASS
FOUR = ["<unk>", "<s>", "</s>", "<pad>"]


def plain(tokenizer, language, settings=PLAIN, special=FOUR, spare=0):
    """Only tokenizer.json counts, as with PreTrainedTokenizerFast."""
    files = {"tokenizer.json": tokenizer.to_str(), "tokenizer_config.json": settings}
    files["special_tokens_map.json"] = {name: settings[name] for name in settings if name in OLMS}
    n_vocab = tokenizer.get_vocab_size() + spare
    ends = {"stop_ids": (tokenizer.token_to_id(special[2]),), "begin_id": tokenizer.token_to_id(special[1])}
    return Layout(language, files, n_vocab, special, {}, **ends)


def characters(kind="WordLevel", language="chinese", decoder=decoders.Fuse):
    model = models.WordLevel(unk_token="<unk>") if kind == "WordLevel" else models.BPE(unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoder() if decoder else None
    options = {"vocab_size": 300, "special_tokens": FOUR}
    trainer = trainers.WordLevelTrainer(**options) if kind == "WordLevel" else trainers.BpeTrainer(**options)
    return plain(trained(tokenizer, trainer, language), language)


def unigram(language="japanese", normalizer=None, scheme="always", split=True, settings=PLAIN):
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=FOUR, unk_token="<unk>")
    return plain(trained(tokenizer, trainer, language), language, settings, spare=2)


def words(language, split=None, decoder=None, settings=PLAIN):
    tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = split or pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoder
    trainer = trainers.WordLevelTrainer(vocab_size=200, special_tokens=FOUR)
    return plain(trained(tokenizer, trainer, language), language, settings)


def llamas(settings=PLAIN, pieces=600, language="english"):
    """A BPE as LlamaTokenizerFast writes it: no pre-tokenizer, ▁ for spaces, bytes for what has no token."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    special = [*FOUR, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")  # only while it is trained
    trained(tokenizer, trainers.BpeTrainer(vocab_size=pieces, special_tokens=special), language)
    tokenizer.pre_tokenizer = None
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:4]
    return plain(tokenizers.Tokenizer.from_str(json.dumps(content)), language, settings)
