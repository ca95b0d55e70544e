package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"oprelay/api/client"
	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
)

// The wall clock of every process is set by an hour, forward and back, while
// messages are on their way and polls wait: each event arrives once, and soon, dated
// by the clock as it is set.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	const underWay, polled = 10, 90
	clock := filepath.Join(t.TempDir(), "clock")
	s := startSeparate(t, newSurroundings(t), testenv.Redis(t), 2,
		"RELAY_CHAOS_CLOCK", clock, "RELAY_DELIVERY_TIMEOUT", "1m")
	s.receiver.AllowAnyTime()
	credential, free := s.credential(t, "token"), s.webhook(t)
	var ids []string
	for _, set := range []string{"1h", "0s", "-1h"} {
		held, arrived, gate := s.gated(t)
		before := len(ids)
		ids = append(ids, s.operations(underWay, simulator.Plan{})...)
		s.watches(t, credential, held, ids[before:])
		for range underWay {
			select {
			case <-arrived:
			case <-time.After(startLimit):
				t.Fatal("not all messages are on their way")
			}
		}
		ids = append(ids, s.operations(polled, simulator.Plan{RunningFor: 2 * time.Second})...)
		s.watches(t, credential, free, ids[before+underWay:])

		if err := os.WriteFile(clock, []byte(set), 0o600); err != nil {
			t.Fatal(err)
		}
		s.allAccepted(t, len(ids)-underWay, startLimit)
		close(gate)
		eventually(t, startLimit, "every delivery is recorded as accepted", func() bool {
			return len(s.deliveries(t, client.ListDeliveriesParams{Status: new(client.DeliverySucceeded)})) == len(ids)
		})
		for id, times := range accepted(s.receiver.Arrivals()) {
			if times != 1 {
				t.Errorf("with the clock set to %s off, event %s arrived %d times", set, id, times)
			}
		}
	}
	s.ended(t, ids)
	ahead, behind := 0, 0
	for _, a := range s.receiver.Arrivals() {
		sent, err := strconv.ParseInt(a.Header.Get("Webhook-Timestamp"), 10, 64)
		if err != nil {
			t.Error(err)
		}
		switch off := time.Unix(sent, 0).Sub(a.At); {
		case off > time.Hour/2:
			ahead++
		case off < -time.Hour/2:
			behind++
		}
	}
	if ahead == 0 || behind == 0 {
		t.Errorf("%d messages are dated ahead and %d behind: the clock that signs was not set", ahead, behind)
	}
}
