"""Lines for generate that cannot be used, or only just: each is named, and no other is harmed."""

import pytest
from corpora import corpus, generate, packed, pipe_in, rows_in, write_lines

FOX = {"prompt": "The little fox"}

BAD = {  # a line: what is said of it
    "{": "not JSON at character 3: Expecting property name",
    "{'prompt': 'a'}": "not JSON at character 2: Expecting property name",
    '{"prompt": "a"} {}': "not JSON at character 17: Extra data",
    '{"prompt": "a\tb"}': "not JSON at character 14: Invalid control character",
    "Once upon a time": "not JSON at character 1: Expecting value",
    '"Once"': """'"Once"' is not an object, such as {"prompt": "Once"}""",
    "[]": "'[]' is not an object",
    "null": "'null' is not an object",
    "[" * 10**5: "too many brackets",
    '{"prompt": "a", "id": ' + "[" * 10**5 + "]" * 10**5 + "}": "too many brackets",
    '{"prompt": "a", "n": NaN}': "NaN is not a finite number",
    '{"prompt": "a", "id": [-Infinity]}': "-Infinity is not a finite number",
    '{"prompt": "a", "t": 1e999}': "1e999 is not a finite number",
    '{"prompt": "a", "n": 1' + "0" * 400 + "}": "n_tokens_to_generate is 1000",
    '{"prompt": "a", "t": 1' + "0" * 400 + "}": "temperature is 1000",
    '{"prompt": "a", "n": 1' + "0" * 18 + "}": "n_tokens_to_generate is 1000000000000000000: it must",
    '{"prompt": "a", "seed": 1e300}': "seed is 1e+300: it must be a whole number, 0 or more",
    '{"prompt": "a", "id": 1' + "0" * 5000 + "}": "Exceeds the limit",
    '{"prompt": "a", "prompt": "b"}': "prompt is given twice",
    '{"prompt": "a", "n": 3, "n_tokens_to_generate": 3}': "n_tokens_to_generate is given twice",
    '{"prompt": "a", "top-k": 3, "top_k": 3}': "top_k is given twice",
    "{}": "it has no prompt: give a text to continue",
    '{"prompt": null}': "it has no prompt",
    '{"prompt": ""}': "it has no prompt",
    '{"prompt": 3}': "it has no prompt",
    '{"prompt": ["a"]}': "it has no prompt",
    '{"promt": "a"}': "there is no option 'promt' for a text: did you mean prompt?",
    '{"prompt": "a", "topp": 3}': "there is no option 'topp' for a text: did you mean top_p?",
    '{"prompt": "a", "stats": true}': "there is no option 'stats' for a text",
    '{"prompt": "a", "xyzzy\\u001b": true}': "there is no option 'xyzzy\\\\x1b' for a text",
    '{"prompt": "a", "line": null}': "there is no option 'line' for a text",
    '{"prompt": "a", "text": null}': "there is no option 'text' for a text",
    '{"prompt": "a", "": 1}': "there is no option '' for a text",
    '{"prompt": "a", "n": "3"}': 'n_tokens_to_generate is "3": it must be a whole number, 0 or more',
    '{"prompt": "a", "n": -1}': "n_tokens_to_generate is -1: it must be a whole number",
    '{"prompt": "a", "n": 1.5}': "n_tokens_to_generate is 1.5: it must be a whole number",
    '{"prompt": "a", "n": true}': "n_tokens_to_generate is true: it must be a whole number",
    '{"prompt": "a", "n": [1]}': "n_tokens_to_generate is [1]: it must be",
    '{"prompt": "a", "t": "hot"}': 'temperature is "hot": it must be a number',
    '{"prompt": "a", "t": false}': "temperature is false: it must be a number",
    '{"prompt": "a", "lookup": 1}': "lookup is 1: it must be true or false",
    '{"prompt": "a", "stop": 1}': "stop is 1: it must be a text",
    '{"prompt": "a", "stop": ""}': "stop is empty: give the text to stop at",
    '{"prompt": "a", "stop": "x<|endoftext|>"}': "stop has the special token '<|endoftext|>'",
    '{"prompt": "a", "t": -1}': "temperature is -1",
    '{"prompt": "a", "top_p": 2}': "top_p is 2",
    '{"prompt": "a", "n_samples": 0}': "n_samples is 0: it must be 1 or more",
    '{"prompt": "a", "n_samples": 2}': "n_samples is 2: all texts would be the same",
    '{"prompt": "a", "lookup": true, "draft": "tiny"}': "--draft and --lookup cannot be used together",
    '{"prompt": "a", "lookup": true, "n_samples": 2, "seed": 1}': "--n_samples and --lookup cannot be used",
    '{"prompt": "a", "length_penalty": 1}': "length_penalty compares the texts of --beams",
    '{"prompt": "a", "n": 256}': "1 prompt tokens and 256 new ones, but the model sees 256",
    '{"prompt": "' + "a b " * 300 + '"}': "the prompt has ",
    '{"prompt": "' + "a b " * 10**6 + '"}': "the text has 4,000,000 characters",
    '{"prompt": "a", "m": "nope"}': "model_size is 'nope', expected tiny",
    '{"prompt": "a", "m": ""}': "model_size is '', expected tiny",
    '{"prompt": "a", "m": "x\\u0000"}': "model_size is 'x\\x00', expected tiny",
    '{"prompt": "a", "m": "\\ud83e"}': "model_size is '\\ud83e', expected tiny",
    '{"prompt": "a", "draft": "nope"}': "model_size is 'nope', expected tiny",
    '{"prompt": "a", "draft": ""}': "model_size is '', expected tiny",
    '{"prompt": "a", "lora": "nope"}': "lora is 'nope': there is no such folder",
    '{"prompt": "a", "weights": "int9"}': "weights is 'int9', expected int8",
}


