package app

import (
	"bufio"
	"context"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// trim gives back the memory that only the start needed: heap, and pages of the program's own file (package
// initialization touches most of it). The kernel maps a page again when it is used; nothing is lost but a minor fault.
func trim(log *zap.Logger) {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		log.Debug("program's path not known", zap.Error(err))
		return
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		log.Debug("mappings not known", zap.Error(err))
		return
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		// Only what cannot have been written to: dropping a private page that was would lose it.
		if len(fields) < 6 || fields[5] != exe || strings.Contains(fields[1], "w") {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		_, _, errno := syscall.Syscall(syscall.SYS_MADVISE, uintptr(start), uintptr(end-start), syscall.MADV_DONTNEED)
		if errno != 0 {
			log.Debug("mapping not trimmed", zap.String("range", fields[0]), zap.Error(errno))
		}
	}
}

// The process is taken to have settled after the one time; bursts are looked at again after the other.
const (
	settled   = 15 * time.Second
	trimAgain = 5 * time.Minute
)

// trimNowAndThen is the part that trims.
func trimNowAndThen(log *zap.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		for wait := settled; ; wait = trimAgain {
			select {
			case <-time.After(wait):
				trim(log)
			case <-ctx.Done():
				return nil
			}
		}
	}
}
