package deploy_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// alert is a rule of prometheus/alerts.yml.
type alert struct {
	Alert       string
	Labels      map[string]string
	Annotations map[string]string
}

// Each alert says how bad it is, what is wrong and where to read on, and has cases
// for promtool (`make lint` runs them) in which it fires and does not.
func TestAlertsAreExplainedAndShown(t *testing.T) {
	t.Parallel()
	runbook, err := os.ReadFile("prometheus/README.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := matches("(?m)^## (Relay[A-Za-z]+)$", runbook)
	var names []string
	fires, rests := alertCases(t)
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
		if severity := a.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s has the severity %q", a.Alert, severity)
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s does not say what is wrong or what to do", a.Alert)
		}
		if want := "deploy/prometheus/README.md#" + strings.ToLower(a.Alert); a.Annotations["runbook"] != want {
			t.Errorf("%s links to %q, want %q", a.Alert, a.Annotations["runbook"], want)
		}
	}
	slices.Sort(names)
	for what, have := range map[string][]string{"section of the README": sections, "firing case": fires, "quiet case": rests} {
		slices.Sort(have)
		if have = slices.Compact(have); !slices.Equal(have, names) {
			t.Errorf("there is a %s for\n%q\nand the alerts are\n%q", what, have, names)
		}
	}
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	decode(t, "prometheus/alerts.yml", &file)
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// alertCases are the names of the alerts for which there is a case.
func alertCases(t *testing.T) (fires, rests []string) {
	t.Helper()
	var file struct {
		Tests []struct {
			Cases []struct {
				Alert    string           `yaml:"alertname"`
				Expected []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	decode(t, "prometheus/alerts_test.yml", &file)
	for _, test := range file.Tests {
		for _, c := range test.Cases {
			if len(c.Expected) > 0 {
				fires = append(fires, c.Alert)
			} else {
				rests = append(rests, c.Alert)
			}
		}
	}
	return fires, rests
}

func decode(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
