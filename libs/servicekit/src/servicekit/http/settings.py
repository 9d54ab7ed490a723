"""The settings that every service has whose clients speak HTTP to it."""

from servicekit.identity.settings import IdentitySettings
from servicekit.process.host_names import HostNames
from servicekit.process.log_settings import LogSettings
from servicekit.process.settings import Address
from servicekit.process.tls_settings import ServerTlsSettings


class HttpServiceSettings(LogSettings, ServerTlsSettings, IdentitySettings):
    """Where it listens, and who may call it. Subclasses set `env_prefix` and the default of `listen`."""

    # HTTP listen address. Beyond loopback only with TLS and authentication, or with INSECURE.
    listen: Address
    # Serve HTTP beyond loopback without TLS and authentication. The same as the option --insecure.
    insecure: bool = False
    # Host names that a request may name, besides addresses, names without a dot and names of a cluster (`*.svc`,
    # `*.internal`): the page of another site must not read this one under a name of its own (DNS rebinding). `*.` before a
    # name stands for every name below it, `*` alone for every host.
    allowed_hosts: HostNames = ()

    @property
    def authenticated(self) -> bool:
        """Whether a client has to prove who it is, by a token or a certificate."""
        return self.takes_tokens or self.tls_client_ca_file is not None
