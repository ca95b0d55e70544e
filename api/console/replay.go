package console

import (
	"fmt"

	"oprelay/api/client"
)

// replay is a shell script that posts an event to the address as the relay does. It signs with the secret that
// whoever runs it puts in: the relay shows none.
func replay(url string, event client.Event) string {
	return fmt.Sprintf(`SECRET='whsec_...' # the destination's
BODY=%s
TIME=$(date +%%s)
KEY=$(printf %%s "${SECRET#whsec_}" | base64 -d | od -An -v -tx1 | tr -d ' \n')
SIGNATURE=$(printf %%s "%[2]s.$TIME.$BODY" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$KEY" -binary | base64)
curl -i %[3]s \
  -H 'Content-Type: application/json' \
  -H 'webhook-id: %[2]s' \
  -H "webhook-timestamp: $TIME" \
  -H "webhook-signature: v1,$SIGNATURE" \
  --data-raw "$BODY"
`, quote(string(event.Body)), event.ID, quote(url))
}
