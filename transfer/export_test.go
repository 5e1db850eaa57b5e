package transfer

import "os"

// CheckPath shows checkPath.
var CheckPath = checkPath

// PartialName shows partialName.
var PartialName = partialName

// WithWrite returns cfg with another way to write files: for disks that fail.
func WithWrite(cfg ReceiveConfig, write func(f *os.File, b []byte, at int64) (int, error)) ReceiveConfig {
	cfg.hooks.write = write
	return cfg
}

// WithFolding returns cfg as if the disk took A and a for the same.
func WithFolding(cfg ReceiveConfig) ReceiveConfig {
	cfg.hooks.folds = true
	return cfg
}

// WithWindows returns cfg with the rules for names of Windows.
func WithWindows(cfg ReceiveConfig) ReceiveConfig {
	cfg.hooks.windows = true
	return cfg
}
