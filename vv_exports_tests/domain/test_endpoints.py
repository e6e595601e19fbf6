"""Two spellings of one store's address are one store."""

import pytest

from vv_exports.domain.endpoints import same_endpoint

ONE = [
    *("https://minio.example", "https://minio.example/", "https://minio.example:443", "https://MINIO.example:443//"),
    *("HTTPS://minio.example.", "https://minio.example.:0443", "https://minio.example:", "https://minio%2Eexample"),
    *("https://bucket.minio.example", "https://minio.example/.", "https://minio.example/a/.."),
]
OTHERS = [
    *("http://minio.example", "https://minio.example:9000", "https://minio.example/a", "https://minio2.example"),
    *("https://other.minio.example", "https://minio.example:80", None),
]


@pytest.mark.parametrize(
    ("one", "other"),
    [("https://straße.example", "https://strasse.example"), ("https://ας.example", "https://ασ.example")],
)
def test_names_that_are_one_to_old_software_alone_are_two(one, other):
    assert same_endpoint("s3", one, "b") != same_endpoint("s3", other, "b")


@pytest.mark.parametrize("url", ONE)
def test_spellings_of_one_address_are_one_store(url):
    assert same_endpoint("s3", url, "bucket") == "https://minio.example"


@pytest.mark.parametrize("url", OTHERS)
def test_other_addresses_are_other_stores(url):
    assert same_endpoint("s3", url, "bucket") != "https://minio.example"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://127.0.0.1", "http://127.0.0.1:80/"),
        ("http://127.1:9000", "http://127.0.0.1:9000"),
        ("http://[::1]:9000", "http://[0:0:0:0:0:0:0:1]:9000"),
        ("https://münchen.example", "https://xn--mnchen-3ya.example"),
        ("https://straße.example", "https://xn--strae-oqa.example"),
        ("https://münchen。example", "https://xn--mnchen-3ya.example"),
        ("https://MÜNCHEN.example", "https://m%C3%BCnchen.example"),
        ("https://h/a%20b/", "https://h/a b"),
        ("https://h//a", "https://h/a"),
    ],
)
def test_hosts_ports_and_paths_are_compared_as_the_network_takes_them(one, other):
    assert same_endpoint("s3", one, "bucket") == same_endpoint("s3", other, "bucket")


def test_names_that_only_lead_to_one_machine_are_not_looked_up():
    assert same_endpoint("s3", "http://localhost:9000", "b") != same_endpoint("s3", "http://127.0.0.1:9000", "b")


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("s3", "https://s3.amazonaws.com"),
        ("s3", "https://s3.eu-central-1.amazonaws.com:443/"),
        ("s3", "https://S3.dualstack.us-east-1.amazonaws.com"),
        ("s3", "https://bucket.s3.us-east-1.amazonaws.com"),
        ("s3", "https://s3.cn-north-1.amazonaws.com.cn"),
        ("s3", "https://s3-us-west-2.amazonaws.com"),
        ("s3", "https://s3-accelerate.dualstack.amazonaws.com"),
        ("s3", "https://s3-fips.us-gov-west-1.amazonaws.com"),
        ("s3", "https://bucket.vpce-1a2b-5e6f.s3.us-east-1.vpce.amazonaws.com"),
        ("gcs", "https://storage.googleapis.com"),
        ("gcs", "https://www.googleapis.com/"),
        ("gcs", "https://storage.europe-west3.rep.googleapis.com"),
        ("azure", "https://account.blob.core.windows.net"),
        ("azure", "https://ACCOUNT.blob.core.windows.net:443/"),
        ("azure", "https://account.dfs.core.windows.net"),
        ("azure", "https://account.z12.blob.storage.azure.net"),
    ],
)
def test_the_providers_own_addresses_are_as_if_there_were_none(provider, url):
    assert same_endpoint(provider, url, "bucket", "account") == same_endpoint(provider, None, "bucket", "account") == ""


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("s3", "https://amazonaws.com.example"),
        ("s3", "https://notamazonaws.com"),
        ("s3", "https://minio-123.us-east-1.elb.amazonaws.com"),
        ("s3", "https://s3-123.us-east-1.elb.amazonaws.com"),
        ("s3", "http://ec2-1-2-3-4.compute-1.amazonaws.com:9000"),
        ("gcs", "https://googleapis.com.example"),
        ("azure", "https://another.blob.core.windows.net"),
        ("azure", "https://account.blob.core.chinacloudapi.cn"),
        ("azure", "https://account.blob.core.windows.net.example"),
    ],
)
def test_what_only_looks_like_the_provider_is_not_it(provider, url):
    assert same_endpoint(provider, url, "bucket", "account") != ""


@pytest.mark.parametrize("url", ["https://h:port", "https://[::1", "nothing", "https://h:99999", ""])
def test_what_is_no_address_is_compared_as_it_is(url):
    assert same_endpoint("s3", url, "bucket") == url
