"""Downloads, from a server on this machine that does whatever servers and connections do."""

import base64
import errno
import gzip
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import namedtuple

import pytest
from helpers import ROOT, serve

import download
from files import ModelError, shown_size

BODY = os.urandom(3_000_000)
DIGEST = hashlib.sha256(BODY).hexdigest()
MD5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
DONE = ["file"]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(download, "PAUSES", (0, 0, 0, 0))


class Server:
    """Serves BODY, whole or from some byte on; the arguments change how. Keeps each request's headers."""

    def __init__(self, body=BODY, etag='"one"', lose_after=(), headers=(), statuses=(), ranges=True, delay=0):
        self.body, self.etag, self.headers, self.ranges, self.delay = body, etag, headers, ranges, delay
        self.lose_after, self.statuses, self.requests = [*lose_after], [*statuses], []

    def __call__(self, handler):
        self.requests.append(dict(handler.headers))
        if self.statuses:
            handler.send_response(self.statuses.pop(0))
            for name, value in self.headers:
                handler.send_header(name, value)
            page = b"<?xml version='1.0'?><Error/>"
            handler.send_header("Content-Type", "application/xml")
            handler.send_header("Content-Length", str(len(page)))
            handler.end_headers()
            return handler.wfile.write(page)
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = 0
        if wanted and self.ranges and handler.headers.get("If-Range") == self.etag:
            start = int(wanted[1])
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        else:
            handler.send_response(200)
        if self.etag:
            handler.send_header("ETag", self.etag)
        for name, value in self.headers:
            handler.send_header(name, value)
        body = self.body[start:]
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        body = body[: self.lose_after.pop(0)] if self.lose_after else body
        for at in range(0, len(body), 2**16):
            if self.delay:
                time.sleep(self.delay)
            handler.wfile.write(body[at : at + 2**16])

    def ranges_asked(self):
        return [request.get("Range") for request in self.requests]


def fetch(folder, server, **known):
    """Download from a server; returns what the folder then holds."""
    with serve({"/file": server}) as (address, _):
        download.download_file(f"{address}/file", folder / "file", **known)
    assert (folder / "file").read_bytes() == server.body
    return files(folder)


def files(folder):
    """All but the lock file, which is never deleted."""
    return sorted(set(os.listdir(folder)) - {".lock"})


# ---- whole and right ---------------------------------------------------------------------------------------


def answer(status=200, length=3_000_000, body=BODY, **headers):
    """One fixed response, with or without a length."""

    def respond(handler):
        handler.send_response(status)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    respond.body = body
    return respond


@pytest.mark.parametrize(
    "known", [{}, {"n_bytes": len(BODY)}, {"sha256": DIGEST}, {"n_bytes": len(BODY), "sha256": DIGEST}]
)
@pytest.mark.parametrize("length", [len(BODY), None])
def test_a_download_is_the_file(tmp_path, known, length):
    assert fetch(tmp_path, answer(length=length, Content_MD5=MD5), **known) == DONE


def test_folders_are_made(tmp_path):
    with serve({"/file": answer()}) as (address, _):
        download.download_file(f"{address}/file", tmp_path / "a" / "b" / "file")
    assert files(tmp_path / "a" / "b") == DONE


