package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"oprelay/deploy/testenv"
	"oprelay/jobs/cloudflare/simulator"
)

const examples = "../../deploy/examples"

// shell runs an example against the relay, which it finds in PATH.
func (s *system) shell(t *testing.T, env environment, args ...string) *testenv.Program {
	t.Helper()
	path, err := relayBinary()
	if err != nil {
		t.Fatal(err)
	}
	all := s.user().with("PATH", filepath.Dir(path)+":"+os.Getenv("PATH"))
	maps.Copy(all, env)
	return testenv.StartProgram(t, args[0], t.TempDir(), all, args[1:]...)
}

// The script exits as relay wait does and says what to do next.
func TestExampleScript(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs(filepath.Join(examples, "wait-for-operation.sh"))
	if err != nil {
		t.Fatal(err)
	}
	s := startEmbedded(t, newSurroundings(t))
	s.credential(t, "token")
	for says, c := range map[string]struct {
		plan simulator.Plan
		args []string
		code int
	}{
		"has completed":    {simulator.Plan{}, nil, exitOK},
		"has failed":       {simulator.Plan{End: simulator.EndFailed}, nil, exitError},
		"has not ended":    {simulator.Plan{End: simulator.EndNever}, nil, exitTimeout},
		"usage: ":          {simulator.Plan{}, []string{"x"}, exitUsage},
		"lower-case hexad": {simulator.Plan{}, []string{"x", "y"}, exitUsage},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			args := c.args
			if args == nil {
				args = []string{s.add(c.plan), testAccount}
			}
			r := s.shell(t, environment{"WAIT_TIMEOUT": "3s"}, append([]string{script}, args...)...)
			if code := r.Wait(startLimit); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			mention(t, r.Stdout.String()+r.Stderr.String(), says)
		})
	}
}

// The step of the workflow that waits does so, as GitHub runs it, and fails if the operation does.
func TestExampleWorkflow(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(examples, "github-actions.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var workflow struct {
		Jobs map[string]struct {
			Steps []struct {
				Name, Run string
				Env       map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &workflow); err != nil {
		t.Fatal(err)
	}
	s := startEmbedded(t, newSurroundings(t))
	s.credential(t, "token")
	ran := 0
	for _, step := range workflow.Jobs["block"].Steps {
		if !strings.Contains(step.Run, "relay watch") {
			continue
		}
		ran++
		for code, plan := range []simulator.Plan{{}, {End: simulator.EndFailed}} {
			r := s.shell(t, environment{
				"OPERATION_ID": s.add(plan), "ACCOUNT_ID": testAccount,
				"GITHUB_WORKFLOW": "block networks", "GITHUB_RUN_NUMBER": "7", "GITHUB_RUN_ID": "42",
			}, "/bin/bash", "-e", "-c", step.Run)
			if got := r.Wait(startLimit); got != code {
				t.Errorf("exit code %d, want %d", got, code)
			}
			mention(t, r.Stderr.String(), "block networks #7", s.server.address+"/watches/watch_")
		}
		for _, name := range []string{"OPERATION_ID", "RELAY_URL", "RELAY_API_KEY"} {
			if step.Env[name] == "" {
				t.Errorf("the step %q does not set %s", step.Name, name)
			}
		}
	}
	if ran != 1 {
		t.Errorf("%d steps watch, want one", ran)
	}
}
