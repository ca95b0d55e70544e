package simulator

import (
	"fmt"
	"net/http"
)

const usage = `A stand-in for Cloudflare's "get bulk operation status" (Lists).

  SIM=http://%s

Ask (any token, or X-Auth-Email and X-Auth-Key; also under /client/v4):
  curl -H "Authorization: Bearer any" $SIM/accounts/ACCOUNT/rules/lists/bulk_operations/OPERATION

Add an operation (or replace it), and take it away:
  curl -X PUT $SIM/_sim/operations/ACCOUNT/OPERATION \
    -d '{"pending_for":"2s","running_for":"8s","end":"failed","error":"why"}'
  curl -X DELETE $SIM/_sim/operations/ACCOUNT/OPERATION
  end: completed (default), failed, never. Also "misbehaviour":{"name":...}.

Make requests go wrong, all or those of one credential or a share of them, and stop it:
  curl -X POST $SIM/_sim/faults -d '{"name":"status","status":503,"retry_after":"7s","rate":0.1}'
  curl -X POST $SIM/_sim/faults -d '{"name":"unauthorized","for":"30s","credential":"token:0123456789ab"}'
  curl -X DELETE $SIM/_sim/faults
  A credential is named by token: or email: and 12 digits: printf %%s TOKEN | sha256sum | cut -c1-12

See what was asked:
  curl "$SIM/_sim/requests?credential=token:0123456789ab&window=5m"

Misbehaviours. Each takes for (ends it after that long), times (after that many), retry_after, delay:
`

func serveIndex(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, usage, r.Host) //nolint:gosec // Plain text, in which a host can forge no markup.
	for _, m := range misbehaviours() {
		fmt.Fprintf(w, "  %-19s %s\n", m.name, m.does)
	}
}
