package storage

import (
	"slices"
	"sync"
)

// gathering does calls in groups: what is asked for while a group is under way
// is done together by the next. So who comes alone never waits, and a crowd
// shares its statements and its commits. First come, first served.
type gathering[C any] struct {
	do     func([]C) // does them, and tells each caller what came of it
	most   int       // calls in a group
	atOnce int       // groups under way

	mu      sync.Mutex
	waiting []C
	running int
}

// add has the call done soon.
func (g *gathering[C]) add(call C) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, call)
	if g.running < g.atOnce {
		g.running++
		go g.run()
	}
}

func (g *gathering[C]) run() {
	for group := g.next(); len(group) > 0; group = g.next() {
		g.do(group)
	}
}

// next is the next group; with none the runner is no more.
func (g *gathering[C]) next() []C {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), g.most)
	if n == 0 {
		g.running--
		return nil
	}
	group := g.waiting[:n:n]
	g.waiting = slices.Clone(g.waiting[n:])
	return group
}
