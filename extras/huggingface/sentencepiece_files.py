"""spiece.model: a tokenizer as the sentencepiece library saves it.

(https://github.com/google/sentencepiece, sentencepiece_model.proto; tokenization_gpt_sw3.py of transformers)
"""

import base64
import os
import re
import unicodedata

from encoder import is_utf8
from extras.huggingface.prepared import strip_beside
from extras.huggingface.tensors import recognise_file
from files import AGAIN, LARGEST_TEXT, ModelError, needs, shown

CONTROL = 3  # the type of a piece that is no text
SETTINGS = ("model_type", "byte_fallback", "treat_whitespace_as_suffix", "add_dummy_prefix")
SETTINGS += ("remove_extra_whitespaces", "escape_whitespaces")
# what GPT-SW3 leaves out of a text, and what it reads as a space
LEFT_OUT = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\xa0\xad\u200b]")
AS_SPACE = re.compile("[\u2002\u2003\u2005\u2008\u2009\u200a\u202f\u3000\ufffc]")


def read_spiece(path):  # -> dict, in the terms of tokenizer.json
    """The pieces of a spiece.model, and the table that replaces characters before a text is cut into pieces.

    Beside what tokenizer.json has: "control", its special tokens; "unusual", its settings that differ from
    sentencepiece's defaults; and "content", the bytes of the file.
    Raises ModelError for a file that is damaged, so far as that can be known.
    """
    content = read_content(path)
    proto = parse(path, content)
    table = proto.normalizer_spec.precompiled_charsmap
    coded = base64.b64encode(table).decode()
    normalizer = {"type": "Precompiled", "precompiled_charsmap": coded} if table else None
    pieces = [[piece.piece, piece.score] for piece in proto.pieces]
    model = {"vocab": pieces, "unk_id": proto.trainer_spec.unk_id}
    control = [piece.piece for piece in proto.pieces if piece.type == CONTROL]
    settings = {"unusual": unusual(proto.trainer_spec) + unusual(proto.normalizer_spec)}
    return settings | {"normalizer": normalizer, "model": model, "control": control, "content": content}


def unusual(spec):  # -> list of str
    """The settings in a part of a spiece.model that change ids, and are not what they are by default."""
    default = type(spec)()
    there = [name for name in SETTINGS if hasattr(spec, name)]
    return [name for name in there if getattr(spec, name) != getattr(default, name)]


def read_content(path):  # Path -> bytes
    """The bytes of a file. Raises ModelError for one that is too large, and for another kind of file."""
    if os.path.getsize(path) > LARGEST_TEXT:
        raise ModelError(path, "it is too large for a file of this kind", AGAIN)
    found = recognise_file(path)
    if found:
        raise ModelError(path, *found)
    return path.read_bytes()


def parse(path, content):  # -> sentencepiece_model_pb2.ModelProto
    """What the bytes of a spiece.model say. Raises ModelError where they are damaged or end too early."""
    with needs("requirements-extras.txt"):
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2
    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        raise ModelError(path, error, AGAIN) from None
    if len(proto.pieces) != proto.trainer_spec.vocab_size or not proto.HasField("normalizer_spec"):
        raise ModelError(path, "it is incomplete: some of its pieces or settings are missing", AGAIN)
    table = proto.normalizer_spec.precompiled_charsmap
    if table and not is_table(table):
        raise ModelError(path, "its table of characters is damaged", AGAIN)
    return proto


def is_table(table):  # bytes -> bool
    """Whether a table of characters has its three parts: the size of a trie, the trie, and replacements.

    The tokenizers library panics at any other.
    """
    n_bytes = int.from_bytes(table[:4], "little")
    return n_bytes % 4 == 0 and 4 + n_bytes <= len(table) and is_utf8(table[4 + n_bytes :])


class SentencePiece:
    """The library of an `OtherEncoder` whose class is GPTSw3Tokenizer: it reads the spiece.model itself.

    content: the bytes of that file; added: {token: id}, the tokens that are looked for in a text first;
    stripping: as for `PreparedEncoder`. Raises ValueError for a file that the library does not accept.
    """

    def __init__(self, content, added, special_tokens, stripping):
        self.arguments = content, added, special_tokens, stripping
        self.added, self.special_tokens, self.stripping = added, special_tokens, stripping
        with needs("requirements-extras.txt"):
            import sentencepiece
        try:
            self.library = sentencepiece.SentencePieceProcessor(model_proto=content)
        except RuntimeError as error:
            raise ValueError(f"the sentencepiece library says: {shown(error)}") from None
        self.pieces = {i: self.library.id_to_piece(i) for i in range(len(self.library))}
        self.pieces |= {token_id: token for token, token_id in added.items()}

    def __reduce__(self):
        return type(self), self.arguments

    def encode(self, text, special):  # str, set of tokens -> list of ids
        """The ids of a text: added tokens are cut out of it, and the library reads what lies between them."""
        wanted = (self.added.keys() - self.special_tokens) | special
        pattern = "|".join(map(re.escape, sorted(wanted, key=len, reverse=True)))
        parts, ids = re.split(f"({pattern})", text) if wanted else [text], []
        strip_beside(parts, self.stripping)
        for i, part in enumerate(parts):
            ids += [self.added[part]] if i % 2 else self.library.encode(prepared(part)) if part else []
        return ids

    def decode(self, ids):  # -> str
        return self.library.decode([self.pieces.get(i, "") for i in ids])


def prepared(text):  # -> str
    """A text as GPT-SW3 was trained on it: no control characters, one kind of space, composed characters."""
    return unicodedata.normalize("NFC", AS_SPACE.sub(" ", LEFT_OUT.sub("", text)))