def test_a_request_says_nothing_about_the_user(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = Server()
    (tmp_path / "new").mkdir()
    fetch(tmp_path / "new", server)
    assert server.requests[0].keys() <= {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
    assert server.requests[0]["User-Agent"] == "plainGPT"
    assert server.requests[0]["Accept-Encoding"] == "identity"


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".lock").symlink_to("precious")
    with serve({"/file": answer()}) as (address, _), pytest.raises(OSError, match="lock"):
        download.download_file(f"{address}/file", tmp_path / "file")
    assert (tmp_path / "precious").read_text() == "mine" and not (tmp_path / "file").exists()


def test_a_file_that_fails_a_check_of_its_content_is_deleted(tmp_path):
    def check(part):
        assert part.read_bytes() == BODY and part != tmp_path / "file"
        raise ModelError(part, "its numbers are wrong")

    with serve({"/file": answer()}) as (address, _), pytest.raises(ModelError) as caught:
        download.download_file(f"{address}/file", tmp_path / "file", check=check)
    assert str(caught.value) == f"{address}/file: its numbers are wrong: not the released file; try again"
    assert files(tmp_path) == []


def test_an_existing_file_is_left_alone_and_no_request_is_made(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    server = Server()
    with serve({"/file": server}) as (address, _):
        download.download_file(f"{address}/file", tmp_path / "file", sha256=DIGEST)
    assert (tmp_path / "file").read_bytes() == b"mine" and server.requests == []


@pytest.mark.faults
@pytest.mark.parametrize(
    "respond, known, message",
    [
        (answer(404), {}, "404"),
        (answer(403), {}, "403"),
        (answer(500), {}, "500"),
        (answer(length=len(BODY) + 1), {}, "IncompleteRead|bytes arrived"),
        (answer(length=None, body=BODY[:-1]), {"n_bytes": 3_000_000}, "2,999,999 of 3,000,000 bytes arrived"),
        (answer(body=BODY[1:], length=2_999_999), {"n_bytes": 3_000_000}, "2,999,999 bytes, expected"),
        (answer(body=BODY + b"x", length=None), {"n_bytes": 3_000_000}, "3,000,001 bytes arrived, expected"),
        (answer(body=BODY[:-1] + bytes([BODY[-1] ^ 1]), length=None), {"sha256": DIGEST}, "SHA-256"),
        (answer(Content_MD5=base64.b64encode(bytes(16)).decode()), {}, "not have the MD5"),
        (answer(body=b"<html>", length=6), {"n_bytes": len(BODY)}, "6 bytes, expected 3,000,000"),
        (answer(body=b"<html>", length=6), {}, "a web page arrived"),
        (answer(body=b"\n<!DOCTYPE html>", length=None), {}, "a web page arrived"),
        (answer(body=b'<?xml version="1.0"?><Error>', length=None), {}, "a web page arrived"),
        (answer(body=b"\xef\xbb\xbf<!-- x --><HTML>", length=None), {}, "a web page arrived"),
        (answer(Content_Type="text/html; charset=utf-8"), {}, "a web page arrived"),
        (answer(Content_Type="application/xml"), {}, "a web page arrived"),
        (answer(Content_Type="application/xhtml+xml"), {}, "a web page arrived"),
        (answer(Content_Type="TEXT/HTML"), {}, "a web page arrived"),
        (answer(Content_Encoding="gzip"), {}, "arrived compressed"),
        (answer(body=gzip.compress(BODY), length=None, Content_Encoding="gzip"), {}, "arrived compressed"),
        (answer(302, Location="http://["), {}, "download failed"),
        (answer(206), {}, "206 .*, so it cannot be downloaded"),
        (answer(416), {}, "416 .*, so it cannot be downloaded"),
        (lambda handler: None, {}, "download failed"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_whole_and_right_leaves_nothing_behind(tmp_path, respond, known, message):
    with serve({"/file": respond}) as (address, _), pytest.raises(ModelError, match=message) as caught:
        download.download_file(f"{address}/file", tmp_path / "file", **known)
    assert "/file" in str(caught.value) and "\n" not in str(caught.value)
    assert files(tmp_path) == []


@pytest.mark.faults
def test_a_server_that_cannot_be_reached_is_named(tmp_path):
    with serve({}) as (address, _):
        pass
    with pytest.raises(ModelError, match=f"{address}/x: download failed: .*refused; try again"):
        download.download_file(f"{address}/x", tmp_path / "x")
    assert files(tmp_path) == []


@pytest.mark.faults
def test_a_server_without_a_valid_certificate_gets_no_request(tmp_path):
    with serve({"/file": answer()}) as (address, asked):
        secure = address.replace("http:", "https:")
        with pytest.raises(ModelError, match="(?i)https.*: download failed: .*ssl"):
            download.download_file(f"{secure}/file", tmp_path / "file")
    assert asked == [] and files(tmp_path) == []


@pytest.mark.faults
def test_a_proxy_that_cannot_be_reached_is_named_as_the_cause(tmp_path, monkeypatch):
    with serve({}) as (address, _):
        pass
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(ModelError, match="https://example.invalid/file: .* the proxy: .*refused"):
        download.download_file("https://example.invalid/file", tmp_path / "file")


@pytest.mark.faults
def test_text_from_a_server_is_shown_on_one_short_line_without_control_characters(tmp_path):
    noise = "\x1b[31mred\x07" + "x" * 300

    def refuse(handler):
        handler.send_response(403, noise)
        handler.end_headers()

    def babble(handler):
        handler.wfile.write(f"{noise}\r\n".encode("latin-1"))

    redirect = answer(302, 0, b"", Location=f"http://example.com/{noise}")
    for respond in (refuse, babble, redirect, answer(Content_MD5=noise)):
        with serve({"/file": respond}) as (address, _), pytest.raises(ModelError) as caught:
            download.download_file(f"{address}/file", tmp_path / "file")
        said = str(caught.value)
        assert said.isprintable() and r"\x1b[31mred\x07xxx" in said and "xxx..." in said and len(said) < 350


# ---- addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/file",
        "http://127.0.0.1.example.com/file",
        "http://user@example.com:80/file",
        "http://127.0.0.1@example.com/file",
        "ftp://127.0.0.1/file",
        "file:///etc/passwd",
        "http://example.com\\@127.0.0.1/file",
        "http://[::2]/file",
        "nothing",
    ],
)
def test_only_https_is_requested(tmp_path, monkeypatch, url):
    import requests

    monkeypatch.setattr(requests, "get", lambda *args, **options: pytest.fail("requested"))
    with pytest.raises(ModelError, match="only https is allowed|not a valid address"):
        download.download_file(url, tmp_path / "file")
    assert files(tmp_path) == []


@pytest.mark.faults
def test_redirects_are_followed_but_not_to_where_others_could_listen_in(tmp_path):
    moved = {
        "/old": answer(302, 0, b"", Location="/file"),
        "/out": answer(302, 0, b"", Location="http://example.com/file"),
        "/loop": answer(302, 0, b"", Location="/loop"),
        "/file": answer(),
    }
    with serve(moved) as (address, asked):
        download.download_file(f"{address}/old", tmp_path / "file")
        with pytest.raises(ModelError, match="http://example.com/file: only https"):
            download.download_file(f"{address}/out", tmp_path / "other")
        with pytest.raises(ModelError, match="too many redirects"):
            download.download_file(f"{address}/loop", tmp_path / "other")
    assert asked[:3] == ["/old", "/file", "/out"] and asked.count("/loop") == 10
    assert files(tmp_path) == DONE


# ---- lost connections --------------------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.parametrize("known", [{}, {"n_bytes": len(BODY)}, {"sha256": DIGEST}])
def test_an_interrupted_download_resumes_from_the_byte_reached(tmp_path, known):
    server = Server(lose_after=[1_000_000, 500_000])
    assert fetch(tmp_path, server, **known) == DONE
    starts = [int(asked[6:-1]) if asked else 0 for asked in server.ranges_asked()]
    assert starts == [0, 1_000_000, 1_500_000]
    assert [request.get("If-Range") for request in server.requests] == [None, '"one"', '"one"']


@pytest.mark.faults
def test_a_bad_connection_brings_the_file_in_the_end(tmp_path):
    for n_bytes in (50_000, 10_000):
        server = Server(body=BODY[: 60 * n_bytes], lose_after=[n_bytes] * 99)
        assert fetch(tmp_path, server) == DONE and len(server.requests) == 60
        (tmp_path / "file").unlink()


@pytest.mark.faults
def test_a_connection_that_brings_nothing_new_is_given_up(tmp_path):
    for server in (Server(lose_after=[100_000] + [0] * 99), Server(etag="", lose_after=[100_000] * 99)):
        with pytest.raises(ModelError, match="download failed"):
            fetch(tmp_path, server)
        assert len(server.requests) == 1 + len(download.PAUSES)


@pytest.mark.faults
def test_the_next_run_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSES", ())
    server = Server(lose_after=[1_000_000])
    with pytest.raises(ModelError, match="download failed"):
        fetch(tmp_path, server)
    assert files(tmp_path) == ["file.one.part"]
    assert fetch(tmp_path, server) == DONE
    assert server.ranges_asked() == [None, "bytes=1000000-"]


@pytest.mark.faults
def test_a_complete_part_that_lacks_only_its_name_is_not_sent_again(tmp_path):
    (tmp_path / "file.one.part").write_bytes(BODY)
    server = Server()
    assert fetch(tmp_path, server, n_bytes=len(BODY), sha256=DIGEST) == DONE and server.requests == []
    (tmp_path / "file").rename(tmp_path / "file.one.part")
    server = Server(headers=[("x-ms-blob-content-md5", MD5)])
    assert fetch(tmp_path, server, n_bytes=len(BODY)) == DONE
    assert server.ranges_asked() == ["bytes=2999999-"]  # the last byte, for the digest that comes with it
    (tmp_path / "file").unlink()
    (tmp_path / "file.one.part").write_bytes(b"x" + BODY[1:])
    with pytest.raises(ModelError, match="not have the MD5"):
        fetch(tmp_path, server, n_bytes=len(BODY))


@pytest.mark.faults
def test_the_servers_digest_is_remembered_when_the_connection_is_lost(tmp_path):
    server = Server(lose_after=[1_000_000])

    def respond(handler):
        server.headers = [] if server.requests else [("Content-MD5", base64.b64encode(bytes(16)).decode())]
        server(handler)

    respond.body = BODY
    with pytest.raises(ModelError, match="not have the MD5"):
        fetch(tmp_path, respond)
    server = Server(lose_after=[1_000_000])

    def of_the_rest(handler):  # some servers send the MD5 of this response alone
        server.headers = [("Content-MD5", base64.b64encode(bytes(16)).decode())] if server.requests else []
        server(handler)

    of_the_rest.body = BODY
    assert fetch(tmp_path, of_the_rest) == DONE


@pytest.mark.faults
@pytest.mark.parametrize("etag", ['"a/../b*?[]%.x"', f'"{"7" * 64}"', f'"{"/" * 80}"', '"index.json.x"'])
def test_the_file_arrives_whatever_the_etag(tmp_path, etag):
    (tmp_path / "file.index.json.x.part").write_bytes(b"another file's")
    server = Server(etag=etag, lose_after=[1_000_000])
    assert fetch(tmp_path, server) == ["file", "file.index.json.x.part"]
    assert server.ranges_asked() == [None, None if etag.count("/") > 9 else "bytes=1000000-"]


@pytest.mark.faults
@pytest.mark.parametrize(
    "server",
    [
        Server(etag='"two"'),  # the file has changed in the meantime
        Server(ranges=False),  # the server always sends the whole file
        Server(etag='W/"one"'),
        Server(etag=""),
        Server(statuses=[416]),
    ],
)
def test_a_part_that_cannot_be_resumed_starts_over(tmp_path, server):
    (tmp_path / "file.one.part").write_bytes(b"x" * 1000)
    assert fetch(tmp_path, server) == DONE
    assert server.ranges_asked()[0] == "bytes=1000-"


@pytest.mark.faults
@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Range": "bytes 999-2999999/3000000", "ETag": '"one"'},
        {"Content_Range": "bytes 1000-2999999/*", "ETag": '"one"'},
        {"Content_Range": "nonsense", "ETag": '"one"'},
        {"ETag": '"one"'},
        {"Content_Range": "bytes 1000-2999999/3000000"},
        {"Content_Range": "bytes 1000-2999999/3000000", "ETag": '"two"'},
    ],
)
def test_a_wrong_rest_is_not_appended(tmp_path, headers):
    (tmp_path / "file.one.part").write_bytes(b"x" * 1000)
    answers = [answer(206, len(BODY) - 1000, BODY[1000:], **headers), answer()]

    def respond(handler):
        answers.pop(0)(handler)

    respond.body = BODY
    assert fetch(tmp_path, respond) == DONE and answers == []


@pytest.mark.faults
def test_a_part_with_wrong_bytes_is_detected_and_the_next_run_starts_clean(tmp_path):
    for known, headers in (({"sha256": DIGEST}, []), ({}, [("x-ms-blob-content-md5", MD5)])):
        (tmp_path / "file.one.part").write_bytes(b"x" * 1000)
        with pytest.raises(ModelError, match="SHA-256|not have the MD5"):
            fetch(tmp_path, Server(headers=headers), **known)
        assert files(tmp_path) == []
    assert fetch(tmp_path, Server(), sha256=DIGEST) == DONE


@pytest.mark.faults
@pytest.mark.parametrize(
    "other", [answer(length=18, body=b"Please log in here"), answer(403), answer(Content_Type="text/html")]
)
def test_a_part_is_kept_when_a_response_is_not_the_file(tmp_path, other):
    (tmp_path / "file.one.part").write_bytes(BODY[:1000])
    with pytest.raises(ModelError):
        fetch(tmp_path, other, n_bytes=len(BODY))
    server = Server()
    assert fetch(tmp_path, server, n_bytes=len(BODY)) == DONE and server.ranges_asked() == ["bytes=1000-"]


@pytest.mark.faults
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_transient_status_is_retried_after_a_pause(tmp_path, monkeypatch, status):
    pauses = []
    monkeypatch.setattr(download, "PAUSES", (1, 2, 4))
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    assert fetch(tmp_path, Server(statuses=[status] * 3)) == DONE and pauses == [1, 2, 4]


@pytest.mark.faults
def test_a_server_that_asks_for_a_pause_gets_it_within_reason(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    for asked in ("7", "99999", "9" * 5000, "Fri, 31 Dec 1999 23:59:59 GMT"):
        fetch(tmp_path, Server(statuses=[429], headers=[("Retry-After", asked)]))
        (tmp_path / "file").unlink()
    assert pauses == [7, 60, 0, 0]


@pytest.mark.faults
def test_a_silent_connection_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUTS", (0.2, 0.2))
    server = Server()

    def respond(handler):
        if not server.requests:
            server.lose_after.append(100_000)
            server(handler)
            handler.wfile.flush()
            time.sleep(1)
        else:
            server(handler)

    respond.body = BODY
    assert fetch(tmp_path, respond) == DONE and len(server.requests) == 2


# ---- this machine ------------------------------------------------------------------------------------------


@pytest.mark.faults
def test_a_disk_without_room_is_an_error_that_says_what_is_needed_and_free(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="3,000,000 bytes are needed, but 1,000 are free") as caught:
        fetch(tmp_path, Server())
    assert caught.value.errno == errno.ENOSPC and files(tmp_path) == []


@pytest.mark.faults
def test_a_disk_that_fills_up_during_a_download_is_an_error_and_the_next_run_resumes(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        free = iter([10**9, 500])
        usage = namedtuple("usage", "total used free")
        patch.setattr(download.shutil, "disk_usage", lambda path: usage(0, 0, next(free)))

        class Full:
            """A file on a disk that is full at its millionth byte."""

            def __init__(self, *args):
                self.file = open(*args)

            def __enter__(self):
                return self

            def __exit__(self, *args):
                self.file.close()

            def fileno(self):
                return self.file.fileno()

            def write(self, chunk):
                if self.file.tell() + len(chunk) > 1_000_000:
                    raise OSError(errno.ENOSPC, "No space left on device")
                self.file.write(chunk)
                self.file.flush()

        patch.setattr(download, "open", Full, raising=False)
        with pytest.raises(OSError, match=r"disk is full: 2,0\d\d,\d\d\d bytes are needed, but 500 are free"):
            fetch(tmp_path, Server())
    assert files(tmp_path) == ["file.one.part"]
    server = Server()
    assert fetch(tmp_path, server) == DONE and server.ranges_asked()[0] > "bytes=9"


PROGRAM = """if True:
    import sys, download
    download.PAUSES = (0.1,) * 50
    download.download_file(sys.argv[1], sys.argv[2], sha256=sys.argv[3])
"""


def start(address, path):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, f"{address}/file", str(path), DIGEST],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )


@pytest.mark.faults
def test_of_two_processes_one_downloads_and_both_find_the_file(tmp_path):
    server = Server(delay=0.02)
    with serve({"/file": server}) as (address, _):
        both = [start(address, tmp_path / "file") for _ in range(2)]
        said = b"".join(process.communicate(timeout=60)[1] for process in both)
    assert [process.returncode for process in both] == [0, 0] and len(server.requests) == 1
    assert b"waiting for another process" in said
    assert (tmp_path / "file").read_bytes() == BODY and files(tmp_path) == DONE


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9 and no SIGINT for one process")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_however_often_it_is_stopped_the_same_command_resumes(tmp_path, how):
    random.seed(int(how))
    server, part, stopped_at = Server(delay=0.05), tmp_path / "file.one.part", [0]
    with serve({"/file": server}) as (address, _):
        for _ in range(4):
            process, more = start(address, tmp_path / "file"), random.randrange(1, 400_000)
            while not part.exists() or part.stat().st_size < stopped_at[-1] + more:
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(how)
            process.communicate(timeout=5)  # it stops at once
            assert files(tmp_path) == ["file.one.part"]
            stopped_at.append(part.stat().st_size)
        assert start(address, tmp_path / "file").wait(timeout=60) == 0
    assert (tmp_path / "file").read_bytes() == BODY and files(tmp_path) == DONE
    assert server.ranges_asked() == [None, *(f"bytes={size}-" for size in stopped_at[1:])]


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9")
def test_a_waiting_process_resumes_the_download_when_the_other_is_killed(tmp_path):
    server, part = Server(delay=0.02), tmp_path / "file.one.part"
    with serve({"/file": server}) as (address, _):
        first = start(address, tmp_path / "file")
        while not part.exists() or part.stat().st_size < 500_000:
            assert first.poll() is None
            time.sleep(0.005)
        second = start(address, tmp_path / "file")
        assert second.stderr.readline().startswith(b"waiting for another process")
        first.kill()
        assert second.wait(timeout=60) == 0
        first.communicate()
    assert (tmp_path / "file").read_bytes() == BODY and len(server.requests) == 2
    assert int(server.ranges_asked()[1][6:-1]) >= 500_000


@pytest.mark.faults
def test_each_retry_is_said_whether_or_not_stderr_is_a_terminal_and_nothing_else(tmp_path, capfd):
    fetch(tmp_path, Server(lose_after=[1000, 2000], statuses=[503]))
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "file: 503 Service Unavailable; trying again in 0 s" and len(said) == 3
    assert all(re.fullmatch(r"file: .*[12],?000 .*bytes.*; trying again in 0 s", line) for line in said[1:])
    (tmp_path / "file").unlink()
    fetch(tmp_path, Server())
    assert capfd.readouterr().err == ""


def test_what_is_announced_is_files_size_owner_host_and_folder(tmp_path, capfd):
    def said(sizes, folder=tmp_path):
        download.announce_files(sizes, "somebody's", "https://example.com/a", folder)
        return capfd.readouterr().err

    assert (
        said({"a": 90, "b": 1_400_000})
        == f"downloading somebody's: a, b (1.4 MB) from example.com to {tmp_path}\n"
    )
    assert (
        said({"a": None}, tmp_path / "new")
        == f"downloading somebody's: a from example.com to {tmp_path / 'new'}\n"
    )
    (tmp_path / "a.one.part").write_bytes(bytes(120_000))
    assert "downloading somebody's: a (498 MB, 120 KB of it already here) from " in said({"a": 497_759_232})
    assert os.listdir(tmp_path) == ["a.one.part"]


@pytest.mark.parametrize(
    "n_bytes, wanted",
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 KB"),
        (5_215, "5.2 KB"),
        (1_498_709, "1.5 MB"),
        (6_973_440, "7 MB"),
        (9_949_999, "9.9 MB"),
        (9_950_000, "10 MB"),
        (497_759_232, "498 MB"),
        (999_600_000, "1000 MB"),
        (6_230_444_800, "6.2 GB"),
    ],
)
def test_sizes_are_rounded_for_a_reader(n_bytes, wanted):
    assert shown_size(n_bytes) == wanted


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets only administrators make links")
def test_a_part_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file.one.part").symlink_to(tmp_path / "precious")
    assert fetch(tmp_path / "new", Server()) == DONE
    assert (tmp_path / "precious").read_bytes() == b"precious"
