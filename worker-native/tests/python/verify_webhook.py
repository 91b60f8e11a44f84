"""Does the reference library of Standard Webhooks accept a callback as it arrived, and nothing else?

Reads a JSON object from standard input: `headers` and `body` as received, `secrets` it was signed with, and `wrong`,
one that it was not. One line a check; the first one that fails ends the process with its traceback.
"""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def refuses(secret, body, headers):
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return True
    return False


def main():
    given = json.load(sys.stdin)
    headers, body = given["headers"], given["body"]
    for number, secret in enumerate(given["secrets"], 1):
        event = Webhook(secret).verify(body, headers)
        assert set(event) == {"type", "timestamp", "data"}, event
        print(f"PASS secret {number} accepts it")
        assert refuses(secret, body.replace("job.", "jab."), headers)
        assert refuses(secret, body, headers | {"webhook-id": headers["webhook-id"] + "0"})
        assert refuses(secret, body, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)})
        print(f"PASS secret {number} refuses what was changed")
    assert refuses(given["wrong"], body, headers)
    print("PASS another secret refuses it")


if __name__ == "__main__":
    main()
