"""Clients of the API, as a user's own script makes them: boto3 with an endpoint URL."""

from typing import Any

import boto3
import botocore.session
from botocore.config import Config

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


def client(of: Any, service: str, url: str) -> Any:
    """Return a client of `service` at the server `url`."""
    return of.client(service, endpoint_url=url, config=Config(retries={"max_attempts": 2, "mode": "standard"}))
