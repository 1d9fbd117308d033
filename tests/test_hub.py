"""An encoder of the hub: downloaded once, then offline; a download that breaks goes on.

The hub is a stand-in on this machine, which $HF_ENDPOINT names. Since huggingface_hub reads that
when it is imported, every case runs in processes of its own.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import make_encoder

ROOT = Path(__file__).parents[1]
NAME = "someone/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OPEN = """
import json, sys
from lclkit import models
for line in sys.stdin:
    try:
        opened = models.open_encoder(line.strip())
        print(json.dumps({"folder": str(opened.folder), "hash": opened.hash}), flush=True)
    except models.EncoderError as error:
        print(json.dumps({"error": str(error)}), flush=True)
"""
pytestmark = pytest.mark.slow


class Hub(BaseHTTPRequestHandler):
    """Every name is a repository with the same files, of one commit."""

    protocol_version = "HTTP/1.1"
    folder: Path
    breaks_after = None  # bytes of the weights; once
    then = ""  # after that it is "gone", that is busy, or "silent": its connections break
    gone = ""
    asked: list[tuple[str, str | None]]  # the files that were sent, and the ranges

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        if self.gone == "silent":
            self.close_connection = True
        elif self.gone:
            self.send_error(503)
        elif path.startswith("/api/models/") and "/tree/" in path:
            self.send_json([about(file) for file in sorted(self.folder.iterdir())])
        elif path.startswith("/api/models/"):
            files = [{"rfilename": file.name} for file in self.folder.iterdir()]
            self.send_json({"id": NAME, "modelId": NAME, "sha": COMMIT, "siblings": files})
        elif (self.folder / Path(path).name).is_file():
            self.send_file(self.folder / Path(path).name)
        else:
            self.send_error(404)

    def send_json(self, content):
        self.send_bytes(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def send_file(self, file):
        content, wanted = file.read_bytes(), self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        headers = {"ETag": f'"{digest(file)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "GET":
            self.asked.append((file.name, wanted))
        breaks = file.suffix == ".safetensors" and self.command == "GET" and self.breaks_after
        self.send_bytes(content[start:], headers, 206 if wanted else 200, breaks or None)

    def send_bytes(self, content, headers, status=200, breaks_after=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:breaks_after])
        if breaks_after:
            type(self).breaks_after = None
            type(self).gone = self.then
            self.close_connection = True


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def about(file):
    return {
        "type": "file",
        "path": file.name,
        "size": file.stat().st_size,
        "oid": digest(file)[:40],
    }


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Its weights are larger than the piece of 10 MB that huggingface_hub writes at a time."""
    folder = tmp_path_factory.mktemp("hub") / "repository"
    make_encoder(folder, "bert", intermediate_size=16_500)
    assert (folder / "model.safetensors").stat().st_size > 12_000_000
    return folder


@pytest.fixture
def hub(repository):
    handler = type("TinyHub", (Hub,), {"folder": repository, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def environment(hub, tmp_path):
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
    return os.environ | {"NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "0"} | settings


@pytest.fixture
def opener(environment):
    """A function that starts a process, which opens an encoder for each call of what it gives."""
    processes = []

    def start(**settings):
        process = subprocess.Popen(
            [sys.executable, "-c", OPEN],
            cwd=ROOT,
            env=environment | settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)

        def open_encoder(name=NAME):
            process.stdin.write(name + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline() or process.communicate()[1])

        return open_encoder

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_downloads(hub, opener, repository):
    open_encoder = opener()
    weights = digest(repository / "model.safetensors")

    hub.breaks_after = 11_000_000  # a broken download goes on where it was
    opened = open_encoder("someone/resumed")
    first, second = [wanted for file, wanted in hub.asked if file == "model.safetensors"]
    assert first is None and 0 < int(second.removeprefix("bytes=").rstrip("-")) <= 11_000_000
    assert digest(Path(opened["folder"], "model.safetensors")) == weights

    for then in ("gone", "silent"):  # one that cannot go on is one sentence
        hub.breaks_after, hub.then = 11_000_000, then
        error = open_encoder()["error"]
        assert error.startswith(f"the encoder {NAME!r} could not be loaded (") and "\n" not in error
        hub.gone = ""

    hub.asked.clear()  # and starts anew at the next call, with what is missing
    opened = open_encoder()
    assert digest(Path(opened["folder"], "model.safetensors")) == weights

    hub.asked.clear()
    assert open_encoder() == opened and not hub.asked  # a second time nothing is fetched
    hub.gone = "gone"
    assert open_encoder() == opened  # nor is the hub needed

    offline = opener(HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert offline() == opened
    assert offline("someone/absent")["error"].startswith("the encoder 'someone/absent' could not")


def test_a_proxy_that_cannot_be_used_is_named(opener):
    """Not that the name is wrong, or the files are damaged."""
    proxy = {name: "socks5://127.0.0.1:9" for name in ("ALL_PROXY", "all_proxy")}
    error = opener(NO_PROXY="", no_proxy="", **proxy)()["error"]
    assert re.search("socks|[Pp]roxy|[Cc]onnect", error) and "\n" not in error


def test_fetch_gets_the_encoders_of_all_plans(hub, environment):
    command = [sys.executable, "-m", "lclkit", "fetch", "--encoders"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert {file for file, _ in hub.asked} >= {"config.json", "model.safetensors"}
    assert environment["HF_HOME"] in ran.stdout
