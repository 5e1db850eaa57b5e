package main

import (
	"slices"
	"strings"
)

// reload reads the configuration again and applies what can be changed while
// the daemon runs. If anything is wrong with it, nothing is changed.
func (d *daemon) reload() {
	c, err := d.flags.load()
	if err != nil {
		d.log.Error("configuration not reloaded", "err", err)
		return
	}
	p, err := c.plan()
	if err != nil {
		d.log.Error("configuration not reloaded", "err", err)
		return
	}
	if err := d.node.Point.Gate().SetPolicy(p.policy); err != nil {
		d.log.Error("configuration not reloaded", "err", err)
		return
	}
	d.node.Point.SetRelayer(p.relayer(d.log))
	d.level.Set(p.level)
	if err := d.tokens.Reload(); err != nil {
		d.log.Error("tokens not reloaded", "err", err)
	}
	if d.certs != nil {
		if err := d.certs.reload(); err != nil {
			d.log.Error("certificate not reloaded", "err", err)
		}
	}
	if late := needRestart(d.plan.configuration, c); len(late) > 0 {
		d.log.Warn("settings changed that need a restart", "settings", strings.Join(late, " "))
	}
	d.say.reloaded()
	d.say.warn(d)
}

// needRestart lists the settings that differ and are read at the start only.
func needRestart(a, b *configuration) (keys []string) {
	for i := range settings {
		s := &settings[i]
		if !s.reload && !slices.Equal(a.origins[s.key].texts, b.origins[s.key].texts) {
			keys = append(keys, s.key)
		}
	}
	return keys
}
