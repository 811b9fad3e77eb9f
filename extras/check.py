"""Is a model on disk whole and right? Each of its files is compared with everything that could show an error.

    python gpt2.py --check --model_size NAME

Loading a model does most of it: names, shapes, types and finite numbers, and that the parts belong together
(`utils.open_openai` and `extras.huggingface.loading` list what every load compares). What loading leaves out,
because it takes longer than all the rest, is done here: the checksum of each variable, and digests.
"""

import hashlib
import re
from pathlib import Path

import utils
from checkpoint import compare_checksums, file_paths, read_index
from download import hash_file
from files import AGAIN, MIXED_UP, ModelError, fresh_copy, quoted, read_json, read_small
from layouts import QUANTIZED
from names import RELEASED
from weights import PRESETS, flatten

CHECKED = (".json", ".txt", ".model", ".safetensors")  # suffixes: the digests of these are compared
UNCONFIRMED = "; n_head stands only here, so nothing confirms it"


def check(model_size, models_dir, lora=None):  # yields lines
    """Say file by file what was compared; nothing is downloaded. Arguments: as for `utils.open_model`.

    Raises ModelError for the first thing that is wrong or missing, ValueError for an unknown name.
    """
    chosen = []
    if lora is not None:
        chosen, model_size = cached_adapters(lora, model_size, models_dir)
    if model_size is None:
        model_size = utils.DEFAULT
    layout, place = utils.find_model(model_size, models_dir)
    if layout == "released" and not all((place / name).is_file() for name in utils.FILES):
        there = f"--model_size {model_size} --models_dir {quoted(models_dir)}"
        problem = "not downloaded yet, or only in part"
        raise ModelError(place, problem, f"python gpt2.py Hello {there} downloads it")
    if layout == "huggingface":
        from extras.huggingface.hub import cached_folder, how_again

        with fresh_copy(how_again(place)):
            folder = cached_folder(place)
            yield from check_huggingface(folder)
    elif layout == "gguf":
        folder = place
        yield from check_gguf(place)
    else:
        folder = place
        with fresh_copy(utils.MOVE_AWAY if layout == "released" else AGAIN):
            yield from check_openai(place, model_size if model_size in PRESETS else None)
    if chosen:
        yield from check_adapters(chosen, folder, models_dir)
    yield "nothing wrong was found"


def check_openai(folder, own_name):  # yields lines
    """Check a model in OpenAI's layout. own_name: the name in PRESETS, if it has one."""
    size = own_name if own_name in RELEASED else None
    encoder, hparams, load_params = utils.open_openai(folder, size)
    path = folder / "hparams.json"
    if own_name and hparams != PRESETS[own_name]:
        raise ModelError(path, f"{describe(hparams)}: these are not the sizes of {own_name}", AGAIN)
    yield f"{path}: {describe(hparams)}" + ("" if own_name else UNCONFIRMED)
    n_tokens, n_merges = len(encoder.encoder), len(encoder.bpe_ranks)
    made_of = f"the 256 bytes, {n_merges:,} merges, <|endoftext|>"
    yield f"{folder / 'encoder.json'}, vocab.bpe: {n_tokens:,} tokens: {made_of}"

    load_params()
    index_path, data_path = file_paths(utils.checkpoint_of(folder, size))
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
    from extras.huggingface import loading, task_heads
    from extras.huggingface.config import kind_of, read_config, to_hparams

    config = read_config(folder)
    yield f"{folder / 'config.json'}: {describe(to_hparams(config))}{UNCONFIRMED}"
    encoder = loading.load_encoder(folder, config)
    yield f"{folder}: a vocabulary of {len(encoder.encoder):,} tokens{compare_vocabularies(folder)}"
    if kind_of(config) in task_heads.HEADS:
        params, _ = task_heads.load_with_head(folder, config)
    else:
        params = loading.load_params(folder, config)
    shaped = "finite, with the shapes that config.json gives"
    is_quantized = (folder / QUANTIZED).is_file()
    checked = "each matches its checksum" if is_quantized else "the format has no checksums"
    yield f"{folder}: {len(flatten(params)):,} arrays: {shaped}; {checked}"
    yield from compare_files(folder, CHECKED)
    yield from check_converted(folder)


def check_gguf(path):  # yields lines
    """Check a model in a .gguf file."""
    from extras.huggingface import gguf_reader

    encoder, hparams, load_params = gguf_reader.open_model(path)
    yield f"{path}: {describe(hparams)}{UNCONFIRMED}"
    yield f"{path}: a vocabulary of {len(encoder.encoder):,} tokens"
    n_arrays = len(flatten(load_params()))
    yield f"{path}: {n_arrays:,} arrays: finite, with the shapes of these sizes; the format has no checksums"
    yield from compare_digests({path: digest_from_hub(path)})


