package reach

import "github.com/muster-p2p/muster/internal/netwatch"

// SetLook has c look at another network than the machine's.
func (c *Client) SetLook(look func() netwatch.Snapshot) { c.look = look }
