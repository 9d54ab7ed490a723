"""Opens the notifier of a service's setting."""

from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import SecretStr

from servicekit.process.settings import SettingsError

if TYPE_CHECKING:
    from servicekit.notifications.notifier import Notifier


def open_notifier(
    urls: SecretStr,
    *,
    variable: str,
    timeout: timedelta,
    interval: timedelta = timedelta(0),
    named: bool = False,
) -> "Notifier | None":
    """Return the notifier of the URLs in the setting `variable`; None when it is empty. Raises SettingsError.

    `timeout`, `interval` and `named` are the notifier's.
    """
    text = urls.get_secret_value().strip()
    if not text:
        return None
    # Apprise takes long to import: only a process that uses it pays for it.
    from servicekit.notifications.notifier import Notifier  # noqa: PLC0415 - as above

    try:
        return Notifier(text, timeout=timeout, interval=interval, named=named)
    except ValueError as exc:
        raise SettingsError(f"{variable}: {exc}") from None
