package main

import (
	"slices"
	"strings"

	"github.com/muster-p2p/muster/rdv"
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
	d.enforce()
	d.node.Point.SetRelayer(p.relayer(d.log))
	d.node.Point.Server().SetLimits(p.lobby(d.relayed))
	if r := d.node.Point.Registry(); r != nil {
		r.SetLimits(p.registry())
	}
	d.observe.Store(new(rdv.TrustedProxies(p.proxies...)))
	d.level.Set(p.level)
	limitMemory(p.memory)
	d.setHook(p)
	d.now = p
	if err := d.tokens.Reload(d.ctx); err != nil {
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

// enforce ends what banned peers have: at a reload, and now and then, since they
// may come by another point over the same database.
func (d *daemon) enforce() {
	removed, err := d.node.Point.Enforce()
	if removed > 0 {
		d.log.Info("registrations of banned peers removed", "registrations", removed)
	}
	if err != nil {
		d.log.Error("registrations of banned peers not removed", "err", err)
	}
}

// setHook asks another service from now on, if it is another: the answers of
// the one that there is are remembered.
func (d *daemon) setHook(p *servePlan) {
	if p.configuration.hook == d.now.configuration.hook {
		p.hook = d.now.hook
		return
	}
	if old := d.node.Point.Gate().SetHook(p.hook); old != nil {
		old.Close()
	}
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
