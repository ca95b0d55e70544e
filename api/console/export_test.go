package console

import "time"

// CheckLiveEvery has live connections look so often whether their session goes on.
func (c *Console) CheckLiveEvery(interval time.Duration) { c.liveCheck = interval }
