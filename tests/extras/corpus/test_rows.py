"""The file of rows: only whole rows count, and rows of another run are not continued."""

import json
import os

import pytest

from extras.corpus import rows
from files import ModelError

SETTINGS = {"action": "score", "model": "tiny"}
ROWS = [{"line": 1, "text": "é🦊"}, {"line": 2, "text": "a\u2028b\n"}, {"line": 3, "text": 'c"\\'}]


def write(path, some, settings=SETTINGS):
    """Read the rows that are there, append some, and return what was there."""
    with rows.opened(path, settings) as kept:
        earlier = list(kept.earlier())
        for row in some:
            kept.append(row)
    return earlier


def test_rows_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "deep" / "out.jsonl"
    assert write(path, ROWS[:2]) == [] and write(path, ROWS[2:]) == ROWS[:2] and write(path, []) == ROWS
    assert path.read_text("utf-8") == "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def test_a_row_is_in_the_file_at_once(tmp_path):
    with rows.opened(tmp_path / "out.jsonl", SETTINGS) as kept:
        for i, row in enumerate(ROWS, 1):
            kept.append(row)
            assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == i


def test_a_torn_last_row_is_dropped_wherever_it_was_cut(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, ROWS)
    whole = path.read_bytes()
    n_two = whole.rindex(b"\n", 0, -1) + 1
    for n in range(n_two, len(whole)):
        path.write_bytes(whole[:n])
        assert write(path, ROWS[2:]) == ROWS[:2] and path.read_bytes() == whole, n


def test_a_torn_first_row_is_dropped(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, ROWS)
    whole = path.read_bytes()
    path.write_bytes(whole[:5])
    assert write(path, ROWS) == [] and path.read_bytes() == whole


def test_a_row_that_the_system_takes_in_parts_is_written_whole(tmp_path):
    with rows.opened(tmp_path / "out.jsonl", SETTINGS) as kept:
        file, sizes = kept.file, []

        class Reluctant:
            def write(self, content):
                sizes.append(file.write(content[:5]))
                return sizes[-1]

        kept.file = Reluctant()
        kept.append(ROWS[0])
        kept.append(ROWS[1])
        kept.file = file
    assert write(tmp_path / "out.jsonl", []) == ROWS[:2] and len(sizes) > 10


def test_half_a_character_survives(tmp_path):
    row = {"id": "\ud83e", "prompt": "a\udcff🦊"}
    write(tmp_path / "out.jsonl", [row])
    assert write(tmp_path / "out.jsonl", []) == [row]
    assert r"\ud83e" in (tmp_path / "out.jsonl").read_text("utf-8")


@pytest.mark.parametrize(
    "line", ["{", "[1]", "3", "null", "", "{}{}", '{"a": 1, "a": 2}', "[" * 10**5, "\udcff", '{"a": "b']
)
def test_a_whole_line_that_is_not_a_row_is_named(tmp_path, line):
    path = tmp_path / "out.jsonl"
    write(path, ROWS)
    content = path.read_bytes() + line.encode("utf-8", "surrogateescape") + b"\n"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"{path}: line 4 is not a row; give another --out"):
        write(path, ROWS)
    assert path.read_bytes() == content


# ---- of another run ----------------------------------------------------------------------------------------


def test_rows_of_other_settings_are_refused_and_stay(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, ROWS)
    before = path.read_bytes()
    message = 'out.jsonl was begun with model "tiny", not "124M": give the same command, or another --out'
    with pytest.raises(ValueError, match=message):
        write(path, ROWS, SETTINGS | {"model": "124M"})
    with pytest.raises(ValueError, match="was begun with stride null, not 5"):
        write(path, ROWS, SETTINGS | {"stride": 5})
    assert path.read_bytes() == before and write(path, []) == ROWS


def test_a_file_that_no_run_made_is_refused_and_stays(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"line": 1}\n')
    with pytest.raises(ValueError, match="mine.jsonl exists, but not .mine.jsonl.run, which says how"):
        write(path, ROWS)
    assert path.read_text() == '{"line": 1}\n'


