"""The proxy passes requests on unchanged, and goes wrong in the way that each fault says."""

import http.client
import threading
import time
import warnings
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vv_exports_tests.fakes.tcp_proxy import TcpProxy

BODY = b"x" * 100_000


class Store(ThreadingHTTPServer):
    """Remembers what it is sent, and answers with it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, str, int]] = []
        self.arrived = threading.Condition()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.arrived:
            self.server.received.append((f"{self.command} {self.path}", self.headers["Host"], len(body)))
            self.server.arrived.notify_all()
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT  # noqa: N815

    def handle(self):
        with suppress(OSError):  # cut
            super().handle()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def store():
    with Store() as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


@pytest.fixture
def proxy(store):
    with TcpProxy(f"http://127.0.0.1:{store.server_port}") as one:
        yield one


class Client(http.client.HTTPConnection):
    """One connection, which stays open."""

    def __init__(self, proxy, timeout=10):
        super().__init__("127.0.0.1", proxy.port, timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def ask(self, method="PUT", path="/a", body=BODY, **headers):
        self.request(method, path, body, headers)
        with self.getresponse() as answer:
            return answer.status, answer.read()


def ask(proxy, *what, **more):
    with Client(proxy) as client:
        return client.ask(*what, **more)


def test_requests_pass_unchanged_and_are_counted(store, proxy):
    with Client(proxy) as client:
        assert client.ask() == (200, BODY)
        assert client.ask("GET", "/b?c=d", None) == (200, b"")
    assert proxy.connections == 1
    assert proxy.requests == ["PUT /a", "GET /b?c=d"]
    assert {host for _, host, _ in store.received} == {f"127.0.0.1:{proxy.port}"}, "what the client has signed"


@pytest.mark.parametrize("times", [1, 3])
def test_a_connection_is_reset_after_some_bytes_a_few_times(store, proxy, times):
    proxy.fault("cut", after=50_000, times=times)
    for _ in range(times):
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            ask(proxy)
    assert ask(proxy) == (200, BODY)
    assert len(store.received) == 1
    assert proxy.struck == ["PUT /a"] * times


def test_a_connection_is_reset_always_until_the_proxy_heals(store, proxy):
    fault = proxy.fault("cut", after=50_000, times=float("inf"))
    for _ in range(4):
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            ask(proxy)
    assert fault.hit.is_set()
    proxy.heal()
    assert ask(proxy) == (200, BODY)
    assert len(store.received) == 1


def test_bytes_count_for_each_connection_or_over_all(proxy):
    each = proxy.fault("cut", after=150_000)
    assert [ask(proxy)[0] for _ in range(3)] == [200] * 3, "none of the three connections carries so much"
    assert not each.hit.is_set()
    proxy.heal()
    proxy.fault("cut", after=150_000, over="all")
    assert ask(proxy)[0] == 200
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        ask(proxy)
    assert ask(proxy)[0] == 200


def test_a_fault_meets_the_requests_that_it_is_meant_for(proxy):
    proxy.fault("busy", "^PUT /b", times=float("inf"))
    assert [ask(proxy, path=path)[0] for path in ("/a", "/b", "/a", "/b")] == [200, 503, 200, 503]


def test_a_peer_goes_silent_and_the_connection_stays(store, proxy):
    proxy.fault("silent", after=10)
    with Client(proxy, timeout=0.3) as client, pytest.raises(TimeoutError):
        client.ask()
    assert store.received == []
    assert ask(proxy)[0] == 200


def test_an_answer_is_lost_after_the_request_was_carried_out(store, proxy):
    proxy.fault("lost")
    with pytest.raises(ConnectionResetError):
        ask(proxy)
    assert store.received == [("PUT /a", f"127.0.0.1:{proxy.port}", len(BODY))]
    assert proxy.requests == ["PUT /a"]
    assert ask(proxy)[0] == 200


def test_a_server_dies_with_an_answer(store, proxy):
    proxy.fault("lost", dies_with_it=True)
    with pytest.raises(ConnectionResetError):
        ask(proxy)
    with pytest.raises(ConnectionRefusedError):
        ask(proxy)
    proxy.heal()
    assert ask(proxy)[0] == 200
    assert len(store.received) == 2


def test_connections_are_refused_and_those_that_there_are_are_cut(proxy):
    with Client(proxy) as client:
        assert client.ask()[0] == 200
        proxy.refuse()
        with pytest.raises(OSError, match=r"reset|[Pp]ipe"):
            client.ask()
        with pytest.raises(ConnectionRefusedError):
            ask(proxy)
    port = proxy.port
    proxy.heal()
    assert proxy.port == port
    assert ask(proxy)[0] == 200


def test_the_proxy_answers_that_it_is_busy_and_keeps_the_connection(store, proxy):
    proxy.fault("busy", times=2)
    with Client(proxy) as client:
        (first, said), (second, _), (third, _) = (client.ask() for _ in range(3))
        assert (first, second, third) == (503, 503, 200)
        assert b"<Code>SlowDown</Code>" in said
        proxy.fault("busy")
        assert client.ask("HEAD", body=None) == (503, b"")
        assert client.ask()[0] == 200
    assert proxy.connections == 1
    assert len(store.received) == len(proxy.requests) == 2


def test_a_client_that_waits_for_an_invitation_is_invited_before_it_is_told_that_the_proxy_is_busy(proxy):
    proxy.fault("busy")
    with Client(proxy) as client:
        client.putrequest("PUT", "/a")
        client.putheader("Content-Length", "3")
        client.putheader("Expect", "100-continue")
        client.endheaders()
        assert client.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        with client.getresponse() as answer:
            assert answer.status == 503


def test_each_request_takes_the_latency_longer(proxy):
    proxy.latency = 0.2
    began = time.monotonic()
    assert ask(proxy)[0] == 200
    assert time.monotonic() - began >= 0.2


def test_a_server_that_is_down_looks_like_one_behind_a_proxy(store):
    with TcpProxy("http://127.0.0.1:1") as proxy, pytest.raises(ConnectionResetError):
        ask(proxy)


def test_nothing_is_left_behind(store):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with (
            Client(store_proxy := TcpProxy(f"http://127.0.0.1:{store.server_port}"), timeout=0.1) as silent,
            Client(store_proxy) as idle,
            store_proxy as proxy,
        ):
            fault = proxy.fault("silent", "/silent", times=float("inf"))
            assert idle.ask()[0] == 200
            with pytest.raises(TimeoutError):
                silent.ask(path="/silent")
            assert fault.hit.is_set()
    assert {thread for thread in threading.enumerate() if thread.name == "tcp-proxy"} == set()
    with pytest.raises(ConnectionRefusedError):
        ask(proxy)
