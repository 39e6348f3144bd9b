"""Tokens: asked for with the account's key, used until they end, renewed before; and REST calls with them."""

from datetime import datetime, timedelta, timezone

import pytest

from model_load_test.components.google_cloud.credentials import (
    CredentialsMissing,
    GoogleCredentials,
    google_credentials,
    google_headers,
)
from model_load_test.components.google_cloud.rest import (
    AlreadyExists,
    GoogleApiError,
    NotFound,
    RestApi,
)

CONTROL = "https://europe-west4-aiplatform.googleapis.com"
ENDPOINTS = "/v1/projects/my-project/locations/europe-west4/endpoints"


def api(**options):
    return RestApi(CONTROL, pause=lambda _: None, **options)


def test_a_token_is_asked_for_once_and_used_until_it_ends(google):
    first = google_headers(60)["authorization"]
    assert first.startswith("Bearer ya29.")
    assert google_headers(225)["authorization"] == first
    assert len(google.identity.tokens) == 1
    assert google_headers(3700)["authorization"] != first, "it would not last so long"


def test_a_token_that_is_about_to_end_is_renewed(google):
    now = [datetime.now(timezone.utc)]
    known = google_credentials()
    clocked = GoogleCredentials(known.credentials, known._request, now=lambda: now[0])
    first = clocked.headers(225)
    now[0] += timedelta(seconds=3600 - 300)
    assert clocked.headers(225) == first
    now[0] += timedelta(seconds=100)
    assert clocked.headers(225) != first


def test_where_none_is_given_the_old_one_is_used_as_long_as_it_lasts(google):
    first = google_headers()
    google.identity.refusing = True
    assert google_headers(5000) == first
    google_credentials().credentials.expiry = datetime(2020, 1, 1)
    with pytest.raises(CredentialsMissing, match=r"Google gives no token .*service account"):
        google_headers(5000)


def test_a_process_without_identity_says_what_to_do(google, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    google_credentials.cache_clear()
    with pytest.raises(CredentialsMissing, match="GOOGLE_APPLICATION_CREDENTIALS"):
        google_headers()


def test_no_error_and_no_representation_shows_a_token(google):
    token = google_headers()["authorization"].removeprefix("Bearer ")
    google.identity.tokens.clear()
    google.identity.refusing = True
    with pytest.raises(GoogleApiError) as refused:
        api().get(ENDPOINTS, {"filter": 'labels.a="b"'})
    assert token not in str(refused.value)
    assert token not in repr(google_credentials()) + repr(api())


def test_a_resource_is_made_found_listed_in_pages_and_deleted(google):
    for number in range(3):
        operation = api().post(
            ENDPOINTS, {"displayName": "e", "labels": {"of": "me"}}, {"endpointId": f"e-{number}"}
        )
        assert api().wait(operation, 10)["name"].endswith(f"/endpoints/e-{number}")
    listed = api().pages(ENDPOINTS, "endpoints", {"filter": 'labels.of="me"'})
    assert len([one["name"] for one in listed]) == 3
    api().delete(f"{ENDPOINTS}/e-1")
    with pytest.raises(NotFound, match="check project, location and name"):
        api().get(f"{ENDPOINTS}/e-1")
    with pytest.raises(AlreadyExists):
        api().post(ENDPOINTS, {"displayName": "e"}, {"endpointId": "e-0"})


def test_a_momentary_refusal_is_tried_again(google):
    google.vertex.momentary = 1
    assert list(api().pages(ENDPOINTS, "endpoints", {"filter": 'labels.of="me"'})) == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"displayName": "d" * 129},
        {"displayName": "e", "labels": {"Of": "me"}},
        {"displayName": "e", "surprise": 1},
        {"displayName": "e", "deployedModels": [{"model": "m"}]},
        {"displayName": "e", "network": "my-network"},
    ],
)
def test_the_fake_refuses_what_the_definition_refuses(google, body):
    with pytest.raises(GoogleApiError, match="INVALID_ARGUMENT"):
        api().post(ENDPOINTS, body)


def test_the_fake_takes_no_token_but_its_own(google):
    google_headers()
    google.identity.tokens = dict.fromkeys(google.identity.tokens, 0.0)
    google.identity.refusing = True
    with pytest.raises(GoogleApiError):
        api().get(f"{ENDPOINTS}/1")


def test_an_operation_that_fails_or_takes_too_long_says_so(google):
    name = f"{ENDPOINTS.removeprefix('/v1/')}/1/operations/7"
    with pytest.raises(GoogleApiError, match="it is not done after 0 s"):
        api().wait({"name": name}, 0)
    failed = {"name": name, "done": True, "error": {"code": 8, "message": "no quota"}}
    with pytest.raises(GoogleApiError, match="no quota"):
        api().wait(failed, 1)
    gone = {"name": name, "done": True, "error": {"code": 5, "message": "gone"}}
    with pytest.raises(NotFound):
        api().wait(gone, 1)


def test_a_service_that_does_not_answer_is_named(google, unused_port):
    with pytest.raises(GoogleApiError, match=r"does not answer .*check the location and the network"):
        RestApi(f"http://127.0.0.1:{unused_port}", session=_impatient()).get("/v1/x")


def _impatient():
    from google.auth.transport.requests import AuthorizedSession

    return AuthorizedSession(google_credentials().credentials)