def cached_adapters(lora, model_size, models_dir):  # -> list of adapters.Chosen, the name of the model
    """The adapters that are named, each in its folder, for one from the hub in the cache; and their model."""
    from extras.huggingface.adapters import base_of, choose, place_of
    from extras.huggingface.hub import cached_folder

    chosen = choose(lora, lambda name: str(cached_folder(place_of(name), "--lora")))
    return chosen, base_of(chosen, models_dir) if model_size is None else model_size


def check_adapters(chosen, model, models_dir):  # yields lines
    """Check adapters, and that they can be merged into a model. chosen: what `cached_adapters` returns."""
    from extras.huggingface import adapters

    _, _, load_params = adapters.adapted(chosen, model, *utils.open_model(model, models_dir))
    load_params()
    for folder, *_ in chosen:
        yield f"{folder}: its tensors are those that adapter_config.json and the model need, and finite"
        yield from compare_files(Path(folder), CHECKED)


def check_converted(folder):  # yields lines
    """Compare the weights that the hub's conversion bot made: they are in another folder of the cache."""
    from extras.huggingface.conversion_bot import noted
    from extras.huggingface.hub import how_again

    name, commit = noted(folder)
    if commit:
        yield f"{folder.parent / commit}: the weights, from the conversion bot's pull request, {name}"
        with fresh_copy(how_again(name)):
            yield from compare_files(folder.parent / commit, (".safetensors",))


def compare_files(folder, suffixes):  # yields lines
    """Compare the files in a folder with the digests that are known, and say for which none is."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in suffixes)
    known = {path: digest_from_hub(path) for path in paths}
    yield from compare_digests(known)
    # a file of quantized weights has checksums of its own
    unknown = ", ".join(path.name for path in paths if known[path] is None and path.name != QUANTIZED)
    if unknown:
        yield f"no digest is known for {unknown}: a changed number in them would not be found"


def describe(hparams):  # -> str
    """The sizes in one line."""
    return ", ".join(f"{name} {size:,}" for name, size in hparams.items())


def compare_vocabularies(folder):  # -> str
    """Compare tokenizer.json with vocab.json and merges.txt, where a folder has both forms of a vocabulary.

    Raises ModelError if they differ: transformers reads the one or the other.
    """
    from extras.huggingface.prepared import is_byte_level
    from extras.huggingface.tokenizer_classes import OF_GPT2, read_files
    from extras.huggingface.vocabulary import merges_of

    path = folder / "tokenizer.json"
    if not all((folder / name).is_file() for name in (path.name, "vocab.json", "merges.txt")):
        return ""
    tokenizer, other = read_json(path), read_files(folder, OF_GPT2, None)
    if not is_byte_level(tokenizer):
        return ""
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    tokens, others = (added | each["model"]["vocab"] for each in (tokenizer, other))
    if tokens != others or merges_of(tokenizer) != merges_of(other):
        raise ModelError(path, "its tokens and merges are not those of vocab.json, merges.txt", MIXED_UP)
    return ", the same in both of its forms"


def digest_from_hub(path):  # -> str, or None where it is not known
    """The digest of a file from the hub: its library names the file in the cache after it, or notes it."""
    # as hf download --local-dir leaves it
    note = path.parent / ".cache" / "huggingface" / "download" / f"{path.name}.metadata"
    if note.is_file():
        words = read_small(note).split()
        digest = words[1] if len(words) > 1 else ""  # after the commit
    else:
        digest = path.resolve().name if path.resolve().parent.name == "blobs" else ""
    return digest if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", digest) else None


def compare_digests(known):  # {Path: digest, or None} -> yields lines
    """Compare files with their digests. Raises ModelError for the first that differs."""
    for path, digest in known.items():
        if digest is None:
            continue
        kind = "SHA-256" if len(digest) == 64 else "git's SHA-1"
        found = new_hash(path, digest)
        hash_file(path, found)
        if found.hexdigest() != digest:
            problem = f"{kind} {found.hexdigest()}, expected {digest}: not the released file"
            raise ModelError(path, problem, AGAIN)
        yield f"{path}: {kind} is right, {digest}"


def new_hash(path, digest):  # -> hash object
    """SHA-256, or, for a shorter digest, git's: the SHA-1 of "blob", the length, and the content."""
    if len(digest) == 64:
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
