"""Starting, refusing to start, overload, and stopping under load."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from planner.emit.engine import write_engine
from tests.runtime import build
from tests.serve.client import ROOT, Answer, Server, json_input, send


def _slow_engine(folder: Path) -> Path:
    """`n` turns of a loop that multiplies matrices: time grows with the input `n`."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "W"], ["product"]),
            helper.make_node("Clip", ["product", "low", "high"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            build.tensor("i", TensorProto.INT64, []),
            build.tensor("go", TensorProto.BOOL, []),
            build.tensor("state", TensorProto.FLOAT, [64, 64]),
        ],
        [
            build.tensor("on", TensorProto.BOOL, []),
            build.tensor("next", TensorProto.FLOAT, [64, 64]),
        ],
    )
    model = build.make_model(
        [helper.make_node("Loop", ["n", "yes", "W"], ["y"], body=body)],
        [build.tensor("n", TensorProto.INT64, [])],
        [build.tensor("y", TensorProto.FLOAT, [64, 64])],
        {
            "W": np.eye(64, dtype=np.float32),
            "yes": np.array(True),
            "low": np.array(-1, np.float32),
            "high": np.array(1, np.float32),
        },
    )
    item = build.part(build.save(model, folder / "source"))
    write_engine(folder / "engine", build.blueprint([item], {"n": np.array(3)}))
    return folder / "engine"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `_slow_engine`."""
    return _slow_engine(tmp_path_factory.mktemp("slow"))


def _turns(count: int) -> bytes:
    return json.dumps({"inputs": [json_input(np.array(count), "INT64", "n")]}).encode()


def _turns_for(server: Server, seconds: float) -> int:
    """How many turns take about that long here and now."""
    start = time.perf_counter()
    assert server.infer(_turns(4000)).status == 200
    return int(4000 * seconds / (time.perf_counter() - start)) + 1


def test_more_than_the_limit_is_sent_away_and_told_to_come_back(slow: Path) -> None:
    with Server(slow, max_in_flight=2) as server:
        body = _turns(_turns_for(server, 1.0))
        answers: list[Answer] = []
        threads = [
            threading.Thread(target=lambda: answers.append(server.infer(body))) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = sorted(answer.status for answer in answers)
        assert statuses.count(200) >= 2
        assert set(statuses) == {200, 503}
        refused = next(answer for answer in answers if answer.status == 503)
        assert refused.headers["retry-after"] == "1"
        assert server.request("GET", "/v2/health/live").status == 200


def test_health_answers_while_the_engine_works(slow: Path) -> None:
    with Server(slow) as server:
        body = _turns(_turns_for(server, 1.0))
        worker = threading.Thread(target=server.infer, args=(body,))
        worker.start()
        time.sleep(0.1)
        start = time.perf_counter()
        assert server.request("GET", "/v2/health/ready").status == 200
        assert time.perf_counter() - start < 0.5
        worker.join()


def test_a_request_that_takes_too_long_is_answered_504(slow: Path) -> None:
    with Server(slow, request_timeout_s=0.3) as server:
        answer = server.infer(_turns(_turns_for(server, 1.5)))
        assert (answer.status, "0.3 s" in answer.error) == (504, True)
        assert server.infer(_turns(1)).status == 200


def test_a_client_that_never_ends_its_head_is_sent_away(slow: Path) -> None:
    with Server(slow, request_timeout_s=0.4) as server:
        address = ("127.0.0.1", server.port)
        with (
            socket.create_connection(address, timeout=10) as silent,
            socket.create_connection(address, timeout=10) as halting,
        ):
            halting.sendall(b"POST /v2/models")
            assert (silent.recv(1), halting.recv(1)) == (b"", b"")
        assert server.infer(_turns(1)).status == 200


def test_a_client_that_never_reads_its_answer_is_sent_away(slow: Path) -> None:
    with Server(slow, request_timeout_s=0.4) as server, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(10)
        deaf.connect(("127.0.0.1", server.port))
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        with pytest.raises(ConnectionError):
            deaf.sendall(request * 200_000)


def test_a_busy_connection_outlives_the_patience(slow: Path) -> None:
    with Server(slow, request_timeout_s=0.4) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        until_s = time.monotonic() + 1.2
        while time.monotonic() < until_s:
            assert send(connection, "GET", "/v2").status == 200
            kept = connection.sock
        assert connection.sock is kept
        connection.close()


def test_what_is_in_flight_at_sigterm_is_answered(slow: Path) -> None:
    with Server(slow) as server:
        body = _turns(_turns_for(server, 1.5))
        answers: list[Answer] = []
        worker = threading.Thread(target=lambda: answers.append(server.infer(body)))
        worker.start()
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        ready = server.request("GET", "/v2/health/ready")
        assert (ready.status, ready.json) == (503, {"ready": False})
        worker.join()
        assert [answer.status for answer in answers] == [200]
        assert server.stop() == (0, "")


class _Load:
    """Clients on kept-alive or on ever new connections; each stops when nobody listens any more."""

    def __init__(self, server: Server, clients: int, is_kept_alive: bool) -> None:
        self._is_kept_alive = is_kept_alive
        self.answered = 0
        self.lost: list[str] = []
        self._server = server
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        body = json.dumps({"inputs": [json_input(build.rows())]}).encode()
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=10)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
            if not self._requests(connection, body):
                return

    def _requests(self, connection: http.client.HTTPConnection, body: bytes) -> bool:
        """Send until the server asks to reconnect; False after a loss."""
        while True:
            try:
                answer = send(connection, "POST", "/v2/models/tiny/infer", body)
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                return False
            if answer.status != 200:
                self.lost.append(str(answer.status))
            self.answered += 1
            if not self._is_kept_alive or answer.headers.get("connection") == "close":
                connection.close()
                return True

    def join(self) -> None:
        """Wait for all clients."""
        for thread in self._threads:
            thread.join(timeout=20)


@pytest.mark.parametrize(
    ("number", "is_kept_alive"),
    [(signal.SIGTERM, True), (signal.SIGTERM, False), (signal.SIGINT, False)],
)
def test_a_signal_under_load_loses_nothing(
    engine: Path, number: signal.Signals, is_kept_alive: bool
) -> None:
    with Server(engine) as server:
        load = _Load(server, clients=4, is_kept_alive=is_kept_alive)
        time.sleep(0.5)
        assert server.stop(number) == (0, "")
        load.join()
        assert load.lost == []
        assert load.answered > 20


def test_a_port_in_use_names_the_next_free_one(engine: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Server(engine, port=port) as server:
            rest = server.process.stdout.read().decode() if server.process.stdout else ""
            code, errors = server.wait()
    assert (code, errors) == (2, "")
    assert f"127.0.0.1:{port}: the port is in use" in server.first_line
    free = int(rest.split("--port ")[1])
    assert port < free <= port + 100


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"host": "no.such.host.invalid"}, 2, "does not resolve"),
        ({"host": "192.0.2.1"}, 2, "cannot listen there"),
        ({"port": 65536}, 2, "port 65536"),
        ({"port": -1}, 2, "port -1"),
    ],
)
def test_addresses_that_cannot_be_served(
    engine: Path, options: dict[str, object], code: int, words: str
) -> None:
    with Server(engine, **options) as server:
        assert words in server.first_line
        assert server.wait() == (code, "")


def test_an_altered_engine_is_not_served(tmp_path: Path) -> None:
    engine = build.tiny_engine(tmp_path)
    weights = engine / "parts/000/model.onnx"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with Server(engine) as server:
        assert "model.onnx" in server.first_line
        assert server.wait() == (4, "")


def test_a_type_the_protocol_lacks_is_refused_at_start(tmp_path: Path) -> None:
    kinds = {"float8_e4m3fn": TensorProto.FLOAT8E4M3FN}
    feeds = {"in_float8_e4m3fn": np.ones((1, 2), ml_dtypes.float8_e4m3fn)}
    with Server(build.typed_engine(tmp_path, kinds, feeds)) as server:
        assert "in_float8_e4m3fn" in server.first_line
        assert server.wait() == (2, "")


def test_without_the_extra_the_message_says_how_to_install_it() -> None:
    program = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from planner.errors import EnvironmentMismatchError\n"
        "from planner.serve import serve\n"
        "from pathlib import Path\n"
        "try:\n    serve(Path('engine'))\n"
        "except EnvironmentMismatchError as error:\n    print(error.text)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "pip install 'infopt[serve]'" in done.stdout
