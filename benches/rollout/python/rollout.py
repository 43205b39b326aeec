"""The same rollout by the Azure SDK for Python: a thread pool, and the SDK's own poller for long-running operations.

The simulator speaks plain HTTP, so a policy of ours brings the token (the SDK's refuses to, and rightly), and
`targetVersion`, for which the SDK has no parameter. `requests` is kept from writing polling URLs in another way, which the
simulator refuses. All else is as the SDK comes; its connection pool is as large as the thread pool. Reads what to do from standard input and writes what it took to standard output, both JSON.
"""

import json
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import requests
import requests.models
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.mgmt.managedapplications import ManagedApplicationsMgmtClient
from requests.adapters import HTTPAdapter


class Token(SansIOHTTPPolicy):
    """Authorizes, over plain HTTP too."""

    def __init__(self, token):
        self.token = token

    def on_request(self, request):
        request.http_request.headers["Authorization"] = f"Bearer {self.token}"


class TargetVersion(SansIOHTTPPolicy):
    """Puts the version on the URL."""

    def on_request(self, request):
        if request.http_request.method == "POST":
            request.http_request.url += "&targetVersion=2.0.0"


def main():
    task = json.load(sys.stdin)
    requests.models.requote_uri = lambda uri: uri
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_connections=task["threads"], pool_maxsize=task["threads"]))
    transport = RequestsTransport(session=session, session_owner=False)

    def client(subscription):
        return ManagedApplicationsMgmtClient(
            credential=object(),
            subscription_id=subscription,
            base_url=task["endpoint"],
            api_version="2019-07-01",
            transport=transport,
            authentication_policy=Token(task["token"]),
            per_call_policies=[TargetVersion()],
        )

    ids = [application.split("/") for application in task["applications"]]
    clients = {subscription: client(subscription) for subscription in {parts[2] for parts in ids}}

    def refresh(parts):
        clients[parts[2]].applications.begin_refresh_permissions(parts[4], parts[8]).result()

    begin = time.monotonic()
    with ThreadPoolExecutor(task["threads"]) as pool:
        for _ in pool.map(refresh, ids):
            pass
    wall = time.monotonic() - begin
    used = resource.getrusage(resource.RUSAGE_SELF)
    result = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peakMib": used.ru_maxrss / 1024}
    json.dump(result, sys.stdout)


main()
