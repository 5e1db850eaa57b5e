package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
	"github.com/spf13/cobra"
)

const (
	// maxConfig bounds a configuration file, in bytes.
	maxConfig = 1 << 20

	envConfig = "MUSTER_CONFIG"

	// fileSuffix ends the name of a variable that names a file with a secret.
	fileSuffix = "_FILE"
)

// A source says something about settings: the flags, the environment, a file.
type source map[string]given

// given is what a source says of one setting.
type given struct {
	texts  []string
	origin string // for people: --flag, $VARIABLE, FILE:LINE, default
}

// A keyError is what is wrong with a setting, and where it was said.
type keyError struct {
	key, origin string
	err         error
}

func (e *keyError) Error() string { return fmt.Sprintf("%s (%s): %v", e.key, e.origin, e.err) }
func (e *keyError) Unwrap() error { return e.err }

// configFlags are the flags of the verbs that have a configuration.
type configFlags struct {
	file  string
	given source
}

func (f *configFlags) add(cmd *cobra.Command) {
	f.given = source{}
	cmd.Flags().StringVar(&f.file, "config", "", "configuration `FILE` (default $"+envConfig+", or muster/muster.toml in the user's configuration directory or /etc, if there is one)")
	for i := range settings {
		s := &settings[i]
		flag := cmd.Flags().VarPF(&settingFlag{s, f.given}, s.flagName(), "", s.usage)
		flag.DefValue = s.def
		if s.kind() == "true or false" {
			flag.NoOptDefVal = "true"
		}
	}
}

// A settingFlag collects what a flag is given.
type settingFlag struct {
	s  *setting
	to source
}

// String implements pflag.Value.
func (v *settingFlag) String() string { return "" }

// Type implements pflag.Value.
func (v *settingFlag) Type() string { return strings.ReplaceAll(v.s.kind(), "true or false", "bool") }

// Set implements pflag.Value.
func (v *settingFlag) Set(text string) error {
	g := given{texts: v.s.split(text), origin: "--" + v.s.flagName()}
	if v.s.kind() == "list" {
		g.texts = append(v.to[v.s.key].texts, g.texts...)
	}
	v.to[v.s.key] = g
	return nil // what is wrong with it is said together with the rest
}

// split makes the values of a text: the elements of a list, or just it.
func (s *setting) split(text string) []string {
	if s.kind() != "list" {
		return []string{text}
	}
	return slices.DeleteFunc(strings.Split(text, ","), func(e string) bool { return e == "" })
}

// A configuration is a serveConfig and where each value comes from.
type configuration struct {
	serveConfig
	file     string // that was read, empty if none
	origins  map[string]given
	warnings []string // what is allowed, and may not be meant
}

// load reads flags, environment and file. Its error lists all that is wrong,
// each with key and place.
func (f *configFlags) load() (*configuration, error) {
	c := &configuration{origins: map[string]given{}}
	file, errs := source{}, []error(nil)
	if name, must := f.fileName(); name != "" {
		var err error
		if file, err = readConfig(name, must); err != nil {
			errs = append(errs, err)
		}
		c.file = name
		c.warnings = append(c.warnings, exposedSecrets(name, file)...)
	}
	c.warnings = append(c.warnings, unknownVariables(os.Environ())...)
	env, err := environment()
	errs = append(errs, err)
	for i := range settings {
		s := &settings[i]
		g := given{texts: s.split(s.def), origin: "default"}
		for _, src := range []source{file, env, f.given} {
			if v, ok := src[s.key]; ok {
				g = v
			}
		}
		c.origins[s.key] = g
		if err := s.parse(&c.serveConfig, g.texts); err != nil {
			errs = append(errs, &keyError{s.key, g.origin, err})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, usageError(err, "see 'muster config init' for a file with every setting")
	}
	return c, nil
}

// fileName is the configuration file to read, empty if there is none, and
// whether it has to be there.
func (f *configFlags) fileName() (name string, must bool) {
	if f.file != "" {
		return f.file, true
	}
	if name := os.Getenv(envConfig); name != "" {
		return name, true
	}
	dirs := []string{"/etc"}
	if dir, err := os.UserConfigDir(); err == nil {
		dirs = []string{dir, "/etc"}
	}
	for _, dir := range dirs {
		name := filepath.Join(dir, "muster", "muster.toml")
		if _, err := os.Stat(name); err == nil {
			return name, false
		}
	}
	return "", false
}

// environment reads the variables of all settings, and the files that those
// for secrets name.
func environment() (source, error) {
	src := source{}
	var errs []error
	for i := range settings {
		s := &settings[i]
		name := s.envName()
		text, ok := os.LookupEnv(name)
		if file := os.Getenv(name + fileSuffix); s.secret && file != "" {
			if ok {
				errs = append(errs, &keyError{s.key, "$" + name, errors.New("$" + name + fileSuffix + " is set too")})
				continue
			}
			name += fileSuffix
			b, err := readSecret(file)
			if err != nil {
				errs = append(errs, &keyError{s.key, "$" + name, err})
				continue
			}
			text, ok = b, true
		}
		if ok {
			src[s.key] = given{s.split(text), "$" + name}
		}
	}
	return src, errors.Join(errs...)
}

// readSecret reads a file that holds one line.
func readSecret(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig))
	text := strings.TrimSpace(string(b))
	if err == nil && text == "" {
		// It would turn off what it is for, such as the access hook.
		err = fmt.Errorf("%s is empty", name)
	}
	return text, err
}

