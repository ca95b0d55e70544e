package deploy_test

import (
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const composeFile = "../docker-compose.yml"

// secrets returns what whoever deploys has to give, with values that nothing
// else in the file is equal to.
func secrets() map[string]string {
	return map[string]string{
		"RELAY_ENCRYPTION_KEYS": "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
		"POSTGRES_PASSWORD":     "given-for-postgres",
		"REDIS_PASSWORD":        "given-for-redis",
	}
}

func TestComposeRunsWhatIsPromised(t *testing.T) {
	t.Parallel()
	project := mustLoad(t)
	services := slices.Sorted(maps.Keys(project.Services))
	if want := []string{"api", "migrate", "postgres", "redis", "worker"}; !slices.Equal(services, want) {
		t.Fatalf("services %q, want %q", services, want)
	}
	for name, service := range project.Services {
		if !service.ReadOnly || !slices.Contains(service.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may write to its image or gain privileges", name)
		}
		if name == "migrate" {
			if service.Restart != "no" {
				t.Errorf("migrate is a step, and restarts %q", service.Restart)
			}
			continue
		}
		if service.HealthCheck == nil || len(service.HealthCheck.Test) < 2 {
			t.Errorf("%s has no health check", name)
		}
		if service.Restart != "unless-stopped" {
			t.Errorf("%s restarts %q, want unless-stopped", name, service.Restart)
		}
	}
	if worker := project.Services["worker"]; worker.GetScale() != 2 {
		t.Errorf("%d workers, want 2", worker.GetScale())
	}
	const deliveryTimeout = 15 * time.Second // the default of RELAY_DELIVERY_TIMEOUT
	if grace := project.Services["worker"].StopGracePeriod; grace == nil || time.Duration(*grace) <= deliveryTimeout {
		t.Errorf("workers are killed after %v, in the middle of a delivery that may take %v", grace, deliveryTimeout)
	}
}

func TestComposeStartsInOrder(t *testing.T) {
	t.Parallel()
	project := mustLoad(t)
	for _, want := range []struct{ service, after, condition string }{
		{"migrate", "postgres", types.ServiceConditionHealthy},
		{"api", "migrate", types.ServiceConditionCompletedSuccessfully},
		{"api", "redis", types.ServiceConditionHealthy},
		{"worker", "migrate", types.ServiceConditionCompletedSuccessfully},
		{"worker", "redis", types.ServiceConditionHealthy},
	} {
		if got := project.Services[want.service].DependsOn[want.after].Condition; got != want.condition {
			t.Errorf("%s starts when %s is %q, want %q", want.service, want.after, got, want.condition)
		}
	}
}

// Only the API is published, and only to this machine unless told otherwise;
// the stores have no way out of their network.
func TestComposeIsClosedToTheOutside(t *testing.T) {
	t.Parallel()
	project := mustLoad(t)
	for name, service := range project.Services {
		for _, port := range service.Ports {
			if name != "api" || port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q", name, port.Published, port.HostIP)
			}
		}
	}
	for _, store := range []string{"postgres", "redis"} {
		for network := range project.Services[store].Networks {
			if !project.Networks[network].Internal {
				t.Errorf("%s is on the network %s, which is not internal", store, network)
			}
		}
	}
}

// Redis keeps its tasks across a restart and refuses, rather than forgets, when
// it is full.
func TestComposeRedisForgetsNothing(t *testing.T) {
	t.Parallel()
	command := strings.Join(mustLoad(t).Services["redis"].Command, " ")
	for _, want := range []string{"--appendonly yes", "--maxmemory-policy noeviction", "--requirepass " + secrets()["REDIS_PASSWORD"]} {
		if !strings.Contains(command, want) {
			t.Errorf("redis runs as %q, without %q", command, want)
		}
	}
}

func TestComposeAsksForItsSecrets(t *testing.T) {
	t.Parallel()
	for missing := range secrets() {
		given := secrets()
		delete(given, missing)
		if _, err := load(t, given); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s: error %v, want one that names it", missing, err)
		}
	}
}

// What looks like a secret is one of those given, never written in the file.
func TestComposeHoldsNoSecret(t *testing.T) {
	t.Parallel()
	given := slices.Collect(maps.Values(secrets()))
	secretName := regexp.MustCompile(`PASSWORD|SECRET|TOKEN|KEY|AUTH`)
	for name, service := range mustLoad(t).Services {
		for variable, value := range service.Environment {
			if value == nil {
				continue
			}
			if secretName.MatchString(variable) && !slices.Contains(given, *value) {
				t.Errorf("%s: %s holds a secret of its own", name, variable)
			}
			if u, err := url.Parse(*value); err == nil && u.User != nil {
				if password, ok := u.User.Password(); ok && !slices.Contains(given, password) {
					t.Errorf("%s: %s holds a password of its own", name, variable)
				}
			}
		}
	}
}

// A variable that the program does not know would be a typing error.
func TestComposeSetsVariablesThatTheProgramKnows(t *testing.T) {
	t.Parallel()
	known := strings.Fields(relayOutput(t, "config", "variables"))
	for name, service := range mustLoad(t).Services {
		for variable := range service.Environment {
			if strings.HasPrefix(variable, "RELAY_") && !slices.Contains(known, variable) {
				t.Errorf("%s: %s is no variable of the program", name, variable)
			}
		}
	}
}

// The example lists every secret, without a value, and nothing that the compose
// file does not use.
func TestEnvExampleFitsTheComposeFile(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile(".env.example")
	if err != nil {
		t.Fatal(err)
	}
	compose, err := os.ReadFile(composeFile)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^#?([A-Z_]+)=(.*)$`).FindAllSubmatch(example, -1) {
		name := string(match[1])
		listed[name] = string(match[2])
		if !regexp.MustCompile(`(?m)\$\{` + name + `[:}]|^\s+` + name + `:`).Match(compose) {
			t.Errorf("%s is not used by docker-compose.yml", name)
		}
	}
	for name := range secrets() {
		if value, ok := listed[name]; !ok || value != "" {
			t.Errorf("%s is listed: %v, with the value %q; want it listed without one", name, ok, value)
		}
	}
}

func mustLoad(t *testing.T) *types.Project {
	t.Helper()
	project, err := load(t, secrets())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// load reads the compose file as `docker compose` does, with only the given
// variables set.
func load(t *testing.T, given map[string]string) (*types.Project, error) {
	t.Helper()
	var environment []string
	for name, value := range given {
		environment = append(environment, name+"="+value)
	}
	options, err := cli.NewProjectOptions([]string{composeFile}, cli.WithEnv(environment))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}
