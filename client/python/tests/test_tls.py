"""Encrypted connections, with certificates made for the test."""

import asyncio

import grpc
import pytest
import trustme

import isthmus
from fake import FakeHub, accept_all
from isthmus import _wire as wire


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def start():
    """Starts a hub that is reached over TLS alone; with `clients`, only by those whom that authority signed for."""
    started = []

    def start(authority, name="127.0.0.1", clients=None):
        own = authority.issue_cert(name)
        pairs = [(own.private_key_pem.bytes(), b"".join(blob.bytes() for blob in own.cert_chain_pems))]
        root = clients and clients.cert_pem.bytes()
        started.append(FakeHub(grpc.ssl_server_credentials(pairs, root, clients is not None)))
        started[-1].answers["Status"] = lambda request, context: wire.StatusResponse(cluster_id="c")
        started[-1].answers["Ingest"] = accept_all
        return started[-1]

    yield start
    for hub in started:
        hub.stop()


def works(hub, **options):
    with isthmus.Client(hub.endpoint, deadline=30.0, **options) as client:
        assert client.cluster.status().cluster_id == "c"


def is_refused(hub, endpoint=None, **options):
    with (
        isthmus.Client(endpoint or hub.endpoint, deadline=1.0, **options) as client,
        pytest.raises((isthmus.UnreachableError, isthmus.DeadlineError)),
    ):
        client.cluster.status()
    assert hub.calls == []


def test_a_node_is_trusted_when_the_authority_signed_for_the_host(start, authority, tmp_path):
    hub, ca = start(authority), tmp_path / "ca.pem"
    ca.write_bytes(authority.cert_pem.bytes())
    is_refused(hub, ca=trustme.CA().cert_pem.bytes())
    is_refused(hub, f"https://{hub.endpoint}")
    is_refused(hub, f"http://{hub.endpoint}")
    other = start(authority, "hub.example")
    is_refused(other, ca=ca)
    works(hub, ca=ca)
    works(hub, ca=str(ca))
    works(hub, ca=authority.cert_pem.bytes())


def test_a_client_shows_its_certificate_where_one_is_asked_for(start, authority, tmp_path):
    clients = trustme.CA()
    hub, own = start(authority, clients=clients), clients.issue_cert("client")
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key"
    ca.write_bytes(authority.cert_pem.bytes())
    cert.write_bytes(own.cert_chain_pems[0].bytes())
    key.write_bytes(own.private_key_pem.bytes())
    stranger = trustme.CA().issue_cert("client")
    is_refused(hub, ca=ca)
    is_refused(hub, ca=ca, cert=stranger.cert_chain_pems[0].bytes(), key=stranger.private_key_pem.bytes())
    works(hub, ca=ca, cert=cert, key=key)
    # What is not what it should be is told before anything is tried, by the file's name.
    for wrong, word in (
        ({"ca": key}, "client.key"),
        ({"ca": tmp_path / "none.pem"}, "none.pem"),
        ({"ca": ca, "cert": key, "key": key}, "cert .*client.key"),
        ({"ca": ca, "cert": cert, "key": ca}, "key .*ca.pem"),
        ({"cert": cert}, "go together"),
        ({"key": key}, "go together"),
        ({"ca": 7}, "has to be a path"),
        ({"ca": b"no PEM"}, "holds no certificate"),
    ):
        with pytest.raises(isthmus.UsageError, match=word):
            isthmus.Client(hub.endpoint, **wrong)
    with pytest.raises(isthmus.UsageError, match="use https://"):
        isthmus.Client(f"http://{hub.endpoint}", ca=ca)


def test_streams_and_the_asyncio_client_are_encrypted_too(start, authority):
    hub, ca = start(authority), authority.cert_pem.bytes()
    with isthmus.Client(hub.endpoint, deadline=30.0, ca=ca) as client, client.writer() as writer:
        writer.send(isthmus.identify("1"))
    assert writer.counts.accepted == 1

    async def work():
        async with isthmus.aio.Client(f"https://{hub.endpoint}", deadline=30.0, ca=ca) as twin:
            assert (await twin.cluster.status()).cluster_id == "c"
            async with twin.writer() as writer:
                await writer.send(isthmus.identify("1"))
            assert writer.counts.accepted == 1

    asyncio.run(asyncio.wait_for(work(), 120))
