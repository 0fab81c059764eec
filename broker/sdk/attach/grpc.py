"""Attaches a credential to gRPC calls, as call credentials: gRPC sends them over secure channels alone.

For one call ``stub.ReadFile(request, credentials=call_credentials(credential))``, for all of a channel
``grpc.composite_channel_credentials(tls, call_credentials(credential))``; with asyncio and with threads.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import grpc

from broker.sdk.client.credential import Credential


def call_credentials(credential: Credential) -> grpc.CallCredentials:
    """Return call credentials that attach a credential as it is at the time: token, and fresh proof if it needs one."""
    return grpc.metadata_call_credentials(_Plugin(credential), "credbroker")


class _Plugin(grpc.AuthMetadataPlugin):
    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        # The server holds a proof against its resource's URI and the full method, as it cannot tell how it was called.
        method = f"{urlsplit(context.service_url).path}/{context.method_name}"
        headers = self._credential.headers("POST", self._credential.resource.rstrip("/") + method)
        callback(tuple(headers.items()), None)
