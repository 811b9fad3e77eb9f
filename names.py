"""Names of models: OpenAI's, those of the Hugging Face hub, and what a mistyped one may mean."""

import os
import re

from files import ROOT, quoted, shown, similar
from layouts import GGUF, is_part_of_model

MODELS_DIR = os.environ.get("PLAINGPT_MODELS_DIR") or str(ROOT / "models")  # where programs keep downloads
RELEASED = ("124M", "355M", "774M", "1558M")  # by OpenAI
RENAMED = {"117M": "124M", "345M": "355M", "762M": "774M", "1542M": "1558M"}  # by OpenAI, in 2019
SHORT_NAMES = {  # from the time when names on the Hugging Face hub had no owner
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}
NICKNAMES = {
    "small": "124M",
    "medium": "355M",
    "large": "774M",
    "xl": "1558M",
    "1.5b": "1558M",
    "gpt2-small": "gpt2",
    "gpt2-base": "gpt2",
    "gpt2-124m": "124M",
    "gpt2-1.5b": "1558M",
}
KINDS_OF_WEIGHTS = ("int8", "int4", "nf4")  # beside float32: those that extras/quantize.py makes
ALLOWED = (
    f"expected tiny, {', '.join(RELEASED)}, an existing folder or .gguf file, "
    "or a name on the Hugging Face hub (gpt2, owner/name)"
)


def is_hub_name(name):  # -> bool
    """Whether this can be the name of a model on the Hugging Face hub, not a path or an address."""
    repo = name.partition("@")[0]
    if repo in SHORT_NAMES:
        return True
    is_address = re.match(r"models/|(www\.)?(huggingface|hf)\.co/", repo)
    if is_address or os.path.exists(name) or is_part_of_model(name) or repo.lower().endswith(GGUF):
        return False
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo) is not None


def unknown_name(name):  # -> ValueError
    """What is wrong with the name of a model, what is allowed, and which model it may mean."""
    word = f"'{shown(name)}'"
    if name in RENAMED:
        return ValueError(f"model_size is {word}, which OpenAI renamed: use {RENAMED[name]}")
    found = likely_model(name)
    kind = "file" if name.lower().endswith(GGUF) else "folder" if is_path(name) else None
    missing = f": there is no such {kind};" if kind else ","
    question = f"; did you mean {found}?" if found else ""
    return ValueError(f"model_size is {word}{missing} {ALLOWED}{question}")


def check_kind_of_weights(kind):
    """Raise ValueError unless this is a kind of weights that a model can have in place of float32."""
    if kind not in KINDS_OF_WEIGHTS:
        found = similar(str(kind), KINDS_OF_WEIGHTS)
        question = f"; did you mean {found[0]}?" if found else ""
        raise ValueError(f"weights is '{shown(kind)}', expected {', '.join(KINDS_OF_WEIGHTS)}{question}")


def is_path(name):  # -> bool
    """Whether a name can only be a path: ./x, ~/x, /x, a/b/c, models/x, C:\\x."""
    return bool(re.match(r"[.~/$]|models/|\w:|[^:]*\\|[^:/]+/[^/]+/", name)) and "huggingface.co" not in name


def likely_model(name):  # "124m" -> "124M"; None if nothing is similar
    """The model that a wrong name probably means."""
    name = name.strip().rstrip("/\\")
    path = os.path.expanduser(os.path.expandvars(name)).replace("\\", "/")
    found = in_address(name) or (quoted(path) if os.path.isdir(path) else None)
    if found or is_hub_name(name):
        return found or name
    known = {each: each for each in ("tiny", *RELEASED, *SHORT_NAMES)} | RENAMED | NICKNAMES
    *folders, last = path.split("/")
    last = re.sub(r"[\s_-]+", "-", last.lower()).replace("gpt-2", "gpt2")
    close = [each for each in similar(last, known) if not folders or each.lower() == last]
    return known[close[0]] if close else None


def in_address(address):  # "https://huggingface.co/owner/name/tree/main" -> "owner/name"; or None
    """The name of the model that an address on the hub shows."""
    site = re.match(r"(https?://)?(www\.)?(huggingface\.co|hf\.co|hf-mirror\.com)/|hf://", address)
    path = re.split("[?#]", address[site.end() :] if site else address)[0]
    name, *of_a_branch = re.split("/(?:tree|blob|resolve)/", path, maxsplit=1)
    name = name.strip("/")
    if not (site or of_a_branch) or not is_hub_name(name) or name.startswith(("datasets/", "spaces/")):
        return None
    branch = of_a_branch[0].partition("/")[0] if of_a_branch else "main"
    return name if branch == "main" else f"{name}@{branch}"
