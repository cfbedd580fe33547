"""Which keys name a secret."""

from __future__ import annotations

import re
import time

import pytest

from trace_guard.redaction.secret_keys import SecretKeys, is_secret_key

SECRET = re.findall(r"\S+", """
    authorization Authorization authorizationToken proxy-authorization x-serverless-authorization Cookie cookies
    set-cookie Set_Cookie apiKey api_key API-Key apikey APIKEY x-api-key OPENAI_API_KEY api_key_openai X-Functions-Key
    Ocp-Apim-Subscription-Key aeg-sas-key X-ZUMO-AUTH password passwd passWord password2 newPassword dbPassword
    PGPASSWORD password_confirmation secret client_secret clientSecret SecretString privateKey private_key_pem
    secretAccessKey accessKeyId AWSAccessKeyId sessionToken accessToken access.token ACCESSTOKEN refresh_token
    X-MS-TOKEN-AAD-ACCESS-TOKEN idToken authToken bearerToken csrf_token X-CSRF-Token csrfmiddlewaretoken
    x-amzn-oidc-accesstoken credentials artifactCredentials x-vault-token taskToken token Token token_value jwt
    X-Amz-Signature X-Goog-Signature X-Amz-Security-Token X-Amz-Credential sig Signature x-hub-signature-256
    SharedAccessKey AccountKey connectionString identitySource challengeAnswer privateChallengeParameters outputToken
    workloadaccesstoken WorkloadAccessToken x-amz-bedrock-agentcore-identity-wat x-agent-foundry-call-id
    SigningCertURL SigningCertUrl UnsubscribeURL UnsubscribeUrl ClientRequestToken
    user[password] user[access_token] user%5Bpassword%5D user%255Bpassword%255D pass%77ord user.token --api-key
    accessTokens apiKeys api_keys passwords DB_PASS dbPass SMTP_PASS creds dbCreds encryptionKey encryption_keys hmacKey
    \uff50assword to\u212aen
""")
ORDINARY = re.findall(r"\S+", """
    max_tokens maxTokens max_output_tokens token_count tokenCount prompt_tokens completion_tokens tokens tokenizer
    token_type token_limit tokens_per_minute eos_token stop_token cost_per_token time_to_first_token nextToken
    inputToken_count invalidtoken access_token_expires_in refreshTokenExpiresAt api_key_id password_hint
    password_reset_required secretId secretArn secretary monkey author author_id authority authorizer authorized
    authorizationInfo key keys primary_key public_key keyboard turkey passage compass cookie_consent session_id user
    input_tokens output_tokens total_tokens outputTokens pass pass_rate passed bypass encryptionKeyArn invalidtokens
    name value design signal SignatureVersion logprobs id % _
""")


@pytest.mark.parametrize("key", SECRET)
def test_a_key_that_names_a_secret(key: str) -> None:
    """A key names a secret in any spelling: case, camelCase, separators, brackets, percent-encoding."""
    assert is_secret_key(key)


@pytest.mark.parametrize("key", ORDINARY)
def test_an_ordinary_key(key: str) -> None:
    """A key that only resembles or describes a secret is none."""
    assert not is_secret_key(key)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("ssn", ["ssn", "SSN", "customer_ssn", "customer[ssn]", "ssn_value"], ["ssns", "ssn_count", "lessn"]),
        ("Social-Security", ["social_security", "socialSecurity", "SOCIALSECURITY"], ["social", "security"]),
        ("*_pin", ["user_pin", "userPin", "card-pin", "a.b.pin"], ["pin", "pinned", "user_pin_count", "spin"]),
        ("x-internal-*", ["X-Internal-Id", "x_internal_a_b", "xInternalId"], ["internal-id", "ax-internal-b"]),
        ("*Note*", ["note", "myNotes", "footnote"], ["no", "nothing"]),
        ("pin?", ["pin1", "pins"], ["pin", "pin12"]),
        ("id_[ab]", ["id-a", "idB"], ["id-c"]),
        ("", [], ["", "a"]),
    ],
)
def test_patterns_of_a_user(pattern: str, matching: list[str], other: list[str]) -> None:
    """A plain pattern matches keys that end in its words; one with wildcards matches all words of a key."""
    keys = SecretKeys([pattern])
    assert [key for key in matching if not keys.matches(key)] == []
    assert [key for key in other if keys.matches(key)] == []
    assert keys.matches("password")


@pytest.mark.parametrize("part", ["a", "aB", "%25", "_", "A", "token_", "[", "ü"])
def test_a_long_key_is_cheap(part: str) -> None:
    """The cost of a key has a bound, and a secret at either end of a long key is found."""
    keys = SecretKeys(["*a*b*c*d*e*f*"])
    long = part * 1_000_000
    began = time.thread_time()
    assert keys.matches(f"{long}_password")
    assert keys.matches(f"password_{long}")
    assert time.thread_time() - began < 0.05
