"""Downloads you can trust: a file gets its name only once all its bytes have arrived and are right.

The part received so far lies beside the target, in `<name>.<etag>.part`; the ETag is the server's fingerprint
of this exact content. An interrupted download resumes there, even on the next run of the program; pooch and
huggingface_hub 2 start again.
"""

import base64
import contextlib
import errno
import hashlib
import os
import re
import shutil
import time
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from files import ModelError, is_web_page, say, shown, shown_size

TIMEOUTS = (10, 30)  # seconds: to connect, and between two bytes
PAUSES = (1, 2, 4, 8)  # seconds to wait before each retry that follows one without a new byte
TRANSIENT = (408, 429, 500, 502, 503, 504)  # statuses that a retry may cure
WEB_PAGE = "a web page arrived, not the file", "check whether a login page is in the way"


class Interrupted(Exception):
    """The file is incomplete, and a retry may complete it. `pause`: seconds that the server asks for."""

    def __init__(self, reason, pause=0):
        super().__init__(reason)
        self.pause = pause


def download_file(url, path, n_bytes=None, sha256=None, check=None):
    """Download url to path, unless path exists. Of two processes, one downloads and the other waits.

    n_bytes: the length, sha256: the digest in hexadecimal, where known; an MD5 that the server announces is
    checked too. check: a function that gets the Path of the complete file, before it has its name, and raises
    ModelError if its content is wrong. Raises ModelError for a file that did not arrive complete and correct,
    OSError if it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        if path.exists():
            return
        try:
            part, expected = fetch(url, path, n_bytes, sha256)
            verify(url, part, expected, check)
            os.replace(part, path)
        finally:
            discard([part for part, etag in parts(path) if not etag])  # no download can resume from them


def announce_files(sizes, owner, url, folder):  # {name: bytes, or None where not known}
    """Say on stderr what is about to be downloaded: files, size, whose they are, from where, to where."""
    n_bytes = sum(size or 0 for size in sizes.values())  # a file of unknown size is a small one
    n_have = sum(resumable(folder / name)[2] for name in sizes) if folder.is_dir() else 0
    amounts = [shown_size(n_bytes)] if n_bytes else []
    if n_have:
        amounts.append(f"{shown_size(n_have)} of it already here")
    files = ", ".join(sizes) + (f" ({', '.join(amounts)})" if amounts else "")
    say(f"downloading {owner}: {files} from {urlsplit(url).netloc} to {folder}")


@contextlib.contextmanager
def locked(path):
    """Hold the lock on downloads into path's folder; the system releases it if the process dies."""
    from filelock import FileLock, Timeout

    # The lock file is never deleted: otherwise two processes could each hold a lock of that name.
    lock = FileLock(path.parent / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say(f"waiting for another process that is downloading to {path.parent}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


# ---- parts of a file ---------------------------------------------------------------------------------------


def parts(path):  # -> list of (Path, etag)
    """The files `<name>.<etag>.part` that earlier tries left, and their ETags, decoded from the names."""
    name = re.compile(rf"{re.escape(path.name)}\.([^.]*)\.part")
    found = [(file, name.fullmatch(file.name)) for file in path.parent.iterdir() if not file.is_symlink()]
    return [(file, unquote(match[1])) for file, match in found if match]


def resumable(path):  # -> Path, etag, n_have; or None, "", 0
    """The part that a download can resume, its ETag, and its length."""
    for part, etag in parts(path):
        if etag:
            return part, etag, part.stat().st_size
    return None, "", 0


def new_part(path, etag):  # -> Path
    """A name for a download from the first byte; all older parts are deleted."""
    discard([part for part, _ in parts(path)])
    part = path.with_name(f"{path.name}.{quote_etag(etag)}.part")
    part.unlink(missing_ok=True)  # it may be a link that someone put there
    return part


def discard(files):
    """Delete parts from which no download can resume."""
    for file in files:
        file.unlink()


def quote_etag(etag):  # '"a/b"' -> "a%2Fb"
    """A strong ETag as part of a file name; "" for a weak one (the bytes may differ), a long one, or none."""
    strong = re.fullmatch(r'"([!#-~]{1,80})"', etag)
    name = quote(strong[1], safe="").replace(".", "%2E") if strong else ""
    return name if len(name) <= 100 else ""


# ---- from the server ---------------------------------------------------------------------------------------


def fetch(url, path, n_bytes, sha256):  # -> Path of a complete part, {"length", "sha256", "md5"} to check
    """Request the missing bytes until the file is complete; every new byte resets the retries."""
    expected = {"length": n_bytes, "sha256": sha256, "md5": None}
    n_most, pauses = 0, iter(PAUSES)
    while True:
        part, etag, n_have = resumable(path)
        if n_bytes and n_have == n_bytes:  # the program stopped after the last byte, before the rename
            if sha256:
                return part, expected
            n_have -= 1  # asking for the last byte again may bring the server's digest of the whole
            os.truncate(part, n_have)
        try:
            with get(url, etag, n_have) as response:
                n_total = check_response(url, response, part, etag, n_have, n_bytes)
                if response.status_code == 200:  # all of it, from the first byte
                    part, n_have = new_part(path, response.headers.get("ETag", "")), 0
                    expected["md5"] = response.headers.get("Content-MD5")  # of the bytes in this response
                expected["md5"] = response.headers.get("x-ms-blob-content-md5", expected["md5"])
                expected["length"] = n_bytes or n_total
                append(response, part, n_have, expected["length"], path.name)
            return part, expected
        except Interrupted as interrupted:
            n_have = max((part.stat().st_size for part, _ in parts(path)), default=0)
            if n_have > n_most:
                n_most, pauses = n_have, iter(PAUSES)
            pause = next(pauses, None)
            if pause is None:
                raise ModelError(url, f"download failed: {interrupted}", "try again") from None
            wait(path.name, interrupted, pause)


def wait(name, interrupted, pause):
    """Sleep before a retry: for `pause` seconds, or longer if the server asks, up to a minute."""
    pause = max(pause, min(interrupted.pause, 60))
    say(f"{name}: {interrupted}; trying again in {pause:g} s")
    time.sleep(pause)


def get(url, etag, n_have):  # -> response
    """Request a URL, from byte n_have on, and follow its redirects.

    Raises ModelError if others could listen in, Interrupted if no response comes.
    """
    import requests
    from urllib3.exceptions import HTTPError

    headers = {"Accept-Encoding": "identity", "User-Agent": "plainGPT"}
    if n_have:
        headers |= {"Range": f"bytes={n_have}-", "If-Range": f'"{etag}"'}
    no_login = {"auth": lambda request: request}  # not even one from a .netrc
    for _ in range(10):
        check_address(url)
        try:
            response = requests.get(
                url, headers=headers, timeout=TIMEOUTS, stream=True, allow_redirects=False, **no_login
            )
        except requests.exceptions.ProxyError as error:
            raise Interrupted(f"the proxy: {root_cause(error)}") from None
        except requests.RequestException as error:
            raise Interrupted(root_cause(error)) from None
        except ValueError as error:  # an address in a redirect that requests cannot read
            raise ModelError(shown(url), f"download failed: {shown(error)}") from None
        except HTTPError as error:  # one of urllib3's that requests does not translate
            raise Interrupted(root_cause(error)) from None
        if not response.is_redirect:
            return response
        response.close()
        url = urljoin(url, response.headers["Location"])
    raise ModelError(shown(url), "too many redirects")


def check_address(url):
    """Raise ModelError unless an address is https, or http on this machine: others could listen in."""
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url  # as requests does; in odd addresses, urllib.parse finds another host

    try:
        address = parse_url(url)
    except LocationParseError:
        raise ModelError(shown(url), "not a valid address") from None
    loopback = re.fullmatch(r"localhost|127(\.\d+){3}|\[::1\]", address.host or "")
    if address.scheme != "https" and not (address.scheme == "http" and loopback):
        raise ModelError(shown(url), "only https is allowed, or http on this machine")


def check_response(url, response, part, etag, n_have, n_bytes):  # -> length of the whole file, or None
    """Accept a response only if it is the file, or exactly the missing rest of it.

    Raises Interrupted if a retry may help, ModelError otherwise.
    """
    status, headers = response.status_code, response.headers
    status_line = f"{status} {shown(response.reason)}"
    if status in TRANSIENT:
        pause = re.fullmatch(r"\d{1,9}", headers.get("Retry-After", ""))
        raise Interrupted(status_line, int(pause[0]) if pause else 0)
    rest = re.fullmatch(rf"bytes {n_have}-\d+/(\d{{1,15}})", headers.get("Content-Range", ""))
    if n_have and (status == 416 or (status == 206 and not (rest and headers.get("ETag") == f'"{etag}"'))):
        discard([part])
        raise Interrupted("the server no longer has the rest of this file")
    if status != 200 and not (status == 206 and n_have):
        raise ModelError(url, f"{status_line}, so it cannot be downloaded")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise ModelError(url, "it arrived compressed, although that was not asked for")
    if re.match(r"text/html|[a-z]+/([a-z]+\+)?xml", headers.get("Content-Type", ""), re.IGNORECASE):
        raise ModelError(url, *WEB_PAGE)
    length = rest if status == 206 else re.fullmatch(r"(\d{1,15})", headers.get("Content-Length", ""))
    n_total = int(length[1]) if length else None
    if n_bytes and n_total is not None and n_total != n_bytes:
        raise ModelError(url, f"{n_total:,} bytes, expected {n_bytes:,}: not the released file")
    return n_total


def append(response, part, n_have, n_total, name):
    """Append what arrives to the part, with a progress bar.

    Raises Interrupted if not all of it arrives, OSError if the disk has no room for it.
    """
    from tqdm import tqdm
    from urllib3.exceptions import HTTPError

    n_missing = (n_total or 0) - n_have
    if shutil.disk_usage(part.parent).free < n_missing:
        raise no_room(part, n_missing)
    bar = tqdm(desc=name, total=n_total, initial=n_have, unit="B", unit_scale=True, disable=None)
    try:
        with open(part, "ab") as file, bar:
            while chunk := response.raw.read1(2**16):  # however few bytes arrive, none is lost
                file.write(chunk)
                bar.update(len(chunk))
            os.fsync(file.fileno())
    except HTTPError as error:
        raise Interrupted(root_cause(error)) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_room(part, n_missing - part.stat().st_size + n_have) from None
    n_have = part.stat().st_size
    if n_have < (n_total or 0):
        raise Interrupted(f"{n_have:,} of {n_total:,} bytes arrived")


def no_room(part, n_missing):  # -> OSError
    """The error for a full disk: how many bytes are needed, and how many are free."""
    n_free = shutil.disk_usage(part.parent).free
    needed = f"{n_missing:,} bytes are needed" if n_missing > 0 else "more bytes are needed"
    return OSError(errno.ENOSPC, f"the disk is full: {needed}, but {n_free:,} are free", str(part))


def root_cause(error):  # -> str
    """The innermost error, in words: requests wraps urllib3's errors, and those wrap the system's."""
    wrapped = [getattr(error, "reason", None), *error.args, error.__cause__]
    for inner in wrapped:
        if isinstance(inner, Exception):
            return root_cause(inner)
    return shown(str(error).removesuffix(".")) or type(error).__name__


def verify(url, part, expected, check):
    """Raise ModelError and delete the part, unless it is the file that was asked for."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    hash_file(part, sha256, md5)
    with open(part, "rb") as file:
        beginning = file.read(200)
    n_found = part.stat().st_size
    advice = None
    if is_web_page(beginning):
        problem, advice = WEB_PAGE
    elif expected["length"] not in (None, n_found):
        problem = f"{n_found:,} bytes arrived, expected {expected['length']:,}: not the released file"
    elif expected["sha256"] not in (None, sha256.hexdigest()):
        problem = f"SHA-256 {sha256.hexdigest()}, expected {expected['sha256']}: not the released file"
    elif expected["md5"] not in (None, base64.b64encode(md5.digest()).decode()):
        problem = f"the file does not have the MD5 {shown(expected['md5'])} that the server announced"
        advice = "try again"
    else:
        try:
            if check:
                check(part)
            return
        except ModelError as error:
            problem, advice = f"{error.problem}: not the released file", "try again"
    discard([part])
    raise ModelError(url, problem, advice)


def hash_file(path, *hashes):
    """Feed the bytes of a file to hash objects of hashlib."""
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            for each in hashes:
                each.update(chunk)
