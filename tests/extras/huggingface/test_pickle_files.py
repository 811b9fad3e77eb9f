"""Pickles are read, and not run: `pytest -m parity` for those of PyTorch."""

import contextlib
import os
import pickle
import pickletools
import zipfile

import pytest
from foreign_models import (
    ALPHA,
    LORA,
    TINY,
    assert_same_model,
    instance,
    lightning,
    lively_model,
    nanogpt,
    run,
    save,
    save_transformers,
    tensor,
)
from helpers import run_python

from extras.huggingface import convert, pickle_files
from files import ModelError


def parity(test):
    return pytest.mark.parity(pytest.mark.usefixtures("transformers")(test))


MKDIR = f"{os.mkdir.__module__}.mkdir"


class Bomb:
    """Pickled, it is a program that makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@parity
@pytest.mark.parametrize("raw", [True, False])
def test_what_a_pickle_would_do_is_not_done(tmp_path, capsys, raw):
    import torch

    bomb = Bomb(tmp_path / "made")
    content = pickle.dumps(bomb) if raw else nanogpt(lively_model()) | {"config": bomb}
    file = save(content, tmp_path / "ckpt.pt")
    status, out, err = run(capsys, file, tmp_path / "out", *TINY)
    assert (status, out, err.count("\n")) == (1, "", 1) and "is not run" in err
    assert list(tmp_path.iterdir()) == [file]
    with contextlib.suppress(Exception):
        torch.load(file, weights_only=False)
    assert bomb.folder.exists(), "this pickle would have done nothing"


# ---- small files that would grow ---------------------------------------------------------------------------


def spread(*shape):
    """A tensor of which one number is stored."""
    return tensor(1).expand(*shape)


def spread_model():
    return {name: spread(*t.shape) for name, t in lively_model(n_layer=9).state_dict().items()}


C_ATTN = "transformer.h.0.attn.c_attn."
GROWING = {
    "nanoGPT": (
        lambda: nanogpt(lively_model()) | {"model": {C_ATTN + "weight": spread(90_000, 30_000)}},
        TINY,
    ),
    "LoRA": (lambda: {LORA + "A": spread(6, 10**8), LORA + "B": spread(2 * 10**8, 3)}, ALPHA),
    "one tensor for all": (spread_model, []),
}


@parity
@pytest.mark.parametrize("kind", GROWING)
def test_a_tensor_larger_than_its_file_takes_no_memory_and_no_disk(tmp_path, tiny, kind):
    pytest.importorskip("resource", reason="this system has no limits on memory")
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("this system does not say how much memory a process has")
    content, words = GROWING[kind]
    file = save_transformers(tmp_path / "in", lively_model(), tiny[0], content())
    limit = (
        "import resource, sys, torch, program; from extras.huggingface import convert;"
        "n = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + 300_000_000;"
        "resource.setrlimit(resource.RLIMIT_AS, (n, n));"
        "sys.exit(program.run('extras.huggingface.convert', program='convert'))"
    )
    done = run_python("-c", limit, str(file), str(tmp_path / "out"), *words)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 1)
    assert b"bytes, far more than the file has; get a fresh copy" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@parity
def test_a_compressed_pickle_is_not_unpacked(tmp_path, monkeypatch):
    import torch

    file, packed = save({"wte": torch.zeros(10**6)}, tmp_path / "f.pt"), tmp_path / "packed.pt"
    with zipfile.ZipFile(file) as parts, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as small:
        for part in parts.infolist():
            small.writestr(part.filename, parts.read(part))
    assert torch.load(packed, weights_only=True)["wte"].shape == (10**6,)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ModelError, match=r"packed.pt: it is compressed, and would grow to 4,000,\d+ bytes"):
        convert.convert(packed, tmp_path / "out")


@parity
def test_an_old_pytorch_reads_no_pickle(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ImportError, match="can make PyTorch 2.9.1.cpu run code: pip install 'torch>=2.10'"):
        convert.convert(tmp_path / "f.pt", tmp_path / "out")


@parity
@pytest.mark.parametrize("n_bytes", [100, 5000, 20_000])
def test_a_cut_pickle_is_named(tmp_path, n_bytes):
    file = tmp_path / "pytorch_model.bin"
    import torch

    torch.save({"h.0.attn.c_attn.weight": torch.zeros(64, 192)}, file)
    file.write_bytes(file.read_bytes()[:n_bytes])
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: "):
        convert.convert(file, tmp_path / "out")


@parity
def test_a_bit_of_a_pickle_that_pytorch_does_not_see_is_found(tmp_path):
    file = tmp_path / "pytorch_model.bin"
    import torch

    torch.save({"h.0.attn.c_attn.weight": torch.zeros(64, 192)}, file)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert torch.load(file, weights_only=True)["h.0.attn.c_attn.weight"].any()
    with pytest.raises(ModelError, match="damaged: .* does not match its checksum"):
        convert.convert(file, tmp_path / "out")


# ---- classes that PyTorch refuses --------------------------------------------------------------------------


@parity
@pytest.mark.parametrize("name", ["train_gpt2.GPTConfig", "somewhere.model.GPTConfig", "argparse.Namespace"])
def test_an_object_that_only_holds_sizes_is_read_as_its_attributes(tmp_path, monkeypatch, name):
    config = instance(monkeypatch, name, n_head=4, bias=True, betas=(0.9, 0.95), more={"a": [1, None]})
    file = save({"model": {"w": tensor(2)}, "config": config, "best": [config]}, tmp_path / "f.pt")
    monkeypatch.undo()
    content, tensors = pickle_files.read_pickle(file)
    assert type(content["config"]) is pickle_files.Settings and content["best"] == [content["config"]]
    assert vars(content["config"]) == vars(config)
    assert tensors["w"].tolist() == [1, 1]


@parity
def test_what_stands_in_for_a_class_is_forgotten_again(tmp_path, monkeypatch):
    import torch

    config = instance(monkeypatch, "train_gpt2.GPTConfig", n_head=4)
    file = save({"config": config, "w": tensor(2)}, tmp_path / "f.pt")
    before = {*torch.serialization.get_safe_globals()}
    pickle_files.read_pickle(file)
    assert {*torch.serialization.get_safe_globals()} == before
    with pytest.raises(pickle.UnpicklingError, match="train_gpt2.GPTConfig"):
        torch.load(file, weights_only=True)


class Reduced:
    """Pickled, it is whatever a crafted file may do with a class of the name GPTConfig."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def made_folder(folder, kind):
    """A crafted object that would make a folder, if anything in it were run."""
    bomb = Bomb(folder)
    return {
        "called with it": Reduced(kind, (bomb,)),
        "as its state": Reduced(kind, (), {"__setstate__": bomb}),
        "as an attribute": Reduced(kind, (), {"__reduce__": bomb, "n_head": bomb}),
        "beside it": [Reduced(kind, (), {}), bomb],
    }


