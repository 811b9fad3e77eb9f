"""Is a model on disk whole and right? Each of its files is compared with whatever can tell.

    python gpt2.py --check --model_size NAME

Loading a model does most of it: names, shapes, types and finite numbers, and that the parts belong together
(`utils.open_openai` and `extras.huggingface` say which byte is under which check). What loading leaves out,
because it takes longer than all the rest, is done here: the checksum of each variable, and digests.
"""

import hashlib
import re
from pathlib import Path

import utils
from checkpoint import compare_checksums, file_paths, read_index
from download import update
from files import AGAIN, ModelError, fresh_copy
from weights import PRESETS, flatten


def check(model_size, models_dir):  # yields lines
    """Say file by file what was compared. Nothing is downloaded.

    Raises ModelError for the first thing that is wrong or missing, ValueError for an unknown name.
    """
    layout, place = utils.find_model(model_size, models_dir)
    if layout == "released" and not place.is_dir():
        advice = f"python gpt2.py Hello --model_size {model_size} downloads it"
        raise ModelError(place, "not downloaded yet, or to another --models_dir", advice)
    if layout == "huggingface":
        from extras.huggingface.hub import cached_folder, how_again

        with fresh_copy(how_again(place)):
            yield from check_huggingface(cached_folder(place))
    else:
        with fresh_copy(utils.MOVE_AWAY if layout == "released" else AGAIN):
            yield from check_openai(place, model_size if model_size in PRESETS else None)


def check_openai(folder, own_name):  # yields lines
    """Check a model in OpenAI's layout. own_name: the name in PRESETS, if it has one."""
    encoder, hparams, load_params = utils.open_openai(folder)
    path = folder / "hparams.json"
    if own_name and hparams != PRESETS[own_name]:
        raise ModelError(path, f"{describe(hparams)}: these are not the sizes of {own_name}", AGAIN)
    yield f"{path}: {describe(hparams)}" + ("" if own_name else "; only n_head could be wrong unnoticed")
    n_tokens, n_merges = len(encoder.encoder), len(encoder.bpe_ranks)
    yield f"{folder / 'encoder.json'}, vocab.bpe: {n_tokens:,} tokens, which {n_merges:,} merges make"

    load_params()
    index_path, data_path = file_paths(folder / "model.ckpt")
    variables = read_index(index_path)
    yield f"{index_path}: {len(variables):,} variables; its own checksums are right"
    compare_checksums(variables, data_path)
    n_bytes = Path(data_path).stat().st_size
    yield f"{data_path}: {n_bytes:,} bytes; the checksum of each variable is right"
    for name in utils.FILES:
        n_bytes, sha256 = utils.known(own_name, name) if own_name in utils.RELEASED else (None, None)
        if sha256:
            compare_digest(folder / name, hashlib.sha256(), sha256)
            yield f"{folder / name}: SHA-256 as released, {sha256}"


def check_huggingface(folder):  # yields lines
    """Check a model in Hugging Face's layout."""
    from extras import huggingface
    from extras.huggingface import config, task_heads

    fields = config.read_config(folder)
    yield f"{folder / 'config.json'}: {describe(config.to_hparams(fields))}"
    encoder = huggingface.load_encoder(folder, fields)
    yield f"{folder}: a vocabulary of {len(encoder.encoder):,} tokens"
    has_head = (fields["architectures"] or [None])[0] in task_heads.HEADS
    params = (
        task_heads.load_with_head(folder, fields)[0] if has_head else huggingface.load_params(folder, fields)
    )
    n_arrays = len(flatten(params))
    yield f"{folder}: {n_arrays:,} arrays, finite and of these sizes; safetensors has no checksums for more"
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest, found = in_cache(path)
        if digest:
            compare_digest(path, found, digest)
            yield f"{path}: {found.name.upper()} as on the hub, {digest}"


def describe(hparams):  # -> str
    """The sizes in one line."""
    return ", ".join(f"{name} {size:,}" for name, size in hparams.items())


def in_cache(path):  # -> digest, a hash object to compute it; or None, None
    """The digest of a file in the cache of huggingface_hub, which names the content after it.

    That of a large file is its SHA-256; that of a small one is git's, the SHA-1 of "blob", length, content.
    """
    name = path.resolve().name
    if path.resolve().parent.name != "blobs" or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", name):
        return None, None
    if len(name) == 64:
        return name, hashlib.sha256()
    return name, hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)


def compare_digest(path, found, expected):
    """Raise ModelError unless a file has this digest. found: a hash object, which gets its bytes."""
    update(path, found)
    if found.hexdigest() != expected:
        problem = f"{found.name.upper()} {found.hexdigest()}, expected {expected}: not the released file"
        raise ModelError(path, problem, AGAIN)
