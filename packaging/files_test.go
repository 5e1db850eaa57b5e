package packaging_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// tool returns the output of a program, or skips where there is none.
func tool(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("no %s here", name)
	}
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// maxExposure is systemd's measure of what a service could do to its machine:
// 0 to 10, and 9.6 for one that is not hardened.
const maxExposure = 2.0

func TestUnitIsHardened(t *testing.T) {
	out := tool(t, ".", "systemd-analyze", "security", "--offline=true", "--no-pager", "systemd/muster.service")
	m := regexp.MustCompile(`Overall exposure level for muster.service: ([0-9.]+)`).FindStringSubmatch(out)
	if m == nil {
		t.Skipf("this systemd-analyze knows no --offline: %.200s", out)
	}
	if level, err := strconv.ParseFloat(m[1], 64); err != nil || level > maxExposure {
		t.Errorf("exposure %s, at most %.1f is promised", m[1], maxExposure)
	}
}

// The unit waits longer than the daemon drains, and gets its reloads.
func TestUnit(t *testing.T) {
	unit := read(t, "systemd/muster.service")
	for _, want := range []string{"Type=notify", "DynamicUser=yes", "StateDirectory=muster", "WatchdogSec=", "ExecReload=", "TimeoutStopSec=45"} {
		if !strings.Contains(unit, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestRulesWork(t *testing.T) {
	tool(t, "prometheus", "promtool", "check", "rules", "muster.rules.yml")
	tool(t, "prometheus", "promtool", "test", "rules", "muster.rules.test.yml")
}

// The image has no root, and asks itself how it is.
func TestImage(t *testing.T) {
	file := read(t, "docker/Dockerfile")
	for _, want := range []string{"\nFROM scratch\n", "\nUSER 65532:65532\n", "\nHEALTHCHECK ", `"/muster", "healthcheck"`, "-trimpath", "CGO_ENABLED=0"} {
		if !strings.Contains(file, want) {
			t.Errorf("Dockerfile: no %q", want)
		}
	}
	if v := regexp.MustCompile(`golang:([0-9.]+)`).FindStringSubmatch(file); v == nil || !strings.Contains(read(t, "../go.mod"), "\ngo "+v[1]+".") {
		t.Errorf("Dockerfile builds with %q, go.mod says otherwise", v)
	}
}

// What the compose file mounts is there, and no volume is taken for a drive of
// Windows, as one of a single letter is.
func TestCompose(t *testing.T) {
	file := read(t, "compose/compose.yaml")
	for _, m := range regexp.MustCompile(`"(\.[^":]*):/`).FindAllStringSubmatch(file, -1) {
		if _, err := os.Stat("compose/" + m[1]); err != nil {
			t.Error(err)
		}
	}
	if m := regexp.MustCompile(`"[A-Za-z]:/[^"]*"`).FindString(file); m != "" {
		t.Errorf("the volume of %s is a drive", m)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
