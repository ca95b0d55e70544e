// Package chaos holds the relay to its promises while things go wrong.
//
// Its tests run the program as an operator does (an api, three workers, Redis,
// PostgreSQL), register watches whose end they know, inject one fault at a
// time, and then check the books from the outside: every watch ended with its
// one event, and every destination accepted it, with the same id and the same
// bytes each time. README.md tells how to run them, and what each row of their
// table means.
package chaos
