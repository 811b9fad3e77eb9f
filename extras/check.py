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
from files import AGAIN, MIXED_UP, ModelError, fresh_copy, quoted, read_small
from weights import PRESETS, flatten


def check(model_size, models_dir):  # yields lines
    """Say file by file what was compared. Nothing is downloaded.

    Raises ModelError for the first thing that is wrong or missing, ValueError for an unknown name.
    """
    layout, place = utils.find_model(model_size, models_dir)
    if layout == "released" and not place.is_dir():
        there = f"--model_size {model_size} --models_dir {quoted(models_dir)}"
        raise ModelError(place, "not downloaded yet", f"python gpt2.py Hello {there} downloads it")
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
    yield f"{path}: {describe(hparams)}" + ("" if own_name else "; nothing else tells n_head")
    n_tokens, n_merges = len(encoder.encoder), len(encoder.bpe_ranks)
    yield f"{folder / 'encoder.json'}, vocab.bpe: {n_tokens:,} tokens, which {n_merges:,} merges make"

    load_params()
    index_path, data_path = file_paths(folder / "model.ckpt")
    variables = read_index(index_path)
    yield f"{index_path}: {len(variables):,} variables; its own checksums are right"
    compare_checksums(variables, data_path)
    n_bytes = Path(data_path).stat().st_size
    yield f"{data_path}: {n_bytes:,} bytes; the checksum of each variable is right"
    paths = [folder / name for name in utils.FILES]
    known = {path: utils.known(own_name, path.name)[1] if own_name else None for path in paths}
    yield from compare_digests(known)


def check_huggingface(folder):  # yields lines
    """Check a model in Hugging Face's layout."""
    from extras import huggingface
    from extras.huggingface import config, task_heads

    fields = config.read_config(folder)
    yield f"{folder / 'config.json'}: {describe(config.to_hparams(fields))}; nothing else tells n_head"
    encoder = huggingface.load_encoder(folder, fields)
    yield f"{folder}: a vocabulary of {len(encoder.encoder):,} tokens{compare_vocabularies(folder)}"
    has_head = (fields["architectures"] or [None])[0] in task_heads.HEADS
    params = (
        task_heads.load_with_head(folder, fields)[0] if has_head else huggingface.load_params(folder, fields)
    )
    n_arrays = len(flatten(params))
    yield f"{folder}: {n_arrays:,} arrays, finite and of these sizes; safetensors has no checksums for more"
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".txt", ".safetensors"))
    yield from compare_digests({path: digest_on_hub(path) for path in paths})


def describe(hparams):  # -> str
    """The sizes in one line."""
    return ", ".join(f"{name} {size:,}" for name, size in hparams.items())


def compare_vocabularies(folder):  # -> str
    """Compare tokenizer.json with vocab.json and merges.txt, where a folder has both forms of a vocabulary.

    Raises ModelError if they differ: transformers reads the one or the other.
    """
    from extras.huggingface.vocabulary import read_tokenizer, read_vocabulary

    path = folder / "tokenizer.json"
    if not all((folder / name).is_file() for name in (path.name, "vocab.json", "merges.txt")):
        return ""
    (tokens, merges, *_), (others, other_merges, *_) = read_tokenizer(path), read_vocabulary(folder)
    if merges != other_merges or any(others.get(token, i) != i for token, i in tokens.items()):
        raise ModelError(path, "its tokens and merges are not those of vocab.json, merges.txt", MIXED_UP)
    return ", the same in both of its forms"


def digest_on_hub(path):  # -> str, or None where it is not known
    """The digest of a file from the hub: its library names the file in the cache after it, or notes it."""
    note = (
        path.parent / ".cache" / "huggingface" / "download" / f"{path.name}.metadata"
    )  # hf download --local-dir
    if note.is_file():
        digest = [*read_small(note).split(), "", ""][1]  # after the commit
    else:
        digest = path.resolve().name if path.resolve().parent.name == "blobs" else ""
    return digest if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", digest) else None


def compare_digests(known):  # {Path: digest, or None} -> yields lines
    """Compare files with their digests. Raises ModelError for the first that differs."""
    for path, digest in known.items():
        if digest is None:
            continue
        found = new_hash(path, digest)
        update(path, found)
        if found.hexdigest() != digest:
            problem = f"{found.name.upper()} {found.hexdigest()}, expected {digest}: not the released file"
            raise ModelError(path, problem, AGAIN)
        yield f"{path}: {found.name.upper()} as it should be, {digest}"
    unknown = ", ".join(path.name for path in known if known[path] is None)
    if unknown:
        yield f"no digest is known for {unknown}"


def new_hash(path, digest):  # -> hash object
    """SHA-256, or, for a shorter digest, git's: the SHA-1 of "blob", the length, and the content."""
    if len(digest) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
