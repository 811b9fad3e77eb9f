"""Downloads one can trust: a file gets its name only when all its bytes have come and are right.

What has come so far lies beside the target, in `<name>.<etag>.part`; the etag is the server's word for this
very content. A lost connection goes on from there, at once or in a later start of the program, which neither
pooch nor huggingface_hub does.
"""

import base64
import contextlib
import errno
import hashlib
import os
import re
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import quote, unquote, urljoin

from checkpoint import ModelError

TIMEOUTS = (10, 30)  # seconds, until a connection stands and between two bytes
PAUSES = (1, 2, 4, 8)  # seconds before tries that follow each other without a new byte
PASSING = (408, 429, 500, 502, 503, 504)  # statuses that may be over at the next try
WEB_PAGE = "a web page came, not the file; is a login page in the way?"


class Interrupted(Exception):
    """Not all has come, and the rest may come at another try. `pause`: seconds that the server asks for."""

    def __init__(self, cause, pause=0):
        super().__init__(cause)
        self.pause = pause


def download_file(url, path, n_bytes=None, sha256=None):
    """Download url to path, unless it is there when its turn comes: of two processes, one downloads.

    n_bytes: the length, sha256: the digest in hexadecimal, if they are known; the MD5 that a server promises
    counts too. Raises ModelError for what did not come whole and right, OSError where it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    promised = {"length": n_bytes, "sha256": sha256, "md5": None}
    with turn(path):
        if path.exists():
            return
        try:
            part = fetch(url, path, n_bytes, promised)
            verify(url, part, promised)
            os.replace(part, path)
        finally:
            discard([part for part, etag in parts(path) if not etag])  # nothing can go on from them


@contextlib.contextmanager
def turn(path):
    """Hold the right to download into a folder, among all processes; the system frees it if one dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(path.parent / ".lock")  # it stays: two could hold what one deletes and another makes anew
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"waiting for another process that downloads to {path.parent}", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def parts(path):  # -> list of (Path, etag)
    """What earlier tries left: `<name>.<etag>.part`, the etag spelled without a dot."""
    name = re.compile(rf"{re.escape(path.name)}\.([^.]*)\.part")
    found = [(file, name.fullmatch(file.name)) for file in path.parent.iterdir() if not file.is_symlink()]
    return [(file, unquote(match[1])) for file, match in found if match]


def discard(files):
    """Delete parts from which nothing can go on."""
    for file in files:
        file.unlink()


def fetch(url, path, n_bytes, promised):  # -> Path of a part that holds all
    """Ask for what is missing until all has come. Every new byte gives new patience."""
    n_most, pauses = 0, iter(PAUSES)
    while True:
        try:
            return receive(url, path, n_bytes, promised)
        except Interrupted as interrupted:
            n_have = max((part.stat().st_size for part, _ in parts(path)), default=0)
            if n_have > n_most:
                n_most, pauses = n_have, iter(PAUSES)
            pause = next(pauses, None)
            if pause is None:
                raise ModelError(f"cannot download {url}: {interrupted}; try again") from None
            pause = max(pause, min(interrupted.pause, 60))
            if sys.stderr.isatty():
                print(f"{path.name}: {interrupted}; trying again in {pause:g} s", file=sys.stderr)
            time.sleep(pause)


def receive(url, path, n_bytes, promised):  # -> Path of a part that holds all
    """Ask once for what is missing, and put what comes behind what is there. Raises Interrupted."""
    import requests
    import urllib3

    part, etag = next(((part, etag) for part, etag in parts(path) if etag), (None, ""))
    n_have = part.stat().st_size if part else 0
    if n_bytes and n_have == n_bytes:  # it was stopped between the last byte and the name
        if promised["sha256"]:
            return part
        n_have -= 1  # with the last byte, the server may repeat its digest of all
        os.truncate(part, n_have)
    try:
        with get(url, {"Range": f"bytes={n_have}-", "If-Range": f'"{etag}"'} if n_have else {}) as response:
            n_total = judge(url, response, part, etag, n_have, n_bytes)
            if response.status_code == 200:  # all of it, from the first byte
                discard([old for old, _ in parts(path)])
                part = path.with_name(f"{path.name}.{spell(response.headers.get('ETag', ''))}.part")
                part.unlink(missing_ok=True)  # a link that someone put there
                n_have, promised["md5"] = 0, response.headers.get("Content-MD5")
            promised["length"] = n_bytes or n_total
            promised["md5"] = response.headers.get("x-ms-blob-content-md5", promised["md5"])
            append(response, part, n_have, n_total or n_bytes, path.name)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise Interrupted(cause(error)) from None
    n_have = part.stat().st_size
    if n_have < (promised["length"] or 0):
        raise Interrupted(f"{n_have:,} bytes came, expected {promised['length']:,}")
    return part


def get(url, headers):  # -> response
    """Ask an address, and those to which it sends us. Raises ModelError where others could read along."""
    import requests

    asked = {
        "headers": headers | {"Accept-Encoding": "identity", "User-Agent": "plainGPT"},
        "auth": lambda request: request,  # none, not even one from a .netrc
        "timeout": TIMEOUTS,
    }
    for _ in range(10):
        check_address(url)
        try:
            response = requests.get(url, stream=True, allow_redirects=False, **asked)
        except requests.RequestException:
            raise
        except ValueError as error:  # from the address to which it sends us
            raise ModelError(f"cannot download {url}: {error}") from None
        if not response.is_redirect:
            return response
        response.close()
        url = urljoin(url, response.headers["Location"])
    raise ModelError(f"{url}: one redirect after another")


