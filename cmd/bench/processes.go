package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"oprelay/deploy/testenv"
)

// startProcesses starts the API, or all in one, and the workers.
func (r *relay) startProcesses() (err error) {
	if r.api, err = r.spawn(r.role(), r.role()); err != nil {
		return err
	}
	return r.startWorkers()
}

func (r *relay) startWorkers() error {
	for i := range r.shape.workers {
		w, err := r.spawn("worker", fmt.Sprintf("worker%d", i+1))
		if err != nil {
			return err
		}
		r.worker = append(r.worker, w)
	}
	return nil
}

// kill ends processes of the relay, and keeps in mind how big they were.
func (r *relay) kill(processes ...*testenv.Standalone) error {
	_, err := r.peaks()
	for _, p := range processes {
		err = errors.Join(err, p.Close())
	}
	return err
}

// spawn starts a role of the relay and returns when it is up. What it logs is in
// the bench's folder, after what those before it logged there.
func (r *relay) spawn(role, name string) (*testenv.Standalone, error) {
	log, err := os.OpenFile(filepath.Join(r.b.folder, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	r.logs = append(r.logs, log)
	return testenv.StartService(testenv.Service{
		Args: func(string) []string { return []string{r.b.relayProgram, role} },
		Env: func(port string) []string {
			listen := "RELAY_LISTEN"
			if role == "worker" {
				listen = "RELAY_METRICS_LISTEN"
			}
			return environment(with(r.env, listen, "127.0.0.1:"+port))
		},
		Ready: relayUp,
		Log:   log,
	})
}

func environment(env map[string]string) []string {
	var pairs []string
	for name, value := range env {
		pairs = append(pairs, name+"="+value)
	}
	return pairs
}

// processes are the relay's.
func (r *relay) processes() []*testenv.Standalone {
	if r.api == nil {
		return nil
	}
	return append([]*testenv.Standalone{r.api}, r.worker...)
}

// usage is what each group of processes has used so far.
func (r *relay) usage() (cpu, error) {
	used := cpu{}
	var faults []error
	take := func(group string, family bool, servers ...*testenv.Standalone) {
		for _, s := range servers {
			d, err := processCPU(s.PID(), family)
			used[group] += d
			faults = append(faults, err)
		}
	}
	take(r.role(), false, r.api)
	take("worker", false, r.worker...)
	take("upstream", false, r.b.upstream.Standalone)
	take("receiver", false, r.b.receiver.Standalone)
	load, err := processCPU(os.Getpid(), false)
	used["load"] = load
	faults = append(faults, err)
	if !r.shape.embedded {
		take("PostgreSQL", true, r.b.postgres)
		take("Redis", false, r.b.redis)
	}
	return used, errors.Join(faults...)
}

// peaks is the most memory, in MiB, that the biggest process of each role has had.
func (r *relay) peaks() (map[string]float64, error) {
	for i, p := range r.processes() {
		mib, err := peakMiB(p.PID())
		if err != nil {
			return nil, err
		}
		role := r.role()
		if i > 0 {
			role = "worker"
		}
		r.peak[role] = max(r.peak[role], mib)
	}
	return maps.Clone(r.peak), nil
}
