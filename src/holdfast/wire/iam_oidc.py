"""OpenID Connect providers on the `iam` API."""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.access import oidc_store, web_identity
from holdfast.access.store import raise_access_version
from holdfast.access.tag import check_tags, put_tags, remove_tags, tags_of
from holdfast.wire.call import Call, Handler


def _tags(call: Call, arn: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags_of(call.tx, call.caller.account, "", arn).items()]


def create_open_id_connect_provider(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Let roles of the account trust an issuer."""
    tags = check_tags([(tag["Key"], tag["Value"]) for tag in shape.get("Tags") or ()])
    provider = web_identity.create_provider(
        call.tx,
        call.caller.account,
        shape["Url"],
        client_ids=shape.get("ClientIDList") or (),
        thumbprints=shape.get("ThumbprintList") or (),
        partition=call.partition,
        now=call.now,
    )
    put_tags(call.tx, call.caller.account, "", provider.arn, tags)
    return {"OpenIDConnectProviderArn": provider.arn, "Tags": _tags(call, provider.arn) or None}


def get_open_id_connect_provider(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a provider."""
    provider = web_identity.get_provider(call.tx, call.caller.account, shape["OpenIDConnectProviderArn"])
    return {
        "Url": provider.name,
        "ClientIDList": list(provider.client_ids),
        "ThumbprintList": list(provider.thumbprints),
        "CreateDate": provider.created_at,
        "Tags": _tags(call, provider.arn) or None,
    }


def list_open_id_connect_providers(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """List the providers of the account."""
    found = oidc_store.list_providers(call.tx, call.caller.account)
    return {"OpenIDConnectProviderList": [{"Arn": provider.arn} for provider in found]}


def add_client_id(call: Call, shape: dict[str, Any]) -> None:
    """Let tokens for one more client count."""
    web_identity.set_clients(call.tx, call.caller.account, shape["OpenIDConnectProviderArn"], add=shape["ClientID"])


def remove_client_id(call: Call, shape: dict[str, Any]) -> None:
    """Let tokens for a client not count any more."""
    web_identity.set_clients(call.tx, call.caller.account, shape["OpenIDConnectProviderArn"], remove=shape["ClientID"])


def update_thumbprints(call: Call, shape: dict[str, Any]) -> None:
    """Replace the thumbprints that are noted with a provider."""
    web_identity.set_thumbprints(
        call.tx, call.caller.account, shape["OpenIDConnectProviderArn"], shape["ThumbprintList"]
    )


def delete_open_id_connect_provider(call: Call, shape: dict[str, Any]) -> None:
    """Let nobody in any more by an issuer."""
    web_identity.delete_provider(call.tx, call.caller.account, shape["OpenIDConnectProviderArn"])


def tag_open_id_connect_provider(call: Call, shape: dict[str, Any]) -> None:
    """Tag a provider."""
    provider = web_identity.get_provider(call.tx, call.caller.account, shape["OpenIDConnectProviderArn"])
    tags = check_tags([(tag["Key"], tag["Value"]) for tag in shape["Tags"]])
    put_tags(call.tx, call.caller.account, "", provider.arn, tags)
    raise_access_version(call.tx)


def untag_open_id_connect_provider(call: Call, shape: dict[str, Any]) -> None:
    """Take tags off a provider."""
    provider = web_identity.get_provider(call.tx, call.caller.account, shape["OpenIDConnectProviderArn"])
    remove_tags(call.tx, call.caller.account, "", provider.arn, shape["TagKeys"])
    raise_access_version(call.tx)


def list_open_id_connect_provider_tags(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the tags of a provider."""
    provider = web_identity.get_provider(call.tx, call.caller.account, shape["OpenIDConnectProviderArn"])
    return {"Tags": _tags(call, provider.arn), "IsTruncated": False}


OPERATIONS: Final[Mapping[str, Handler]] = {
    "AddClientIDToOpenIDConnectProvider": add_client_id,
    "CreateOpenIDConnectProvider": create_open_id_connect_provider,
    "DeleteOpenIDConnectProvider": delete_open_id_connect_provider,
    "GetOpenIDConnectProvider": get_open_id_connect_provider,
    "ListOpenIDConnectProviderTags": list_open_id_connect_provider_tags,
    "ListOpenIDConnectProviders": list_open_id_connect_providers,
    "RemoveClientIDFromOpenIDConnectProvider": remove_client_id,
    "TagOpenIDConnectProvider": tag_open_id_connect_provider,
    "UntagOpenIDConnectProvider": untag_open_id_connect_provider,
    "UpdateOpenIDConnectProviderThumbprint": update_thumbprints,
}
