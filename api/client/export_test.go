package client

import "time"

// Hurry shortens how long the stream may be silent.
func (s *Stream) Hurry(patience time.Duration) { s.patience = patience }