def test_without_rows_any_run_may_begin(tmp_path):
    path = tmp_path / "out.jsonl"
    path.touch()
    write(path, [])
    write(path, ROWS, SETTINGS | {"model": "124M"})  # the run before left none
    assert write(path, [], SETTINGS | {"model": "124M"}) == ROWS


@pytest.mark.parametrize("content", ["", "{", "[]", "\0"])
def test_a_memory_that_cannot_be_read_is_one_error(tmp_path, content):
    path = tmp_path / "out.jsonl"
    write(path, ROWS)
    (tmp_path / ".out.jsonl.run").write_text(content)
    with pytest.raises(ModelError, match=r"\.out\.jsonl\.run: "):
        write(path, [])


def test_two_runs_do_not_write_one_file(tmp_path):
    path = tmp_path / "out.jsonl"
    with rows.opened(path, SETTINGS) as kept:
        with pytest.raises(ValueError, match="out.jsonl: another run is writing it: give another --out"):
            write(path, ROWS[2:])
        kept.append(ROWS[0])
    assert write(path, ROWS[1:]) == ROWS[:1]


def test_after_a_run_that_failed_the_file_is_free(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, ROWS)
    with pytest.raises(ValueError) as refused:  # whose traceback holds what the run held
        write(path, [], SETTINGS | {"model": "124M"})
    assert write(path, []) == ROWS, refused


@pytest.mark.parametrize("name", ["folder", "a.gz", "-", ".", "device"])
def test_rows_go_to_a_plain_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    path = os.devnull if name == "device" else name
    with pytest.raises(
        ValueError, match="out is '.*': give the name of a file for rows, such as [a-z]+.jsonl"
    ):
        write(path, ROWS)
    assert os.listdir() == ["folder"] and os.listdir("folder") == []


# ---- models ------------------------------------------------------------------------------------------------


def test_a_model_with_other_weights_is_refused_now_and_later(tmp_path):
    path = tmp_path / "out.jsonl"
    with rows.opened(path, SETTINGS) as kept:
        kept.check_model("tiny", 153.8)
        kept.append(ROWS[0])
        kept.check_model("tiny", 153.8 * (1 + 3e-6))  # another machine rounds otherwise
        kept.check_model("other", 3.0)
        with pytest.raises(
            ModelError, match="tiny: its weights are not those that the rows before were made"
        ):
            kept.check_model("tiny", 153.9)
    with rows.opened(path, SETTINGS) as kept:
        assert list(kept.earlier()) == ROWS[:1]
        kept.check_model("tiny", 153.8)
        for name, fingerprint in (
            ("tiny", 153.7),
            ("tiny", float("nan")),
            ("tiny", -153.8),
            ("other", 153.8),
        ):
            with pytest.raises(ModelError):
                kept.check_model(name, fingerprint)


def test_a_model_is_written_down_once(tmp_path, monkeypatch):
    written, write_whole = [], rows.write_whole
    monkeypatch.setattr(rows, "write_whole", lambda *words: written.append(write_whole(*words)))
    fingerprint = 153.8
    with rows.opened(tmp_path / "out.jsonl", SETTINGS) as kept:
        for _ in range(9):
            kept.check_model("tiny", fingerprint)
    assert len(written) == 2  # as the run begins, and then with the model


def test_a_file_has_one_lock_under_all_its_names(tmp_path):
    path, link = tmp_path / "out.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(path)
    with rows.opened(path, SETTINGS):
        with pytest.raises(ValueError, match="another run is writing it"), rows.opened(link, SETTINGS):
            pass
    with rows.opened(link, SETTINGS) as kept:
        kept.append(ROWS[0])
    assert path.exists() and {file.name for file in tmp_path.glob(".*")} == {
        ".out.jsonl.lock",
        ".out.jsonl.run",
    }
