"""Opaque page tokens: where the next page goes on, bound to the operation and the filters it began with.

A token is authenticated, so that nobody can make one up or carry it to another list, but it is not secret: it holds
only the sort key of the last item shown.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import orjson

from holdfast.core.errors import InvalidInputError

_TAG_BYTES = 12
_FORMAT = b"\x01"


class InvalidPageTokenError(InvalidInputError):
    """A page token was not given out for this list with these filters."""

    reason = "INVALID_NEXT_TOKEN"


class PageTokens:
    """Makes and reads page tokens under one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, scope: str, filters: Mapping[str, Any], position: Any) -> str:
        """Return a token for the page after `position`, a JSON value.

        `scope` names the list and whose it is (account, region, operation); `filters` are those of the first call.
        """
        place = orjson.dumps(position)
        return base64.urlsafe_b64encode(_FORMAT + self._tag(scope, filters, place) + place).decode().rstrip("=")

    def read(self, scope: str, filters: Mapping[str, Any], token: str) -> Any:
        """Return the position that `token` was issued for, with the same scope and filters.

        Raises:
            InvalidPageTokenError: it was not.
        """
        refusal = "The page token was not given out for this list with these filters; begin again without a token"
        try:
            blob = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise InvalidPageTokenError(refusal) from error
        tag, place = blob[1 : 1 + _TAG_BYTES], blob[1 + _TAG_BYTES :]
        if blob[:1] != _FORMAT or not hmac.compare_digest(tag, self._tag(scope, filters, place)):
            raise InvalidPageTokenError(refusal)
        return orjson.loads(place)

    def _tag(self, scope: str, filters: Mapping[str, Any], place: bytes) -> bytes:
        bound = orjson.dumps([scope, dict(filters)], option=orjson.OPT_SORT_KEYS, default=str)
        return hmac.digest(self._key, hashlib.sha256(bound).digest() + place, "sha256")[:_TAG_BYTES]