def check_address(url):
    """Raise ModelError for an address on whose way others listen: all but https, and this machine."""
    from urllib3.exceptions import LocationParseError
    from urllib3.util import (
        parse_url,
    )  # as requests reads it; urllib.parse finds other hosts in odd addresses

    try:
        address = parse_url(url)
    except LocationParseError:
        raise ModelError(f"{url} is no address") from None
    loopback = re.fullmatch(r"localhost|127(\.\d+){3}|\[::1\]", address.host or "")
    if address.scheme != "https" and not (address.scheme == "http" and loopback):
        raise ModelError(f"{url}: only https is downloaded, and http from this machine")


def judge(url, response, part, etag, n_have, n_bytes):  # -> length of the whole file, or None
    """Take an answer only if it is the file, or the very rest of it. Raises Interrupted, ModelError."""
    status, headers = response.status_code, response.headers
    if status in PASSING:
        pause = re.fullmatch(r"\d{1,9}", headers.get("Retry-After", ""))
        raise Interrupted(f"{status} {response.reason}", int(pause[0]) if pause else 0)
    rest = re.fullmatch(rf"bytes {n_have}-\d+/(\d{{1,15}})", headers.get("Content-Range", ""))
    if n_have and (status == 416 or (status == 206 and not (rest and headers.get("ETag") == f'"{etag}"'))):
        discard([part])
        raise Interrupted("the server has not the rest of what came before")
    if status != 200 and not (status == 206 and n_have):
        raise ModelError(f"cannot download {url}: {status} {response.reason}")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise ModelError(f"cannot download {url}: it came compressed, which was not asked for")
    if re.match(r"text/html|[a-z]+/([a-z]+\+)?xml", headers.get("Content-Type", ""), re.IGNORECASE):
        raise ModelError(f"{url}: {WEB_PAGE}")
    length = rest if status == 206 else re.fullmatch(r"(\d{1,15})", headers.get("Content-Length", ""))
    n_total = int(length[1]) if length else None
    if n_bytes and n_total is not None and n_total != n_bytes:
        raise ModelError(f"{url}: {n_total:,} bytes, expected {n_bytes:,}: not the released file")
    return n_total


def spell(etag):  # '"a/b"' -> "a%2Fb"
    """A strong etag as part of a file's name; "" for others, which do not promise the same bytes."""
    strong = re.fullmatch(r'"([!#-~]{1,80})"', etag)
    name = quote(strong[1], safe="").replace(".", "%2E") if strong else ""
    return name if len(name) <= 100 else ""


def append(response, part, n_have, n_total, name):
    """Write what comes, as it comes, with a bar. Raises OSError if the disk has no room for all of it."""
    from tqdm import tqdm

    n_missing = (n_total or 0) - n_have
    if shutil.disk_usage(part.parent).free < n_missing:
        raise no_room(part, n_missing)
    bar = tqdm(desc=name, total=n_total, initial=n_have, unit="B", unit_scale=True, disable=None)
    try:
        with open(part, "ab") as file, bar:
            while chunk := response.raw.read1(2**16):  # be it little: none of it is lost
                file.write(chunk)
                bar.update(len(chunk))
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_room(part, n_missing - part.stat().st_size + n_have) from None


def no_room(part, n_missing):  # -> OSError
    """What is needed and what is free."""
    n_free = shutil.disk_usage(part.parent).free
    needed = f"{n_missing:,} bytes are to come" if n_missing > 0 else "more is to come"
    return OSError(errno.ENOSPC, f"the disk is full: {needed}, {n_free:,} are free", str(part))


def cause(error):
    """The innermost reason of an error of requests, which wraps those of urllib3 and of the system."""
    wrapped = [getattr(error, "reason", None), *error.args]
    for inner in wrapped:
        if isinstance(inner, Exception):
            return cause(inner)
    return re.sub(r"^HTTPS?Connection\(.*?\): ", "", str(error))  # the address is named anyway


def verify(url, part, promised):
    """Raise ModelError, and delete the part, unless it is what was asked for."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(part, "rb") as file:
        beginning = file.read(200)
        file.seek(0)
        while chunk := file.read(2**20):
            sha256.update(chunk)
            md5.update(chunk)
        n_found = file.tell()
    if re.match(rb"\s*<(!doctype|html|\?xml)", beginning, re.IGNORECASE):
        problem = WEB_PAGE
    elif promised["length"] not in (None, n_found):
        problem = f"{n_found:,} bytes came, expected {promised['length']:,}: not the released file"
    elif promised["sha256"] not in (None, sha256.hexdigest()):
        problem = f"SHA-256 {sha256.hexdigest()}, expected {promised['sha256']}: not the released file"
    elif promised["md5"] not in (None, base64.b64encode(md5.digest()).decode()):
        problem = f"what came has not the MD5 {promised['md5']} that the server promised; try again"
    else:
        return
    discard([part])
    raise ModelError(f"{url}: {problem}")
