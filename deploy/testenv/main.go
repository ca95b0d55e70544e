package testenv

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
)

// Main runs the tests of a package that starts programs, and returns the exit
// code. So many run at once, unless -parallel says otherwise: they wait for other
// processes more than they compute. The folder, which is the tests' own, is there
// for what they build, and goes afterwards.
func Main(m *testing.M, parallel int, folder *string) int {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", strconv.Itoa(parallel))
	}
	var err error
	if *folder, err = os.MkdirTemp("", "relay-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(*folder) }()
	return m.Run()
}
