"""The shapes of the custom resources that the manifests use, as JSON schemas: the fields that are used, and no others.

Written from the API references of cert-manager 1.18, CloudNativePG 1.27 and the Prometheus operator 0.84, for no package has
them. A field that is not here fails: look it up there, then add it.
"""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean"}
QUANTITY: Schema = {"type": "string", "pattern": r"^\d+(m|Ki|Mi|Gi)?$"}
# As Go writes it.
DURATION: Schema = {"type": "string", "pattern": r"^\d+h$"}
# As Prometheus writes it.
INTERVAL: Schema = {"type": "string", "pattern": r"^\d+(s|m|h|d)$"}


def closed(required: Mapping[str, Schema], **optional: Schema) -> Schema:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def several(items: Schema) -> Schema:
    """A list that has something in it."""
    return {"type": "array", "items": items, "minItems": 1}


def one_of(*values: str) -> Schema:
    """One of these words."""
    return {"enum": list(values)}


LABELS: Schema = {"type": "object", "additionalProperties": TEXT}
NAMED = closed({"name": TEXT})
SECRET_KEY = closed({"name": TEXT, "key": TEXT})

CERTIFICATE = closed(
    {"secretName": TEXT, "issuerRef": closed({"name": TEXT, "kind": one_of("Issuer", "ClusterIssuer")})},
    isCA=FLAG,
    commonName=TEXT,
    duration=DURATION,
    renewBefore=DURATION,
    dnsNames=several(TEXT),
    uris=several(TEXT),
    usages=several(one_of("digital signature", "server auth", "client auth", "cert sign", "crl sign")),
    privateKey=closed(
        {"algorithm": one_of("RSA", "ECDSA", "Ed25519")},
        size={"enum": [256, 384, 521, 2048, 4096]},
        rotationPolicy=one_of("Never", "Always"),
    ),
)
ISSUER: Schema = {"oneOf": [closed({"selfSigned": closed({})}), closed({"ca": closed({"secretName": TEXT})})]}

CLUSTER = closed(
    {"instances": {"type": "integer", "minimum": 1}},
    postgresql=closed(
        {},
        synchronous=closed(
            {"method": one_of("any", "first"), "number": {"type": "integer", "minimum": 1}},
            dataDurability=one_of("required", "preferred"),
        ),
        # Also numbers are texts.
        parameters=LABELS,
    ),
    bootstrap=closed(
        {
            "initdb": closed(
                {"database": TEXT, "owner": TEXT, "secret": NAMED},
                localeCollate=TEXT,
                localeCType=TEXT,
                dataChecksums=FLAG,
            )
        }
    ),
    managed=closed(
        {
            "roles": several(
                closed({"name": TEXT}, ensure=one_of("present", "absent"), login=FLAG, passwordSecret=NAMED)
            )
        }
    ),
    storage=closed({"size": QUANTITY}),
    walStorage=closed({"size": QUANTITY}),
    affinity=closed(
        {},
        enablePodAntiAffinity=FLAG,
        podAntiAffinityType=one_of("preferred", "required"),
        topologyKey=TEXT,
    ),
    resources=closed(
        {
            "requests": closed({"cpu": QUANTITY, "memory": QUANTITY}),
            "limits": closed({"memory": QUANTITY}),
        }
    ),
    primaryUpdateStrategy=one_of("unsupervised", "supervised"),
    seccompProfile=closed({"type": one_of("RuntimeDefault")}),
)

SERVICE_MONITOR = closed(
    {
        "selector": closed({"matchLabels": LABELS}),
        "endpoints": several(
            closed(
                {"port": TEXT},
                scheme=one_of("http", "https"),
                interval=INTERVAL,
                scrapeTimeout=INTERVAL,
                authorization=closed({"credentials": SECRET_KEY}),
                tlsConfig=closed({"ca": closed({"secret": SECRET_KEY})}, serverName=TEXT),
                relabelings=several(closed({"targetLabel": TEXT, "replacement": TEXT})),
            )
        ),
    }
)
PROMETHEUS_RULE = closed(
    {
        "groups": several(
            closed(
                {
                    "name": TEXT,
                    "rules": several(
                        closed(
                            {"expr": TEXT},
                            alert=TEXT,
                            record=TEXT,
                            labels=LABELS,
                            annotations=LABELS,
                            keep_firing_for=INTERVAL,
                            **{"for": INTERVAL},
                        )
                    ),
                },
                interval=INTERVAL,
            )
        )
    }
)

SPECS: Mapping[tuple[str, str], Schema] = {
    ("cert-manager.io/v1", "Certificate"): CERTIFICATE,
    ("cert-manager.io/v1", "Issuer"): ISSUER,
    ("postgresql.cnpg.io/v1", "Cluster"): CLUSTER,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): SERVICE_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PROMETHEUS_RULE,
}
