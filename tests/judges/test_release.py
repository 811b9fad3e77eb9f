"""The real 124M, once it is in models/124M: `pytest -m release`."""

import pytest
from helpers import ROOT, command

import gpt2
import utils

PROMPT = "Alan Turing theorized that computers would one day become"
TEXT = (
    " the most powerful machines on the planet.\n\nThe computer is a machine that can perform complex "
    "calculations, and it can perform these calculations in a way that is very similar to the human brain."
)


@pytest.mark.release
def test_the_released_model_continues_the_prompt_as_in_picogpts_readme():
    if not (ROOT / "models" / "124M" / utils.DATA).exists():
        pytest.skip("the weights of the 124M are not in models/124M: `python gpt2.py Hello` downloads them")
    done = command(PROMPT)
    assert done.returncode == 0 and done.stderr == b""
    text = done.stdout.decode()
    assert text.startswith(TEXT)
    encoder, hparams, params = utils.load_encoder_hparams_and_params("124M", ROOT / "models")
    ids = gpt2.generate(encoder.encode(PROMPT), params, hparams["n_head"], 40)
    assert text == encoder.decode(ids) + "\n"
