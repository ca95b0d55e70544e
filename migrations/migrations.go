// Package migrations holds the database schema: SQL files, numbered alike for
// PostgreSQL and SQLite, that package storage applies.
package migrations

import "embed"

// Postgres holds the migrations for PostgreSQL, under postgres/.
//
//go:embed postgres/*.sql
var Postgres embed.FS

// SQLite holds the migrations for SQLite, under sqlite/.
//
//go:embed sqlite/*.sql
var SQLite embed.FS
