"""`python -m serving.http`: right answers under concurrency, and a sentence for everything else."""

import asyncio
import base64
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from data.tokenizer import Tokenizer
from serving import caption as serving
from serving import export, http
from serving.app import make_app
from serving.program import Program

PNG = b"\x89PNG\r\n\x1a\n"
PREDICT = "/v1/models/captioner:predict"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """16 pictures of different sizes and formats."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(1)
    files = [folder / f"{i}.{('jpg', 'png', 'webp')[i % 3]}" for i in range(16)]
    for i, file in enumerate(files):
        pixels = rng.integers(0, 255, (2 + i // 2, 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((20 + i, 30)).save(file)
    return files


@pytest.fixture(scope="module")
def served(run):
    """(client, what the program has done: its batches, how often it was traced)."""
    done = {"batches": [], "traced": 0}

    def traced(*args, **options):
        done["traced"] += 1
        return caption(*args, **options)

    caption = serving.caption
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "caption", traced)
        program = serving.Photographs(run[0], beam=3)
        n_best = program.n_best

        def slow(pixels):  # on a fast machine too, others arrive meanwhile
            done["batches"].append(len(pixels))
            time.sleep(0.1)
            return n_best(pixels)

        program.n_best = slow
        with TestClient(make_app(program)) as client:
            yield client, done


def near(row):
    """It up to rounding: who shares a batch may change the last digit."""
    found = row | {"logprob": pytest.approx(row["logprob"], abs=5e-4)}
    return found | ({"others": [near(one) for one in row["others"]]} if "others" in row else {})


def test_16_threads_get_the_answers_of_the_command_line(run, served, many, capsys):
    client, done = served
    assert client.get("/healthz").json() == {"status": "ok"}
    assert done == {"batches": [1], "traced": 1}  # it was compiled before the first request
    flags = [f"--workdir={run[0]}", "--beam=3", "--n_best=2", "--json"]
    assert serving.main([*flags, *map(str, many)]) == 0
    want = json.loads(capsys.readouterr().out)
    # No answer fits another picture.
    assert np.diff(sorted(row["logprob"] for row in want)).min() > 1e-3
    traced = done["traced"]
    ask = lambda file: client.post("/caption?n_best=2", content=file.read_bytes())  # noqa: E731
    with ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(ask, many))
    assert [reply.status_code for reply in replies] == [200] * 16
    for file, reply, own in zip(many, replies, want, strict=True):
        assert {"image": str(file), **reply.json()} == near(own)
    assert sum(done["batches"][1:]) == 16 and 1 < max(done["batches"]) <= 8
    assert done["traced"] == traced  # whatever the pictures' sizes, nothing was compiled again


def test_the_shape_of_tf_serving(served, many):
    client, _ = served
    instances = [{"b64": base64.b64encode(file.read_bytes()).decode()} for file in many[:10]]
    reply = client.post(PREDICT, json={"instances": instances})
    assert reply.status_code == 200
    for file, found in zip(many, reply.json()["predictions"], strict=False):
        own = client.post("/caption", content=file.read_bytes()).json()
        assert found == near(own) and set(found) == {"caption", "logprob"}
    assert len(reply.json()["predictions"]) == 10
    assert client.post(PREDICT, json={"instances": []}).json() == {"predictions": []}


BAD = [
    ("/caption", b"", 400, "the body: the image file is empty (0 bytes); replace it"),
    ("/caption", b"hello", 400, "the body: not an image file that can be read"),
    ("/caption", PNG + bytes(50), 400, "the body: "),
    ("/caption", bytes(2**20 + 1), 413, "the body is larger than 1 MiB: shrink it"),
    ("/caption?n_best=0", b"", 400, "n_best=0: input should be greater than or equal to 1"),
    ("/caption?n_best=all", b"", 400, "n_best=all: input should be a valid integer"),
    (PREDICT, b"{", 400, 'the body is no such JSON: send {"instances": [{"b64"'),
    (PREDICT, b"[" * 10**5, 400, "the body is no such JSON"),
    (PREDICT, b'{"instances": ["abc"]}', 400, "the body is no such JSON"),
    (PREDICT, b'{"instances": [{"b64": "%"}]}', 400, "the body is no such JSON"),
    (PREDICT, b'{"instances": [{"b64": "aGVsbG8="}]}', 400, "instances[0]: not an image file"),
    (PREDICT, b'{"instances": [%s{}]}' % (b"{}," * 9), 400, "the body is no such JSON"),
    (PREDICT, b'{"instances": [%s]}' % b",".join([b'{"b64": ""}'] * 3), 400, "3 instances at once"),
    ("/nowhere", b"", 404, "Not Found"),
    ("/healthz", b"", 405, "Method Not Allowed"),
]


class Fake(Program):
    """Says "a a" of every picture, as soon as it may; one of grey 200 breaks it."""

    def __init__(self):
        tokenizer = Tokenizer.train("words", ["a"], min_count=1)
        super().__init__(self._decode, tokenizer, language="", image_size=8, batch_size=4)
        self.go, self.running = threading.Event(), threading.Event()
        self.go.set()

    def _decode(self, pixels):
        self.running.set()
        assert self.go.wait(10)
        if pixels[0, 0, 0, 0] == 200:
            raise RuntimeError("out of memory")
        return np.full((4, 1, 2), 4), np.zeros((4, 1))


def picture(grey=0):
    file = io.BytesIO()
    Image.new("L", (9, 9), grey).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def fake():
    program = Fake()
    app = make_app(program, max_bytes=2**20, max_inside=2)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield program, client


def test_bad_requests_are_one_sentence(fake):
    _, client = fake
    for path, body, status, said in BAD:
        reply = client.post(path, content=body)
        assert (reply.status_code, list(reply.json())) == (status, ["error"]), path
        assert said in reply.json()["error"] and "\n" not in reply.json()["error"]
    assert client.post("/caption", content=picture()).json() == {"caption": "a a", "logprob": 0.0}


def test_too_many_at_once_are_sent_away(fake):
    program, client = fake
    program.go.clear(), program.running.clear()
    with ThreadPoolExecutor(2) as threads:
        inside = [threads.submit(client.post, "/caption", content=picture()) for _ in range(2)]
        assert program.running.wait(10)
        deadline = time.monotonic() + 10
        while (reply := client.post("/caption", content=b"x")).status_code != 503:
            assert reply.status_code == 400 and time.monotonic() < deadline  # not yet both inside
        assert reply.json() == {"error": "too many requests at once: try again in a second"}
        assert reply.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200
        program.go.set()
        assert [job.result().status_code for job in inside] == [200, 200]
    assert client.post("/caption", content=picture()).status_code == 200


def test_a_failure_inside_is_a_sentence_and_the_next_is_answered(fake):
    _, client = fake
    reply = client.post("/caption", content=picture(200))
    assert reply.status_code == 500
    assert reply.json() == {"error": "captioning failed: the server's log says why"}
    assert client.post("/caption", content=picture()).status_code == 200


@pytest.mark.parametrize(
    "message, status",
    [(None, 408), ({"type": "http.disconnect"}, 400)],
)
def test_a_body_that_does_not_come(message, status):
    app = make_app(Fake(), seconds=0.05)
    scope = {"type": "http", "method": "POST", "path": "/caption", "headers": []}
    scope |= {"query_string": b"", "app": app, "http_version": "1.1", "scheme": "http"}
    sent = []

    async def receive():
        return message or await asyncio.Event().wait()

    async def send(part):
        sent.append(part)

    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == status and set(json.loads(sent[1]["body"])) == {"error"}


def test_the_page_needs_nothing_from_elsewhere(fake):
    _, client = fake
    reply = client.get("/")
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "color-scheme: light dark" in reply.text and 'fetch("caption?n_best=3"' in reply.text
    assert not re.search(r"https?://|<link|<script src|@import|url\(", reply.text)


@pytest.mark.parametrize(
    "flags, said",
    [
        ([], "give either --workdir=RUN or --export=FOLDER"),
        (["--workdir={}", "--export={}"], "give either --workdir=RUN or --export=FOLDER"),
        (["--workdir=nowhere"], "nowhere/config.json cannot be read"),
        (["--export={}"], "has no captioner.json of the format"),
        (["--export={}", "--decode", "beam=5"], "--decode was settled by the export"),
        (["--workdir={}", "--decode", "mode=sample"], "mode=sample: what is drawn would depend"),
        (["--workdir={}", "--decode", "min_length=9"], "min_length=9 is longer than length=6"),
        (["--workdir={}", "--batch_size=0"], "--batch_size=0: at least one picture"),
        (["--workdir={}", "--port=99999"], "--port=99999: bind(): port must be 0-65535"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(run, capsys, flags, said):
    flags = ["--port=0", *(flag.format(run[0]) for flag in flags)]
    assert http.main(flags) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_without_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert http.main(["--workdir=nowhere"]) == 2
    said = "serving.http: uvicorn is not installed: pip install -e '.[serve]'\n"
    assert capsys.readouterr().err == said


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert http.main(["--workdir=nowhere", f"--port={port}"]) == 2
    assert f"--port={port}: [Errno" in capsys.readouterr().err


def test_an_exported_run_is_served_by_a_process_without_flax(run, many, tmp_path):
    export.write(serving.Photographs(run[0], beam=2), tmp_path / "captioner", ["cpu"])
    code = "import sys; sys.modules['flax'] = sys.modules['models'] = None\n"
    code += "from serving.http import main; sys.exit(main(sys.argv[1:]))"
    flags = [f"--export={tmp_path / 'captioner'}", "--port=0", "--batch_size=2"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with subprocess.Popen([sys.executable, "-c", code, *flags], **pipes) as server:
        try:
            line = server.stdout.readline()
            url = re.fullmatch(r"serving.http: ready at (http://127.0.0.1:\d+)\n", line)[1]
            reply = ask(url, many[0].read_bytes())
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
    (own,) = serving.Photographs(run[0], beam=2, batch_size=2).files([str(many[0])])
    assert reply["caption"] == own.caption
    assert reply["logprob"] == pytest.approx(own.logprob, abs=1e-4)


def ask(url, body):
    """It says that it is ready a moment before it listens."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"{url}/caption", body, timeout=10) as reply:
                return json.load(reply)
        except urllib.error.URLError as error:
            assert isinstance(error.reason, ConnectionRefusedError)
            time.sleep(0.1)
    raise AssertionError("nobody listens")
