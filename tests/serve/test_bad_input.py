"""Every fault of a client is a 4xx that names the field; the server survives all of them."""

from __future__ import annotations

import contextlib
import json
import random
import select
import socket
from typing import Any

import numpy as np
import pytest

from tests.runtime import build
from tests.serve.client import LENGTH, Server, binary_input, json_input

X = build.rows(2)
GOOD = json_input(X)


def _with(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**GOOD, **changes}]}


def _without(*keys: str) -> dict[str, Any]:
    return {"inputs": [{key: value for key, value in GOOD.items() if key not in keys}]}


DOCUMENTS: dict[str, tuple[Any, str]] = {
    "not JSON": (b"hello", "not JSON"),
    "empty": (b"", "not JSON"),
    "not UTF-8": (b'{"inputs":"\xff"}', "not JSON"),
    "trailing text": (json.dumps(_with()).encode() + b"x", "not JSON"),
    "deep nesting": (b"[" * 30_000, "not JSON"),
    "deep data": (b'{"inputs":[{"data":' + b"[" * 20_000, "not JSON"),
    "a list": ([], "object"),
    "a number": (7, "object"),
    "no inputs": ({}, "'inputs'"),
    "inputs is null": ({"inputs": None}, "'inputs'"),
    "inputs is empty": ({"inputs": []}, "lacks 'x'"),
    "input is a string": ({"inputs": ["x"]}, "inputs[0]"),
    "unknown input": (_with(name="z"), "'z'"),
    "name is a number": (_with(name=3), "inputs[0]"),
    "name is huge": (_with(name="n" * 9999), "unknown name"),
    "no name": (_without("name"), "inputs[0]"),
    "twice": ({"inputs": [GOOD, GOOD]}, "twice"),
    "wrong datatype": (_with(datatype="INT64"), "FP32"),
    "no datatype": (_without("datatype"), "datatype"),
    "no shape": (_without("shape"), "shape"),
    "shape is text": (_with(shape="2,4"), "shape"),
    "wrong rank": (_with(shape=[8]), "shape"),
    "wrong dimension": (_with(shape=[4, 2]), "[-1,4]"),
    "negative dimension": (_with(shape=[-2, 4]), "shape"),
    "minus one": (_with(shape=[-1, 4]), "shape"),
    "fractional dimension": (_with(shape=[2.0, 4]), "shape"),
    "boolean dimension": (_with(shape=[True, 4], data=[1, 2, 3, 4]), "shape"),
    "huge dimension": (_with(shape=[2**62, 4]), "8 values"),
    "overflowing dimension": (_with(shape=[10**30, 4]), "8 values"),
    "NaN dimension": (b'{"inputs":[{"name":"x","datatype":"FP32","shape":[NaN,4]}]}', "shape"),
    "no data": (_without("data"), "'data'"),
    "data is null": (_with(data=None), "'data'"),
    "data is an object": (_with(data={"0": 1}), "'data'"),
    "too few values": (_with(data=[1, 2]), "2 values"),
    "too many values": (_with(data=[1] * 9), "9 values"),
    "strings": (_with(data=["1"] * 8), "strings"),
    "booleans": (_with(data=[True] * 8), "true or false"),
    "nulls": (_with(data=[None] * 8), "null"),
    "objects": (_with(data=[{}] * 8), "objects"),
    "ragged": (_with(data=[[1, 2, 3, 4], [5, 6, 7]]), "ragged"),
    "half nested": (_with(data=[[1, 2, 3, 4], 5, 6, 7, 8]), "ragged"),
    "NaN": (_with(data=[float("nan")] * 8), "'x'"),
    "Infinity": (_with(data=[float("inf")] * 8), "'x'"),
    "minus Infinity": (_with(data=[float("-inf")] * 8), "'x'"),
    "1e400": (json.dumps(_with(data=["@"] * 8)).replace('"@"', "1e400").encode(), "'x'"),
    "too large for the datatype": (_with(data=[1e39] * 8), "out of range"),
    "integer too large": (_with(data=[10**400] * 8), "out of range"),
    "id is a number": ({**_with(), "id": 5}, "'id'"),
    "parameters is a list": ({**_with(), "parameters": []}, "'parameters'"),
    "flag is a string": ({**_with(), "parameters": {"binary_data_output": "yes"}}, "true or false"),
    "unknown output": ({**_with(), "outputs": [{"name": "q"}]}, "'q'"),
    "outputs is an object": ({**_with(), "outputs": {}}, "'outputs'"),
    "output twice": ({**_with(), "outputs": [{"name": "y"}] * 2}, "twice"),
    "binary without a tail": ({"inputs": [binary_input(X)]}, "binary_data_size"),
    "both kinds of data": (_with(parameters={"binary_data_size": 32}), "both"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_are_refused_naming_the_field(server: Server, name: str) -> None:
    document, words = DOCUMENTS[name]
    answer = server.infer(document)
    assert answer.status == 400, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert words in answer.error
    assert len(answer.error) < 500


@pytest.mark.parametrize(
    ("size", "tail", "words"),
    [
        (31, X.tobytes(), "takes 32 bytes"),
        (33, X.tobytes() + b"\0", "takes 32 bytes"),
        (-1, X.tobytes(), "number of bytes"),
        (10**20, X.tobytes(), "takes 32 bytes"),
        ("32", X.tobytes(), "number of bytes"),
        (True, X.tobytes(), "number of bytes"),
        (32, X.tobytes()[:-1], "only 31 bytes"),
        (32, X.tobytes() + b"more", "4 bytes of binary data belong to no input"),
    ],
)
def test_binary_sizes_must_add_up(server: Server, size: Any, tail: bytes, words: str) -> None:
    tensor = {**binary_input(X), "parameters": {"binary_data_size": size}}
    answer = server.infer({"inputs": [tensor]}, tail)
    assert answer.status == 400
    assert words in answer.error


@pytest.mark.parametrize("lie", ["0", "-5", "999999", "abc", "1e3", "9" * 40, "", "٣", "12, 13"])
def test_a_header_that_lies_about_the_length(server: Server, lie: str) -> None:
    body = json.dumps({"inputs": [binary_input(X)]}).encode() + X.tobytes()
    answer = server.request(
        "POST", "/v2/models/tiny/infer", body, {LENGTH: lie.encode().decode("latin-1")}
    )
    assert answer.status == 400
    assert LENGTH in answer.error


def test_a_shape_without_elements_cannot_ask_for_memory(server: Server) -> None:
    wide = {"name": "x", "datatype": "FP32", "shape": [0, 4], "data": []}
    assert server.infer({"inputs": [wide]}).status in (200, 400)
    assert server.infer({"inputs": [{**wide, "shape": [0, 10**12]}]}).status == 400


def test_oversize_bodies(server: Server) -> None:
    body = b" " * (1 << 17)
    assert server.infer(body).status == 413
    chunks = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    with chunks:
        head = (
            b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunks.sendall(head + b"10000\r\n" + b" " * 0x10000 + b"\r\n" + b"1\r\n \r\n")
        assert b"413" in chunks.recv(200).split(b"\r\n")[0]


def test_wrong_paths_and_methods(server: Server) -> None:
    unknown = server.request("POST", "/v2/models/other/infer", json.dumps(_with()).encode())
    assert (unknown.status, "'other'" in unknown.error) == (404, True)
    wrong = server.request("GET", "/v2/models/tiny/infer")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert server.request("DELETE", "/v2").status == 405
    assert "/v2" in server.request("GET", "/v1/models").error
    packed = server.infer(_with(), headers={"Content-Encoding": "gzip"})
    assert (packed.status, "gzip" in packed.error) == (415, True)


@pytest.mark.parametrize(
    "raw",
    [
        b"\0\1\2\3" * 10 + b"\r\n\r\n",
        b"POST /v2/models/tiny/infer HTTP/9.9\r\n\r\n",
        b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 1e3\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http(server: Server, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(raw)
        assert b" 400 " in connection.recv(200).split(b"\r\n")[0]
    assert server.request("GET", "/v2/health/live").status == 200


def test_a_client_that_goes_away_in_the_middle(server: Server) -> None:
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(
                b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n{"
            )
    assert server.infer(_with()).status == 200


def test_a_body_that_never_arrives_times_out(engine: Any) -> None:
    with Server(engine, request_timeout_s=0.3) as impatient:
        with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as connection:
            connection.sendall(
                b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{"
            )
            assert b"408" in connection.recv(200).split(b"\r\n")[0]
        assert impatient.infer(_with()).status == 200


def _unfinished(server: Server, sent: int, declared: int) -> socket.socket:
    """A connection whose request never ends."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    head = f"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {declared}\r\n\r\n"
    connection.sendall(head.encode() + b" " * sent)
    return connection


def test_who_sends_slowly_holds_up_nobody(engine: Any) -> None:
    with Server(engine, max_in_flight=2) as server, contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(_unfinished(server, 1, 9))
        assert [server.infer(_with()).status for _ in range(3)] == [200] * 3


def test_bodies_that_arrive_together_are_bounded(engine: Any) -> None:
    limits = {"max_in_flight": 1, "max_body_bytes": 1 << 16}
    with Server(engine, **limits) as server, contextlib.ExitStack() as stack:
        both = [stack.enter_context(_unfinished(server, 40_000, 60_000)) for _ in range(2)]
        refused, *others = select.select(both, [], [], 10)[0]
        answer = refused.recv(4096).lower()
        assert not others
        assert answer.startswith(b"http/1.1 503")
        assert b"retry-after: 1" in answer
        assert server.infer(_with()).status == 200


def _mutated(body: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, cut out, doubled or replaced by JSON's own signs."""
    data = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        at, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        choice = rng.randrange(5)
        if choice == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif choice == 1:
            del data[at : min(end, at + 20)]
        elif choice == 2:
            data[at:at] = data[at : min(end, at + 50)]
        elif choice == 3:
            data[at:at] = rng.choice([b"[", b"]", b"{", b"-", b"1e999", b"null", b'"', b",", b"\0"])
        else:
            data[at : at + 1] = rng.choice([b"NaN", b"9" * 30, b"-1", b"true", b"{}", b"[]"])
    return bytes(data)


def test_mutated_requests_never_break_the_server(server: Server) -> None:
    rng = random.Random(20)
    x = np.ones((1, build.WIDTH), np.float32)
    head = json.dumps({"inputs": [binary_input(x)], "outputs": [{"name": "y"}]}).encode()
    statuses = set()
    for index in range(500):
        body = _mutated(json.dumps(_with()).encode() if index % 2 else head + x.tobytes(), rng)
        lie = rng.choice([len(head), len(body), rng.randrange(-1, 2 * len(body) + 2)])
        headers = {} if index % 2 else {LENGTH: str(lie)}
        answer = server.infer(body, headers=headers)
        statuses.add(answer.status)
        if answer.status != 200:
            assert answer.error
    assert statuses <= {200, 400, 406}
    assert 400 in statuses
    assert server.infer(_with()).status == 200