@parity
@pytest.mark.parametrize("way", made_folder(None, None))
def test_the_name_gptconfig_lets_nothing_run(tmp_path, monkeypatch, capsys, way):
    import torch

    kind = type(instance(monkeypatch, "train_gpt2.GPTConfig"))
    kind.__init__ = lambda self, *anything: None
    content = nanogpt(lively_model()) | {"config": made_folder(tmp_path / "made", kind)[way]}
    file = save(content, tmp_path / "f.pt")
    status, out, err = run(capsys, file, tmp_path / "out", *TINY)
    assert (status, out, err.count("\n")) == (1, "", 1) and MKDIR in err and "is not run" in err
    assert list(tmp_path.iterdir()) == [file]
    with contextlib.suppress(Exception):
        torch.load(file, weights_only=False)
    assert (tmp_path / "made").exists(), "this pickle would have done nothing"


@parity
@pytest.mark.parametrize("arguments", [(1,), ({"n_head": 4},)])
def test_a_gptconfig_that_would_be_called_is_refused(tmp_path, monkeypatch, arguments):
    kind = type(instance(monkeypatch, "train_gpt2.GPTConfig"))
    content = nanogpt(lively_model()) | {"config": Reduced(kind, arguments)}
    with pytest.raises(ModelError, match="Settings.. takes no arguments"):
        pickle_files.read_pickle(save(content, tmp_path / "f.pt"))


