"""The policies that `connectors test` prints: no more than what is below the boundary, no more than what is done."""

import pytest

from vv_exports.connectors.policies import azure_policies, gcs_policies, s3_policies

PURPOSES = ["deliver", "verify", "retention"]


def _s3_actions(policy) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_s3_policies_grant_what_each_purpose_does_below_the_prefix_alone():
    policies = s3_policies("bucket", "exports/")
    assert list(policies) == PURPOSES
    assert _s3_actions(policies["verify"]) == {"s3:GetObject", "s3:ListBucket"}
    assert "s3:DeleteObject" not in _s3_actions(policies["deliver"])
    assert _s3_actions(policies["retention"]) > _s3_actions(policies["deliver"]) | {"s3:DeleteObject"}
    for policy in policies.values():
        for statement in policy["Statement"]:
            if statement["Sid"] == "Objects":
                assert statement["Resource"] == "arn:aws:s3:::bucket/exports/*"
            if statement["Sid"] == "List":
                assert statement["Condition"] == {"StringLike": {"s3:prefix": ["exports/*"]}}


def test_s3_policies_of_a_whole_bucket_and_with_a_key():
    (listing, objects, key) = s3_policies("bucket", "", "abc")["deliver"]["Statement"]
    assert "Condition" not in listing
    assert objects["Resource"] == "arn:aws:s3:::bucket/*"
    assert key["Resource"] == "arn:aws:kms:*:*:key/abc"
    arn = "arn:aws:kms:eu-central-1:1:key/abc"
    assert s3_policies("bucket", "", arn)["verify"]["Statement"][-1]["Resource"] == arn


def test_gcs_roles_are_bound_below_the_prefix():
    policies = gcs_policies("bucket", "exports/")
    assert list(policies) == PURPOSES
    assert policies["verify"]["role"]["includedPermissions"] == ["storage.objects.get", "storage.objects.list"]
    expression = policies["deliver"]["binding"]["condition"]["expression"]
    assert 'resource.name.startsWith("projects/_/buckets/bucket/objects/exports/")' in expression
    assert "condition" not in gcs_policies("bucket", "")["deliver"]["binding"]


@pytest.mark.parametrize("prefix", ["exports/", ""])
def test_azure_roles_are_assigned_to_the_container(prefix):
    policies = azure_policies("account", "box", prefix)
    assert list(policies) == PURPOSES
    for policy in policies.values():
        assert policy["assignment"]["scope"].endswith("/storageAccounts/account/blobServices/default/containers/box")
        assert ("condition" in policy["assignment"]) is bool(prefix)
    deleting = [
        purpose for purpose, policy in policies.items() if any("delete" in a for a in policy["role"]["dataActions"])
    ]
    assert deleting == ["retention"]