def test_each_bad_line_is_named_and_skipped_and_the_others_are_unharmed(tmp_path, capsys):
    good = FOX | {"n": 3}
    rows = generate(tmp_path, [good, *[line for bad in BAD for line in (bad, good)]])
    out, err = capsys.readouterr()
    said = err.splitlines()
    assert len(said) == len(BAD) and out == f"{len(BAD) + 1} texts, {len(BAD)} skipped\n"
    for i, (line, message) in enumerate(BAD.items()):
        start, end = f"line {2 * i + 2}: {message}", "; it is skipped"
        assert said[i].startswith(start) and said[i].endswith(end), line[:80]
        assert len(said[i]) < 700 and said[i].isprintable(), line[:80]
    assert [row["line"] for row in rows] == [1 + 2 * i for i in range(len(BAD) + 1)]
    assert all(row | {"line": 1} == rows[0] for row in rows)


def test_a_vocabulary_that_does_not_fit_the_draft_is_one_line(small, tmp_path, capsys):
    rows = generate(tmp_path, [FOX | {"draft": str(small)}, FOX | {"n": 2}])
    assert "its vocabulary is not that of the model" in capsys.readouterr().err and len(rows) == 1


@pytest.mark.parametrize("depth", [*range(900, 1000, 7), *range(960, 1000)])
def test_brackets_are_too_many_or_come_back(tmp_path, capsys, depth):
    nested = "[" * depth + "]" * depth
    lines = [f'{{"prompt": "a", "n": 1, "id": {nested}}}', f'{{"prompt": "a", "n": {nested}}}']
    lines.append(FOX | {"n": 1})
    path, out = write_lines(tmp_path / "prompts.jsonl", *lines), tmp_path / "texts.jsonl"
    assert corpus("generate", path, "--out", out, "-m", "tiny") == 0
    err = capsys.readouterr().err
    content = out.read_bytes()
    assert content.splitlines()[-1].startswith(b'{"line": 3') and "line 2: " in err
    assert nested.encode() in content or "line 1: too many brackets" in err
    assert corpus("generate", path, "--out", out, "-m", "tiny") == 0, capsys.readouterr()
    assert out.read_bytes() == content


def test_a_line_of_megabytes_comes_back(tmp_path):
    line = FOX | {"n": 2, "id": "é" * 2_500_000}
    (row,) = generate(tmp_path, [line])
    assert row["id"] == line["id"] and row["text"]


def test_half_a_character_in_an_id_comes_back_and_a_prompt_with_one_is_no_text(tmp_path, capsys):
    lines = ['{"prompt": "a\\ud83e", "n": 4}', '{"prompt": "a", "id": "\\udd8a\\ud83e", "n": 4}']
    [row] = generate(tmp_path, lines)
    assert row["line"] == 2 and row["id"] == "\udd8a\ud83e"
    assert (
        capsys.readouterr().err
        == "line 1: the prompt has half a character, which is no text; it is skipped\n"
    )


def test_what_a_program_for_windows_has_written_is_read(tmp_path, monkeypatch, capsys):
    content = b"\xef\xbb\xbf" + b'{"prompt": "Once", "n": 3}\r\n\r\n{"prompt": "I", "n": 3}\r\n'
    (tmp_path / "a").write_bytes(content)
    pipe_in(monkeypatch, content)
    found = []
    for path in (tmp_path / "a", packed(tmp_path / "a.gz", content), "-"):
        out = tmp_path / f"out{len(found)}"
        assert corpus("generate", path, "--out", out, "-m", "tiny") == 0
        found.append(rows_in(out))
        assert capsys.readouterr().out == "2 texts\n"
    assert found[0] == found[1] == found[2] and [row["line"] for row in found[0]] == [1, 3]
