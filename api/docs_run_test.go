package api_test

import (
	"bytes"
	"html"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"oprelay/deploy/testenv"
)

// samples are the programs of /docs in a language, as they stand on the page.
func samples(t *testing.T, page, language string) []string {
	t.Helper()
	var found []string
	for _, match := range regexp.MustCompile(`(?s)<pre tabindex="0" class="`+language+`">(.*?)</pre>`).FindAllStringSubmatch(page, -1) {
		found = append(found, html.UnescapeString(match[1]))
	}
	if len(found) == 0 {
		t.Fatalf("/docs has no example in %s", language)
	}
	return found
}

// The receivers of /docs take what the relay signs, and nothing else.
func TestReceiversOfTheDocs(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	page := string(r.do("", http.MethodGet, "/docs", "").body)
	body := r.oneOfEachEvent()["operation.failed"]
	sign := samples(t, page, "shell")[1]
	for language, command := range map[string]func(testing.TB, string) []string{"go": goProgram, "javascript": testenv.NodeModule} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			testenv.Need(t, "curl", "openssl")
			args := command(t, samples(t, page, language)[0])
			printed := &syncBuffer{}
			receiver, err := testenv.StartService(testenv.Service{
				Args:  func(string) []string { return args },
				Env:   func(port string) []string { return []string{"PORT=" + port, "WEBHOOK_SECRET=" + signingSecret} },
				Ready: "listening", Log: printed,
			})
			must(t, err)
			url := receiver.URL + "/relay"
			const id = "event_01jd8p5kzve6wbdq8rfg0m3c7x"
			if err := sendSigned(t, url, signingSecret, id, body); err != nil {
				t.Errorf("a message that is signed: %v", err)
			}
			if err := sendSigned(t, url, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", id, body); err == nil || !strings.Contains(err.Error(), "401") {
				t.Errorf("one that somebody else has signed: %v", err)
			}
			_, port, _ := strings.Cut(strings.TrimPrefix(receiver.URL, "http://"), ":")
			if said := shell(t, sign, "PORT="+port, "WEBHOOK_SECRET="+signingSecret); !strings.Contains(said, " 204 ") {
				t.Errorf("one signed by hand: %s", said)
			}
			if said := shell(t, sign, "PORT="+port, "WEBHOOK_SECRET=whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"); !strings.Contains(said, " 401 ") {
				t.Errorf("one signed by hand with another secret: %s", said)
			}
			must(t, receiver.Close())
			if log := printed.String(); strings.Count(log, id) != 2 || !strings.Contains(log, "operation.failed") || !strings.Contains(log, "destination.test") {
				t.Errorf("it printed\n%s", log)
			}
		})
	}
}

// goProgram builds a program, with the libraries that this module has.
func goProgram(t testing.TB, source string) (args []string) {
	t.Helper()
	folder := t.TempDir()
	file, program := filepath.Join(folder, "main.go"), filepath.Join(folder, "receiver")
	must(t, os.WriteFile(file, []byte(source), 0o600))
	must(t, testenv.Build(program, file))
	return []string{program}
}

// shell runs a script and returns what it prints. It must succeed.
func shell(t *testing.T, script string, env ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sh", "-euc", script)
	command.Env = append(os.Environ(), env...)
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Run(); err != nil {
		t.Errorf("%v\n%s\n%s", err, script, said.String())
	}
	return said.String()
}

// The commands of /docs do what they say.
func TestCommandsOfTheDocs(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "curl")
	r := newRelay(t)
	page := string(r.do("", http.MethodGet, "/docs", "").body)
	commands := samples(t, page, "shell")[:1]
	for _, match := range regexp.MustCompile(`(?s)<pre tabindex="0">(curl.*?)</pre>`).FindAllStringSubmatch(page, -1) {
		commands = append(commands, html.UnescapeString(match[1]))
	}
	if len(commands) < 30 {
		t.Errorf("/docs has only %d commands", len(commands))
	}
	for _, command := range commands {
		if strings.Contains(command, "/metrics") || strings.Contains(command, "/stream") {
			continue // only the whole program has the one, and the other has no end
		}
		ids := r.oneOfEach(r.admin)
		own := strings.NewReplacer("hooks.example.com", "93.184.215.14", "hooks.slack.com", "93.184.215.14",
			"curl -sS", "curl -sS --fail-with-body").Replace(command)
		own = anID.ReplaceAllStringFunc(own, func(id string) string {
			kind, _, _ := strings.Cut(id, "_")
			return ids[kind+"_id"]
		})
		if strings.Contains(command, "-X DELETE") { // of what nobody uses
			own = strings.ReplaceAll(own, ids["credential_id"], r.credential(r.admin))
			own = strings.ReplaceAll(own, ids["destination_id"], r.webhook(r.admin))
		}
		shell(t, own, "RELAY_URL="+r.url, "RELAY_API_KEY="+r.admin, "DESTINATION_ID="+ids["destination_id"])
	}
}

// The command of the README registers a watch.
func TestCommandOfTheReadme(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "curl")
	r := newRelay(t)
	readme, err := os.ReadFile("../README.md")
	must(t, err)
	_, from, _ := strings.Cut(string(readme), "\n    curl ")
	command, _, _ := strings.Cut(from, "\n\n")
	command = "curl --fail-with-body " + strings.ReplaceAll(command, "http://127.0.0.1:8080", r.url)
	said := shell(t, command, "RELAY_API_KEY="+r.write, "CREDENTIAL_ID="+r.credential(r.write), "DESTINATION_ID="+r.webhook(r.write))
	if !strings.Contains(said, `"status":"watching"`) {
		t.Errorf("it is answered %s", said)
	}
}
