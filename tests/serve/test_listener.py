"""The listening socket: quick answers, and nobody reset when it closes."""

from __future__ import annotations

import socket
import threading

import pytest

from planner.serve import listener


def test_connections_inherit_what_turns_nagle_off() -> None:
    with listener.bind("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def test_who_waits_in_the_queue_is_handed_over() -> None:
    bound = listener.bind("127.0.0.1", 0)
    listener.listen(bound)
    clients = [socket.create_connection(bound.getsockname()) for _ in range(5)]
    accepted = listener.close_gently(bound)
    names = {client.getsockname() for client in clients}
    assert names <= {connection.getpeername() for connection in accepted}
    assert bound.fileno() == -1
    for connection in (*clients, *accepted):
        connection.close()


def test_clients_that_keep_connecting_are_answered_or_refused_never_reset() -> None:
    bound = listener.bind("127.0.0.1", 0)
    listener.listen(bound)
    address = bound.getsockname()
    connected: list[socket.socket] = []
    started = threading.Event()

    def connect() -> None:
        while True:
            try:
                connected.append(socket.create_connection(address, timeout=10))
            except ConnectionRefusedError:
                return
            started.set()

    threads = [threading.Thread(target=connect) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    accepted = {connection.getpeername(): connection for connection in listener.close_gently(bound)}
    for thread in threads:
        thread.join(10)
    lost = [client for client in connected if client.getsockname() not in accepted]
    for connection in (*connected, *accepted.values()):
        connection.close()
    assert lost == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_port_zero_takes_a_free_one(host: str) -> None:
    with listener.bind(host, 0) as bound:
        assert bound.getsockname()[1] > 0
