package muster

import "context"

// openReach makes the wing with which this node calls and is called.
func (n *Node) openReach(context.Context) error {
	cfg := n.cfg.Reach
	if cfg.Points == nil {
		cfg.Points = n.cfg.Points
	}
	if cfg.Logger == nil {
		cfg.Logger = n.cfg.Logger
	}
	if cfg.Link.Registerer == nil {
		cfg.Link.Registerer = n.cfg.Registerer
	}
	r, err := NewReach(n.inner, n.cfg.Key, cfg)
	if err != nil {
		return err
	}
	n.onClose(r.Close)
	n.Reach = r
	return nil
}
