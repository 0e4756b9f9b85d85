"""Clients of the API, as a user's own script makes them: boto3 with an endpoint URL."""

from typing import Any

import boto3
import botocore.session
from botocore.config import Config

from holdfast.core.errors import InvalidInputError
from holdfast.wire.model import MODEL_DIRECTORY


def session(*, access_key: str, secret_key: str, token: str | None = None, region: str) -> Any:
    """Return a boto3 session that also knows the service `holdfast`.

    The model directory is what a user puts into AWS_DATA_PATH; everything else is boto3 as it comes.
    """
    core = botocore.session.get_session()
    core.set_config_variable("data_path", str(MODEL_DIRECTORY))
    return boto3.Session(
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=token,
        region_name=region,
        botocore_session=core,
    )


class NoEndpointError(InvalidInputError):
    """It was not said which server to ask."""


def holdfast_client(endpoint_url: str | None) -> Any:
    """Return a client of the service `holdfast` with the keys and the region that the AWS CLI would use.

    Raises:
        NoEndpointError: there is no endpoint URL.
    """
    if endpoint_url is None:
        raise NoEndpointError("say which server to ask: --endpoint-url or AWS_ENDPOINT_URL")
    core = botocore.session.get_session()
    core.set_config_variable("data_path", str(MODEL_DIRECTORY))
    found = boto3.Session(botocore_session=core, region_name=core.get_config_variable("region") or "us-east-1")
    return client(found, "holdfast", endpoint_url)


def client(of: Any, service: str, url: str) -> Any:
    """Return a client of `service` at the server `url`."""
    return of.client(service, endpoint_url=url, config=Config(retries={"max_attempts": 2, "mode": "standard"}))
