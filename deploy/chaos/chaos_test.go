package chaos

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"oprelay/deploy/testenv"
)

var long = flag.Bool("long", false, "faults as long and as many as make chaos has them")

// form is how hard a fault hits.
type form struct {
	kills   int           // processes killed, one after another
	stopped time.Duration // how long a server stands still
	wrong   time.Duration // how long the upstream answers wrongly
	spell   time.Duration // how long any other fault lasts
	rate    int           // registrations a second meanwhile
}

// theForm is that of `make chaos`, or the short one of `make test`.
func theForm() form {
	if *long {
		return form{kills: 20, stopped: 30 * time.Second, wrong: 90 * time.Second, spell: 6 * time.Second, rate: 12}
	}
	return form{kills: 3, stopped: 3 * time.Second, wrong: 9 * time.Second, spell: time.Second, rate: 10}
}

// relayProgram builds the program under test once, at the first call.
var (
	relayProgram  = sync.OnceValues(buildRelay)
	programFolder string
)

// buildRelay has the clock that tests may set, see cmd/relay, and the race detector if the tests
// have it.
func buildRelay() (path string, err error) {
	path = filepath.Join(programFolder, "relay")
	return path, testenv.Build(path, "-tags", "chaos", fmt.Sprintf("-race=%v", testenv.HasRaceDetector()), "oprelay/cmd/relay")
}

// parallel is how many suites run at once.
const parallel = 3

func TestMain(m *testing.M) {
	code := testenv.Main(m, parallel, &programFolder)
	if *long {
		results.print(os.Stdout)
	}
	os.Exit(code)
}

// row is what came of one fault.
type row struct {
	order           int // of its line in the table
	fault           string
	watches, events int
	lost            int
	doubled         int           // accepted once more than needed
	interrupted     int           // of those, sends of processes that were killed
	unrecorded      int           // the most of them that one process had sent when it was killed
	refused         int           // registrations answered 503
	unanswered      int           // registrations that got no answer
	recovery        time.Duration // from the fault's end until what it held up was told; the longest
	memory          int           // MiB, the most that a relay process took
}

// table collects the rows of all tests.
type table struct {
	mu     sync.Mutex
	rows   []row
	delays []delays
}

var results table

func (t *table) add(r row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, r)
	if *long { // progress, as the suites take minutes
		fmt.Fprintf(os.Stderr, "%s: %d watches, %d lost, recovered in %s\n", r.fault, r.watches, r.lost, r.recovery.Round(100*time.Millisecond))
	}
}

func (t *table) addDelays(d delays) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.delays = append(t.delays, d)
}

func (t *table) print(out io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortFunc(t.rows, func(a, b row) int { return cmp.Compare(a.order, b.order) })
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "watches\tevents\tlost\tduplicates\tof the killed\tof one kill\t503\tno answer\trecovery\tpeak memory\t  fault")
	for _, r := range t.rows {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f s\t%d MiB\t  %s\n",
			r.watches, r.events, r.lost, r.doubled, r.interrupted, r.unrecorded, r.refused, r.unanswered, r.recovery.Seconds(), r.memory, r.fault)
	}
	if len(t.delays) > 0 {
		fmt.Fprintln(w, "\np99 alone\tnoise\tp99 beside\tallowed\tratio\t  delay")
	}
	for _, d := range t.delays {
		fmt.Fprintf(w, "%.1f ms\t%.1f ms\t%.1f ms\t%.1f ms\t%.2f\t  %s\n",
			milliseconds(d.alone), milliseconds(d.noise), milliseconds(d.beside), milliseconds(d.limit()), d.ratio(), d.what)
	}
	_ = w.Flush() // the terminal is gone: nobody reads the table
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
