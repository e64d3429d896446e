"""What user's routes take and give. Times are Unix seconds."""

from enum import StrEnum
from typing import Annotated

import msgspec

from moonpool.contracts.names import END, ONE_LINE

DisplayName = Annotated[str, msgspec.Meta(max_length=100, pattern=ONE_LINE)]
Locale = Annotated[str, msgspec.Meta(max_length=35, pattern=r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*)?" + END)]
"""A language tag (RFC 5646, without its private and grandfathered forms); "": as the browser says."""


class Theme(StrEnum):
    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "user"
    organisation: str
    display_name: str = ""
    locale: str = ""
    theme: Theme = Theme.SYSTEM
    created_at: float
    updated_at: float


class ProfileChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    display_name: DisplayName | msgspec.UnsetType = msgspec.UNSET
    locale: Locale | msgspec.UnsetType = msgspec.UNSET
    theme: Theme | msgspec.UnsetType = msgspec.UNSET

    def values(self) -> dict[str, str]:
        """The columns to write."""
        fields = {"display_name": self.display_name, "locale": self.locale, "theme": self.theme}
        return {name: value for name, value in fields.items() if value is not msgspec.UNSET}


class ProfileList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: list[Profile]
    has_more: bool