// readConfig reads a file.
func readConfig(name string, must bool) (source, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) && !must {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxConfig {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxConfig)
	}
	return parseConfig(name, b)
}

// parseConfig reads the text of a file. All that is wrong is in the error.
func parseConfig(name string, b []byte) (source, error) {
	tree := map[string]any{}
	if err := toml.Unmarshal(b, &tree); err != nil {
		if e, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, _ := e.Position()
			key := strings.Join(e.Key(), ".")
			if key == "" {
				key = keyAt(b, line)
			}
			return nil, &keyError{key, fmt.Sprintf("%s:%d", filepath.Base(name), line), errors.New(strings.TrimPrefix(e.Error(), "toml: "))}
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	lines, src := keyLines(b), source{}
	var errs []error
	wrong := func(key string, err error) {
		errs = append(errs, &keyError{key, place(name, lines, key), err})
	}
	for section, v := range tree {
		table, ok := v.(map[string]any)
		if !ok || !knownSection(section) {
			wrong(section, errors.New("there is no such section"+nearest(section, sectionNames())))
			continue
		}
		for name2, v := range table {
			key := section + "." + name2
			s := settingOf(key)
			if s == nil {
				wrong(key, errors.New("there is no such setting"+nearest(key, settingKeys())))
				continue
			}
			texts, err := s.fromTOML(v)
			if err != nil {
				wrong(key, err)
				continue
			}
			src[key] = given{texts, place(name, lines, key)}
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return src, errors.Join(errs...)
}

func place(name string, lines map[string]int, key string) string {
	return fmt.Sprintf("%s:%d", filepath.Base(name), lineOf(lines, key))
}

// lineOf is where a key stands, or what it is part of.
func lineOf(lines map[string]int, key string) int {
	for {
		if n, ok := lines[key]; ok {
			return n
		}
		i := strings.LastIndex(key, ".")
		if i < 0 {
			return 1
		}
		key = key[:i]
	}
}

// keyLines finds the line of each key and table of a text that is TOML.
func keyLines(b []byte) map[string]int {
	lines := map[string]int{}
	note := func(p *unstable.Parser, table []string, it unstable.Iterator) []string {
		path := slices.Clone(table)
		for it.Next() {
			n := it.Node()
			line := p.Shape(n.Raw).Start.Line
			path = append(path, string(n.Data))
			if key := strings.Join(path, "."); lines[key] == 0 {
				lines[key] = line
			}
		}
		return path
	}
	p := &unstable.Parser{}
	p.Reset(b)
	var table []string
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = note(p, nil, e.Key())
		case unstable.KeyValue:
			note(p, table, e.Key())
		default:
		}
	}
	return lines
}

// keyAt guesses the key of a line that is no TOML.
func keyAt(b []byte, line int) string {
	all := strings.Split(string(b), "\n")
	if line < 1 || line > len(all) {
		return "file"
	}
	key, _, _ := strings.Cut(all[line-1], "=")
	if key = strings.TrimSpace(key); key == "" {
		return "file"
	}
	return key
}

func knownSection(name string) bool { return slices.Contains(sectionNames(), name) }

func sectionNames() (out []string) {
	for _, s := range sections {
		out = append(out, s[0])
	}
	return out
}

func settingKeys() (out []string) {
	for i := range settings {
		out = append(out, settings[i].key)
	}
	return out
}

// nearest suggests what may have been meant.
func nearest(got string, names []string) string {
	best, most := "", len(got)/3+1
	for _, n := range names {
		if d := distance(got, n); d <= most {
			best, most = n, d-1
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + best + "?"
}

// distance is how many letters have to be changed, added or left out.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal, row[j+1] = row[j+1], min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// fromTOML makes texts of a value of the kind that the setting has.
func (s *setting) fromTOML(v any) ([]string, error) {
	switch kind := s.kind(); v := v.(type) {
	case []any:
		if kind != "list" {
			return nil, fmt.Errorf("want %s, not a list", kind)
		}
		texts := []string{}
		for _, e := range v {
			text, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("want a list of texts, not of %v", e)
			}
			texts = append(texts, text)
		}
		return texts, nil
	case bool:
		if kind == "true or false" {
			return []string{strconv.FormatBool(v)}, nil
		}
		return nil, fmt.Errorf("want %s, not %v", kind, v)
	case int64:
		if kind == "number" || kind == "bytes" {
			return []string{strconv.FormatInt(v, 10)}, nil
		}
		return nil, fmt.Errorf("want %s, not %d", s.like(), v)
	case string:
		if kind == "text" || kind == "duration" || kind == "bytes" {
			return []string{v}, nil
		}
		return nil, fmt.Errorf("want %s, not text", s.like())
	default:
		return nil, fmt.Errorf("want %s", s.like())
	}
}

// like describes the kind of a value in a file.
func (s *setting) like() string {
	switch s.kind() {
	case "list":
		return `a list such as ["a", "b"]`
	case "duration":
		return `a duration such as "10m"`
	case "bytes":
		return `a number of bytes such as "10M"`
	default:
		return s.kind()
	}
}

// parse reads the texts into the configuration. Secrets are not in its errors.
func (s *setting) parse(c *serveConfig, texts []string) error {
	into := s.into(c)
	if list, ok := into.(*[]string); ok {
		*list = texts
		return nil
	}
	text := strings.Join(texts, ",")
	if len(s.choice) > 0 && !slices.Contains(s.choice, text) {
		return fmt.Errorf("%q is not one of %s", text, strings.Join(s.choice, ", "))
	}
	var err error
	switch into := into.(type) {
	case *string:
		*into = text
	case *bool:
		if *into, err = strconv.ParseBool(text); err != nil {
			err = fmt.Errorf("%q is not true or false", text)
		}
	case *int:
		if *into, err = strconv.Atoi(text); err != nil || *into < 0 {
			err = fmt.Errorf("%q is not a number from 0 on", text)
		}
	case *int64:
		*into, err = parseBytes(text)
	case *time.Duration:
		if *into, err = time.ParseDuration(text); err != nil || *into < 0 {
			err = fmt.Errorf("%q is not a duration such as 10m", text)
		}
	}
	return err
}

func itoa(n int) string { return strconv.Itoa(n) }

// short writes a duration without units that are zero.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// bytesText writes a number of bytes as parseBytes reads it.
func bytesText(n int64) string {
	for _, unit := range []string{"", "K", "M"} {
		if n == 0 || n%1024 != 0 {
			return strconv.FormatInt(n, 10) + unit
		}
		n /= 1024
	}
	return strconv.FormatInt(n, 10) + "G"
}

// exposedSecrets warns of a file with secrets that others can read.
func exposedSecrets(name string, src source) []string {
	info, err := os.Stat(name)
	if err != nil || !sharedMode(info.Mode()) {
		return nil
	}
	for i := range settings {
		if s := &settings[i]; s.secret && redacted(strings.Join(src[s.key].texts, ",")) != strings.Join(src[s.key].texts, ",") {
			return []string{fmt.Sprintf("%s has a secret (%s) and can be read by others: chmod 600, or use $%s", name, s.key, s.envName()+fileSuffix)}
		}
	}
	return nil
}

// unknownVariables warns of what looks like a typing error. Others are left
// alone: whoever starts the daemon may have variables of that prefix.
func unknownVariables(environ []string) (warnings []string) {
	var known []string
	for i := range settings {
		known = append(known, settings[i].envName())
	}
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "MUSTER_") || slices.Contains(known, name) || slices.Contains(otherVariables, name) {
			continue
		}
		const few = 2 // letters that are wrong
		for _, k := range known {
			if distance(name, k) <= few {
				warnings = append(warnings, "$"+name+" is no setting: did you mean $"+k+"?")
			}
		}
	}
	return warnings
}

// otherVariables are those of other verbs.
var otherVariables = []string{
	envConfig, envPoint, envServer, envToken, envTokenFile, envKeyFile, "MUSTER_STORE_FILE", "MUSTER_ADMIN_TOKEN_FILE", "MUSTER_ACCESS_HOOK_URL_FILE",
}
