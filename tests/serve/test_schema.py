"""A fuzzer that reads /openapi.json finds no answer that the document does not announce."""

import io

import pytest
from hypothesis import HealthCheck, given, settings

pytestmark = pytest.mark.slow
OPERATIONS = [
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/health"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def described(app, service):
    import schemathesis  # here, so that tests that need none of it do not wait for it

    service.decoding.submit(io.BytesIO(b"x")).exception()  # its client waits 10 s, not for imports
    return schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": "127.0.0.1"})


def test_the_document_lists_these_operations(described):
    listed = {
        (m.upper(), path) for path, item in described.raw_schema["paths"].items() for m in item
    }
    assert listed == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_answers_are_those_of_the_document(described, method, path):
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks as openapi

    checks = [
        not_a_server_error,
        openapi.status_code_conformance,
        openapi.content_type_conformance,
        openapi.response_schema_conformance,
    ]

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=described[path][method].as_strategy())
    def check(case):
        case.call_and_validate(checks=checks, headers={"host": "127.0.0.1"})

    check()
