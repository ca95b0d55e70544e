// Package jobs does the relay's waiting and working: it polls the operations
// that are watched, within each credential's budget, and delivers the events
// that came of it, within each destination's limits.
//
// Every promise is a row in SQL that the storage package keeps; a task in Redis
// is a wake-up for a group of rows and nothing more. Whoever holds a group's
// lease works through what is due in it. So a task that is lost, doubled, late
// or stale does no harm, and a process that dies leaves a lease that runs out.
package jobs
