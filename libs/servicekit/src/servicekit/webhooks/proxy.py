"""The HTTP proxy that the environment names for a URL."""

from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2


def environment_proxy(url: httpx2.URL) -> httpcore2.Proxy | None:
    """Return the proxy of `HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY`, or None, also where `NO_PROXY` names the host.

    Raises ValueError, which never quotes the variable: it may hold a password.
    """
    proxies = getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address or proxy_bypass(url.host):
        return None
    try:
        proxy = httpx2.URL(address if "://" in address else f"http://{address}")
    except httpx2.InvalidURL:
        raise ValueError("the proxy that the environment names is not a URL") from None
    if proxy.scheme not in ("http", "https") or not proxy.host:
        raise ValueError("the proxy that the environment names is neither http:// nor https://")
    auth = (proxy.username.encode(), proxy.password.encode()) if proxy.username else None
    return httpcore2.Proxy(to_core(proxy), auth=auth)


def to_core(url: httpx2.URL) -> httpcore2.URL:
    """Return the URL as the connection pool takes it."""
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
