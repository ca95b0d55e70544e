package pipeline

import "sync/atomic"

// few is how many requests a run may have under way however many others have.
const few = 8

// InFlight bounds what all runs of a process together have under way. Beyond Max no run
// may have more than a few, and beyond twice Max none more than one: a request that hangs
// costs 31 KB and a socket, and a thousand destinations may each ask for a thousand.
type InFlight struct {
	Max int

	n atomic.Int64
}

// floor is how many a run may have under way if n are in all.
func (f *InFlight) floor(n int64) int {
	if n > 2*int64(f.Max) {
		return 1
	}
	return few
}

// room is how many more may begin for a run that has so many under way.
func (f *InFlight) room(own int) int {
	n := f.n.Load()
	return max(f.Max-int(n), f.floor(n)-own, 0)
}

// enter counts one more, unless there is no room for it any longer.
func (f *InFlight) enter(own int) bool {
	if n := f.n.Add(1); n <= int64(f.Max) || own < f.floor(n) {
		return true
	}
	f.n.Add(-1)
	return false
}

func (f *InFlight) leave() { f.n.Add(-1) }
