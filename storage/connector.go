package storage

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// connector adds to the refusal of a connection what the operator can do about it.
type connector struct{ driver.Connector }

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	return conn, explainRefusal(err)
}

// explainRefusal recognises a PostgreSQL, or a PgBouncer, that has no connection
// left to give.
func explainRefusal(err error) error {
	const tooManyConnections = "53300"
	var answer *pgconn.PgError
	if !errors.As(err, &answer) || answer.Code != tooManyConnections && !strings.Contains(answer.Message, "max_client_conn") {
		return err
	}
	return fmt.Errorf("%w: lower RELAY_DATABASE_MAX_CONNS, run fewer processes, or raise the limit of PostgreSQL or PgBouncer", err)
}