@parity
@pytest.mark.parametrize(
    "name, base",
    [("lightning.fabric.utilities.data.AttributeDict", dict), ("my_project.TrainConfig", object)],
)
def test_a_class_that_is_refused_is_named_with_what_to_do(tmp_path, monkeypatch, capsys, name, base):
    settings = instance(monkeypatch, name, base, lr=1)
    if base is dict:
        settings["n_head"] = 4
    content = lightning(lively_model()) | {"hyper_parameters": settings}
    file = save(content, tmp_path / "last.ckpt")
    monkeypatch.undo()
    status, out, err = run(capsys, file, tmp_path / "out", *TINY)
    assert (status, out) == (1, "")
    assert err == (
        f"extras.huggingface.convert: {file}: it holds more than tensors: {name} (1 such), "
        "which could run code, so it is not run; where it is defined, load the model from last.ckpt, run "
        "torch.save(model.state_dict(), 'tensors.pt'), and convert that\n"
    )


@parity
def test_what_the_advice_saves_is_converted(tmp_path, tiny):
    model = lively_model()
    file = save_transformers(tmp_path, model, tiny[0]).rename(tmp_path / "tensors.pt")
    convert.convert(file, tmp_path / "out")
    assert_same_model(tmp_path / "out", model)


@parity
def test_a_whole_model_is_refused_by_its_own_class_not_by_pytorchs(tmp_path, capsys):
    file = save(lively_model(), tmp_path / "f.pt")
    status, out, err = run(capsys, file, tmp_path / "out", *TINY)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "it holds more than tensors: transformers." in err


# ---- plain pickles -----------------------------------------------------------------------------------------

META = {"vocab_size": 3, "itos": {0: "a", 1: "é", 2: "中"}, "stoi": {"a": 0, "é": 1, "中": 2}}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_is_read_whatever_its_protocol(tmp_path, protocol):
    value = META | {"more": [1.5, -(2**40), None, True, [], {}], "large": {str(i): i for i in range(3000)}}
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(value, protocol))
    assert pickle_files.read_plain(tmp_path / "meta.pkl") == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "stopped_by, message", [("its steps", "it is not run"), ("its names", "posix.mkdir")]
)
def test_what_a_plain_pickle_would_do_is_not_done(tmp_path, monkeypatch, protocol, stopped_by, message):
    bomb, file = Bomb(tmp_path / "made"), tmp_path / "meta.pkl"
    file.write_bytes(pickle.dumps(META | {"more": bomb}, protocol))
    if stopped_by == "its names":
        monkeypatch.setattr(pickle_files, "PLAIN", {code.name for code in pickletools.opcodes})
    with pytest.raises(ModelError, match=message):
        pickle_files.read_plain(file)
    assert list(tmp_path.iterdir()) == [file]
    pickle.loads(file.read_bytes())
    assert bomb.folder.exists(), "this pickle would have done nothing"


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "cannot be read as a pickle"),
        (b"abc", "or is no pickle; it is not run"),
        (b"\x80\x04}", "cannot be read as a pickle"),
        (b"\x80\x04].", "it holds something of type list, not a dict"),
        (b"\x80\x04K\x01.", "it holds something of type int, not a dict"),
        (b"\x80\x02}r\x00\x00\x00\x01.", "it is not run"),  # one number that asks for 256 MB
        (b"}p16777216\n.", "it is not run"),
        (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".", "cannot be read as a pickle"),
        (b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b".", "cannot be read as a pickle"),
        (b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"}.", "cannot be read as a pickle"),
        (b"\x80\x02}(" + b"(K\x01t" + b"h\x00\x86" * 2 + b"K\x01u.", "it is not run"),
        (b"\x80\x02\x82\x01.", "it is not run"),
        (b"Pname\n.", "it is not run"),
        (b"\x80\x02}" + b"0" * 2**22 + b".", "it has more than 4,194,304 bytes"),
    ],
)
def test_a_pickle_that_is_not_plain_is_refused(tmp_path, content, message):
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        pickle_files.read_plain(tmp_path / "meta.pkl")
