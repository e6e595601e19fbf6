"""The least that a store must allow a connector, as its provider writes it. Pure.

Three parts, which may be given to one identity or to three: ``deliver`` writes files and log entries, ``verify`` reads
them back, ``retention`` also removes what was superseded, which a delivery does by itself where it may.
"""

from vv_exports.domain.prompt_runs import JsonObject


def s3_policies(bucket: str, prefix: str, kms_key_id: str | None = None) -> dict[str, JsonObject]:
    """IAM policies. ``prefix`` ends in a slash, or is empty for the whole bucket."""
    objects = f"arn:aws:s3:::{bucket}/{prefix}*"
    listing: JsonObject = {
        "Sid": "List",
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": f"arn:aws:s3:::{bucket}",
    }
    uploads: JsonObject = {
        "Sid": "ListUploads",
        "Effect": "Allow",
        "Action": ["s3:ListBucketMultipartUploads"],
        "Resource": f"arn:aws:s3:::{bucket}",
    }
    if prefix:
        listing["Condition"] = {"StringLike": {"s3:prefix": [f"{prefix}*"]}}
    keys: list[JsonObject] = []
    if kms_key_id is not None:
        keys = [
            {
                "Sid": "Key",
                "Effect": "Allow",
                "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
                "Resource": kms_key_id if kms_key_id.startswith("arn:") else f"arn:aws:kms:*:*:key/{kms_key_id}",
            }
        ]

    def policy(*actions: str, more: tuple[JsonObject, ...] = ()) -> JsonObject:
        granted: JsonObject = {"Sid": "Objects", "Effect": "Allow", "Action": list(actions), "Resource": objects}
        return {"Version": "2012-10-17", "Statement": [listing, *more, granted, *keys]}

    return {
        "deliver": policy("s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"),
        "verify": policy("s3:GetObject"),
        "retention": policy(
            "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", more=(uploads,)
        ),
    }


_GCS_DELIVER = ("storage.objects.create", "storage.objects.get", "storage.objects.list")


def gcs_policies(bucket: str, prefix: str) -> dict[str, JsonObject]:
    """For each part a custom role's permissions, and the condition of its binding at the bucket.

    Listing is asked of the bucket, not of its objects, so that the condition has to let it through.
    """
    condition: JsonObject | None = None
    if prefix:
        names = f"projects/_/buckets/{bucket}/objects/{prefix}"
        condition = {
            "title": "below export_base_path",
            "expression": (f'resource.type == "storage.googleapis.com/Bucket" || resource.name.startsWith("{names}")'),
        }

    def role(*permissions: str) -> JsonObject:
        return {
            "role": {"includedPermissions": list(permissions)},
            "binding": {"resource": f"gs://{bucket}", **({"condition": condition} if condition else {})},
        }

    return {
        "deliver": role(*_GCS_DELIVER, "storage.objects.delete"),
        "verify": role("storage.objects.get", "storage.objects.list"),
        "retention": role(*_GCS_DELIVER, "storage.objects.delete"),
    }


_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"


def azure_policies(storage_account: str, container: str, prefix: str) -> dict[str, JsonObject]:
    """For each part a custom role's data actions, its scope, and the condition of its assignment."""
    scope = (
        "/subscriptions/<subscription>/resourceGroups/<group>/providers/Microsoft.Storage/storageAccounts/"
        f"{storage_account}/blobServices/default/containers/{container}"
    )

    def role(*actions: str) -> JsonObject:
        data_actions = [f"{_BLOBS}/{action}" for action in actions]
        assignment: JsonObject = {"scope": scope}
        if prefix:
            path = "@Resource[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:path]"
            asked = "@Request[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:prefix]"
            assignment["conditionVersion"] = "2.0"
            assignment["condition"] = (
                f"(({_NOT_LISTING}) AND {path} StringLike '{prefix}*') OR ({_LISTING} AND {asked} StringLike "
                f"'{prefix}*')"
            )
        return {"role": {"dataActions": data_actions}, "assignment": assignment}

    return {
        "deliver": role("read", "write", "add/action"),
        "verify": role("read"),
        "retention": role("read", "write", "add/action", "delete"),
    }


_LISTING = f"(ActionMatches{{'{_BLOBS}/read'}} AND SubOperationMatches{{'Blob.List'}})"
_NOT_LISTING = f"NOT {_LISTING}"
