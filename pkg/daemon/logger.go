package daemon

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/config"
)

// newLogger writes to stderr: readable on a terminal, JSON otherwise, unless the
// configuration chooses.
func newLogger(c config.Log) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	text := c.Format == "text"
	if c.Format == "auto" {
		_, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS)
		text = err == nil
	}
	z := zap.NewProductionConfig()
	z.Level = zap.NewAtomicLevelAt(level)
	z.Sampling = nil
	z.EncoderConfig.EncodeTime = zapcore.ISO8601TimeEncoder
	z.DisableCaller, z.DisableStacktrace = true, true
	if text {
		z.Encoding = "console"
		z.EncoderConfig.EncodeLevel = zapcore.CapitalLevelEncoder
	}
	return z.Build()
}

// thinned leaves out equal messages but for the first 20 of a second and then every
// hundredth, so that no peer can flood the log. Records of reservations are not
// written by it, each of which is another.
func thinned(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewSamplerWithOptions(c, time.Second, 20, 100) }))
}
