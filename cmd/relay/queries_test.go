package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v4"
)

// query is an expression of the dashboard or of an alert.
type query struct {
	where, expr string
	// legend is what names its lines.
	legend string
}

// Every query of the dashboard and of the alerts is about metrics and labels that
// a running relay exports, and where it names a label's value, about one of those.
func TestQueriesAreAboutWhatIsExported(t *testing.T) {
	t.Parallel()
	p := startInProcess(t)
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.addr+"/v1/watches", http.NoBody)
	request.RequestURI = ""
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	exported := exportedLabels(t, p.metrics)
	queries := append(dashboardQueries(t), alertQueries(t)...)
	for i, used := range usedBy(t, queries) {
		for _, wrong := range used.wrong(exported, queries[i].legend) {
			t.Errorf("%s: %s\n%s", queries[i].where, wrong, queries[i].expr)
		}
	}
}

// The test above finds what is misspelt.
func TestQueriesThatAreWrongAreFound(t *testing.T) {
	t.Parallel()
	exported := map[string]labelValues{"up": {"job": {}}, "a_bucket": {"le": {}, "job": {}, "kind": {"poll": true}}}
	cases := []struct{ expr, want string }{
		{`sum(`, "cannot be parsed"},
		{`max(b)`, "b is not exported"},
		{`rate(a_bucket{state="x"}[5m])`, "a_bucket has no label state"},
		{`sum by (le, state) (a_bucket)`, "a_bucket has no label state"},
		{`a_bucket / on (state) up`, "up has no label state"},
		{`a_bucket{kind="polls"}`, `a_bucket has no kind="polls"`},
		{`sum by (kind) (a_bucket{kind="poll"})`, "the legend's {{le}} is not left"},
		{`a_bucket{kind="poll",job="x"} > 0`, ""},
	}
	var queries []query
	for _, c := range cases {
		queries = append(queries, query{expr: c.expr})
	}
	for i, used := range usedBy(t, queries) {
		got, want := strings.Join(used.wrong(exported, "{{le}}"), "; "), cases[i].want
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: found %q, want %q", cases[i].expr, got, want)
		}
	}
}

// labelValues are the values seen of each label of a metric.
type labelValues map[string]map[string]bool

// exportedLabels are those by the name of the series, histograms' parts included.
// Every series also has the labels of its target.
func exportedLabels(t *testing.T, metrics prometheus.Gatherer) map[string]labelValues {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	target := labelValues{"job": {}, "instance": {}}
	all := map[string]labelValues{"up": target} // Prometheus's own
	for _, family := range families {
		name, labels := family.GetName(), maps.Clone(target)
		for _, m := range family.GetMetric() {
			for _, pair := range m.GetLabel() {
				if labels[pair.GetName()] == nil {
					labels[pair.GetName()] = map[string]bool{}
				}
				labels[pair.GetName()][pair.GetValue()] = true
			}
		}
		if family.GetMetric()[0].GetHistogram() == nil {
			all[name] = labels
			continue
		}
		all[name+"_sum"], all[name+"_count"] = labels, labels
		all[name+"_bucket"] = maps.Clone(labels)
		all[name+"_bucket"]["le"] = map[string]bool{}
	}
	return all
}

// uses is what the program of that name, in the tools' module, says of a query.
type uses struct {
	Error     string
	Selectors []struct {
		Metric string
		Labels []string
		Equal  map[string]string
	}
	Grouped bool
	Left    []string
}

func usedBy(t *testing.T, queries []query) (answers []uses) {
	t.Helper()
	var expressions []string
	for _, q := range queries {
		// What Grafana puts in for its variables; $job stands in a string.
		expressions = append(expressions, strings.ReplaceAll(q.expr, "$__rate_interval", "5m"))
	}
	in, err := json.Marshal(expressions)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "go", "-C", "../../.tools/prometheus", "run", "./uses")
	command.Stdin, command.Stderr = bytes.NewReader(in), t.Output()
	out, err := command.Output()
	if err != nil {
		t.Fatalf("uses: %v", err)
	}
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(queries) {
		t.Fatalf("%d answers to %d queries: %v", len(answers), len(queries), err)
	}
	return answers
}

// wrong is what asks for something that is not exported.
func (u uses) wrong(exported map[string]labelValues, legend string) (found []string) {
	if u.Error != "" {
		return []string{"cannot be parsed: " + u.Error}
	}
	inLegend := map[string]bool{}
	for _, s := range u.Selectors {
		labels, ok := exported[s.Metric]
		if !ok {
			found = append(found, s.Metric+" is not exported")
			continue
		}
		for name := range labels {
			inLegend[name] = true
		}
		for _, name := range s.Labels {
			if _, ok := labels[name]; !ok {
				found = append(found, s.Metric+" has no label "+name)
			}
		}
		for name, value := range s.Equal {
			if seen, ok := labels[name]; ok && len(seen) > 0 && !seen[value] {
				found = append(found, s.Metric+" has no "+name+"=\""+value+"\"")
			}
		}
	}
	for _, match := range regexp.MustCompile(`\{\{ *(\w+) *\}\}`).FindAllStringSubmatch(legend, -1) {
		if !inLegend[match[1]] || u.Grouped && !slices.Contains(u.Left, match[1]) {
			found = append(found, "the legend's {{"+match[1]+"}} is not left")
		}
	}
	return found
}

// panel is a panel of the dashboard, or a row of them.
type panel struct {
	Title   string
	Targets []struct {
		Expr   string
		Legend string `json:"legendFormat"`
	}
	Panels []panel
}

func (p panel) queries() (all []query) {
	for _, target := range p.Targets {
		all = append(all, query{where: "dashboard, " + p.Title, expr: target.Expr, legend: target.Legend})
	}
	for _, inner := range p.Panels {
		all = append(all, inner.queries()...)
	}
	return all
}

// dashboardQueries are those of all panels and of the variables.
func dashboardQueries(t *testing.T) []query {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana/relay.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Templating struct {
			List []struct{ Name, Definition string }
		}
		panel
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	all := dashboard.queries()
	if len(all) < len(dashboard.Panels)/2 {
		t.Fatalf("%d queries in %d panels", len(all), len(dashboard.Panels))
	}
	for _, variable := range dashboard.Templating.List {
		for _, match := range regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindAllStringSubmatch(variable.Definition, -1) {
			all = append(all, query{where: "variable " + variable.Name, expr: "sum by (" + match[2] + ") (" + match[1] + ")"})
		}
	}
	return all
}

func alertQueries(t *testing.T) (all []query) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			all = append(all, query{where: rule.Alert, expr: rule.Expr})
		}
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}
